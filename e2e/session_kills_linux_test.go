package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// A sessionStatus is what these tests read of the session in `bodkin status --json`.
type sessionStatus struct {
	State   string `json:"state"`
	Lost    string `json:"lost"`
	Session struct {
		ID           string    `json:"id"`
		Streams      int       `json:"streams"`
		Since        time.Time `json:"since"`
		Replayed     int64     `json:"replayed"`
		GraceSeconds float64   `json:"graceSeconds"`
		RoundTripMS  float64   `json:"roundTripMs"`
		InFlight     int       `json:"inFlight"`
		Bound        int       `json:"bound"`
	} `json:"session"`
	Queue struct {
		Packets int `json:"packets"`
		Octets  int `json:"octets"`
	} `json:"queue"`
}

// session is that of the only tunnel.
func (w *world) session() sessionStatus {
	w.t.Helper()
	var all []sessionStatus
	out := w.laptop("bodkin", "status", "--json")
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
		w.t.Fatalf("status of %d tunnels, want 1: %v", len(all), err)
	}
	return all[0]
}

// A wayBack is a way to the gateway by a Cutter on the firewall, which makes an end of
// each connection.
type wayBack struct {
	name    string
	port    uint16 // of the gateway
	serves  bool   // it is a server there, not a login
	prepare func(w *world)
	target  []string
}

const cutPort = 7071 // where the firewall cuts

var waysBack = []wayBack{
	{"ssh", lab.SSHPort, false, (*world).sshByCutter, []string{"me@cut"}},
	{"tls", servePort, true, func(w *world) { w.pair("home") }, []string{"--known-as", "home", fmt.Sprintf("tls://tn-gw:%d", cutPort)}},
	{"wss", servePort, true, func(w *world) { w.pair("home") }, []string{"--known-as", "home", fmt.Sprintf("wss://tn-gw:%d", cutPort)}},
}

// sshByCutter has the laptop's ssh know the gateway by the firewall's port.
func (w *world) sshByCutter() {
	w.t.Helper()
	text := fmt.Sprintf("Host cut\n\tHostName %v\n\tPort %d\n\tHostKeyAlias gw\n", lab.FirewallInside4, cutPort)
	w.write(w.Laptop, "/home/me/.ssh/config", text, "me")
}

// newCutWorld is a closed lab in which a way leads by a cutter. Its cable is no faster
// than 100 Mbit/s, so that all buffers are full when a connection ends.
func newCutWorld(t *testing.T, b wayBack, next func() lab.Cut) *world {
	t.Helper()
	w := newWorld(t, lab.Options{Closed: true, Rate: 100e6})
	w.wayBack(b)
	if b.serves {
		w.serve()
	}
	if _, err := w.Firewall.Cutter(cutPort, netip.AddrPortFrom(lab.Gateway4, b.port), next); err != nil {
		t.Fatal(err)
	}
	return w
}

// A killer says how each of many connections ends, at random and always the same.
type killer struct {
	mu     sync.Mutex
	random *rand.Rand
	kill   func() // kills what carries; nil: there is nothing to kill
	left   int    // how many more end
	made   map[lab.Ending]int
	ended  chan struct{} // gets one for each
}

// A connection ends among its first octets, in a login or a greeting, or anywhere in what
// passes in some tenths of a second.
const (
	earlyOctets = 6 << 10
	cutOctets   = 3 << 20
)

// silenceShare is how many connections end for one that ends in silence, which takes
// seconds to be found.
const silenceShare = 25

// next is what becomes of the next connection.
func (k *killer) next() lab.Cut {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left == 0 {
		return lab.Cut{After: -1}
	}
	k.left--
	how := []lab.Ending{lab.Reset, lab.Finish, lab.Spare}[k.random.IntN(3)]
	if k.random.IntN(silenceShare) == 0 {
		how = lab.Silence
	}
	if how == lab.Spare && k.kill == nil {
		how = lab.Reset
	}
	after := 1 + k.random.Int64N(cutOctets)
	if k.random.IntN(8) == 0 {
		after = 1 + k.random.Int64N(earlyOctets)
	}
	return lab.Cut{After: after, How: how, Told: func(time.Time) {
		if how == lab.Spare {
			k.kill()
		}
		k.mu.Lock()
		k.made[how]++
		k.mu.Unlock()
		k.ended <- struct{}{}
	}}
}

