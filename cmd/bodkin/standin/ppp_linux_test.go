package standin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config/pppd"
	"github.com/bodkin-net/bodkin/link/ppp"
	"github.com/bodkin-net/bodkin/link/ppp/auth"
	"github.com/bodkin-net/bodkin/pty"
)

func pppOptions(t *testing.T, words string) *pppd.Options {
	t.Helper()
	o, err := pppd.Parse(strings.Fields(words), pppd.System{})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestPPPLink(t *testing.T) {
	for _, c := range []struct {
		words string
		want  func(*ppp.Config)
	}{
		{"", func(*ppp.Config) {}},
		{"asyncmap a0000 escape ff mru 600 mtu 500 -am receive-all noaccomp nopcomp nomagic silent passive", func(c *ppp.Config) {
			c.LCP = ppp.LCP{MRU: 600, MTU: 500, ACCM: 0xa0000, NoACCM: true, ReceiveAll: true, NoACFC: true, NoPFC: true, NoMagic: true, Silent: true, Passive: true}
			c.LCP.Escape.Add(0xff)
		}},
		{"pty x", func(c *ppp.Config) { c.LCP.Settle = time.Second }},
		{"connect x connect-delay 20", func(c *ppp.Config) { c.LCP.Settle = 20 * time.Millisecond }},
		{"10.0.0.1: usepeerdns noipv6 ipcp-restart 2", func(c *ppp.Config) {
			c.IPv4 = ppp.IPv4{Local: netip.MustParseAddr("10.0.0.1"), AskDNS: true, Timers: ppp.Timers{Restart: 2 * time.Second}}
			c.IPv6.Off = true
		}},
		{"10.0.0.1: ipv6cp-use-ipaddr", func(c *ppp.Config) {
			c.IPv4.Local, c.IPv6.Local = netip.MustParseAddr("10.0.0.1"), 0x0a000001
		}},
		{"nat", func(c *ppp.Config) {
			c.IPv4 = ppp.IPv4{Local: netip.MustParseAddr("10.0.2.2"), Remote: netip.MustParseAddr("10.0.2.15"), AcceptLocal: true, AcceptRemote: true,
				DNS: []netip.Addr{netip.MustParseAddr("10.0.2.3")}}
			c.IPv6.Off = true
		}},
		{"nat 10.1.0.1:10.1.0.2 +ipv6", func(c *ppp.Config) {
			c.IPv4 = ppp.IPv4{Local: netip.MustParseAddr("10.1.0.1"), Remote: netip.MustParseAddr("10.1.0.2"), DNS: []netip.Addr{netip.MustParseAddr("10.1.0.1")}}
		}},
		{"lcp-echo-interval 30 lcp-echo-failure 4 lcp-echo-adaptive chap-interval 9", func(c *ppp.Config) {
			c.LCP.EchoInterval, c.LCP.EchoFailure, c.LCP.EchoAdaptive, c.Auth.ChapRechecks = 30*time.Second, 4, true, 9*time.Second
		}},
	} {
		var want ppp.Config
		c.want(&want)
		if got := pppLink(pppOptions(t, c.words)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %+v\nwant %+v", c.words, got, want)
		}
	}
}

// TestPPPIdentity: what is proved to whom, and with which secret.
func TestPPPIdentity(t *testing.T) {
	secrets := func(text string) pppd.Secrets {
		s, err := pppd.ParseSecrets("test", strings.NewReader(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const all = "mschap-v2 chap pap"
	for _, c := range []struct {
		words, pap, chap string
		permit, require  string
		client, server   string // of a question
		secret           string // its answer; empty: none
	}{
		{words: "name me", client: "me", server: "peer"},
		{words: "name me", chap: "me peer c", permit: "mschap-v2 chap", client: "me", server: "peer", secret: "c"},
		{words: "name me", pap: "me peer p", permit: "pap", client: "me", server: "peer", secret: "p"},
		{words: "name me", pap: "me * x", chap: "me * x", permit: all, client: "me", server: "peer", secret: "x"},
		{words: "name me", pap: "me * p", chap: "me * c", permit: "mschap-v2 chap", client: "me", server: "peer", secret: "c"},
		{words: "name me refuse-chap refuse-mschap-v2", chap: "me * c", client: "me", server: "peer", secret: "c"},
		{words: "name me user other", chap: "other * c", permit: "mschap-v2 chap", client: "other", server: "peer", secret: "c"},
		{words: "name me require-chap", chap: "peer me c", require: "chap", client: "peer", server: "me", secret: "c"},
		{words: "name me require-chap", pap: "peer me p", require: "chap", client: "peer", server: "me"},
		{words: "name me require-pap", pap: "peer me p", chap: "peer me c", require: "pap", client: "peer", server: "me", secret: "p"},
		{words: "name me auth", pap: "peer me p", require: all, client: "peer", server: "me", secret: "p"},
		{words: "name me auth", pap: `* me ""`, require: all, permit: "pap", client: "peer", server: "me"},
		{words: "name me auth noauth", client: "peer", server: "me"},
	} {
		o := pppOptions(t, c.words)
		id, _, err := identify(o)
		if err != nil {
			t.Fatal(err)
		}
		id.pap, id.chap = secrets(c.pap), secrets(c.chap)
		var a ppp.Auth
		id.configure(&a)
		if got := protocolNames(a.Permit); got != c.permit && c.client != "peer" {
			t.Errorf("%+v: permits %q", c, got)
		}
		if got := protocolNames(a.Require); got != c.require {
			t.Errorf("%+v: requires %q", c, got)
		}
		if got, ok := a.Secret(c.client, c.server); string(got) != c.secret || ok != (c.secret != "") {
			t.Errorf("%+v: the secret is %q, %v", c, got, ok)
		}
	}

	// A password of the options is ours alone: it proves nobody else, and goes out
	// before those of the files.
	o := pppOptions(t, "name me require-chap")
	o.Auth.Password, o.Auth.HasPassword = "mine", true
	id, _, err := identify(o)
	if err != nil {
		t.Fatal(err)
	}
	id.chap = secrets("me peer file\nme me reflected")
	for _, c := range []struct{ client, server, want string }{{"me", "peer", "mine"}, {"peer", "me", ""}, {"me", "me", "reflected"}} {
		if got, _ := id.secret(c.client, c.server); string(got) != c.want {
			t.Errorf("%s to %s: %q, want %q", c.client, c.server, got, c.want)
		}
	}
}

func protocolNames(list []auth.Protocol) string {
	var names []string
	for _, p := range list {
		names = append(names, p.String())
	}
	return strings.Join(names, " ")
}

// TestPPPAllow: which addresses a peer may have.
func TestPPPAllow(t *testing.T) {
	const routed = "127.0.0.2" // stands for what the machine has a route to
	for _, c := range []struct {
		words, peer, addr string
		want              bool
	}{
		{"", "", "10.99.98.97", true},
		{"", "", routed, false},
		{"noauth", "", routed, true},
		{"nat", "", routed, true},
		{"10.0.0.1:10.0.0.2", "", "10.0.0.2", true},
		{"name me auth", "peer", "10.8.0.9", true},
		{"name me auth", "peer", "10.9.0.9", false},
		{"name me auth 10.0.0.1:10.9.0.9", "peer", "10.9.0.9", false},
		{"name me auth", "stranger", "10.8.0.9", false},
		{"name me auth", "peer", "fe80::1", true},
	} {
		id, _, err := identify(pppOptions(t, c.words))
		if err != nil {
			t.Fatal(err)
		}
		if id.chap, err = pppd.ParseSecrets("test", strings.NewReader("peer me x 10.8.0.0/16"), nil); err != nil {
			t.Fatal(err)
		}
		if got := id.allow(c.peer, netip.MustParseAddr(c.addr)); got != c.want {
			t.Errorf("%q, peer %q, %s: %v", c.words, c.peer, c.addr, got)
		}
	}
}

func TestPPPStatus(t *testing.T) {
	stopped, stop := context.WithCancelCause(context.Background())
	stop(errHangup)
	of := func(k ppp.ErrorKind, cause error) error {
		return fmt.Errorf("x: %w", &ppp.Error{Kind: k, Reason: "r", Err: cause})
	}
	for _, c := range []struct {
		ctx  context.Context
		err  error
		up   bool
		want int
	}{
		{stopped, of(ppp.Hangup, nil), true, 5},
		{t.Context(), of(ppp.Negotiation, nil), false, 10},
		{t.Context(), of(ppp.PeerRefused, nil), false, 11},
		{t.Context(), of(ppp.EchoLost, nil), true, 15},
		{t.Context(), of(ppp.Hangup, io.EOF), true, 16},
		{t.Context(), of(ppp.Hangup, &command.ExitError{Status: 127}), false, 9},
		{t.Context(), of(ppp.Hangup, &command.ExitError{Status: 127}), true, 16},
		{t.Context(), of(ppp.Loop, nil), false, 17},
		{t.Context(), of(ppp.OurSecret, nil), false, 19},
		{t.Context(), of(ppp.PeerTerminated, nil), true, 0},
		{t.Context(), of(ppp.PeerTerminated, nil), false, 10},
		{t.Context(), errors.New("x"), true, 1},
	} {
		err := linkStatus(c.ctx, c.err, c.up, "")
		if got := report.Status(err); got != c.want {
			t.Errorf("%v, up %v: status %d, want %d", c.err, c.up, got, c.want)
		}
		var said bytes.Buffer
		if err != nil {
			report.Say(&said, err)
		}
		if silent := c.want == 0 || c.want == 5; silent != (said.Len() == 0) {
			t.Errorf("%v: said %q", c.err, said.String())
		}
	}
}

// TestHook: scripts run one after the other, in pairs, and end with what is true.
func TestHook(t *testing.T) {
	var mu sync.Mutex
	var ran []string
	begun, goOn := make(chan struct{}, 8), make(chan struct{}, 8)
	h := newHook(func(script string, _, _ []string) {
		begun <- struct{}{}
		<-goOn
		mu.Lock()
		ran = append(ran, script)
		mu.Unlock()
	})
	tell := func(up bool, script string) { h.tell(hookState{up: up, script: script}) }
	tell(false, "down0") // was never up
	tell(true, "up1")
	<-begun
	tell(false, "down1")
	tell(true, "up2")
	tell(false, "down2")
	tell(true, "up3") // as it is: nothing to tell
	close(goOn)
	h.wait()
	tell(false, "down3")
	h.wait()
	if want := []string{"up1", "down3"}; !slices.Equal(ran, want) {
		t.Errorf("ran %q, want %q", ran, want)
	}
}

// TestSwitchboard: a command takes what it reads and no more; what it leaves, and
// what comes later, is there for the next.
func TestSwitchboard(t *testing.T) {
	near, far := net.Pipe()
	s := newSwitchboard(carrier.Stream{ReadWriteCloser: near})
	defer s.close()
	got := make(chan string, 1)
	go func() {
		far.Write([]byte("login: rest of it"))
		b := make([]byte, 100)
		n, _ := io.ReadAtLeast(far, b, len("user\rlast"))
		got <- string(b[:n])
	}()
	var words bytes.Buffer
	// One is left behind that holds the terminal.
	const script = `x=$(dd bs=1 count=7 2>/dev/null); echo "saw $x" >&2; printf 'user\r'; sleep 5 2>/dev/null & printf last`
	if err := s.run(t.Context(), script, &words); err != nil {
		t.Fatal(err)
	}
	if text := words.String(); text != "saw login: \n" {
		t.Errorf("the command said %q", text)
	}
	if text := <-got; text != "user\rlast" {
		t.Errorf("the command wrote %q", text)
	}
	if err := s.run(t.Context(), "exit 3", io.Discard); err == nil || err.Error() != "exit status 3" {
		t.Errorf("a command that fails: %v", err)
	}
	e := s.end()
	b := make([]byte, 100)
	n, err := io.ReadAtLeast(e, b, len("rest of it"))
	if string(b[:n]) != "rest of it" || err != nil {
		t.Errorf("what is left is %q, %v", b[:n], err)
	}
	reading := make(chan error, 1)
	go func() {
		_, err := e.Read(b)
		reading <- err
	}()
	e.Close()
	if err := <-reading; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a Read after Close: %v", err)
	}
	if !s.alive() {
		t.Error("closing one end closed the line")
	}
	go far.Write([]byte("bye"))
	if err := s.run(t.Context(), `test "$(dd bs=1 count=3 2>/dev/null)" = bye`, io.Discard); err != nil {
		t.Errorf("a command at the end: %v", err)
	}
	far.Close()
	began := time.Now()
	if err := s.run(t.Context(), "sleep 100", io.Discard); err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("a command on a line that is gone: %v after %v", err, time.Since(began))
	}
}

// peerOn opens a link in this process at the other end of a stream.
func peerOn(s carrier.Stream) (<-chan *ppp.Link, <-chan error) {
	links, errs := make(chan *ppp.Link, 1), make(chan error, 1)
	go func() {
		l, err := ppp.Open(context.Background(), s, ppp.Config{LCP: ppp.LCP{Silent: true}})
		if err != nil {
			errs <- err
			return
		}
		links <- l
	}()
	return links, errs
}

// TestPPPTerminal: a terminal that is the line has nothing on it but frames, and its
// modes back at the end, however that comes.
func TestPPPTerminal(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(cancel func(), l *ppp.Link)
		want int
	}{
		{"stopped", func(cancel func(), _ *ppp.Link) { cancel() }, 5},
		{"the peer says goodbye", func(_ func(), l *ppp.Link) { l.Terminate("bye") }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			master, slave, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer slave.Close()
			modes := func() string {
				m, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
				if err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf("%+v", *m)
			}
			cooked, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			cooked.Lflag |= unix.ECHO | unix.ICANON | unix.ISIG
			cooked.Iflag |= unix.ICRNL | unix.IXON
			if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, cooked); err != nil {
				t.Fatal(err)
			}
			before := modes()
			log := filepath.Join(t.TempDir(), "log")
			o, err := pppd.Parse([]string{slave.Name(), "nat", "debug", "logfile", log}, pppd.System{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			up := make(chan struct{})
			go func() { ended <- newPPP(o, slave).run(ctx, func() { close(up) }) }()
			var line bytes.Buffer
			links, failed := peerOn(carrier.Stream{ReadWriteCloser: &tapped{again(t, master), &line}})
			var link *ppp.Link
			select {
			case link = <-links:
			case err := <-failed:
				t.Fatal(err)
			}
			<-up
			if modes() == before {
				t.Error("the terminal is not raw")
			}
			c.end(cancel, link)
			if got := report.Status(<-ended); got != c.want {
				t.Errorf("status %d, want %d", got, c.want)
			}
			<-link.Done()
			if now := modes(); now != before {
				t.Errorf("the terminal's modes were\n%s\nand are\n%s", before, now)
			}
			if bytes.Contains(line.Bytes(), []byte("Connect")) || bytes.Contains(line.Bytes(), []byte("IP address")) {
				t.Errorf("words are on the line: %q", line.Bytes())
			}
			said, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"Connect: nat <--> " + slave.Name(), "sent [LCP ConfReq", "local  IP address 10.0.2.2", "Connection terminated."} {
				if !strings.Contains(string(said), want) {
					t.Errorf("%q is not in the log:\n%s", want, said)
				}
			}
		})
	}
}

