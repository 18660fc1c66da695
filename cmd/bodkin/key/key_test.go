package key

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/cmd/bodkin/secret"
	"github.com/bodkin-net/bodkin/trust"
)

// home gives the test a configuration of its own, without a way to ask anyone.
func home(t *testing.T) (dir string) {
	t.Helper()
	base := t.TempDir()
	for name, value := range map[string]string{"XDG_CONFIG_HOME": base, "HOME": base, "SSH_ASKPASS": "", "SSH_ASKPASS_REQUIRE": "", "DISPLAY": "", "WAYLAND_DISPLAY": ""} {
		t.Setenv(name, value)
	}
	return filepath.Join(base, "bodkin")
}

// bodkin runs the command as the program does.
func bodkin(t *testing.T, in string, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	root := &cobra.Command{Use: "bodkin"}
	root.SetIn(strings.NewReader(in))
	root.SetOut(&o)
	root.SetErr(&e)
	root.AddCommand(Command())
	status = report.Execute(t.Context(), root, append([]string{"key"}, args...))
	return status, o.String(), e.String()
}

// ok runs it and wants it to succeed.
func ok(t *testing.T, args ...string) (out, errs string) {
	t.Helper()
	status, out, errs := bodkin(t, "", args...)
	if status != 0 {
		t.Fatalf("bodkin key %q: status %d: %s", args, status, errs)
	}
	return out, errs
}

// TestPairing is two machines that come to know each other, as docs/keys.md tells it.
func TestPairing(t *testing.T) {
	gw, laptop := home(t), ""
	gwLine, errs := ok(t, "new")
	gwKey, _, err := trust.ParsePublic(gwLine)
	if err != nil || !strings.Contains(errs, trust.Fingerprint(gwKey)) || !strings.Contains(errs, gw) {
		t.Fatalf("%q, %q, %v", gwLine, errs, err)
	}
	if again, _ := ok(t, "show"); again != gwLine {
		t.Errorf("show says %q, new said %q", again, gwLine)
	}
	gwConfig := os.Getenv("XDG_CONFIG_HOME")

	laptop = home(t)
	laptopLine, _ := ok(t, "new")
	laptopKey, _, _ := trust.ParsePublic(laptopLine)
	out, errs := ok(t, "trust", "server", "GW.example.org:2323", strings.TrimSpace(gwLine))
	if want := "[gw.example.org]:2323 is known now by " + trust.Fingerprint(gwKey) + "\n"; out != want {
		t.Errorf("said %q, want %q", out, want)
	}
	_, command, found := strings.Cut(strings.TrimSpace(errs), "bodkin key ")
	if !found {
		t.Fatalf("what to run at the other side is not said: %q", errs)
	}
	if out, _ := ok(t, "trust", "server", "gw.example.org:2323", strings.TrimSpace(gwLine)); !strings.Contains(out, "was known already") {
		t.Errorf("a second time: %q", out)
	}
	known, err := trust.LoadKnownServers(filepath.Join(laptop, trust.ServersFile))
	if err != nil || known.Check("gw.example.org:2323", gwKey) != nil || known.Check("gw.example.org", gwKey) == nil || known.Check("gw.example.org:2323", laptopKey) == nil {
		t.Errorf("%+v, %v", known.Servers(), err)
	}

	// At the other side, what was said there, as its shell would have it.
	t.Setenv("XDG_CONFIG_HOME", gwConfig)
	words, err := exec.Command("sh", "-c", `printf '%s\n' `+command).Output()
	if err != nil {
		t.Fatal(err)
	}
	ok(t, strings.Split(strings.TrimSpace(string(words)), "\n")...)
	ok(t, "trust", "client", strings.TrimSpace(laptopLine), "--expires", "2999-01-01")
	clients, err := trust.LoadAuthorizedClients(filepath.Join(gw, trust.ClientsFile))
	if err != nil || len(clients.Clients()) != 1 || !bytes.Equal(clients.Clients()[0].Key, laptopKey) || clients.Clients()[0].Expires.Year() != 2999 {
		t.Errorf("%+v, %v", clients.Clients(), err)
	}

	out, _ = ok(t, "list", "--json")
	var l listing
	if err := json.Unmarshal([]byte(out), &l); err != nil || len(l.Servers) != 0 || len(l.Clients) != 1 || l.Clients[0].Fingerprint != trust.Fingerprint(laptopKey) || l.Clients[0].Line != 1 {
		t.Errorf("%s, %v", out, err)
	}
	if out, _ := ok(t, "list"); !strings.HasPrefix(out, "client  until 2999-01-01  "+trust.Fingerprint(laptopKey)) {
		t.Errorf("%q", out)
	}
	ok(t, "forget", "client", trust.Fingerprint(laptopKey))
	if out, _ := ok(t, "list"); out != "" {
		t.Errorf("forgotten, and still there: %q", out)
	}
}