// TestSessionKills ends the connection below a tunnel again and again, at random octets, by resets,
// ends, silence and kill -9 of the ssh program, while twenty transfers are under way: all
// of them go on, and all octets arrive once.
func TestSessionKills(t *testing.T) {
	for i, b := range waysBack {
		kills := soaking([]int{120, 120, 40}, []int{500, 500, 200})[i]
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			k := &killer{random: rand.New(rand.NewPCG(6, uint64(i))), made: make(map[lab.Ending]int), ended: make(chan struct{}, kills)}
			w := newCutWorld(t, b, k.next)
			before := w.snapshot()
			w.up(append([]string{"--fast"}, b.target...)...)
			if b.name == "ssh" {
				k.kill = func() {
					if _, err := killAt(w.Laptop, isSSH); err != nil {
						t.Error(err)
					}
				}
			}
			session := w.session().Session.ID
			x := w.transfers(20, transferPatience)
			d := w.datagrams()

			k.mu.Lock()
			k.left = kills
			k.mu.Unlock()
			began := time.Now()
			w.clean("connections end", func() {
				w.laptop("bodkin", "reconnect") // the first of them was spared, to come up
				for n := range kills {
					select {
					case <-k.ended:
					case <-time.After(patience):
						t.Fatalf("after %d of %d ends nothing goes on: %+v", n, kills, w.session())
					}
				}
			})
			took := time.Since(began)
			if !x.moving(patience) {
				t.Errorf("after the last end nothing moves: %+v", w.session())
			}
			x.whole()
			d.once()
			s := w.session()
			if s.State != "up" || s.Session.ID != session || s.Session.Streams < kills/2 {
				t.Errorf("after %d ends: %+v, and the session was %s", kills, s, session)
			}
			t.Logf("%d ends in %.0f s (%v): %d connections, %d octets sent again, %d octets of %d transfers whole",
				kills, took.Seconds(), k.made, s.Session.Streams, s.Session.Replayed, x.passed.Load(), len(x.ends))
			w.down()
			w.asBefore(before, "many ends")
			w.noProcesses()
		})
	}
}

// killAt kills the processes of a machine that some rule picks, and says how many.
func killAt(m *lab.Machine, which func(args []string) bool) (killed int, err error) {
	all, err := m.Processes()
	for _, p := range all {
		if len(p.Args) > 0 && which(p.Args) {
			killed++
			if failed := syscall.Kill(p.PID, syscall.SIGKILL); failed != nil && failed != syscall.ESRCH {
				err = errors.Join(err, failed)
			}
		}
	}
	return killed, err
}

// percentile is the p-th part of a list of times, which it sorts.
func percentile(list []time.Duration, p float64) time.Duration {
	slices.Sort(list)
	return list[min(len(list)-1, int(p*float64(len(list))))]
}

// inventory is what a tunnel has on a machine, as text: processes and what they hold
// open, files, and the network. It waits until two looks show the same.
func (w *world) inventory(m *lab.Machine) string {
	w.t.Helper()
	look := func() string {
		return w.held(m) + w.snapshotOf(m)
	}
	seen := look()
	for limit := time.Now().Add(patience); ; {
		time.Sleep(200 * time.Millisecond) // between two looks
		now := look()
		if now == seen {
			return now
		}
		if time.Now().After(limit) {
			w.t.Errorf("%s never comes to rest:\n%s", m.Name, strings.Join(lab.Difference(seen, now), "\n"))
			return now
		}
		seen = now
	}
}

// held lists the processes of a machine with their descriptors, and the files where bodkin
// may have any.
func (w *world) held(m *lab.Machine) string {
	w.t.Helper()
	// Numbers of processes and sockets change with each connection; how many there are
	// must not.
	script := `for p in /proc/[0-9]*; do
		name=$(tr '\0' ' ' <$p/cmdline 2>/dev/null | cut -c1-40) && [ -n "$name" ] || continue
		name=${name%% -*}
		case $name in *bodkin*|ssh*|sudo*)
			echo "process $name"
			ls -l $p/fd 2>/dev/null | sed -n "s|.* -> \([^[]*\).*|descriptor of $name: \1|p";;
		esac
	done | sort
	find /home /root/.cache /root/.config /run/user /tmp /var/tmp /var/lib/bodkin -xdev 2>/dev/null | grep -v /.ssh/ | sed 's/[0-9a-f]\{32\}/ID/' | sort`
	r := w.on(m, "root", "sh", "-c", script)
	if r.status != 0 {
		w.t.Fatalf("looking at %s: exit status %d\n%s", m.Name, r.status, r.out)
	}
	return r.out
}
