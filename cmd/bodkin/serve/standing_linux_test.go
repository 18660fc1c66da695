package serve

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/trust"
	"github.com/bodkin-net/bodkin/tunnel"
)

// standingHello is the hello of a client that is a NAT: what it gives whoever uses it.
func standingHello() native.Hello {
	return native.Hello{
		Software: "a NAT", Emulator: native.EmulatorNAT, Asks: native.AskKernel,
		Yours:    []netip.Prefix{netip.MustParsePrefix("10.0.2.15/24")},
		Mine:     []netip.Addr{netip.MustParseAddr("10.0.2.2")},
		DNS:      []netip.Addr{netip.MustParseAddr("10.0.2.3")},
		Routes:   []netip.Prefix{netip.MustParsePrefix("192.168.7.0/24")},
		Receives: tunnel.Caps{MTU: 65535, Offloads: everyOffload},
	}
}

// stand connects as a NAT that answers every ping.
func (r *running) stand(k trust.Key, hello native.Hello) *native.Link {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	link, _, _, err := r.open(ctx, k, hello, "")
	if err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "it stands", func() bool { return strings.Contains(r.bodkin("status"), "stands") })
	r.echo(link)
	return link
}

// echo has the NAT at a link's near end answer every ping, until the link or the test ends.
func (r *running) echo(link *native.Link) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := make([]tunnel.Packet, tunnel.BatchSize)
		for {
			n, err := link.ReadPackets(p)
			if err != nil {
				return
			}
			for _, packet := range p[:n] {
				b := append([]byte(nil), packet.Data...)
				src := append([]byte(nil), b[12:16]...)
				copy(b[12:16], b[16:20])
				copy(b[16:20], src)
				b[20], b[22], b[23] = 0, 0, 0
				c := sum(b[20:])
				b[22], b[23] = byte(c>>8), byte(c)
				link.WritePackets([]tunnel.Packet{{Data: b}})
			}
		}
	}()
	r.t.Cleanup(func() { link.Close(); <-done })
}

// ask dials the client of a name, as a near side on this machine does.
func (r *running) ask(name string) (carrier.Stream, error) {
	r.t.Helper()
	for _, e := range r.env {
		if dir, ok := strings.CutPrefix(e, "RUNTIME_DIRECTORY="); ok {
			r.t.Setenv("RUNTIME_DIRECTORY", dir)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return Dial(ctx, name)
}

// user asks for the client of a name, as a near side on this machine does.
func (r *running) user(name string, hello native.Hello) (*client, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	stream, err := r.ask(name)
	if err != nil {
		return nil, err
	}
	c := &client{pongs: make(chan pong, 64), gone: make(chan error, 1)}
	if c.link, c.hello, c.agreed, err = native.Open(ctx, stream, hello); err != nil {
		return nil, err
	}
	go c.read()
	r.t.Cleanup(func() { c.link.Close() })
	return c, nil
}

// TestStanding: a client that is a NAT is reached by its name, by one user at a time,
// over as many connections of it as there are.
func TestStanding(t *testing.T) {
	k, plain := trust.Generate(), trust.Generate()
	r := start(t, []string{lineFor(k, `name="lab"`, "me@lab"), lineFor(plain, "", "plain")})
	var unreached *carrier.UnreachedError
	if _, err := r.user("lab", usualHello()); !errors.As(err, &unreached) || !strings.Contains(err.Error(), "nobody does") {
		t.Errorf("before it is there: %v", err)
	}
	first := r.stand(k, standingHello())
	r.must(plain, usualHello())
	if out := r.bodkin("status"); strings.Count(out, "stands") != 1 {
		t.Errorf("status says %q", out)
	}
	if _, err := r.user("plain", usualHello()); !errors.As(err, &unreached) || !strings.Contains(err.Error(), "[lab]") {
		t.Errorf("a client that does not stand: %v", err)
	}

	u, err := r.user("lab", usualHello())
	if err != nil {
		t.Fatal(err)
	}
	if u.hello.Emulator != native.EmulatorNAT || u.hello.Software != "a NAT" || len(u.hello.Routes) != 1 || u.self().String() != "10.0.2.15" || u.resolver().String() != "10.0.2.3" {
		t.Errorf("the user hears %+v", u.hello)
	}
	far := netip.MustParseAddr("192.168.7.1")
	if kind, _, err := u.roundTrip(u.self(), far, 1); kind != 0 || err != nil {
		t.Fatalf("a ping: %d, %v", kind, err)
	}
	if _, err := r.user("lab", usualHello()); !errors.As(err, &unreached) || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("a second user: %v", err)
	}
	if out := r.bodkin("status"); !strings.Contains(out, "stands, used for") {
		t.Errorf("status says %q", out)
	}

	// The client loses its connection, and comes back: the user's goes on.
	first.Close()
	eventually(t, "it is away", func() bool { return !strings.Contains(r.bodkin("status"), "lab") })
	if err := u.ping(u.self(), far, 2); err != nil {
		t.Errorf("while it is away: %v", err)
	}
	second := r.stand(k, standingHello())
	if kind, _, err := u.roundTrip(u.self(), far, 3); kind != 0 || err != nil {
		t.Fatalf("a ping after it came back: %d, %v", kind, err)
	}

	// It comes once more before the last connection is known to be dead: the newest is
	// the one.
	r.stand(k, standingHello())
	eventually(t, "the older one is told", func() bool { return len(r.said("connected anew")) == 1 })
	if err := second.Echo(); err == nil {
		eventually(t, "the older one has ended", func() bool { return second.Echo() != nil })
	}
	if kind, _, err := u.roundTrip(u.self(), far, 4); kind != 0 || err != nil {
		t.Fatalf("a ping by the newest: %d, %v", kind, err)
	}

	// One user goes, another comes.
	u.link.Close()
	eventually(t, "its place is free", func() bool {
		next, err := r.user("lab", usualHello())
		if err == nil {
			u = next
		}
		return err == nil
	})
	if kind, _, err := u.roundTrip(u.self(), far, 5); kind != 0 || err != nil {
		t.Fatalf("a ping of the next user: %d, %v", kind, err)
	}

	// With other addresses the user's link cannot go on.
	other := standingHello()
	other.Yours = []netip.Prefix{netip.MustParsePrefix("10.9.9.15/24")}
	r.stand(k, other)
	var closed *native.ClosedError
	if err := u.ended(t, 5*time.Second); !errors.As(err, &closed) || !strings.Contains(closed.Text, "other addresses") {
		t.Errorf("the user hears %v", err)
	}
	eventually(t, "who has that network taken hears so", func() bool {
		_, err := r.user("lab", usualHello())
		return err != nil && strings.Contains(err.Error(), "not free here")
	})
}

// TestStandingRefused: a client without a name cannot stand, and a user that is a NAT
// has nothing to use.
func TestStandingRefused(t *testing.T) {
	nameless, k := trust.Generate(), trust.Generate()
	r := start(t, []string{lineFor(nameless, "", ""), lineFor(k, "", "lab")})
	if _, _, _, err := r.open(t.Context(), nameless, standingHello(), ""); err == nil || !strings.Contains(err.Error(), "no name") {
		t.Errorf("without a name: %v", err)
	}
	r.stand(k, standingHello())
	if _, err := r.user("lab", standingHello()); err == nil || !strings.Contains(err.Error(), "nobody to connect") {
		t.Errorf("a NAT asks for a NAT: %v", err)
	}
	eventually(t, "its place is free after that", func() bool {
		_, err := r.user("lab", usualHello())
		return err == nil
	})
}

// TestStandingFast: packets of a client that stands pass in order and whole, both ways.
func TestStandingFast(t *testing.T) {
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "lab")})
	r.stand(k, standingHello())
	u, err := r.user("lab", usualHello())
	if err != nil {
		t.Fatal(err)
	}
	far := netip.MustParseAddr("192.168.7.1")
	const pings, ahead = 5000, 32
	for seq := range uint16(pings + ahead) {
		if seq < pings {
			if err := u.ping(u.self(), far, seq); err != nil {
				t.Fatal(err)
			}
		}
		if seq < ahead {
			continue
		}
		select {
		case p := <-u.pongs:
			if p.seq != seq-ahead {
				t.Fatalf("ping %d comes back when %d should", p.seq, seq-ahead)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("ping %d does not come back", seq-ahead)
		}
	}
}