// TestLimits: what is given is what stands there, what is listed, and what is read again.
func TestLimits(t *testing.T) {
	dir := home(t)
	line := trust.FormatPublic(trust.Generate().Public(), "me@laptop")
	other := trust.FormatPublic(trust.Generate().Public(), "you@Desk")
	ok(t, "trust", "client", other)
	limits := []string{"--allow", "10.0.0.0/8:22,443", "--allow", "[2001:db8::/32]:8000-8080", "--deny", "*:25", "--deny", "link-local", "--address", "10.77.0.5/24",
		"--address", "fd00::5/64", "--from", "192.0.2.0/24", "--from", "2001:db8::7", "--flows", "256", "--rate", "2500K", "--name", "Laptop"}
	out, _ := ok(t, append([]string{"trust", "client", line, "--expires", "2999-01-01"}, limits...)...)
	bounds := `from="192.0.2.0/24",from="2001:db8::7",name="laptop",address="10.77.0.5/24",address="fd00::5/64",` +
		`allow="10.0.0.0/8:22,443",allow="[2001:db8::/32]:8000-8080",deny="*:25",deny="link-local",flows="256",rate="2500K"`
	if !strings.Contains(out, "may dial this machine until 2999-01-01, with "+bounds+"\n") {
		t.Errorf("said %q", out)
	}
	text, err := os.ReadFile(filepath.Join(dir, trust.ClientsFile))
	if want := other + "\nexpires=\"2999-01-01\"," + bounds + " " + line + "\n"; err != nil || string(text) != want {
		t.Errorf("the file holds %q, %v; want %q", text, err, want)
	}
	if out, _ := ok(t, "list"); !strings.Contains(out, " you@Desk\n") || !strings.Contains(out, "me@laptop  "+bounds+"\n") {
		t.Errorf("listed as\n%s", out)
	}
	out, _ = ok(t, "list", "--json")
	var l listing
	if err := json.Unmarshal([]byte(out), &l); err != nil || len(l.Clients) != 2 {
		t.Fatalf("%v: %s", err, out)
	}
	if c := l.Clients[0]; c.Name != "you-desk" || c.Allow != nil || c.Rate != 0 {
		t.Errorf("%+v", c)
	}
	c := l.Clients[1]
	if c.Name != "laptop" || c.Flows != 256 || c.Rate != 2_500_000 || strings.Join(c.Allow, " ") != "10.0.0.0/8:22,443 [2001:db8::/32]:8000-8080" ||
		strings.Join(c.Deny, " ") != "*:25 link-local" || strings.Join(c.Address, " ") != "10.77.0.5/24 fd00::5/64" || len(c.From) != 2 {
		t.Errorf("%+v", c)
	}
	if out, _ := ok(t, append([]string{"trust", "client", line, "--expires", "2999-01-01"}, limits...)...); !strings.Contains(out, "already") {
		t.Errorf("a second time: %q", out)
	}
	if out, _ := ok(t, "trust", "client", line, "--rate", "1M"); !strings.HasSuffix(out, "may dial this machine, with rate=\"1M\"\n") {
		t.Errorf("other limits: %q", out)
	}
	if text, _ := os.ReadFile(filepath.Join(dir, trust.ClientsFile)); string(text) != other+"\nrate=\"1M\" "+line+"\n" {
		t.Errorf("the file holds %q", text)
	}
}

func TestForget(t *testing.T) {
	home(t)
	lines := map[string]string{}
	for _, name := range []string{"one", "two", "three"} {
		lines[name] = trust.FormatPublic(trust.Generate().Public(), name)
		ok(t, "trust", "client", lines[name])
		ok(t, "trust", "server", name, lines[name])
	}
	ok(t, "forget", "client", "one")
	ok(t, "forget", "client", lines["two"])
	ok(t, "forget", "server", "THREE")
	out, _ := ok(t, "list")
	for name, lines := range map[string]int{"one": 1, "two": 1, "three": 1} { // as a server or as a client
		if n := strings.Count(out, " "+name+"\n"); n != lines {
			t.Errorf("%s stands there %d times:\n%s", name, n, out)
		}
	}
	twin := trust.FormatPublic(trust.Generate().Public(), "three")
	ok(t, "trust", "client", twin)
	if status, _, errs := bodkin(t, "", "forget", "client", "three"); status != report.StatusUsage || !strings.Contains(errs, "more than one client") {
		t.Errorf("two of one name: %d, %s", status, errs)
	}
}

