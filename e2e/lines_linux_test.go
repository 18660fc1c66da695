package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

const (
	farPort   = 7000 // where a far half waits on the gateway
	relayPort = 7070 // where the firewall relays to it
)

// newLineWorld is a closed lab, where nothing but a relay on the firewall leads to the
// gateway, and two machines that know each other's keys.
func newLineWorld(t *testing.T) *world {
	t.Helper()
	w := closedWorld(t)
	if err := w.Gateway.Install(program); err != nil {
		t.Fatal(err)
	}
	w.pair("home")
	return w
}

// A waiting far half is a program on the gateway that waits for one near half.
type waiting struct {
	*lab.Cmd
	said *bytes.Buffer // to be read once it has ended
}

// farWaits starts one, and returns when it listens.
func (w *world) farWaits() waiting {
	w.t.Helper()
	f := waiting{w.Gateway.Command(w.t.Context(), "bodkin", "far", "--listen", fmt.Sprintf("%v:%d", lab.Gateway4, farPort)).As("me"), new(bytes.Buffer)}
	f.Stdout, f.Stderr = f.said, f.said
	if err := f.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		f.Process.Kill()
		f.Wait()
	})
	w.eventually("the far half listens", func() bool {
		return strings.Contains(w.on(w.Gateway, "root", "ss", "-ltn").out, fmt.Sprintf(":%d ", farPort))
	})
	return f
}

// relay leads from the firewall to the far half that waits.
func (w *world) relay(c lab.Chaos) *lab.Relay {
	w.t.Helper()
	r, err := c.Listen(w.Firewall, relayPort, netip.AddrPortFrom(lab.Gateway4, farPort))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { r.Close() })
	return r
}

// onLine is the way by the relay.
var onLine = []string{"--known-as", "home", fmt.Sprintf("bodkin://tn-gw:%d", relayPort)}

// chatter is n octets of what a gateway says before it connects anybody.
func chatter(n int) []byte {
	line := []byte("All connections are logged: 'exec /bin/sh' \xfe is no way out. \x1b[1m~.\x00\r\n")
	return bytes.Repeat(line, n/len(line)+1)[:n]
}

// dirt is what relays do to octets, and what bodkin makes of such a direction.
var dirt = []struct {
	name   string
	faults lab.Faults
	choice string  // what is said of the line
	least  float64 // of what passes, so much is carried
	bulk   int64   // octets each way
}{
	{"one octet per write", lab.Faults{OctetPerWrite: true}, "clean", 0.95, 200_000}, // many acknowledgements
	{"bit 7 taken off", lab.Faults{Seven: true}, "7-bit armour, 75 %", 0.70, 2_000_000},
	{"nine octets eaten", lab.Faults{Eat: eaten}, "10 octets escaped, 96 %", 0.80, 2_000_000},
	{"CR and LF mapped", lab.Faults{CRNL: true}, "3 octets escaped, 98 %", 0.80, 2_000_000},
	{"a banner of 64 KiB", lab.Faults{Prefix: chatter(64 << 10)}, "clean", 0.97, 2_000_000},
	{"all of it", lab.Faults{OctetPerWrite: true, Seven: true, Eat: eaten, CRNL: true, Prefix: chatter(64 << 10)}, "7-bit armour, 75 %", 0.70, 200_000},
}

// eaten are what old terminals, modems and telnets keep for themselves.
var eaten = []byte("\x00\x03\x04\x0a\x0d\x11\x13\x1a\xff")

// TestDirtyLines goes through relays that do to octets what relays do, in either
// direction and in both: full IP, and no octet damaged. Each direction has the cheapest
// coding that will do, found out in less than five seconds.
func TestDirtyLines(t *testing.T) {
	w := newLineWorld(t)
	before := w.snapshot()
	for _, d := range dirt {
		for _, directions := range []string{"there", "back", "both"} {
			t.Run(d.name+", "+directions, func(t *testing.T) {
				w := w.in(t)
				var chaos lab.Chaos
				there, back := dirt[0], dirt[0] // without a fault
				if directions != "back" {
					chaos.Up, there = d.faults, d
				}
				if directions != "there" {
					chaos.Down, back = d.faults, d
				}
				far := w.farWaits()
				relay := w.relay(chaos)
				defer relay.Close()
				r := w.upAs("me", onLine...)
				w.says(r.out, fmt.Sprintf("ok line       %s there, %s back", there.choice, back.choice))
				if took := rowTook(r.out, "line"); took >= 5 {
					t.Errorf("measuring took %v s", took)
				}
				inside, outside := w.carried(), passed(relay)
				w.fullIP(d.bulk)
				inside, outside = w.carried().minus(inside), passed(relay).minus(outside)
				if e := float64(inside.there) / float64(outside.there); e < there.least {
					t.Errorf("there: for %d octets inside %d passed, which is %.2f", inside.there, outside.there, e)
				}
				if e := float64(inside.back) / float64(outside.back); e < back.least {
					t.Errorf("back: for %d octets inside %d passed, which is %.2f", inside.back, outside.back, e)
				}
				w.down()
				w.asBefore(before, "up, down")
				w.noProcesses()
				far.Wait() // it ends by itself
			})
		}
	}
}

// rowTook is how long, in seconds, up says that a layer took.
func rowTook(out, layer string) float64 {
	row := regexp.MustCompile(`(?m)^ *ok ` + layer + ` .*\(([0-9.]+) s\)$`).FindStringSubmatch(out)
	if row == nil {
		return math.Inf(1)
	}
	took, _ := strconv.ParseFloat(row[1], 64)
	return took
}

// octets are counts of both ways.
type octets struct{ there, back int64 }

func (o octets) minus(before octets) octets {
	return octets{o.there - before.there, o.back - before.back}
}

// carried is how many octets of IP the tunnel has carried.
func (w *world) carried() octets {
	w.t.Helper()
	var all []struct{ OctetsOut, OctetsIn int64 }
	if err := json.Unmarshal([]byte(w.laptop("bodkin", "status", "--json")), &all); err != nil || len(all) != 1 {
		w.t.Fatalf("status of %d tunnels, want 1: %v", len(all), err)
	}
	return octets{all[0].OctetsOut, all[0].OctetsIn}
}

// passed is how many octets a relay has passed on.
func passed(r *lab.Relay) octets {
	up, down := r.Passed()
	return octets{up, down}
}
