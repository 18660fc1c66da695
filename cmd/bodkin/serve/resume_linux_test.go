package serve

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/endpoint/socks"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/session"
	"github.com/bodkin-net/bodkin/trust"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A traveller is a client whose session goes on over many connections.
type traveller struct {
	*client
	r      *running
	k      trust.Key
	octets *session.Session
	terms  session.Terms
	lost   chan error
}

// errCut is why a test ends a connection.
var errCut = errors.New("the test cuts it")

// travel begins a session as the holder of k by a way.
func (r *running) travel(way string, k trust.Key, hello native.Hello) *traveller {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := r.traveller(r.by(ctx, way, k), k, hello)
	if err != nil {
		r.t.Fatal(err)
	}
	go c.read()
	r.t.Cleanup(func() { c.link.Close() })
	return c
}

// traveller begins a session on a stream, for the holder of k. Nobody reads yet what comes.
func (r *running) traveller(stream carrier.Stream, k trust.Key, hello native.Hello) (*traveller, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := &traveller{r: r, k: k, lost: make(chan error, 100), client: &client{pongs: make(chan pong, 64), gone: make(chan error, 1)}}
	var err error
	c.octets, c.terms, err = session.Open(ctx, stream, session.Options{Grace: time.Hour, Lost: func(cause error) {
		select {
		case c.lost <- cause:
		default:
		}
	}})
	if err != nil {
		return nil, err
	}
	c.link, c.hello, c.agreed, err = native.Open(ctx, c.octets.Stream(), hello)
	return c, err
}

// goOn has the session go on by a way.
func (c *traveller) goOn(way string) error {
	c.r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return c.octets.Attach(ctx, c.r.by(ctx, way, c.k))
}

// cut ends the connection, and returns when the server knows.
func (c *traveller) cut(name string) {
	c.r.t.Helper()
	c.octets.Drop(errCut)
	eventually(c.r.t, "the server knows that it is away", func() bool { return c.r.status(name).AwaySince != nil })
}

// pings checks that packets pass.
func (c *traveller) pings(about string, seq uint16) {
	c.r.t.Helper()
	if kind, _, err := c.roundTrip(c.self(), c.resolver(), seq); kind != 0 || err != nil {
		c.r.t.Errorf("%s: %d, %v", about, kind, err)
	}
}

// refused checks that the session can not be continued.
func (c *traveller) refused(about string, want error) {
	c.r.t.Helper()
	if err := c.goOn("tls"); !errors.Is(err, want) {
		c.r.t.Errorf("%s: %v", about, err)
	}
}

// A fader is a connection that can fade away: from then on nothing that is written or done
// to it reaches the other side, not even its end.
type fader struct {
	net.Conn
	faded atomic.Bool
}

// fading makes a fader of a new connection, which ends with the test.
func (r *running) fading() *fader {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return &fader{Conn: conn}
}

func (f *fader) Write(b []byte) (int, error) {
	if f.faded.Load() {
		return len(b), nil
	}
	return f.Conn.Write(b)
}

func (f *fader) Close() error {
	if f.faded.Load() {
		return f.SetReadDeadline(time.Unix(1, 0))
	}
	return f.Conn.Close()
}

// download is a proxy's connection to a giver of so many random octets.
func download(t *testing.T, c *traveller, size int) (conn net.Conn, want []byte) {
	t.Helper()
	want = make([]byte, size)
	rand.Read(want)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var giving sync.WaitGroup
	giving.Go(func() {
		if g, err := l.Accept(); err == nil {
			g.Write(want)
			g.Close()
		}
	})
	t.Cleanup(func() { l.Close(); giving.Wait() })
	p, err := socks.New(socks.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Local: c.agreed.Local, DNS: c.agreed.DNS, MTU: c.agreed.MTU})
	if err != nil {
		t.Fatal(err)
	}
	joined := make(chan error, 1)
	go func() { joined <- tunnel.Join(context.Background(), p, c.link) }()
	t.Cleanup(func() { p.Close(); <-joined })
	conn, err = p.DialContext(t.Context(), "tcp", netip.AddrPortFrom(hostAlias, l.Addr().(*net.TCPAddr).AddrPort().Port()).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, want
}