// TestRefused is what the command does not do, what it says then, and that it has
// changed nothing.
func TestRefused(t *testing.T) {
	dir := home(t)
	line := trust.FormatPublic(trust.Generate().Public(), "c")
	ok(t, "new")
	ok(t, "trust", "server", "gw", line)
	ok(t, "trust", "client", line)
	ok(t, "trust", "client", trust.FormatPublic(trust.Generate().Public(), ""), "--name", "d")
	private := filepath.Join(dir, trust.KeyFile)
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	before := files(t, dir)
	for _, c := range []struct {
		args   string // in words; @: the line
		in     string
		status int
		says   string
		hint   string
	}{
		{"new", "", 1, "there is a key already: " + private, "bodkin key show"},
		{"new --passphrase", "", 1, "there is a key already", "bodkin key show"},
		{"new now", "", 2, "bodkin key new wants no arguments", "bodkin key new"},
		{"nonsense", "", 2, "unknown command", ""},
		{"trust", "", 0, "", ""},
		{"trust gw", "", 2, "wants server or client", ""},
		{"trust server gw", "", 2, "wants a name and a key", "server NAME KEY|FILE"},
		{"trust server * @", "", 2, `"*": a server's name is`, "gw.example.org"},
		{"trust server gw -", trust.FormatPublic(trust.Generate().Public(), ""), 1, "gw has another key, SHA256:", "bodkin key forget server gw"},
		{"trust server new " + private, "", 1, "holds a private key", ".pub"},
		{"trust server new /nonexistent", "", 1, "no such file", "ssh-ed25519 AAAA"},
		{"trust server new a b", "", 2, "no key, and more than one file", "ssh-ed25519 AAAA"},
		{"trust server new ssh-rsa AAAA", "", 2, `"ssh-rsa" stands where ssh-ed25519 is wanted`, "ssh-ed25519 AAAA"},
		{"trust server new AAAA", "", 2, "not the whole of", "ssh-ed25519 AAAA"},
		{"trust server new -", "", 1, "there is no key", "ssh-ed25519 AAAA"},
		{"trust server new -", line + "\n" + line, 1, "U+000A", "ssh-ed25519 AAAA"},
		{"trust server new " + write("esc", line+" \x1b[2J"), "", 1, "U+001B", ""},
		{"trust client @ --expires soon", "", 2, "is no date", "2027-01-01"},
		{"trust client @ --expires 2001-01-01", "", 2, "that is past", "forget"},
		{"trust client @ --allow 10.0.0.1/8", "", 2, "--allow: \"10.0.0.1/8\" is no destination", "10.0.0.0/8"},
		{"trust client @ --deny 10.0.0.0/8:0", "", 2, "--deny: ", "*:25"},
		{"trust client @ --allow host:22", "", 2, "host has no ports here", ""},
		{"trust client @ --address 10.77.0.0/24", "", 2, "--address: 10.77.0.0/24 is a network", "10.77.0.5/24"},
		{"trust client @ --address 10.77.0.5/24 --address 10.77.0.6/24", "", 2, "are of one family", "one of IPv6"},
		{"trust client @ --from x", "", 2, "--from: \"x\" is neither", "192.0.2.0/24"},
		{"trust client @ --flows 0", "", 2, "--flows: ", "256"},
		{"trust client @ --expires=", "", 2, "--expires: ", "2027-01-01"},
		{"trust client @ --rate=", "", 2, "--rate: ", "10M"},
		{"trust client @ --rate 10", "", 2, "--rate: ", "10M"},
		{"trust client @ --name -a", "", 2, "--name: ", "laptop"},
		{"trust client - --name d", trust.FormatPublic(trust.Generate().Public(), "x"), 1, "d is already that of line 2", "bodkin key list"},
		{"trust client", "", 2, "wants a key", ""},
		{"forget", "", 0, "", ""},
		{"forget server elsewhere", "", 1, "elsewhere is not in known_servers", "key list"},
		{"forget server a,b", "", 2, "a server's name is", ""},
		{"forget client SHA256:nobody", "", 1, "is not in authorized_clients", "key list"},
		{"forget client nobody", "", 1, "no such file", ""},
		{"forget client " + write("pub", trust.FormatPublic(trust.Generate().Public(), "")), "", 1, "is not in authorized_clients", "key list"},
	} {
		args := strings.Fields(c.args)
		for i, a := range args {
			if a == "@" {
				args[i] = line
			}
		}
		status, _, errs := bodkin(t, c.in, args...)
		_, hint, _ := strings.Cut(errs, "bodkin: hint: ")
		if status != c.status || !strings.Contains(errs, c.says) || !strings.Contains(hint, c.hint) || strings.Contains(errs, "\x1b") {
			t.Errorf("key %s: status %d, %q; want %d, %q, hint %q", c.args, status, errs, c.status, c.says, c.hint)
		}
		if after := files(t, dir); after != before {
			t.Fatalf("key %s changed the files:\n%s\nwere\n%s", c.args, after, before)
		}
	}
}

