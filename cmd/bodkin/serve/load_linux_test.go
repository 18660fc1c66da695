package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/trust"
)

// What a small machine with two processors must bear.
const (
	loadClients = 200
	loadSilent  = 10_000
	upWithin    = 20 * time.Second
	pingWithin  = 50 * time.Millisecond // of 99 in a hundred
	endWithin   = time.Second
	mostMemory  = 1 << 20 // of an idle client, octets
)

// TestLoad: two hundred clients come at once, ten thousand connections say nothing, and
// each client's pings come back as if it were alone.
func TestLoad(t *testing.T) {
	keys := make([]trust.Key, loadClients)
	lines := make([]string, loadClients)
	for i := range keys {
		keys[i] = trust.Generate()
		lines[i] = lineFor(keys[i], "", fmt.Sprintf("client-%d", i))
	}
	r := start(t, lines, "--metrics", "127.0.0.1:0")
	empty := r.memory()

	silent := r.silence(t, loadSilent)
	defer func() {
		for _, c := range silent {
			c.Close()
		}
	}()
	withSilent := r.memory()

	began := time.Now()
	clients := make([]*client, loadClients)
	ctx, cancel := context.WithTimeout(t.Context(), 2*upWithin)
	defer cancel()
	var dialling sync.WaitGroup
	for i := range clients {
		dialling.Go(func() {
			var err error
			if clients[i], err = r.dial(ctx, keys[i], usualHello(), ""); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	dialling.Wait()
	if t.Failed() {
		return
	}
	up := time.Since(began)
	if up > upWithin {
		t.Errorf("%d clients are up after %v", loadClients, up)
	}

	trips := pingAll(t, clients, 30, 100*time.Millisecond)
	p99 := trips[len(trips)*99/100]
	if p99 > pingWithin {
		t.Errorf("of 100 pings one takes %v and more", p99)
	}
	full := r.memory()
	each := (full - withSilent) / loadClients
	if each > mostMemory {
		t.Errorf("a client takes %d KiB", each>>10)
	}

	// The file without the first client ends its session, and no other.
	began = time.Now()
	r.allow(lines[1:])
	var closed *native.ClosedError
	if err := clients[0].ended(t, 10*time.Second); !errors.As(err, &closed) || !strings.Contains(closed.Text, "not taken") {
		t.Errorf("a client whose key was taken out hears %v", err)
	}
	gone := time.Since(began)
	if gone > endWithin {
		t.Errorf("its session ends after %v", gone)
	}
	if _, err := r.dial(ctx, keys[0], usualHello(), ""); err == nil {
		t.Error("its key is still taken")
	}
	if _, _, err := clients[1].roundTrip(clients[1].self(), clients[1].resolver(), 999); err != nil {
		t.Errorf("another client: %v", err)
	}
	t.Logf("%d clients up in %v with %d silent connections; pings: median %v, p99 %v, longest %v; memory: %d MiB empty, %.1f KiB for each silent connection, %d KiB for each client; a key taken out ends its session in %v",
		loadClients, up.Round(time.Millisecond), len(silent), trips[len(trips)/2], p99, trips[len(trips)-1],
		empty>>20, float64(withSilent-empty)/1024/float64(len(silent)), each>>10, gone.Round(time.Millisecond))
	for _, c := range clients {
		c.link.Close()
	}
}

// silence opens connections that say nothing, from many addresses.
func (r *running) silence(t *testing.T, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	var dialling sync.WaitGroup
	for w := range 20 {
		dialling.Go(func() {
			d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+w))}}
			for i := w; i < n; i += 20 {
				c, err := d.Dial("tcp", r.address)
				if err != nil {
					t.Errorf("silent connection %d: %v", i, err)
					return
				}
				conns[i] = c
			}
		})
	}
	dialling.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return conns
}

// pingAll has every client ping so often, each after its own pause, and returns how long
// that took, sorted.
func pingAll(t *testing.T, clients []*client, times int, pause time.Duration) (trips []time.Duration) {
	t.Helper()
	var mu sync.Mutex
	var pinging sync.WaitGroup
	for i, c := range clients {
		pinging.Go(func() {
			first := time.NewTimer(pause * time.Duration(i) / time.Duration(len(clients)))
			<-first.C
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for seq := range times {
				_, took, err := c.roundTrip(c.self(), c.resolver(), uint16(seq))
				if err != nil {
					t.Errorf("client %d: ping %d: %v", i, seq, err)
					return
				}
				mu.Lock()
				trips = append(trips, took)
				mu.Unlock()
				<-tick.C
			}
		})
	}
	pinging.Wait()
	if t.Failed() {
		t.FailNow()
	}
	slices.Sort(trips)
	return trips
}
