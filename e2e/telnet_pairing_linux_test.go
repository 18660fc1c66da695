package e2e_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

const (
	nearDir = "/home/me/.config/bodkin" // on the laptop
	farDir  = nearDir                   // and on the gateway
)

// fingerprint is that of the key in a directory, as ssh-keygen tells it.
func (w *world) fingerprint(m *lab.Machine, key string) string {
	w.t.Helper()
	r := w.on(m, "me", "ssh-keygen", "-l", "-f", key)
	words := strings.Fields(r.out)
	if r.status != 0 || len(words) < 2 {
		w.t.Fatalf("ssh-keygen -l -f %s: exit status %d\n%s", key, r.status, r.out)
	}
	return words[1]
}

// remove removes a file or a directory of a machine.
func (w *world) remove(m *lab.Machine, path string) {
	w.t.Helper()
	if r := w.on(m, "root", "rm", "-rf", path); r.status != 0 {
		w.t.Fatal(r.out)
	}
}

// refusedKey wants bodkin up to end for want of a key that is known, with words in
// what it says and the laptop as it was.
func (w *world) refusedKey(what string, args []string, words ...string) string {
	w.t.Helper()
	before := w.snapshot()
	r := w.bodkin(append([]string{"up", "-d"}, args...)...)
	if r.status != 25 {
		w.t.Errorf("%s: exit status %d, want 25\n%s", what, r.status, r.out)
	}
	if strings.Contains(r.out, "ok link") {
		w.t.Errorf("%s: the tunnel's own words passed:\n%s", what, r.out)
	}
	w.says(r.out, append([]string{"bodkin: error: key: ", "bodkin: hint: "}, words...)...)
	w.asBefore(before, what)
	w.noProcesses()
	return r.out
}

// TestTelnetUnpaired is refused before anything is dialled: there is nothing to dial
// here. To accept that anybody may listen takes a word, which is not a short one.
func TestTelnetUnpaired(t *testing.T) {
	t.Parallel()
	w := closedWorld(t)
	w.refusedKey("nothing is known", viaTelnet, "the key of home is not known", "bodkin key new", "--insecure-accept-eavesdropping")
	far := w.newKey(w.Gateway)
	w.write(w.Laptop, nearDir+"/known_servers", "elsewhere "+far, "me")
	w.refusedKey("another is known", viaTelnet, "the key of home is not known")
	w.write(w.Laptop, nearDir+"/known_servers", "home "+far, "me")
	w.refusedKey("we have no key", viaTelnet, nearDir+"/key", "bodkin key new")
	w.newKey(w.Laptop)
	if r := w.on(w.Laptop, "me", "chmod", "644", nearDir+"/key"); r.status != 0 {
		t.Fatal(r.out)
	}
	w.refusedKey("others may read our key", viaTelnet, nearDir+"/key", "chmod 600")
	w.write(w.Laptop, nearDir+"/known_servers", "home ssh-ed25519 nonsense\n", "me")
	w.refusedKey("a line that is none", viaTelnet, nearDir+"/known_servers:1")
}