// TestMoves: a download goes on while its session moves from one kind of connection to
// another, whether the server has heard of the end of the last, or never does.
func TestMoves(t *testing.T) {
	t.Parallel()
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "me")}, "--allow", "host", "--metrics", "127.0.0.1:0")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	c, err := r.traveller(r.by(ctx, "websocket", k), k, usualHello())
	if err != nil {
		t.Fatal(err)
	}
	if c.terms.Grace != defaultHold {
		t.Errorf("it is held for %v", c.terms.Grace)
	}
	const piece = 1 << 20
	moves := []string{"tls", "line", "ssh", "websocket behind a web server", "websocket", "tls"}
	conn, want := download(t, c, (1+2*len(moves))*piece)
	got := make([]byte, 0, len(want))
	var reading time.Duration
	more := func() {
		t.Helper()
		began := time.Now()
		defer func() { reading += time.Since(began) }()
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		b := make([]byte, piece)
		if _, err := io.ReadFull(conn, b); err != nil {
			t.Fatal(err)
		}
		got = append(got, b...)
	}
	more()
	c.cut("me")
	reading = 0
	for _, way := range moves {
		if err := c.goOn(way); err != nil {
			t.Fatalf("by %s: %v", way, err)
		}
		more()
		// And once more, by one that fades away when there is more to come.
		f := r.fading()
		if err := c.octets.Attach(ctx, r.over(ctx, way, k, f)); err != nil {
			t.Fatalf("again by %s: %v", way, err)
		}
		more()
		if by, _, _ := strings.Cut(way, " "); r.status("me").By != by {
			t.Errorf("status says that it came by %s", r.status("me").By)
		}
		f.faded.Store(true)
	}
	if reading > 3*time.Second {
		t.Errorf("what came took %v: something waits for a goodbye of who has faded away", reading)
	}
	if string(got) != string(want) {
		t.Error("what came is something else")
	}
	s := r.status("me")
	if s.Streams != 1+2*len(moves) || s.Session != c.octets.ID().String() || s.Held != defaultHold.Seconds() || s.AwaySince != nil {
		t.Errorf("status says %+v", s)
	}
	if text, want := r.scrape(), `bodkin_resumes_total{by="ssh",result="resumed"} 2`; !strings.Contains(text, want) {
		t.Errorf("there is no %s", want)
	}
}

// TestAway: status and metrics say who is away, and nothing is lost meanwhile.
func TestAway(t *testing.T) {
	t.Parallel()
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "me")}, "--metrics", "127.0.0.1:0")
	c := r.travel("tls", k, usualHello())
	c.cut("me")
	if out := r.bodkin("status"); !strings.Contains(out, "away since") {
		t.Errorf("status says %q", out)
	}
	for _, want := range []string{"bodkin_sessions_away 1", `bodkin_sessions{by="tls"} 1`} {
		if !strings.Contains(r.scrape(), want) {
			t.Errorf("there is no %s", want)
		}
	}
	if err := c.ping(c.self(), c.resolver(), 7); err != nil {
		t.Fatal(err)
	}
	if err := c.goOn("tls"); err != nil {
		t.Fatal(err)
	}
	select {
	case p := <-c.pongs:
		if p.seq != 7 {
			t.Errorf("ping %d came back", p.seq)
		}
	case <-time.After(5 * time.Second):
		t.Error("what was sent meanwhile is lost")
	}
	if !strings.Contains(r.scrape(), "bodkin_sessions_away 0") || r.status("me").AwaySince != nil {
		t.Error("it is still away")
	}
	for _, line := range []string{"session waits", "session goes on"} {
		if n := len(r.said(line)); n != 1 {
			t.Errorf("%q is logged %d times", line, n)
		}
	}
}

// TestStolen: whoever has all that a client knows of its session, but not its key, hears
// the same as for a session that there is not; and the session goes on.
func TestStolen(t *testing.T) {
	t.Parallel()
	victim, thief := trust.Generate(), trust.Generate()
	r := start(t, []string{lineFor(victim, "", "victim"), lineFor(thief, "", "thief")}, "--metrics", "127.0.0.1:0")
	c := r.travel("tls", victim, usualHello())
	c.k = thief
	c.refused("with another key", session.ErrUnknown)
	c.pings("after that", 1)
	c.k = victim
	if err := c.goOn("tls"); err != nil {
		t.Error(err)
	}
	c.pings("moved by its own", 2)
	if !strings.Contains(r.scrape(), `bodkin_resumes_total{by="tls",result="unknown"} 1`) {
		t.Error("it was not counted")
	}
	eventually(t, "it is logged with its key", func() bool {
		said := r.said("not continued")
		return len(said) == 1 && strings.Contains(said[0], trust.Fingerprint(thief.Public()))
	})
}

// recorder keeps what is written.
type recorder struct {
	io.ReadWriteCloser
	mu      sync.Mutex
	written []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	r.written = append(r.written, b...)
	r.mu.Unlock()
	return r.ReadWriteCloser.Write(b)
}

