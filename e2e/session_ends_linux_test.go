package e2e_test

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// TestSessionEnds has sessions end in every way but the user's own, on either side, and
// wants nothing to be left.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	together(t, []scene{
		{"nobody comes back", tryGrace},
		{"it is ended where it is held", tryDownThere},
		{"they come back too late", tryTooLate},
		{"its keeper is killed", tryKeeperKilled},
		{"the far side holds nothing", tryHoldNothing},
		{"once", tryOnce},
	})
}

// newHeldWorld is a lab where the far half has been before, so that what a tunnel leaves is
// seen from here on, and the inventory of the gateway.
func newHeldWorld(t *testing.T) (w *world, gateway string) {
	t.Helper()
	w = newWorld(t, lab.Options{})
	if err := w.Gateway.Install(program); err != nil {
		t.Fatal(err)
	}
	w.up("me@gw")
	w.down()
	w.eventually("the far half has ended", func() bool { return len(w.farHalves()) == 0 })
	return w, w.inventory(w.Gateway)
}

// farHalves are the processes of far halves on the gateway.
func (w *world) farHalves() (list []lab.Process) {
	w.t.Helper()
	all, err := w.Gateway.Processes()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range all {
		if len(p.Args) > 0 && isFar(p.Args) {
			list = append(list, p)
		}
	}
	return list
}

// isKeeper is what holds a session at a login.
func isKeeper(args []string) bool {
	return isFar(args) && strings.Contains(strings.Join(args, " "), "--held")
}

// nothingLeft wants the gateway to be as it was.
func (w *world) nothingLeft(gateway string) {
	w.t.Helper()
	w.eventually("no far half is left", func() bool { return len(w.farHalves()) == 0 })
	if diff := lab.Difference(gateway, w.inventory(w.Gateway)); len(diff) > 0 {
		w.t.Errorf("the gateway is not as it was:\n%s", strings.Join(diff, "\n"))
	}
}

