package serve

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"

	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	cryptotls "crypto/tls"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/farhalf"
	"github.com/bodkin-net/bodkin/carrier/line"
	"github.com/bodkin-net/bodkin/carrier/tls"
	"github.com/bodkin-net/bodkin/carrier/websocket"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/trust"
)

// ways are all by which a client comes.
var ways = []string{"tls", "line", "websocket", "websocket behind a web server", "ssh"}

// by connects as the holder of k by a way.
func (r *running) by(ctx context.Context, way string, k trust.Key) carrier.Stream {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.over(ctx, way, k, conn)
}

// over is by over a connection, which it owns.
func (r *running) over(ctx context.Context, way string, k trust.Key, conn net.Conn) carrier.Stream {
	r.t.Helper()
	s, err := streamOf(conn), error(nil)
	switch way {
	case "ssh":
		return bySSHTo(r.t, ctx, r, k, conn)
	case "line":
		s, _, err = line.Dial(ctx, s, line.Options{})
	case "websocket":
		web := cryptotls.Client(conn, &cryptotls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		s, err = websocket.Hop("server", "/tunnel", nil)(ctx, streamOf(web))
	case "websocket behind a web server":
		s, err = websocket.Hop("server", "/tunnel", nil)(ctx, s)
	}
	if err == nil {
		s, _, err = tls.Client(ctx, s, r.identity(k))
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// TestWays: one port takes a client by every way, and each is the same client.
func TestWays(t *testing.T) {
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "me")})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			link, hello, agreed, err := native.Open(ctx, r.by(ctx, way, k), usualHello())
			if err != nil {
				t.Fatal(err)
			}
			defer link.Close()
			c := &client{link: link, hello: hello, agreed: agreed, pongs: make(chan pong, 64), gone: make(chan error, 1)}
			go c.read()
			if _, _, err := c.roundTrip(c.self(), c.resolver(), 1); err != nil {
				t.Error(err)
			}
			by, _, _ := strings.Cut(way, " ")
			if s := r.status("me"); s.By != by {
				t.Errorf("status says that it is by %s", s.By)
			}
			link.Close()
			eventually(t, "it is gone", func() bool { return !strings.Contains(r.bodkin("status"), " me ") })
		})
	}
}

