package e2e_test

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// TestSessionReconnects loses the connection below a tunnel many times on a good network: each time
// it is back soon, and after the last nothing is there that was not after the first.
func TestSessionReconnects(t *testing.T) {
	times := soaking(100, 1000)
	for _, b := range waysBack[:2] {
		most := map[string]time.Duration{"ssh": 1500 * time.Millisecond, "tls": 500 * time.Millisecond}[b.name]
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{Closed: true})
			w.wayBack(b)
			relay, err := lab.Chaos{}.Listen(w.Firewall, cutPort, netip.AddrPortFrom(lab.Gateway4, b.port))
			if err != nil {
				t.Fatal(err)
			}
			few := w.reconnected(b, relay, 1)
			many := w.reconnected(b, relay, times)
			for _, m := range []*lab.Machine{w.Laptop, w.Gateway} {
				diff := lab.Difference(many.first[m.Name], many.last[m.Name])
				diff = slices.DeleteFunc(diff, func(line string) bool {
					return strings.HasPrefix(line, "- descriptor of ") // a flow's that has been idle since
				})
				if len(diff) > 0 {
					t.Errorf("after %d reconnects the %s is not as after one:\n%s", times, m.Name, strings.Join(diff, "\n"))
				}
			}
			for who, now := range many.goroutines {
				for _, line := range differences(few.goroutines[who], now) {
					t.Errorf("after %d reconnects the %s has other goroutines than after one: %s", times, who, line)
				}
			}
			if len(many.goroutines) == 0 || len(many.goroutines["near half"]) == 0 {
				t.Error("no goroutine is seen: nothing here proves anything")
			}
			p50, p95 := percentile(many.took, 0.5), percentile(many.took, 0.95)
			if p50 > most {
				t.Errorf("back after %v in the middle, want %v at most", p50, most)
			}
			t.Logf("back after %.0f ms (p50), %.0f ms (p95), %.0f ms at most, of %d", ms(p50), ms(p95), ms(percentile(many.took, 1)), times)
		})
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// wayBack prepares a closed lab for a way that leads by cutPort.
func (w *world) wayBack(b wayBack) {
	w.t.Helper()
	if err := w.Gateway.Install(program); err != nil {
		w.t.Fatal(err)
	}
	hosts, err := w.Laptop.ReadFile("/etc/hosts")
	if err == nil {
		err = w.Laptop.WriteFile("/etc/hosts", append(hosts, fmt.Sprintf("%v tn-gw\n", lab.FirewallInside4)...), 0o644, "root")
	}
	if err != nil {
		w.t.Fatal(err)
	}
	b.prepare(w)
}

// A reconnected is what a tunnel was like that lost its connection some times.
type reconnected struct {
	took        []time.Duration
	first, last map[string]string         // inventories of the machines, after the first and the last time
	goroutines  map[string]map[string]int // of each process that tells, by who made them
}

// reconnected has a tunnel lose its connection so many times.
func (w *world) reconnected(b wayBack, relay *lab.Relay, times int) (r reconnected) {
	w.t.Helper()
	var server *server
	if b.serves {
		server = w.serve()
	}
	near := w.upFor(patience+time.Duration(times)*5*time.Second, b.target...)
	w.eventually("the tunnel is up", func() bool { return strings.Contains(near.text(), "is up in") })
	session := w.session().Session.ID
	p := w.pulse()
	r.goroutines = make(map[string]map[string]int)
	for n := range times {
		if _, err := p.after(time.Now(), patience); err != nil {
			w.t.Fatalf("before connection %d of %d ends: %v\n%s", n, times, err, near.text())
		}
		relay.Cut()
		took, err := p.after(time.Now(), patience)
		if err != nil {
			w.t.Fatalf("after connection %d of %d has ended: %v\n%s", n, times, err, near.text())
		}
		r.took = append(r.took, took)
		if n == 0 {
			r.first = w.settled()
		}
	}
	r.last = w.settled()
	if s := w.session(); s.Session.ID != session || s.Session.Streams < times {
		w.t.Errorf("after %d reconnects: %+v, and the session was %s", times, s, session)
	}

	// A killed Go program says what its goroutines do.
	near.Process.Signal(syscall.SIGABRT)
	near.Wait()
	r.goroutines["near half"] = goroutines(near.text())
	p.end()
	w.eventually("the laptop's half has ended", func() bool { return len(w.processes()) == 0 })
	if server != nil {
		server.Process.Signal(syscall.SIGABRT)
		server.Wait()
		r.goroutines["server"] = goroutines(server.said.String())
	}
	return r
}

// inventories are those of both machines.
func (w *world) inventories() map[string]string {
	w.t.Helper()
	return map[string]string{w.Laptop.Name: w.inventory(w.Laptop), w.Gateway.Name: w.inventory(w.Gateway)}
}

// settled takes inventories until three in a row are the same: what a connection that has
// just ended leaves to close, another may still be closing.
func (w *world) settled() map[string]string {
	w.t.Helper()
	last, same := w.inventories(), 1
	w.eventually("the machines are at rest", func() bool {
		now := w.inventories()
		if same++; !maps.Equal(now, last) {
			last, same = now, 1
		}
		return same >= 3
	})
	return last
}

// madeBy is the line of a goroutine's trace that says who made it.
var madeBy = regexp.MustCompile(`(?m)^created by (\S+)`)

// goroutines counts those of a trace by who made them.
func goroutines(trace string) map[string]int {
	counts := make(map[string]int)
	for _, m := range madeBy.FindAllStringSubmatch(trace, -1) {
		counts[m[1]]++
	}
	return counts
}

// differences are those of two counts.
func differences(before, after map[string]int) (lines []string) {
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if after[name] > before[name] {
			lines = append(lines, fmt.Sprintf("%d of %s, not %d", after[name], name, before[name]))
		}
	}
	return lines
}
