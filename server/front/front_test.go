package front

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"
)

const lineOctet = 0x07

// handled are handlers that answer with who they are, and then with what they read.
func handled() Handlers {
	echo := func(name string) func(context.Context, *Conn) {
		return func(ctx context.Context, c *Conn) {
			io.WriteString(c, name+" ")
			io.Copy(c, c)
		}
	}
	return Handlers{SSH: echo("ssh"), TLS: echo("tls"), Line: echo("line"), Web: Page()}
}

// A served is a Server that runs until the test ends.
type served struct {
	*Server
	address string
	stop    func() error // ends Serve, once, and returns what it returned
}

func start(t testing.TB, c Config, listeners ...net.Listener) *served {
	t.Helper()
	if c.Line != nil {
		c.LineOctet = lineOctet
	}
	if c.TLS != nil {
		c.Proto = "bodkin/1"
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if len(listeners) == 0 {
		l, err := ListenTCP(t.Context(), "127.0.0.1:0", nil)
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(func() error { return s.Serve(ctx, listeners...) })
	stop := sync.OnceValue(func() error {
		cancel()
		return g.Wait()
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		for name, n := range map[string]int64{"silent": s.stats.Silent.Load(), "waiting": s.stats.Waiting.Load(), "open": s.stats.Open.Load(), "sources": int64(len(s.waiting.sources))} {
			if n != 0 {
				t.Errorf("at the end %d are %s", n, name)
			}
		}
	})
	return &served{s, listeners[0].Addr().String(), stop}
}

func certificate(t testing.TB) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	t.Helper()
	_, key, _ := ed25519.GenerateKey(nil)
	get, err := SelfSigned(key, "front.example")
	if err != nil {
		t.Fatal(err)
	}
	return get
}

func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestKinds sends what protocols begin with, whole and octet by octet: the right handler
// gets it, and all of it.
func TestKinds(t *testing.T) {
	s := start(t, Config{Handlers: handled(), Certificate: certificate(t)})
	own := string(hello(t, "bodkin/1"))
	for _, c := range []struct {
		name, say, answer string
	}{
		{"ssh", "SSH-2.0-me\r\n", "ssh SSH-2.0-me\r\n"},
		{"line", "\x07abc", "line \x07abc"},
		{"tls", own + "more", "tls " + own + "more"},
		{"http", "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n"},
		{"http by an old hand", "GET / HTTP/1.0\n\n", "HTTP/1.0 200 OK\r\n"},
		{"http without end", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 2*webHeader), "HTTP/1.1 431 "},
		{"https", string(hello(t, "h2", "bodkin/1", "http/1.1")), "\x16\x03\x03"}, // a ServerHello
		{"https without a word", string(hello(t)), "\x16\x03\x03"},
		{"garbage", "\x00\x01", ""},
		{"nearly ssh", "SSH2", ""},
		{"old TLS", "\x80\x2e\x01\x03", ""},
		{"no ClientHello", "\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", ""},
		{"a record too long", "\x16\x03\x01\xff\xff", ""},
		{"a ClientHello of nothing", "\x16\x03\x01\x00\x04\x01\x00\x00\x00", ""},
		{"HTTP/2 at once", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""},
		{"RDP", "\x03\x00\x00\x13", ""},
	} {
		for _, crumbs := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, "/", crumbs), func(t *testing.T) {
				t.Parallel()
				conn := dial(t, s.address)
				conn.SetDeadline(time.Now().Add(10 * time.Second))
				if crumbs {
					for i := range len(c.say) {
						if _, err := io.WriteString(conn, c.say[i:i+1]); err != nil && c.answer != "" {
							t.Fatal(err)
						}
					}
				} else {
					io.WriteString(conn, c.say)
				}
				if c.answer == "" {
					if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%d octets came, %v", n, err)
					}
					return
				}
				answer := make([]byte, len(c.answer))
				if n, err := io.ReadFull(conn, answer); err != nil || string(answer) != c.answer {
					t.Errorf("%d octets came, %.40q, %v", n, answer[:n], err)
				}
			})
		}
	}
}

// TestCounts counts each thing once.
func TestCounts(t *testing.T) {
	s := start(t, Config{Handlers: handled(), Certificate: certificate(t)})
	for _, say := range []string{"SSH-2", "\x07", string(hello(t, "bodkin/1")), "GET / HTTP/1.0\r\n\r\n", string(hello(t)), "\x00", "SS", "", "\x16\x03", "\x16\x03\x01\x3f\xff\x01\x00\x3f\x00\x03\x03"} {
		c := dial(t, s.address)
		io.WriteString(c, say)
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
	}
	for name, got := range map[string]uint64{
		"SSH": s.stats.SSH.Load(), "Line": s.stats.Line.Load(), "TLS": s.stats.TLS.Load(), "HTTP": s.stats.HTTP.Load(), "HTTPS": s.stats.HTTPS.Load(),
		"Unknown": s.stats.Unknown.Load(),
	} {
		if got != 1 {
			t.Errorf("%s: %d", name, got)
		}
	}
	if s.stats.Left.Load() != 4 || s.stats.Accepted.Load() != 10 || s.stats.Late.Load() != 0 || s.stats.GaveWay.Load() != 0 {
		t.Errorf("%d left of %d, %d late, %d gave way", s.stats.Left.Load(), s.stats.Accepted.Load(), s.stats.Late.Load(), s.stats.GaveWay.Load())
	}
}

