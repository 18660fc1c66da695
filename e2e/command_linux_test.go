package e2e_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

// A status is what these tests read of `bodkin status --json`.
type status struct {
	Name      string         `json:"name"`
	State     string         `json:"state"`
	Target    string         `json:"target"`
	Device    string         `json:"device"`
	Encrypted bool           `json:"encrypted"`
	Addresses []netip.Prefix `json:"addresses"`
	Routes    []netip.Prefix `json:"routes"`
	OctetsOut uint64         `json:"octetsOut"`
}

// statuses are those of all tunnels.
func (w *world) statuses() (all []status) {
	w.t.Helper()
	out := w.laptop("bodkin", "status", "--json")
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		w.t.Fatalf("bodkin status --json: %v in:\n%s", err, out)
	}
	return all
}

// status is that of the only tunnel.
func (w *world) status() status {
	w.t.Helper()
	all := w.statuses()
	if len(all) != 1 {
		w.t.Fatalf("%d tunnels, want 1: %+v", len(all), all)
	}
	return all[0]
}

// TestDetachStatusDown is the life of a tunnel in the background.
func TestDetachStatusDown(t *testing.T) {
	w := newWorld(t, lab.Options{})
	before := w.snapshot()
	if all := w.statuses(); len(all) != 0 {
		t.Errorf("no tunnel, and status lists %+v", all)
	}

	w.up("me@gw")
	w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", "http://web.example/") // it carries packets as soon as up returns
	s := w.status()
	if s.Name != "bodkin0" || s.State != "up" || s.Target != "me@gw" || !s.Encrypted || s.OctetsOut == 0 {
		t.Errorf("status: %+v", s)
	}
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		if !slices.Contains(s.Routes, netip.MustParsePrefix(all)) {
			t.Errorf("routes: %v, without %s", s.Routes, all)
		}
	}
	w.says(w.laptop("bodkin", "status"), "bodkin0", "me@gw")

	again := w.bodkin("up", "-d", "me@gw")
	if again.status == 0 {
		t.Error("a second tunnel of the same name came up")
	}
	w.says(again.out, "bodkin: error: ", "bodkin0")
	w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", "http://web.example/") // the first did not suffer

	w.down()
	if all := w.statuses(); len(all) != 0 {
		t.Errorf("after down, status lists %+v", all)
	}
	w.asBefore(before, "up, down")
	w.noProcesses()
	if r := w.bodkin("down"); r.status == 0 {
		t.Errorf("down without a tunnel exits 0:\n%s", r.out)
	}
}

// TestTwoTunnels has one for everything and one for an office, by two names.
func TestTwoTunnels(t *testing.T) {
	w := newWorld(t, lab.Options{})
	before := w.snapshot()
	w.up("me@gw")
	w.up("--name", "office", "me@gw", "10.20.0.0/24")
	for _, host := range []netip.Addr{lab.Web4, lab.Office4} {
		w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", url(host, "/"))
	}
	w.laptop("bodkin", "down", "bodkin0")
	w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", url(lab.Office4, "/"))
	w.laptop("bodkin", "down", "office")
	w.asBefore(before, "two ups, two downs")
}

// TestFarSideDies ends the far half: a tunnel that is not to be dialled again ends, and the
// laptop is as it was.
func TestFarSideDies(t *testing.T) {
	w := newWorld(t, lab.Options{})
	before := w.snapshot()
	w.up("--once", "me@gw")
	w.on(w.Gateway, "root", "pkill", "-9", "-u", "me")
	w.eventually("the tunnel has ended", func() bool { return len(w.processes()) == 0 })
	w.asBefore(before, "the far side's death")
}

// TestText is what needs no network: version, help, completions, the manual.
func TestText(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.says(w.laptop("bodkin", "version"), "e2e")
	w.says(w.laptop("bodkin", "help"), "up", "status", "down", "clean")
	for _, shell := range []string{"bash", "zsh", "fish"} {
		w.says(w.laptop("bodkin", "completion", shell), "bodkin")
	}
	if r := w.bodkin("frobnicate"); r.status != 2 {
		t.Errorf("an unknown command: exit status %d, want 2\n%s", r.status, r.out)
	}
}