// TestReplayed: what a client said inside to go on with its session, said once more by the
// holder of the same key, does nothing; nor does it with an octet changed.
func TestReplayed(t *testing.T) {
	t.Parallel()
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "me")}, "--metrics", "127.0.0.1:0")
	c := r.travel("tls", k, usualHello())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream := r.by(ctx, "tls", k)
	recorded := &recorder{ReadWriteCloser: stream.ReadWriteCloser}
	stream.ReadWriteCloser = recorded
	if err := c.octets.Attach(ctx, stream); err != nil {
		t.Fatal(err)
	}
	c.pings("moved", 1)
	recorded.mu.Lock()
	said := append([]byte(nil), recorded.written...)
	recorded.mu.Unlock()
	const times = 5
	for i := range times {
		stream := r.by(ctx, "tls", k)
		again := append([]byte(nil), said...)
		again[len(again)-1-i*7] ^= byte(i) // the first is as it was
		stream.Write(again)
		answer, _ := io.ReadAll(stream)
		stream.Close()
		if len(answer) > 200 {
			t.Errorf("the server says %d octets to that", len(answer))
		}
		c.pings("beside that", uint16(10+i))
	}
	want := fmt.Sprintf(`bodkin_resumes_total{by="tls",result="forged"} %d`, times)
	eventually(t, "they are counted", func() bool { return strings.Contains(r.scrape(), want) })
	if s := r.status("me"); s.Streams != 2 || s.AwaySince != nil {
		t.Errorf("status says %+v", s)
	}
}

// TestKickedAway: a client that is sent away while it is away begins anew.
func TestKickedAway(t *testing.T) {
	t.Parallel()
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "laptop")})
	c := r.travel("tls", k, usualHello())
	c.cut("laptop")
	if out := r.bodkin("kick", "laptop"); out != "1 session ended\n" {
		t.Errorf("kick says %q", out)
	}
	c.refused("after that", session.ErrUnknown)
	eventually(t, "its end is logged", func() bool { return len(r.said("kicked: ")) == 1 })
	r.travel("tls", k, usualHello()).pings("a new one", 1)
}

// TestRevokedAway: a key that is taken out, that has ended, or that is not taken from where
// its client was, ends the sessions that are held for it; when it is taken again they
// cannot be continued (CVE-2024-28882).
func TestRevokedAway(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]func(k trust.Key) string{
		"taken out":  func(trust.Key) string { return "# nobody" },
		"has ended":  func(k trust.Key) string { return lineFor(k, `expires="2020-01-01"`, "me") },
		"from":       func(k trust.Key) string { return lineFor(k, `from="192.0.2.0/24"`, "me") },
		"another":    func(k trust.Key) string { return lineFor(k, `deny="192.0.2.1"`, "me") },
		"by a clock": func(k trust.Key) string { return lineFor(k, `expires="`+soon()+`"`, "me") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := trust.Generate()
			r := start(t, []string{lineFor(k, "", "me")})
			c := r.travel("tls", k, usualHello())
			c.cut("me")
			r.allow([]string{line(k)})
			eventually(t, "its session has ended", func() bool { return len(r.said("session ends")) == 1 })
			if n := len(r.said("revoked: ")) + len(r.said("changed: ")); n != 1 {
				t.Errorf("the log says %q", r.said("session ends"))
			}
			r.allow([]string{lineFor(k, "", "me")})
			eventually(t, "the key is taken again", func() bool {
				stream, err := r.tryTLS(t.Context(), k)
				if err != nil {
					return false
				}
				if err := c.octets.Attach(t.Context(), stream); !errors.Is(err, session.ErrUnknown) {
					t.Errorf("it hears %v", err)
				}
				return true
			})
		})
	}
}

// soon is a second or two from now, as authorized_clients has it.
func soon() string {
	return trust.FormatExpiry(time.Now().Truncate(time.Second).Add(2 * time.Second))
}

// TestExpired: a session is held for as long as --hold says, not for as long as its client
// wishes.
func TestExpired(t *testing.T) {
	t.Parallel()
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "me")}, "--hold", "1s")
	c := r.travel("tls", k, usualHello())
	if c.terms.Grace != time.Second {
		t.Errorf("it is held for %v", c.terms.Grace)
	}
	began := time.Now()
	c.cut("me")
	eventually(t, "it has ended", func() bool { return len(r.said("session ends")) == 1 })
	if took := time.Since(began); took < 700*time.Millisecond || took > 3*time.Second {
		t.Errorf("it was held for %v", took)
	}
	if said := r.said("session ends")[0]; !strings.Contains(said, session.ErrExpired.Error()) {
		t.Errorf("the log says %q", said)
	}
	c.refused("after that", session.ErrUnknown)
}