// TestNoHandlers closes whatever nobody is there for.
func TestNoHandlers(t *testing.T) {
	s := start(t, Config{})
	says := []string{"SSH-2.0-x\r\n", "\x07", string(hello(t, "bodkin/1")), "GET / HTTP/1.0\r\n\r\n", string(hello(t))}
	for _, say := range says {
		c := dial(t, s.address)
		io.WriteString(c, say)
		if text, _ := io.ReadAll(c); len(text) > 0 {
			t.Errorf("%q is answered with %q", say, text)
		}
	}
	if n := s.stats.Unknown.Load(); n != uint64(len(says)) {
		t.Errorf("%d were unknown", n)
	}
}

// A room is a listener in memory, for time that is not real.
type room struct {
	conns  chan any // net.Conn or error
	closed chan struct{}
	once   sync.Once
}

func newRoom() *room { return &room{conns: make(chan any), closed: make(chan struct{})} }

func (r *room) Accept() (net.Conn, error) {
	select {
	case v := <-r.conns:
		if err, ok := v.(error); ok {
			return nil, err
		}
		return v.(net.Conn), nil
	case <-r.closed:
		return nil, net.ErrClosed
	}
}
func (r *room) Close() error   { r.once.Do(func() { close(r.closed) }); return nil }
func (r *room) Addr() net.Addr { return webAddress{} }

// enter connects from an address.
func (r *room) enter(from string) net.Conn {
	a, b := net.Pipe()
	r.conns <- addressed{b, from}
	return a
}

type addressed struct {
	net.Conn
	from string
}

func (a addressed) RemoteAddr() net.Addr {
	t, _ := net.ResolveTCPAddr("tcp", a.from)
	return t
}

// isOpen reports whether the server has not closed c, which says nothing.
func isOpen(c net.Conn) bool {
	synctest.Wait()
	c.SetReadDeadline(time.Now().Add(time.Nanosecond))
	_, err := c.Read(make([]byte, 1))
	return err != io.EOF
}

// TestSilence has a client that waits for the server's banner, and others that are slow.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		s := start(t, Config{Handlers: handled()}, r)
		quiet, slow := r.enter("192.0.2.1:1"), r.enter("192.0.2.2:1")
		began := time.Now()
		slow.Write([]byte("S"))
		banner := make([]byte, 4)
		if _, err := io.ReadFull(quiet, banner); err != nil || string(banner) != "ssh " || time.Since(began) != defaultSilence {
			t.Errorf("%q after %v, %v", banner, time.Since(began), err)
		}
		if !isOpen(slow) {
			t.Error("the slow one was closed")
		}
		slow.Write([]byte("SH-"))
		slow.SetReadDeadline(time.Time{})
		if _, err := io.ReadFull(slow, banner); err != nil || string(banner) != "ssh " {
			t.Errorf("%q, %v", banner, err)
		}
		time.Sleep(defaultPatience)
		synctest.Wait()
		if isOpen(slow) || isOpen(quiet) || s.stats.Late.Load() != 2 {
			t.Errorf("%d were late", s.stats.Late.Load())
		}
		s.stop()
	})
}

// TestAuthenticated gives all the time to those who have proved who they are, and only
// to them.
func TestAuthenticated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		again := make(chan bool)
		s := start(t, Config{Handlers: Handlers{SSH: func(ctx context.Context, c *Conn) {
			io.ReadFull(c, make([]byte, 5))
			c.Authenticated()
			c.Write([]byte{'y'})
			io.Copy(io.Discard, c)
			again <- c.Authenticated()
		}}}, r)
		in, out := r.enter("192.0.2.1:1"), r.enter("192.0.2.1:2")
		in.Write([]byte("SSH-!"))
		in.Read(make([]byte, 1))
		out.Write([]byte("SSH-"))
		if n := s.stats.Waiting.Load(); n != 1 {
			t.Errorf("%d wait", n)
		}
		time.Sleep(defaultPatience + time.Second)
		if <-again {
			t.Error("one that was late is authenticated")
		}
		if !isOpen(in) || isOpen(out) {
			t.Error("the wrong one was closed")
		}
		in.Close()
		<-again
		s.stop()
	})
}