// tryGrace kills the whole near side: the far half waits for its grace, and ends with all
// its connections.
func tryGrace(t *testing.T) {
	const grace = 5 * time.Second
	w, gateway := newHeldWorld(t)
	w.up("--grace", grace.String(), "me@gw")
	if s := w.session(); s.Session.GraceSeconds != grace.Seconds() {
		t.Errorf("%v were asked for, and granted are %v s", grace, s.Session.GraceSeconds)
	}
	server, err := w.Internet.Listen("tcp", netip.AddrPortFrom(lab.Web4, transferPort).String())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c, err := w.Laptop.Dial(t.Context(), "tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	far, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()

	w.killAll()
	killed := time.Now()
	far.SetReadDeadline(killed.Add(patience))
	far.Read(make([]byte, 1))
	if took := time.Since(killed); took < grace-time.Second || took > grace+3*time.Second {
		t.Errorf("the connection out of the far half ended after %v, want %v", took, grace)
	}
	w.nothingLeft(gateway)
	w.laptop("sudo", "bodkin", "clean")
}

// tryDownThere is the account on the gateway that wants its far halves to end.
func tryDownThere(t *testing.T) {
	w, gateway := newHeldWorld(t)
	w.up("me@gw")
	id := w.session().Session.ID
	w.killAll()
	if n := len(w.farHalves()); n == 0 {
		t.Error("nothing is held")
	}
	w.says(w.on(w.Gateway, "me", "bodkin", "status").out, id[:8])
	if r := w.on(w.Gateway, "me", "bodkin", "down"); r.status != 0 || r.took > 5*time.Second {
		t.Errorf("bodkin down on the gateway: exit status %d after %v\n%s", r.status, r.took, r.out)
	}
	w.nothingLeft(gateway)
	w.laptop("sudo", "bodkin", "clean")
}

// tryTooLate has the laptop sleep for longer than it is waited for: another tunnel begins,
// and what was connected through the one before is told so.
func tryTooLate(t *testing.T) {
	w, _ := newHeldWorld(t)
	w.up("--grace", "2s", "me@gw")
	old := w.session().Session.ID
	c, err := w.Laptop.Dial(t.Context(), "tcp", netip.AddrPortFrom(lab.Web4, lab.EchoPort).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ports := w.portsTo(lab.SSHPort)
	if err := w.Laptop.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := w.Forget(ports...); err != nil {
		t.Fatal(err)
	}
	w.eventually("nobody waits for the laptop any more", func() bool { return len(w.farHalves()) == 0 })
	if err := w.Laptop.Thaw(); err != nil {
		t.Fatal(err)
	}
	w.eventually("there is another tunnel", func() bool { s := w.session(); return s.State == "up" && s.Session.ID != old })
	w.httpByName()
	c.SetDeadline(time.Now().Add(patience))
	c.Write([]byte("are you there?"))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a connection of the tunnel before goes on")
	}
	w.down()
}

// tryKeeperKilled kills what holds the session: another tunnel begins.
func tryKeeperKilled(t *testing.T) {
	w, gateway := newHeldWorld(t)
	w.up("me@gw")
	old := w.session().Session.ID
	if n := w.kill(w.Gateway, isKeeper); n != 1 {
		t.Fatalf("%d keepers were killed, want 1", n)
	}
	w.eventually("there is another tunnel", func() bool { s := w.session(); return s.State == "up" && s.Session.ID != old })
	w.httpByName()
	w.down()
	w.eventually("no far half is left", func() bool { return len(w.farHalves()) == 0 })
	w.on(w.Gateway, "me", "bodkin", "status") // its socket has its name until somebody looks
	w.nothingLeft(gateway)
}

// tryHoldNothing has a far side whose settings permit no session to outlive its connection:
// it is said, and a lost connection begins another tunnel.
func tryHoldNothing(t *testing.T) {
	w, gateway := newHeldWorld(t)
	key, err := w.Laptop.ReadFile("/home/me/.ssh/id_ed25519.pub")
	if err != nil {
		t.Fatal(err)
	}
	w.write(w.Gateway, "/home/me/.ssh/authorized_keys", `restrict,command="/usr/local/bin/bodkin far --hold 0" `+string(key), "me")
	r := w.upAs("me", "me@gw")
	w.says(r.out, "does not hold the tunnel", "--hold 0")
	s := w.session()
	if s.Session.GraceSeconds != 0 {
		t.Errorf("granted are %v s", s.Session.GraceSeconds)
	}
	c, err := w.Laptop.Dial(t.Context(), "tcp", netip.AddrPortFrom(lab.Web4, lab.EchoPort).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w.clean("the connection is lost", func() {
		w.kill(w.Laptop, isSSH)
		w.eventually("there is another tunnel", func() bool { now := w.session(); return now.State == "up" && now.Session.ID != s.Session.ID })
	})
	w.httpByName()
	c.SetDeadline(time.Now().Add(patience))
	c.Write([]byte("are you there?"))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a connection of the tunnel before goes on")
	}
	w.down()
	w.write(w.Gateway, "/home/me/.ssh/authorized_keys", string(key), "me")
	w.nothingLeft(gateway)
}

// tryOnce is a tunnel that ends with its connection, and says so.
func tryOnce(t *testing.T) {
	w, gateway := newHeldWorld(t)
	before := w.snapshot()
	near := w.upHere("--once", "me@gw")
	w.eventually("the tunnel is up", func() bool { return strings.Contains(near.text(), "is up in") })
	w.kill(w.Laptop, isSSH)
	near.Wait()
	if status := near.ProcessState.ExitCode(); status != 19 {
		t.Errorf("exit status %d, want 19\n%s", status, near.text())
	}
	w.says(near.text(), "bodkin: error: tunnel: ", "bodkin: hint: ")
	w.asBefore(before, "the end of its connection")
	w.noProcesses()
	w.nothingLeft(gateway)
}

// TestSessionBesideAnother: a far half waits for whoever does not come, while another tunnel of
// the same user begins and goes.
func TestSessionBesideAnother(t *testing.T) {
	t.Parallel()
	w, gateway := newHeldWorld(t)
	w.up("--grace", "10s", "me@gw")
	w.killAll()
	w.up("me@gw")
	w.httpByName()
	w.down()
	w.nothingLeft(gateway)
}

// TestSessionSignals: a tunnel that has no connection at the moment is told to go down, by
// its user and by its terminal, and does.
func TestSessionSignals(t *testing.T) {
	t.Parallel()
	w, gateway := newHeldWorld(t)
	before := w.snapshot()
	for _, how := range []string{"bodkin down", "Ctrl-C"} {
		near := w.upHere("--grace", "4s", "me@gw")
		w.eventually("the tunnel is up", func() bool { return strings.Contains(near.text(), "is up in") })
		if err := w.Outage(); err != nil {
			t.Fatal(err)
		}
		w.kill(w.Laptop, isSSH)
		w.eventually("the loss is noticed", func() bool { s := w.session(); return s.State == "reconnecting" && s.Lost != "" })
		w.says(w.laptop("bodkin", "status"), "reconnecting")
		began := time.Now()
		if how == "Ctrl-C" {
			near.Process.Signal(syscall.SIGINT)
		} else {
			w.down()
		}
		near.Wait()
		if status, took := near.ProcessState.ExitCode(), time.Since(began); status != 0 || took > 3*time.Second {
			t.Errorf("%s without a connection: exit status %d after %v\n%s", how, status, took, near.text())
		}
		w.asBefore(before, how+" without a connection")
		w.noProcesses()
		if err := w.Restore(); err != nil {
			t.Fatal(err)
		}
		w.eventually("the far half has ended by itself", func() bool { return len(w.farHalves()) == 0 })
	}
	w.nothingLeft(gateway)
}
