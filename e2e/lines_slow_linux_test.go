package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

const (
	modem        = 300 / 8         // octets per second, each way
	slowPatience = 6 * time.Minute // for one program over such a line
)

// TestSlowLine is a modem's line of 300 bit/s, with keys paired and the far half in its
// place. All takes its time, TLS most, and nothing is taken for dead: not while nobody
// says anything, and not while one packet takes longer than silence may last elsewhere.
func TestSlowLine(t *testing.T) {
	t.Parallel() // it waits, and does nothing
	w := newLineWorld(t)
	before := w.snapshot()
	w.farWaits()
	relay := w.relay(lab.Chaos{Up: lab.Faults{Rate: modem}, Down: lab.Faults{Rate: modem}})
	run := func(name string, args ...string) string {
		t.Helper()
		began := time.Now()
		out, err := w.Laptop.Command(within(t, slowPatience), name, args...).As("me").CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		t.Logf("%s after %.0f s:\n%s", name, time.Since(began).Seconds(), out)
		return string(out)
	}
	out := run("bodkin", append([]string{"up", "-d"}, onLine...)...)
	w.says(out, "ok line       clean there, clean back", "ok device     bodkin0, MTU 1280", "ok dns")
	up, down := relay.Passed()
	t.Logf("%d octets there, %d back", up, down)
	w.says(run("ping", "-c", "1", "-W", "60", lab.Web4.String()), " 1 received")
	if got := strings.TrimSpace(run("dig", "+notcp", "+short", "+time=60", "+tries=1", "web.example", "A")); got != lab.Web4.String() {
		t.Errorf("dig: %q", got)
	}
	// A packet of 1,280 octets is under way for 35 seconds, and its answer too.
	w.says(run("ping", "-c", "1", "-s", fmt.Sprint(1280-28), "-W", "180", lab.Web4.String()), " 1 received")
	if s := w.status(); s.State != "up" {
		t.Errorf("status: %+v", s)
	}
	w.down()
	w.asBefore(before, "up, down")
	w.noProcesses()
}