// TestTooMany has the oldest of the larger kind give way, in a source and in all.
func TestTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		s := start(t, Config{Handlers: Handlers{Line: func(ctx context.Context, c *Conn) { io.Copy(io.Discard, c) }}, Waiting: 6, PerSource: 4}, r)
		var one []net.Conn
		for i := range 4 {
			one = append(one, r.enter(fmt.Sprintf("[2001:db8:0:1::%d]:1", i)))
		}
		one[0].Write([]byte{lineOctet}) // is known, the other three silent
		synctest.Wait()
		one = append(one, r.enter("[2001:db8:0:1:ffff::1]:1"))
		wantOpen(t, one, 0, 2, 3, 4)
		one[2].Write([]byte{lineOctet})
		one[3].Write([]byte{lineOctet}) // three are known, one is silent
		synctest.Wait()
		one = append(one, r.enter("[2001:db8:0:1::9]:1"))
		wantOpen(t, one, 2, 3, 4, 5)

		others := []net.Conn{r.enter("192.0.2.1:1"), r.enter("[::ffff:192.0.2.1]:2")}
		wantOpen(t, append(one, others...), 2, 3, 4, 5, 6, 7)
		others = append(others, r.enter("192.0.2.3:1")) // the seventh: of the silent, one[4] is the oldest
		wantOpen(t, append(one, others...), 2, 3, 5, 6, 7, 8)
		if n := s.stats.GaveWay.Load(); n != 3 {
			t.Errorf("%d gave way", n)
		}
		s.stop()
	})
}

func wantOpen(t *testing.T, conns []net.Conn, want ...int) {
	t.Helper()
	var open []int
	for i, c := range conns {
		if isOpen(c) {
			open = append(open, i)
		}
	}
	if fmt.Sprint(open) != fmt.Sprint(want) {
		t.Errorf("open are %v, not %v", open, want)
	}
}

// TestAcceptErrors has a machine without files: the oldest gives way, the listener rests,
// and goes on.
func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		s := start(t, Config{Handlers: handled()}, r)
		first, second := r.enter("192.0.2.1:1"), r.enter("192.0.2.1:2")
		began := time.Now()
		r.conns <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
		if isOpen(first) || !isOpen(second) {
			t.Error("the oldest did not give way")
		}
		for range 9 {
			r.conns <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
		}
		late := r.enter("192.0.2.1:3")
		if took := time.Since(began); took < time.Second || took > 10*time.Second {
			t.Errorf("10 errors took %v", took)
		}
		if !isOpen(late) || s.stats.AcceptErrors.Load() != 10 {
			t.Errorf("%d errors", s.stats.AcceptErrors.Load())
		}
		s.stop()
	})
}

// TestListenerEnds has a listener that cannot go on: Serve says so.
func TestListenerEnds(t *testing.T) {
	s, _ := New(Config{})
	r := newRoom()
	r.Close()
	if err := s.Serve(t.Context(), r, newRoom()); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestStop ends with handlers that end, that have to be closed, and that do neither.
func TestStop(t *testing.T) {
	for _, c := range []struct {
		name    string
		handler func(ctx context.Context, c *Conn, forever <-chan struct{})
		took    time.Duration
		fails   bool
	}{
		{"in order", func(ctx context.Context, c *Conn, _ <-chan struct{}) { <-ctx.Done() }, 0, false},
		{"by closing", func(ctx context.Context, c *Conn, _ <-chan struct{}) { io.Copy(io.Discard, c) }, defaultGrace, false},
		{"not at all", func(ctx context.Context, c *Conn, forever <-chan struct{}) { <-forever }, defaultGrace + lastTime, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, forever, in := newRoom(), make(chan struct{}), make(chan struct{})
				s, err := New(Config{Handlers: Handlers{SSH: func(ctx context.Context, conn *Conn) {
					conn.Authenticated()
					close(in)
					c.handler(ctx, conn, forever)
				}, Web: Page()}})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				var g errgroup.Group
				g.Go(func() error { return s.Serve(ctx, r) })
				silent, web := r.enter("192.0.2.1:1"), r.enter("192.0.2.1:2")
				io.WriteString(web, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				http.ReadResponse(bufio.NewReader(web), nil)
				r.enter("192.0.2.1:3").Write([]byte("SSH-"))
				<-in
				began := time.Now()
				cancel()
				if err := g.Wait(); (err != nil) != c.fails {
					t.Error(err)
				}
				if took := time.Since(began); took < c.took || took > c.took+time.Second {
					t.Errorf("it took %v, not %v", took, c.took)
				}
				if isOpen(silent) || isOpen(web) {
					t.Error("those who have not said who they are live on")
				}
				close(forever)
			})
		})
	}
}

func TestConfig(t *testing.T) {
	nobody := func(context.Context, *Conn) {}
	for _, c := range []Config{
		{Handlers: Handlers{TLS: nobody}},
		{Handlers: Handlers{Line: nobody}, LineOctet: 'S'},
		{Handlers: Handlers{Line: nobody}, LineOctet: 22},
	} {
		if _, err := New(c); err == nil || !strings.HasPrefix(err.Error(), "front: ") {
			t.Errorf("%v", err)
		}
	}
}
