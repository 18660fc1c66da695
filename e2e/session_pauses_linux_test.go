package e2e_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// Most of what is in this file is waiting, and all of it is done at once.

// A scene is one of several tests that run at once.
type scene struct {
	name string
	run  func(t *testing.T)
}

// together runs scenes at once, however many tests may run in parallel.
func together(t *testing.T, scenes []scene) {
	var all sync.WaitGroup
	for _, s := range scenes {
		all.Go(func() { t.Run(s.name, s.run) })
	}
	all.Wait()
}

// pauseRate is what the cables of these labs carry, in bit/s: many of them run at once.
const pauseRate = 10e6

// aliveWithin is how soon after an outage octets move again: the longest wait between two
// attempts, and an attempt that began just before the end and gets no answer.
const aliveWithin = 25 * time.Second

// TestSessionPauses has the network go away for a second up to minutes, and the laptop sleep.
func TestSessionPauses(t *testing.T) {
	t.Parallel()
	outages := []outage{
		{lasts: time.Second},
		{lasts: 5 * time.Second, found: 4 * time.Second, args: []string{"--fast"}},
		{lasts: 10 * time.Second, found: 10 * time.Second},
		{lasts: 60 * time.Second, found: 10 * time.Second},
	}
	if soak {
		outages = append(outages, outage{lasts: 300 * time.Second, found: 10 * time.Second})
	}
	var scenes []scene
	for _, o := range outages {
		scenes = append(scenes, scene{fmt.Sprintf("an outage of %v", o.lasts), o.try})
	}
	asleep := soaking(20*time.Second, 90*time.Second)
	scenes = append(scenes,
		scene{fmt.Sprintf("asleep for %v", asleep), func(t *testing.T) { trySleep(t, asleep, false) }},
		scene{fmt.Sprintf("asleep for %v, and forgotten by the network", asleep), func(t *testing.T) { trySleep(t, asleep, true) }})
	together(t, scenes)
}

// An outage is a time in which everything is dropped.
type outage struct {
	lasts time.Duration
	found time.Duration // so soon it is noticed; 0: it need not be
	args  []string      // of `bodkin up`
}

// try has an outage while transfers are under way.
func (o outage) try(t *testing.T) {
	w := newWorld(t, lab.Options{Rate: pauseRate})
	before := w.snapshot()
	w.up(append(o.args, "me@gw")...)
	session := w.session().Session.ID
	x := w.transfers(8, o.lasts+transferPatience)
	if !x.moving(patience) {
		t.Fatal("nothing moves before the outage")
	}
	w.clean(fmt.Sprintf("everything is dropped for %v", o.lasts), func() {
		if err := w.Outage(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if o.found > 0 {
			w.eventually("the silence is found", func() bool { return w.session().State == "reconnecting" })
			if took := time.Since(began); took > o.found {
				t.Errorf("the silence was found after %v, want %v", took, o.found)
			}
		}
		w.probe()
		time.Sleep(time.Until(began.Add(o.lasts))) // the outage
		if err := w.Restore(); err != nil {
			t.Fatal(err)
		}
	})
	restored := time.Now()
	if !x.moving(aliveWithin) {
		t.Errorf("%v after the outage nothing moves: %+v", aliveWithin, w.session())
	}
	moved := time.Since(restored)
	x.whole()
	if s := w.session(); s.Session.ID != session {
		t.Errorf("after the outage there is another session: %+v", s)
	} else {
		t.Logf("moving again %.2f s after %v without a network: %+v", moved.Seconds(), o.lasts, s)
	}
	w.down()
	w.asBefore(before, "an outage")
	w.noProcesses()
}

// trySleep has the laptop sleep, and wants the tunnel to be usable soon after it wakes.
func trySleep(t *testing.T, d time.Duration, forgotten bool) {
	w := newWorld(t, lab.Options{Rate: pauseRate})
	w.up("me@gw")
	session := w.session().Session.ID
	x := w.transfers(4, d+transferPatience)
	p := w.pulse()
	if _, err := p.after(time.Now(), patience); err != nil {
		t.Fatal(err)
	}
	ports := w.portsTo(lab.SSHPort)
	if err := w.Laptop.Freeze(); err != nil {
		t.Fatal(err)
	}
	if forgotten {
		if err := w.Forget(ports...); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(d) // its sleep
	woke := time.Now()
	if err := w.Laptop.Thaw(); err != nil {
		t.Fatal(err)
	}
	if took, err := p.after(woke, patience); err != nil || took > 5*time.Second {
		t.Errorf("usable %v after waking up, %v: %+v", took, err, w.session())
	} else {
		t.Logf("usable %.2f s after waking up: %+v", took.Seconds(), w.session())
	}
	x.whole()
	if s := w.session(); s.Session.ID != session {
		t.Errorf("after sleeping there is another session: %+v", s)
	}
	w.down()
}

// portsTo are the laptop's own ports of its connections to a port.
func (w *world) portsTo(port uint16) (ports []uint16) {
	w.t.Helper()
	for _, text := range w.connectionsTo(port) {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			w.t.Fatal(err)
		}
		ports = append(ports, uint16(n))
	}
	if len(ports) == 0 {
		w.t.Fatalf("no connection to port %d", port)
	}
	return ports
}

// TestSessionMoves: the laptop goes to another network, with other addresses by another device and
// another router, and what is connected through the tunnel moves with it.
func TestSessionMoves(t *testing.T) {
	t.Parallel()
	for _, b := range []struct {
		name    string
		prepare func(w *world)
		target  []string
	}{
		{"ssh", func(*world) {}, []string{"me@gw"}},
		{"tls", func(w *world) { w.pair("home"); w.serve() }, []string{"--known-as", "home", fmt.Sprintf("tls://gw:%d", servePort)}},
	} {
		t.Run(b.name, func(t *testing.T) {
			w := newWorld(t, lab.Options{AllowTCP: []uint16{servePort}, Rate: pauseRate})
			if err := w.Gateway.Install(program); err != nil {
				t.Fatal(err)
			}
			if err := w.Elsewhere(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.prepare(w)
			w.up(b.target...)
			session := w.session().Session.ID
			x := w.transfers(4, transferPatience)
			p := w.pulse()
			if _, err := p.after(time.Now(), patience); err != nil {
				t.Fatal(err)
			}
			cable := w.capture(w.Laptop, lab.ElsewhereDevice)
			if err := w.Move(); err != nil {
				t.Fatal(err)
			}
			moved := time.Now()
			if took, err := p.after(moved, patience); err != nil || took > 3*time.Second {
				t.Errorf("elsewhere octets move after %v, %v: %+v", took, err, w.session())
			} else {
				t.Logf("elsewhere octets move after %.2f s: %+v", took.Seconds(), w.session())
			}
			w.httpByName()
			x.whole()
			if s := w.session(); s.Session.ID != session {
				t.Errorf("elsewhere there is another session: %+v", s)
			}
			w.probe()
			if leaks := slices.DeleteFunc(cable.Out(), func(line string) bool {
				return strings.HasPrefix(line, "tcp ") && (strings.Contains(line, " to "+lab.Gateway4.String()+":") || strings.Contains(line, " to ["+lab.Gateway6.String()+"]:"))
			}); len(leaks) > 0 {
				t.Errorf("elsewhere this leaves outside the tunnel:\n%s", strings.Join(leaks, "\n"))
			}
			w.down()
		})
	}
}