// TestStandingAway: a client that loses its connection for a while stands all the same, and
// what its user sends meanwhile waits for it. One that is away is not given to a new user.
func TestStandingAway(t *testing.T) {
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "lab")})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := r.traveller(r.by(ctx, "tls", k), k, standingHello())
	if err != nil {
		t.Fatal(err)
	}
	r.echo(c.link)
	eventually(t, "it stands", func() bool { return strings.Contains(r.bodkin("status"), "stands") })
	u, err := r.user("lab", usualHello())
	if err != nil {
		t.Fatal(err)
	}
	far := netip.MustParseAddr("192.168.7.1")
	for i, way := range []string{"ssh", "websocket"} {
		seq := uint16(10 * i)
		if _, _, err := u.roundTrip(u.self(), far, seq); err != nil {
			t.Fatal(err)
		}
		c.cut("lab")
		if err := u.ping(u.self(), far, seq+1); err != nil {
			t.Fatal(err)
		}
		if out := r.bodkin("status"); !strings.Contains(out, "stands, used for") {
			t.Errorf("status says %q", out)
		}
		if err := c.goOn(way); err != nil {
			t.Fatal(err)
		}
		select {
		case p := <-u.pongs:
			if p.seq != seq+1 {
				t.Errorf("ping %d came back", p.seq)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("what was sent meanwhile is lost")
		}
	}
	c.cut("lab")
	u.link.Close()
	var unreached *carrier.UnreachedError
	eventually(t, "who asks now hears that it is away", func() bool {
		_, err := r.user("lab", usualHello())
		return errors.As(err, &unreached) && strings.Contains(err.Error(), "away, since")
	})
}

// TestUserSession: a near side on this machine may have a session of its own, which is not
// held.
func TestUserSession(t *testing.T) {
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "lab")})
	r.stand(k, standingHello())
	stream, err := r.ask("lab")
	if err != nil {
		t.Fatal(err)
	}
	u, err := r.traveller(stream, k, usualHello())
	if err != nil {
		t.Fatal(err)
	}
	go u.read()
	defer u.link.Close()
	if u.terms.Grace != 0 {
		t.Errorf("it is held for %v", u.terms.Grace)
	}
	if _, _, err := u.roundTrip(u.self(), netip.MustParseAddr("192.168.7.1"), 1); err != nil {
		t.Error(err)
	}
}