// TestTelnetKeys has both machines know some key, and not the right one.
func TestTelnetKeys(t *testing.T) {
	t.Parallel()
	w := telnetWorld(t, lab.TelnetProxyOptions{}, lab.TelnetdOptions{})
	w.pair("home")
	ours, theirs := w.fingerprint(w.Laptop, nearDir+"/key"), w.fingerprint(w.Gateway, farDir+"/key")

	t.Run("ours is not known there", func(t *testing.T) {
		w := w.in(t)
		w.remove(w.Gateway, farDir+"/authorized_clients")
		said := w.refusedKey("our key is not known there", viaTelnet, ours, "authorized_clients")
		line := regexp.MustCompile("`(ssh-ed25519 [^`]*)`").FindStringSubmatch(said)
		if line == nil {
			t.Fatalf("there is no line to add in:\n%s", said)
		}
		w.write(w.Gateway, farDir+"/authorized_clients", line[1]+"\n", "me")
		w.up(viaTelnet...) // with that line added
		w.down()
	})
	t.Run("ours has ended", func(t *testing.T) {
		w := w.in(t)
		line, err := w.Gateway.ReadFile(farDir + "/authorized_clients")
		if err != nil {
			t.Fatal(err)
		}
		w.write(w.Gateway, farDir+"/authorized_clients", `expires="20200101" `+string(line), "me")
		w.refusedKey("our key has ended", viaTelnet, ours)
		w.write(w.Gateway, farDir+"/authorized_clients", string(line), "me")
	})
	t.Run("theirs has changed", func(t *testing.T) {
		w := w.in(t)
		known, err := w.Laptop.ReadFile(nearDir + "/known_servers")
		if err != nil {
			t.Fatal(err)
		}
		for _, end := range []string{"", ".pub"} {
			if r := w.on(w.Gateway, "me", "mv", farDir+"/key"+end, farDir+"/key.old"+end); r.status != 0 {
				t.Fatal(r.out)
			}
		}
		w.newKey(w.Gateway)
		w.refusedKey("their key has changed", viaTelnet, theirs, w.fingerprint(w.Gateway, farDir+"/key"), "home", nearDir+"/known_servers:1", "bodkin key forget")
		if now, err := w.Laptop.ReadFile(nearDir + "/known_servers"); err != nil || string(now) != string(known) {
			t.Errorf("known_servers became %q, %v", now, err)
		}
	})
	t.Run("they have none", func(t *testing.T) {
		w := w.in(t)
		w.remove(w.Gateway, farDir+"/key")
		r := w.bodkin(append([]string{"up", "-d"}, viaTelnet...)...)
		if r.status != 25 {
			t.Errorf("they have no key: exit status %d, want 25", r.status)
		}
		w.says(r.out, "bodkin: error: key: the far half has no key", farDir+"/key", "bodkin: hint: make one there with `bodkin key new`")
	})
}

// TestTelnetEavesdropped brings a tunnel up between two that are not paired, because
// the user says so, and says what that means each time it is asked.
func TestTelnetEavesdropped(t *testing.T) {
	t.Parallel()
	w := telnetWorld(t, lab.TelnetProxyOptions{}, lab.TelnetdOptions{})
	r := w.upAs("me", through("--insecure-accept-eavesdropping")...)
	w.says(r.out, "!! nobody proves who the far side is", "UNAUTHENTICATED")
	w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", "http://web.example/")
	w.says(w.laptop("bodkin", "status"), "encrypted but UNAUTHENTICATED", "nobody proves who the far side is")
	w.safety(true, false)
	w.down()

	// One that insists on keys is not talked out of it, whatever the near side says.
	w.pair("home")
	w.up(viaTelnet...)
	w.safety(true, true)
	if text := w.laptop("bodkin", "status"); strings.Contains(text, "UNAUTHENTICATED") || !strings.Contains(text, ", encrypted from here") {
		t.Errorf("status of a tunnel between two that know each other:\n%s", text)
	}
	w.down()
}

// safety wants `bodkin status --json` to say whether the tunnel is encrypted, and
// whether each half knows who the other is.
func (w *world) safety(encrypted, authenticated bool) {
	w.t.Helper()
	var all []struct{ Encrypted, Authenticated *bool }
	out := w.laptop("bodkin", "status", "--json")
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 || all[0].Encrypted == nil || all[0].Authenticated == nil {
		w.t.Fatalf("status --json: %v in:\n%s", err, out)
	}
	if *all[0].Encrypted != encrypted || *all[0].Authenticated != authenticated {
		w.t.Errorf("status --json says encrypted %v, authenticated %v, want %v, %v", *all[0].Encrypted, *all[0].Authenticated, encrypted, authenticated)
	}
}
