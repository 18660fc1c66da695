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
	backWithin  = 2 * time.Second
	herdWithin  = 250 * time.Millisecond // a ping while all come back: their handshakes are before it
)

// figures are what a server under load was measured to do.
type figures struct {
	up      time.Duration   // until all clients were up
	trips   []time.Duration // of all pings, sorted
	empty   int             // octets of memory that it has without clients
	silent  int             // for each connection that says nothing
	client  int             // for each client
	revoked time.Duration   // until the session of a key that was taken out had ended
}

// p99 is what 99 of 100 pings stay below.
func (f figures) p99() time.Duration { return f.trips[len(f.trips)*99/100] }

func (f figures) String() string {
	return fmt.Sprintf("%d clients up in %v beside %d silent connections; pings: median %v, p99 %v, longest %v; memory: %d MiB empty, %.1f KiB for each silent connection, %d KiB for each client; a key taken out ends its session in %v",
		loadClients, f.up.Round(time.Millisecond), loadSilent, f.trips[len(f.trips)/2], f.p99(), f.trips[len(f.trips)-1],
		f.empty>>20, float64(f.silent)/1024, f.client>>10, f.revoked.Round(time.Millisecond))
}

// load puts a server under load: two hundred clients that come at once and ping, among
// ten thousand connections that say nothing.
func load(t testing.TB) (f figures) {
	t.Helper()
	keys := make([]trust.Key, loadClients)
	lines := make([]string, loadClients)
	for i := range keys {
		keys[i] = trust.Generate()
		lines[i] = lineFor(keys[i], "", fmt.Sprintf("client-%d", i))
	}
	r := start(t, lines, "--metrics", "127.0.0.1:0")
	f.empty = r.memory()
	silent := r.silence(t, loadSilent)
	defer func() {
		for _, c := range silent {
			c.Close()
		}
	}()
	withSilent := r.memory()
	f.silent = (withSilent - f.empty) / loadSilent

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
		t.FailNow()
	}
	f.up = time.Since(began)
	f.trips = pingAll(t, clients, 30, 100*time.Millisecond)
	f.client = (r.memory() - withSilent) / loadClients

	// The file without the first client ends its session, and no other.
	began = time.Now()
	r.allow(lines[1:])
	var closed *native.ClosedError
	if err := clients[0].ended(t, 10*time.Second); !errors.As(err, &closed) || !strings.Contains(closed.Text, "not taken") {
		t.Errorf("a client whose key was taken out hears %v", err)
	}
	f.revoked = time.Since(began)
	if _, err := r.dial(ctx, keys[0], usualHello(), ""); err == nil {
		t.Error("its key is still taken")
	}
	if _, _, err := clients[1].roundTrip(clients[1].self(), clients[1].resolver(), 999); err != nil {
		t.Errorf("another client: %v", err)
	}
	for _, c := range clients {
		c.link.Close()
	}
	return f
}

// TestLoad: what a small machine must bear, it bears.
func TestLoad(t *testing.T) {
	f := load(t)
	if f.up > upWithin {
		t.Errorf("%d clients are up after %v", loadClients, f.up)
	}
	if f.p99() > pingWithin {
		t.Errorf("of 100 pings one takes %v and more", f.p99())
	}
	if f.client > mostMemory {
		t.Errorf("a client takes %d KiB", f.client>>10)
	}
	if f.revoked > endWithin {
		t.Errorf("a key that was taken out ends its session after %v", f.revoked)
	}
	t.Log(f)
}

// BenchmarkLoad prints the figures of the same.
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		f := load(b)
		b.ReportMetric(f.up.Seconds()*1000, "ms-up")
		b.ReportMetric(float64(f.p99().Microseconds())/1000, "ms-p99")
		b.ReportMetric(float64(f.client)/1024, "KiB/client")
		b.ReportMetric(float64(f.silent)/1024, "KiB/silent")
		b.ReportMetric(f.revoked.Seconds()*1000, "ms-revoked")
		b.ReportMetric(0, "ns/op")
	}
}