// again opens a terminal once more, so that it stays when the other is closed.
func again(t *testing.T, master *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	return os.NewFile(uintptr(fd), "master")
}

// A tapped stream notes what was read from it.
type tapped struct {
	io.ReadWriteCloser
	seen *bytes.Buffer
}

func (s *tapped) Read(b []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(b)
	s.seen.Write(b[:n])
	return n, err
}

// TestPPPLog: what is the line gets no words, even where inetd made it the standard
// error as well; a file gets all of them, printable.
func TestPPPLog(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	info, err := w.Stat()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "log")
	l := &logger{errw: w}
	if err := l.open(&pppd.Log{File: name, FD: -1}); err != nil {
		t.Fatal(err)
	}
	l.printf("before")
	l.setLine(nil, info)
	l.printf("on the line\x1b[31m")
	l.debugf("not asked for")
	l.setLine(nil)
	l.printf("after")
	l.record("in the file")
	l.close()
	w.Close()
	said, err := io.ReadAll(r)
	if err != nil || string(said) != "before\nafter\n" {
		t.Errorf("said %q, %v", said, err)
	}
	if kept, err := os.ReadFile(name); err != nil || string(kept) != "before\non the line?[31m\nafter\nin the file\n" {
		t.Errorf("kept %q, %v", kept, err)
	}
}

func TestWishName(t *testing.T) {
	for device, want := range map[string]string{"ppp0": "ppp0", "Wan_1.x": "wan-1-x", "0x": "p0x", "_": "p-", "123456789012345": "p12345678901234"} {
		if got := wishName(device); got != want {
			t.Errorf("%s: %s, want %s", device, got, want)
		}
	}
}
