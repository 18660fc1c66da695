package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A fake is a tunnel that runs until its context ends, or it is told to end.
type fake struct {
	mu     sync.Mutex
	counts Counts
	told   error // the cause that it would tell the client
	stop   chan error
}

func newFake() *fake { return &fake{stop: make(chan error, 1)} }

func (f *fake) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		f.mu.Lock()
		defer f.mu.Unlock()
		f.told = context.Cause(ctx)
		return f.told
	case err := <-f.stop:
		return err
	}
}

func (f *fake) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// A holding is a session that is being held.
type holding struct {
	tunnel  *fake
	session *Session
	first   *Connection
	far     net.Conn // the other end of it
	ended   chan error
}

// connect makes a Connection of a client's, and its other end.
func connect(by, from string) (*Connection, net.Conn) {
	near, far := net.Pipe()
	return NewConnection(near, by, from, netip.Addr{}), far
}

// nobody is a Connection of somebody who does not matter.
func nobody() *Connection {
	c, _ := connect("tls", "")
	return c
}

// hold has s hold a session, and waits until it runs.
func hold(t *testing.T, s *Server, c Client) *holding {
	t.Helper()
	h := &holding{tunnel: newFake(), ended: make(chan error, 1)}
	h.first, h.far = connect("tls", "192.0.2.1:5000")
	opened := make(chan *Session, 1)
	go func() {
		h.ended <- s.Hold(context.Background(), c, h.first, func(_ context.Context, session *Session) (Tunnel, error) {
			opened <- session
			return h.tunnel, nil
		})
	}()
	select {
	case h.session = <-opened:
	case err := <-h.ended:
		t.Fatalf("no session for %s: %v", c.Name, err)
	}
	synctest.Wait()
	return h
}

// TestHold: a session is on the list while it lasts; how it ends is what Hold returns.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		a := hold(t, s, Client{Key: "A", Name: "laptop"})
		if list := s.Sessions(); len(list) != 1 || list[0] != a.session {
			t.Errorf("the list is %v", list)
		}
		broken := errors.New("broken")
		a.tunnel.stop <- broken
		if err := <-a.ended; err != broken {
			t.Errorf("Hold returns %v", err)
		}
		if len(s.Sessions()) != 0 {
			t.Error("an ended session is on the list")
		}
		b := hold(t, s, Client{Key: "A", Name: "laptop"})
		b.tunnel.stop <- nil
		if err := <-b.ended; err != nil {
			t.Errorf("Hold returns %v for a client that took its leave", err)
		}
	})
}

// TestOpenFails: what does not open takes no place.
func TestOpenFails(t *testing.T) {
	s := New(Config{Sessions: 1})
	no := errors.New("no hello")
	for range 3 {
		err := s.Hold(t.Context(), Client{Key: "A"}, nobody(), func(context.Context, *Session) (Tunnel, error) { return nil, no })
		if err != no {
			t.Errorf("Hold returns %v", err)
		}
	}
	if len(s.Sessions()) != 0 || len(s.buckets) != 0 {
		t.Error("something is left")
	}
}

// TestTooManyOfOne: a client with too many sessions loses the one that was silent for
// longest, and is told so; others keep theirs.
func TestTooManyOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{PerClient: 2})
		other := hold(t, s, Client{Key: "B"})
		a := hold(t, s, Client{Key: "A"})
		time.Sleep(time.Second)
		b := hold(t, s, Client{Key: "A"})
		time.Sleep(time.Second)
		// Of the two, a was heard last though it is older.
		go a.far.Write([]byte{1})
		if _, err := a.first.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if silent := b.session.Silent(); silent != time.Second {
			t.Errorf("b was silent for %v", silent)
		}
		c := hold(t, s, Client{Key: "A"})
		var ended *EndedError
		if err := <-b.ended; !errors.As(err, &ended) || ended.Why != WhyReplaced {
			t.Errorf("b ends with %v", err)
		}
		if !errors.As(b.tunnel.told, &ended) {
			t.Errorf("b's client would be told %v", b.tunnel.told)
		}
		if n := len(s.Sessions()); n != 3 {
			t.Errorf("%d sessions are left", n)
		}
		for _, h := range []*holding{a, c, other} {
			h.tunnel.stop <- nil
			<-h.ended
		}
	})
}

// TestFull: a full server takes nobody else, and a client that has its share one more.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Sessions: 2, PerClient: 1})
		a := hold(t, s, Client{Key: "A"})
		b := hold(t, s, Client{Key: "B"})
		var full *FullError
		open := func(context.Context, *Session) (Tunnel, error) { t.Error("opened"); return newFake(), nil }
		if err := s.Hold(t.Context(), Client{Key: "C"}, nobody(), open); !errors.As(err, &full) {
			t.Errorf("a third client: %v", err)
		}
		again := hold(t, s, Client{Key: "A"})
		<-a.ended
		for _, h := range []*holding{b, again} {
			h.tunnel.stop <- nil
			<-h.ended
		}
	})
}

