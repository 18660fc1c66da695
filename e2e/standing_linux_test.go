package e2e_test

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

// kill kills the processes of a machine that some rule picks, and says how many.
func (w *world) kill(m *lab.Machine, which func(args []string) bool) (killed int) {
	w.t.Helper()
	all, err := m.Processes()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range all {
		if len(p.Args) > 0 && which(p.Args) {
			killed++
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				w.t.Fatal(err)
			}
		}
	}
	return killed
}

// What carries a tunnel, and what is at its far end.
func isSSH(args []string) bool { return filepath.Base(args[0]) == "ssh" }
func isFar(args []string) bool { return len(args) > 1 && args[1] == "far" } // and what holds its session

// again wants the tunnel to be up again by itself.
func (w *world) again(after string) {
	w.t.Helper()
	w.eventually("the tunnel is up again after "+after, func() bool { return w.status().State == "up" })
}

// TestStanding: a tunnel that stands is dialled again when what carries it dies, and
// meanwhile nothing goes around it.
func TestStanding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	before := w.snapshot()
	w.up("--stand", "me@gw")
	device := w.status().Addresses
	for _, c := range []struct {
		what string
		how  func() int
	}{
		{"the death of its ssh", func() int { return w.kill(w.Laptop, isSSH) }},
		{"the death of its far half", func() int { return w.kill(w.Gateway, isFar) }},
	} {
		w.clean("the tunnel stands, and after "+c.what, func() {
			if c.how() == 0 {
				t.Errorf("%s: none was killed", c.what)
			}
			w.probe()
			w.again(c.what)
			w.httpByName()
			w.probe()
		})
		if now := w.status().Addresses; !slices.Equal(now, device) {
			t.Errorf("after %s the addresses are %v, and were %v", c.what, now, device)
		}
	}
	w.down()
	w.asBefore(before, "standing, down")
	w.noProcesses()
}

// TestStandingDown takes a tunnel down while there is nobody to dial.
func TestStandingDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	before := w.snapshot()
	w.up("--stand", "me@gw")
	// The server's machine goes away: nothing comes back from it.
	if r := w.on(w.Gateway, "root", "ip", "link", "set", "eth0", "down"); r.status != 0 {
		t.Fatal(r.out)
	}
	w.kill(w.Laptop, isSSH)
	w.eventually("the death is noticed", func() bool { return w.status().State != "up" })
	w.clean("nobody is there to dial", w.probe)
	w.down()
	w.asBefore(before, "down in between")
	w.noProcesses()
}

// TestStandingReverse: a machine behind the firewall keeps a way to itself standing, and
// the server's programs use it at any time.
func TestStandingReverse(t *testing.T) {
	t.Parallel()
	s := sides[0]
	w := newSideWorld(t, s)
	w.rootsKey()
	laptop, gateway := w.snapshot(), w.snapshotOf(w.Gateway)
	w.up(append([]string{"-e", "ssh -i " + rootKey, "--near", "nat", "--far", "tun", "--stand", "root@gw"}, s.here.prefixes...)...)
	there := user{machine: w.Gateway, resolver: innerResolver}
	w.uses(there, s.here)
	for _, c := range []struct {
		what string
		how  func() int
	}{
		{"the death of its ssh", func() int { return w.kill(w.Laptop, isSSH) }},
		{"the death of its far half", func() int { return w.kill(w.Gateway, isFar) }},
	} {
		if c.how() == 0 {
			t.Errorf("%s: none was killed", c.what)
		}
		w.eventually("the office is reached again after "+c.what, func() bool {
			return w.on(w.Gateway, "me", "curl", "-sS", "-f", "-m", "2", "-o", "/dev/null", url(lab.Corp4, "/")).status == 0
		})
		w.uses(there, s.here)
	}
	w.asBefore(laptop, "standing in reverse")
	w.down()
	w.gone(w.Gateway, gateway)
	w.noProcesses()
}

// TestStandingRefused ends a standing tunnel when its login is refused: dialling again
// would only be refused again.
func TestStandingRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	before := w.snapshot()
	w.up("--stand", "me@gw")
	w.write(w.Gateway, "/home/me/.ssh/authorized_keys", "", "me")
	w.kill(w.Laptop, isSSH)
	w.eventually("the tunnel has ended", func() bool { return len(w.statuses()) == 0 })
	w.eventually("all is as before", func() bool { return w.snapshot() == before })
	w.noProcesses()
	if r := w.bodkin("up", "-d", "--stand", "me@gw"); r.status != 12 || !strings.Contains(r.out, "bodkin: hint: ") {
		t.Errorf("a login that is refused: exit status %d, want 12\n%s", r.status, r.out)
	}
}