// TestNotHeld: with --hold 0 a session ends with its connection, and its client is told
// before.
func TestNotHeld(t *testing.T) {
	t.Parallel()
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "me")}, "--hold", "0")
	c := r.travel("tls", k, usualHello())
	if c.terms.Grace != 0 || !strings.Contains(c.terms.Note, "--hold 0") {
		t.Errorf("its terms are %+v", c.terms)
	}
	if s := r.status("me"); s.Session != "" {
		t.Errorf("status says %+v", s)
	}
	c.octets.Drop(errCut)
	eventually(t, "it has ended", func() bool { return len(r.said("session ends")) == 1 })
	if n := len(r.said("session waits")); n != 0 {
		t.Error("the log says that it waits")
	}
	if err := c.ended(t, 5*time.Second); !errors.Is(err, errCut) {
		t.Errorf("the client's link ends with %v", err)
	}
}

// TestAnotherServer: a server that has started anew knows no session of the last, and says
// so.
func TestAnotherServer(t *testing.T) {
	t.Parallel()
	k := trust.Generate()
	lines := []string{lineFor(k, "", "me")}
	r, anew := start(t, lines), start(t, lines)
	c := r.travel("tls", k, usualHello())
	c.r = anew
	c.refused("by another", session.ErrUnknown)
	c.r = r
	c.pings("at its own", 1)
}

// TestStopAway: a server that is told to end does not wait for those who are away.
func TestStopAway(t *testing.T) {
	t.Parallel()
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "me")})
	c := r.travel("tls", k, usualHello())
	c.cut("me")
	began := time.Now()
	r.cmd.Process.Signal(syscall.SIGTERM)
	if state, err := r.cmd.Process.Wait(); err != nil || !state.Success() {
		t.Errorf("it ends with %v, %v", state, err)
	}
	if took := time.Since(began); took > stopTime/2 {
		t.Errorf("that took %v", took)
	}
}

// TestGhosts: a client that is killed and begins anew, again and again, leaves no more
// behind than it may have sessions, and loses none that is there.
func TestGhosts(t *testing.T) {
	t.Parallel()
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "me")})
	there := r.travel("tls", k, usualHello())
	for range 6 {
		r.travel("tls", k, usualHello()).octets.Drop(errCut)
		eventually(t, "the server knows", func() bool {
			return strings.Count(r.bodkin("status"), "away") == strings.Count(r.bodkin("status"), " me ")-1
		})
	}
	if n := strings.Count(r.bodkin("status"), " me "); n != 4 {
		t.Errorf("there are %d sessions", n)
	}
	there.pings("the one that is there", 1)
}

// TestRateGoesOn: a client is no faster for coming back.
func TestRateGoesOn(t *testing.T) {
	t.Parallel()
	k := trust.Generate()
	r := start(t, []string{lineFor(k, `rate="2M"`, "slow")}, "--allow", "host")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := r.traveller(r.by(ctx, "tls", k), k, usualHello())
	if err != nil {
		t.Fatal(err)
	}
	const size = 4e6
	conn, _ := download(t, c, size)
	moving, stop := context.WithCancel(ctx)
	var moves sync.WaitGroup
	moves.Go(func() {
		for moving.Err() == nil {
			if err := c.octets.Attach(ctx, r.by(ctx, "tls", k)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	began := time.Now()
	if n, err := io.Copy(io.Discard, conn); n != size || err != nil {
		t.Errorf("%d octets, and %v", n, err)
	}
	took := time.Since(began)
	stop()
	moves.Wait()
	streams := r.status("slow").Streams
	if took < 1500*time.Millisecond || took > 6*time.Second || streams < 10 {
		t.Errorf("four million octets take %v at two million a second, over %d connections", took, streams)
	}
	t.Logf("%v over %d connections", took, streams)
}

// TestNothingLeft: after a thousand connections there is no more than after ten.
func TestNothingLeft(t *testing.T) {
	t.Parallel()
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "me")}, "--metrics", "127.0.0.1:0")
	c := r.travel("tls", k, usualHello())
	count := func() (goroutines, files int) {
		for line := range strings.Lines(r.scrape()) {
			fmt.Sscanf(line, "go_goroutines %d", &goroutines)
		}
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return goroutines, len(list)
	}
	moved := 0
	move := func(times int) {
		for range times {
			if moved++; moved%2 == 0 {
				c.octets.Drop(errCut)
			}
			if err := c.goOn([]string{"tls", "tls", "websocket", "ssh"}[moved/2%4*(moved%25/24)]); err != nil {
				t.Fatal(err)
			}
		}
	}
	move(10)
	goroutines, files := count()
	move(1000)
	var g, f int
	defer func() { t.Logf("%d goroutines and %d files before, %d and %d after", goroutines, files, g, f) }()
	eventually(t, "there is no more than before", func() bool {
		g, f = count()
		return g <= goroutines+1 && f <= files+1 // a scraper's own comes and goes
	})
	c.pings("after them", 1)
	// One that is left at once may never have carried anything.
	if s := r.status("me"); s.Streams < 950 || s.Streams > 1011 {
		t.Errorf("status says that %d connections carried it", s.Streams)
	}
}