// bySSHTo logs in as the holder of k and starts the far half, as bodkin up does by ssh.
func bySSHTo(t testing.TB, ctx context.Context, r *running, k trust.Key, conn net.Conn) carrier.Stream {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(k.Private)
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewPublicKey(r.key)
	if err != nil {
		t.Fatal(err)
	}
	c, channels, requests, err := ssh.NewClientConn(conn, r.address, &ssh.ClientConfig{
		User: "anybody", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(host),
	})
	if err != nil {
		t.Fatal(err)
	}
	login := ssh.NewClient(c, channels, requests)
	t.Cleanup(func() { login.Close() })
	session, err := login.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, err := session.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	nonce := farhalf.NewNonce()
	if err := session.Start(farhalf.Command(nonce, strings.Repeat("0", 64))); err != nil {
		t.Fatal(err)
	}
	s, _, err := farhalf.Start(ctx, carrier.Stream{ReadWriteCloser: struct {
		io.Reader
		io.Writer
		io.Closer
	}{out, in, login}}, farhalf.Options{Nonce: nonce})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSSHShell: who wants a shell is told that there is none.
func TestSSHShell(t *testing.T) {
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "me")})
	signer, err := ssh.NewSignerFromKey(k.Private)
	if err != nil {
		t.Fatal(err)
	}
	login, err := ssh.Dial("tcp", r.address, &ssh.ClientConfig{User: "me", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	defer login.Close()
	session, err := login.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.CombinedOutput("cat /etc/passwd")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 1 || !strings.Contains(string(out), "tunnels only") {
		t.Errorf("a command ends with %v and %q", err, out)
	}
	_, err = ssh.Dial("tcp", r.address, &ssh.ClientConfig{User: "me", Auth: []ssh.AuthMethod{ssh.Password("x")}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err == nil {
		t.Error("a password is taken")
	}
}

// TestPage: a browser sees a page, and nothing where there is none.
func TestPage(t *testing.T) {
	r := start(t, nil)
	browser := &http.Client{Transport: &http.Transport{TLSClientConfig: &cryptotls.Config{InsecureSkipVerify: true}}}
	defer browser.CloseIdleConnections()
	for path, want := range map[string]int{"/": 200, "/tunnel": http.StatusUpgradeRequired, "/metrics": 404} {
		answer, err := browser.Get("https://" + r.address + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s is answered %s", path, answer.Status)
		}
	}
}

// TestStop: a server that is told to end tells its clients, and ends well and soon.
func TestStop(t *testing.T) {
	keys := []trust.Key{trust.Generate(), trust.Generate()}
	r := start(t, []string{lineFor(keys[0], "", "a"), lineFor(keys[1], "", "b")})
	a := r.must(keys[0], usualHello())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	link, _, _, err := native.Open(ctx, bySSHTo(t, ctx, r, keys[1], conn), usualHello())
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	b := &client{link: link, pongs: make(chan pong, 64), gone: make(chan error, 1)}
	go b.read()
	began := time.Now()
	r.cmd.Process.Signal(syscall.SIGTERM)

	for name, c := range map[string]*client{"by tls": a, "by ssh": b} {
		var closed *native.ClosedError
		if err := c.ended(t, 10*time.Second); !errors.As(err, &closed) || closed.Text != "the server ends" {
			t.Errorf("a client %s hears %v", name, err)
		}
	}
	if state, err := r.cmd.Process.Wait(); err != nil || !state.Success() {
		t.Errorf("it ends with %v, %v", state, err)
	}
	if took := time.Since(began); took > stopTime {
		t.Errorf("that took %v", took)
	}
}

// TestServiceManager: whoever started the server hears that it is ready, that it is alive
// and that it ends; what makes others read their files anew ends nothing.
func TestServiceManager(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	t.Setenv("WATCHDOG_USEC", "100000")
	r := start(t, nil)
	hears := func(want string) {
		t.Helper()
		manager.SetReadDeadline(time.Now().Add(10 * time.Second))
		for b := make([]byte, 1000); ; {
			n, err := manager.Read(b)
			if err != nil {
				t.Fatalf("%s is not told: %v", want, err)
			}
			if strings.HasPrefix(string(b[:n]), want) {
				return
			}
		}
	}
	hears("READY=1\nSTATUS=waits at 127.0.0.1:")
	r.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, "it says that there is nothing to reread", func() bool { return len(r.said("nothing to reread")) == 1 })
	hears("WATCHDOG=1")
	r.cmd.Process.Signal(syscall.SIGTERM)
	hears("STOPPING=1")
}

// TestFirstStart: without a key there is one after the first start, and the log says what
// to do with it; a Unix socket does as well.
func TestFirstStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	r := start(t, nil, "--listen", "unix:"+path)
	eventually(t, "it says what to do", func() bool {
		return len(r.said("bodkin key trust server NAME 'ssh-ed25519 ")) == 1 && len(r.said("bodkin key trust client KEY")) == 1
	})
	k := trust.Generate()
	r.allow([]string{lineFor(k, "", "me")})
	var s carrier.Stream
	eventually(t, "the key is taken", func() bool {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		s, _, err = tls.Client(t.Context(), streamOf(conn), r.identity(k))
		return err == nil
	})
	link, _, _, err := native.Open(t.Context(), s, usualHello())
	if err != nil {
		t.Fatal(err)
	}
	link.Close()
}

// TestMetrics: a scraper finds what there is to count.
func TestMetrics(t *testing.T) {
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "laptop")}, "--metrics", "127.0.0.1:0")
	c := r.must(k, usualHello())
	if _, _, err := c.roundTrip(c.self(), c.resolver(), 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what went out is counted", func() bool {
		return strings.Contains(r.scrape(), `bodkin_octets_total{client="laptop",direction="out"} 36`)
	})
	text := r.scrape()
	for _, want := range []string{
		`bodkin_sessions{by="tls"} 1`, `bodkin_handshakes_total{by="tls",result="welcome"} 1`,
		`bodkin_packets_total{client="laptop",direction="in"} 1`, `bodkin_octets_total{client="laptop",direction="out"} 36`,
		`bodkin_refused_total{reason="policy"} 0`, `bodkin_flows{client="laptop"} 0`, "bodkin_connections_accepted_total 1", "go_goroutines",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s", want)
		}
	}
}

// scrape returns the server's metrics.
func (r *running) scrape() string {
	r.t.Helper()
	var at string
	for _, said := range r.said("msg=metrics") {
		_, at, _ = strings.Cut(said, "at=")
	}
	answer, err := http.Get(at)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}