// TestStop: all are told, and waited for; nobody comes any more.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		a := hold(t, s, Client{Key: "A"})
		b := hold(t, s, Client{Key: "B"})
		if left := s.Stop(t.Context()); left != 0 {
			t.Errorf("%d sessions are left", left)
		}
		for _, h := range []*holding{a, b} {
			var ended *EndedError
			if err := <-h.ended; !errors.As(err, &ended) || ended.Why != WhyStopping {
				t.Errorf("a session ends with %v", err)
			}
		}
		if err := s.Hold(t.Context(), Client{Key: "C"}, nobody(), nil); err != ErrStopping {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestStopLate: a session that does not end is not waited for beyond the time.
func TestStopLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		release, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			s.Hold(context.Background(), Client{Key: "A"}, nobody(), func(context.Context, *Session) (Tunnel, error) { <-release; return newFake(), nil })
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if left := s.Stop(ctx); left != 1 || time.Since(began) != time.Minute {
			t.Errorf("%d left after %v", left, time.Since(began))
		}
		close(release)
		<-done
		s.ended.Wait()
		synctest.Wait()
	})
}

// TestRefusedOnce: the same is logged once in a minute for each client and reason, and
// what was not is counted.
func TestRefusedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := New(Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
		lines := func() (n int) {
			n = strings.Count(log.String(), "\n")
			log.Reset()
			return n
		}
		stranger := errors.New("nobody knows it\x1b[2J\n")
		for port := range 50 {
			s.Handshake("tls", net.JoinHostPort("192.0.2.1", strings.Repeat("1", 1+port%4)), "SHA256:x", ResultStranger, stranger)
		}
		if text := log.String(); strings.Contains(text, "\x1b") || strings.Contains(text, "2J\\n") {
			t.Errorf("logged raw: %q", text)
		}
		if n := lines(); n != 1 {
			t.Errorf("one address and reason make %d lines", n)
		}
		s.Handshake("tls", "192.0.2.2:1", "", ResultStranger, stranger)
		s.Handshake("tls", "192.0.2.1:1", "", ResultExpired, stranger)
		if text := log.String(); !strings.Contains(text, "omitted=49") {
			t.Errorf("what was not logged is not said: %q", text)
		}
		if n := lines(); n != 2 {
			t.Errorf("another address and another reason make %d lines", n)
		}
		time.Sleep(refusalEvery)
		s.Handshake("tls", "192.0.2.1:1", "", ResultStranger, stranger)
		if n := lines(); n != 1 {
			t.Errorf("a minute later: %d lines", n)
		}
		a := hold(t, s, Client{Key: "A", Name: "laptop"})
		log.Reset()
		for range 10 {
			a.session.Refused("policy", "tcp to 127.0.0.1:22")
			a.session.Refused("source", "from 192.0.2.7")
		}
		if n := lines(); n != 2 {
			t.Errorf("inside: %d lines", n)
		}
		a.tunnel.stop <- nil
		<-a.ended
		if got := s.refusals.counts[[2]string{"tls", ResultStranger}]; got != 52 {
			t.Errorf("%d strangers were counted", got)
		}
	})
}

// TestRefusalsBounded: who comes from ever new addresses does not fill the memory, nor
// the log.
func TestRefusalsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := &counter{}
		s := New(Config{Log: slog.New(slog.NewTextHandler(lines, nil))})
		for i := range 3 * refusalsKept {
			s.Handshake("tls", net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)).String()+":1", "", ResultFailed, io.EOF)
		}
		if n := len(s.refusals.said); n > refusalsKept || lines.n > refusalsKept {
			t.Errorf("%d are kept, %d lines written", n, lines.n)
		}
		time.Sleep(2 * refusalEvery)
		s.Handshake("tls", "192.0.2.1:1", "", ResultFailed, io.EOF)
		if n := len(s.refusals.said); n != 1 {
			t.Errorf("%d are kept after two minutes", n)
		}
	})
}

// counter counts lines.
type counter struct{ n int }

func (c *counter) Write(b []byte) (int, error) { c.n++; return len(b), nil }

// TestMetrics: counts go on over the end of a session, and never fall; names are bounded.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Sessions: 3 * namesKept})
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(s)
		octets := func() (total float64, names int) {
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if f.GetName() != "bodkin_octets_total" {
					continue
				}
				for _, m := range f.GetMetric() {
					total += m.GetCounter().GetValue()
					names++
				}
			}
			return total, names / 2
		}
		a := hold(t, s, Client{Key: "A", Name: "laptop"})
		a.tunnel.counts = Counts{OctetsIn: 100, OctetsOut: 1000, Flows: 7, Refused: map[string]uint64{"policy": 3}}
		s.Handshake("tls", "", "", ResultWelcome, nil)
		if total, _ := octets(); total != 1100 {
			t.Errorf("%v octets in a session", total)
		}
		a.tunnel.stop <- nil
		<-a.ended
		if total, _ := octets(); total != 1100 {
			t.Errorf("%v octets after its end", total)
		}
		a = hold(t, s, Client{Key: "A", Name: "laptop"})
		a.tunnel.counts.OctetsIn = 1
		if total, _ := octets(); total != 1101 {
			t.Errorf("%v octets in the next", total)
		}
		a.tunnel.stop <- nil
		<-a.ended
		if c := s.totals["laptop"]; c.Flows != 0 || c.Refused["policy"] != 3 {
			t.Errorf("what has ended is %+v", c)
		}
		for i := range 2 * namesKept {
			h := hold(t, s, Client{Key: "A", Name: strings.Repeat("x", 1+i%50) + string(rune('a'+i/50))})
			h.tunnel.counts.OctetsIn = 1
			h.tunnel.stop <- nil
			<-h.ended
		}
		if total, names := octets(); total != 1101+2*namesKept || names > namesKept+1 {
			t.Errorf("%v octets of %d names", total, names)
		}
	})
}