// TestHerd: when all clients lose their connections at once and come back at once, they are
// back soon; whoever has kept his feels little of it; and the ones away cost what they did.
func TestHerd(t *testing.T) {
	keys := make([]trust.Key, loadClients)
	lines := make([]string, loadClients)
	for i := range keys {
		keys[i] = trust.Generate()
		lines[i] = lineFor(keys[i], "", fmt.Sprintf("client-%d", i))
	}
	other := trust.Generate()
	r := start(t, append(lines, lineFor(other, "", "other")), "--max-clients", fmt.Sprint(loadClients+1), "--metrics", "127.0.0.1:0")
	empty := r.memory()
	clients := make([]*traveller, loadClients)
	all := func(about string, each func(i int) error) time.Duration {
		t.Helper()
		began := time.Now()
		var working sync.WaitGroup
		for i := range clients {
			working.Go(func() {
				if err := each(i); err != nil {
					t.Errorf("%s: client %d: %v", about, i, err)
				}
			})
		}
		working.Wait()
		if t.Failed() {
			t.FailNow()
		}
		return time.Since(began)
	}
	up := all("to begin", func(i int) error {
		stream, err := r.tryTLS(t.Context(), keys[i])
		if err == nil {
			clients[i], err = r.traveller(stream, keys[i], usualHello())
		}
		return err
	})
	for _, c := range clients {
		go c.read()
		defer c.link.Close()
	}
	all("a ping", func(i int) error {
		_, _, err := clients[i].roundTrip(clients[i].self(), clients[i].resolver(), 1)
		return err
	})
	present := r.memory()
	bystander := r.must(other, usualHello())
	for _, c := range clients {
		c.octets.Drop(errCut)
	}
	eventually(t, "all are away", func() bool {
		return strings.Contains(r.scrape(), fmt.Sprintf("bodkin_sessions_away %d\n", loadClients))
	})
	away := r.memory()

	var trips []time.Duration
	var pinging sync.WaitGroup
	stop := make(chan struct{})
	pinging.Go(func() {
		for seq := uint16(0); ; seq++ {
			select {
			case <-stop:
				return
			default:
			}
			_, took, err := bystander.roundTrip(bystander.self(), bystander.resolver(), seq)
			if err != nil {
				t.Errorf("the bystander: %v", err)
				return
			}
			trips = append(trips, took)
			time.Sleep(time.Millisecond)
		}
	})
	back := all("to come back", func(i int) error {
		stream, err := r.tryTLS(t.Context(), keys[i])
		if err != nil {
			return err
		}
		if err := clients[i].octets.Attach(t.Context(), stream); err != nil {
			return err
		}
		_, _, err = clients[i].roundTrip(clients[i].self(), clients[i].resolver(), 2)
		return err
	})
	close(stop)
	pinging.Wait()
	slices.Sort(trips)
	if back > backWithin {
		t.Errorf("they are back after %v", back)
	}
	longest := trips[len(trips)-1]
	if longest > herdWithin {
		t.Errorf("beside them a ping takes %v", longest)
	}
	if grew := away - present; grew > loadClients*(64<<10) {
		t.Errorf("those who are away take %d KiB more than before, each", grew/loadClients>>10)
	}
	t.Logf("%d clients up in %v, back in %v with a ping each; beside them pings: median %v, longest %v of %d; memory for each: %d KiB, away %d KiB, back %d KiB",
		loadClients, up.Round(time.Millisecond), back.Round(time.Millisecond), trips[len(trips)/2], longest, len(trips),
		(present-empty)/loadClients>>10, (away-empty)/loadClients>>10, (r.memory()-empty)/loadClients>>10)
}

// silence opens connections that say nothing, from many addresses.
func (r *running) silence(t testing.TB, n int) []net.Conn {
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
func pingAll(t testing.TB, clients []*client, times int, pause time.Duration) (trips []time.Duration) {
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