// files returns all that is in the directory.
func files(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range list {
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(f.Name() + ":\n" + string(text))
	}
	return all.String()
}

func TestNoKeyYet(t *testing.T) {
	dir := home(t)
	status, _, errs := bodkin(t, "", "show")
	if status != 1 || !strings.Contains(errs, "this machine has no key") || !strings.Contains(errs, "hint: `bodkin key new`") {
		t.Errorf("%d, %s", status, errs)
	}
	if out, errs := ok(t, "list", "--json"); !strings.Contains(out, `"known_servers": []`) || errs != "" {
		t.Errorf("%s, %s", out, errs)
	}
	if _, errs := ok(t, "trust", "client", trust.FormatPublic(trust.Generate().Public(), "")); !strings.Contains(errs, "no key of its own yet") {
		t.Errorf("%s", errs)
	}
	if err := os.Chmod(filepath.Join(dir, trust.ClientsFile), 0o666); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := bodkin(t, "", "list"); status != 1 || !strings.Contains(errs, "others may write it") || !strings.Contains(errs, "hint: chmod go-w "+dir) {
		t.Errorf("%d, %s", status, errs)
	}
}

// TestBadLines are named, and do not hide the others.
func TestBadLines(t *testing.T) {
	dir := home(t)
	ok(t, "trust", "client", trust.FormatPublic(trust.Generate().Public(), "good"))
	path := filepath.Join(dir, trust.ClientsFile)
	text, _ := os.ReadFile(path)
	if err := os.WriteFile(path, append([]byte("permit \x1b[2J\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs := ok(t, "list")
	if !strings.Contains(out, "good") || !strings.Contains(errs, path+":1: ") || !strings.Contains(errs, "lets nobody in") || strings.Contains(errs, "\x1b") {
		t.Errorf("%q, %q", out, errs)
	}
}

// TestPassphrase: it is asked for by the user's program, twice, and is in no argument,
// and nothing that is printed.
func TestPassphrase(t *testing.T) {
	dir := home(t)
	const phrase = "open sesame"
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")
	asked := filepath.Join(t.TempDir(), "asked")
	script := filepath.Join(t.TempDir(), "askpass")
	answer := func(shell string) {
		t.Helper()
		if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$*\" >> "+asked+"\n"+shell+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("SSH_ASKPASS", script)
	}
	for _, c := range []struct{ shell, says, hint string }{
		{"echo $(wc -l < " + asked + ")", "not the same", ""},
		{"echo", "passphrase is empty", "--passphrase"},
		{"exit 1", "SSH_ASKPASS: " + script, ""},
	} {
		answer(c.shell)
		if status, _, errs := bodkin(t, "", "new", "--passphrase"); status != 1 || !strings.Contains(errs, c.says) || !strings.Contains(errs, c.hint) {
			t.Errorf("%s: %d, %s", c.shell, status, errs)
		}
		if _, err := os.Stat(filepath.Join(dir, trust.KeyFile)); err == nil {
			t.Fatalf("%s: there is a key", c.shell)
		}
	}
	answer("echo '" + phrase + "'")
	out, errs := ok(t, "new", "--passphrase")
	if !strings.Contains(errs, "with a passphrase") || strings.Contains(out+errs, phrase) {
		t.Errorf("%s%s", out, errs)
	}
	key, err := trust.Load(t.Context(), filepath.Join(dir, trust.KeyFile), secret.Ask)
	if want, _, _ := trust.ParsePublic(out); err != nil || !want.Equal(key.Public()) {
		t.Errorf("opened: %v", err)
	}
	questions, _ := os.ReadFile(asked)
	if strings.Contains(string(questions), phrase) || !strings.HasSuffix(string(questions), "New passphrase\nThe same again\nPassphrase for "+filepath.Join(dir, trust.KeyFile)+"\n") {
		t.Errorf("asked:\n%s", questions)
	}
	answer("sleep 60")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := secret.Ask(ctx, "?"); err == nil {
		t.Error("asked although ctx had ended")
	}
}
