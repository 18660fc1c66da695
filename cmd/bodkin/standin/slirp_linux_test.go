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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config/slirp"
	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/link/ppp"
	"github.com/bodkin-net/bodkin/link/ppp/auth"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A slirpBench is a slirpRun on a line in memory.
type slirpBench struct {
	t    *testing.T
	run  *slirpRun
	far  *switchboard // the peer's end of the line
	stop context.CancelCauseFunc
	done chan error
	said *words
}

// words are what was said, from many goroutines.
type words struct {
	b    bytes.Buffer
	lock chan struct{}
}

func newWords() *words {
	w := &words{lock: make(chan struct{}, 1)}
	w.lock <- struct{}{}
	return w
}

func (w *words) Write(b []byte) (int, error) {
	<-w.lock
	defer func() { w.lock <- struct{}{} }()
	return w.b.Write(b)
}

func (w *words) String() string {
	<-w.lock
	defer func() { w.lock <- struct{}{} }()
	return w.b.String()
}

// newSlirpBench starts slirp with args. It must have ended when the test does.
func newSlirpBench(t *testing.T, args ...string) *slirpBench {
	t.Helper()
	if _, set := os.LookupEnv("SLIRP_TEST_HOME"); !set {
		t.Setenv("HOME", t.TempDir())
	}
	o, err := slirp.Parse(args, slirp.System{})
	if err != nil {
		t.Fatal(err)
	}
	b := &slirpBench{t: t, done: make(chan error, 1), said: newWords()}
	b.run = newSlirp(o, testVersion, b.said)
	b.run.config = slirpLink(o)
	if _, err := identifySlirp(o, &b.run.config.Auth); err != nil {
		t.Fatal(err)
	}
	if b.run.nat, err = usernat.New(slirpNAT(o)); err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	b.run.line = &line{switched: newSwitchboard(carrier.Stream{ReadWriteCloser: near})}
	b.far = newSwitchboard(carrier.Stream{ReadWriteCloser: far})
	b.run.sayReady(nil)
	ctx, stop := context.WithCancelCause(t.Context())
	b.stop = stop
	go func() {
		b.done <- b.run.serve(ctx)
		b.run.line.close()
		b.run.nat.Close()
	}()
	t.Cleanup(func() {
		stop(nil)
		b.far.close()
	})
	return b
}

// end waits for the end and checks the exit status.
func (b *slirpBench) end(want int) {
	b.t.Helper()
	select {
	case err := <-b.done:
		if got := report.Status(err); got != want {
			b.t.Errorf("exit status %d (%v), want %d\n%s", got, err, want, b.said)
		}
	case <-time.After(20 * time.Second):
		b.t.Fatalf("it does not end\n%s", b.said)
	}
}

// peer opens a link from the far end.
func (b *slirpBench) peer(change func(*ppp.Config)) (*ppp.Link, error) {
	c := ppp.Config{IPv4: ppp.IPv4{AskDNS: true}, IPv6: ppp.IPv6{Off: true}}
	c.LCP.Timers.Restart = 300 * time.Millisecond // ten tries are longer than slirp stays with a link that ended
	if change != nil {
		change(&c)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
	defer cancel()
	return ppp.Open(ctx, carrier.Stream{ReadWriteCloser: b.far.end()}, c)
}

func (b *slirpBench) mustPeer(change func(*ppp.Config)) *ppp.Link {
	b.t.Helper()
	p, err := b.peer(change)
	if err != nil {
		b.t.Fatalf("%v\n%s", err, b.said)
	}
	return p
}

// answers asks for an echo at 10.0.2.3 through p, and waits for it.
func (b *slirpBench) answers(p *ppp.Link) {
	b.t.Helper()
	request := []byte{
		0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 2, 15, 10, 0, 2, 3,
		8, 0, 0xf7, 0xfd, 0, 1, 0, 1,
	}
	if err := p.WritePackets([]tunnel.Packet{{Data: request}}); err != nil {
		b.t.Fatal(err)
	}
	got := make([]tunnel.Packet, 1)
	if _, err := p.ReadPackets(got); err != nil || len(got[0].Data) != 28 || got[0].Data[20] != 0 {
		b.t.Errorf("the echo: %x, %v", got[0].Data, err)
	}
}

// TestSlirpAddresses: what the peer asks for, and what it gets.
func TestSlirpAddresses(t *testing.T) {
	a := netip.MustParseAddr
	for _, c := range []struct {
		name        string
		args        []string
		want        ppp.IPv4
		local, peer netip.Addr
		dns         []netip.Addr
	}{
		{"as given", nil, ppp.IPv4{AskDNS: true}, a("10.0.2.15"), a("10.0.2.2"), []netip.Addr{a("10.0.2.3")}},
		{"its own", nil, ppp.IPv4{Local: a("192.168.1.7")}, a("192.168.1.7"), a("10.0.2.2"), nil},
		{"its own, and one for us", nil, ppp.IPv4{Local: a("10.9.0.1"), Remote: a("10.9.0.2")}, a("10.9.0.1"), a("10.9.0.2"), nil},
		{"another network", []string{"special addr 10.7.7.0"}, ppp.IPv4{AskDNS: true}, a("10.7.7.15"), a("10.7.7.2"), []netip.Addr{a("10.7.7.3")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newSlirpBench(t, c.args...)
			p := b.mustPeer(func(o *ppp.Config) { o.IPv4 = c.want })
			got := p.Agreed()
			if got.Local[0].Addr() != c.local || !slices.Equal(got.Peer, []netip.Addr{c.peer}) || !slices.Equal(got.DNS, c.dns) {
				t.Errorf("agreed on %+v", got)
			}
			p.Terminate("enough")
			b.stop(signalled{os.Interrupt})
			b.end(statusUserRequest)
		})
	}
}

// TestSlirpRedials: one link after another on the same line, and the NAT is the
// same; with ppp_exit the first is the last.
func TestSlirpRedials(t *testing.T) {
	b := newSlirpBench(t, "lcp-restart 1")
	for range 3 {
		p := b.mustPeer(nil)
		b.answers(p)
		p.Terminate("later")
	}
	p := b.mustPeer(nil)
	b.stop(signalled{os.Interrupt})
	<-p.Done() // told by a Terminate-Request, not by a line that ends
	var failed *ppp.Error
	if !errors.As(p.Err(), &failed) || failed.Kind != ppp.PeerTerminated {
		t.Errorf("the peer's link ended with %v", p.Err())
	}
	b.end(statusUserRequest)
	if n := strings.Count(b.said.String(), "PPP is up: the peer is 10.0.2.15, the MTU 1500"); n != 4 {
		t.Errorf("said %d times that PPP is up:\n%s", n, b.said)
	}

	b = newSlirpBench(t, "ppp_exit")
	p = b.mustPeer(nil)
	b.answers(p)
	p.Terminate("once is enough")
	b.end(0)
}

// TestSlirpEnds: how it ends without being asked to.
func TestSlirpEnds(t *testing.T) {
	b := newSlirpBench(t, "wait 0")
	b.mustPeer(nil).Terminate("good bye")
	b.end(0)

	b = newSlirpBench(t)
	b.mustPeer(nil)
	b.far.close()
	b.end(statusHangup)

	b = newSlirpBench(t) // nobody ever came
	b.far.close()
	b.end(statusHangup)

	b = newSlirpBench(t, "lcp-restart 1")
	p := b.mustPeer(nil)
	p.Terminate("and another with a smaller MTU")
	small, err := b.peer(func(c *ppp.Config) { c.LCP.MRU = 552 })
	if err == nil {
		<-small.Done()
	}
	b.end(1)
}

// TestSlirpIsSilent: nothing is sent before the peer speaks, unless that is wanted.
func TestSlirpIsSilent(t *testing.T) {
	for _, initiates := range []bool{false, true} {
		args := []string{"ppp"}
		if initiates {
			args = append(args, "initiate-options")
		}
		b := newSlirpBench(t, args...)
		end := b.far.end()
		got := make(chan []byte, 1)
		go func() {
			buf := make([]byte, 100)
			n, _ := end.Read(buf)
			got <- buf[:n]
		}()
		select {
		case text := <-got:
			if !initiates || len(text) == 0 || text[0] != 0x7e {
				t.Errorf("initiates %v: it said %q", initiates, text)
			}
		case <-time.After(300 * time.Millisecond):
			if initiates {
				t.Error("it says nothing")
			}
		}
		end.Close()
		b.stop(signalled{os.Interrupt})
		b.end(statusUserRequest)
	}
}

// TestSlirpAuth: the peer proves who it is by the secrets of this account. One that
// cannot may try again.
func TestSlirpAuth(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("SLIRP_TEST_HOME", home)
	if err := os.WriteFile(filepath.Join(home, ".chap-secrets"), []byte("me gw secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newSlirpBench(t, "+chap", "name gw")
	as := func(secret string) func(*ppp.Config) {
		return func(c *ppp.Config) {
			c.Auth.Name, c.Auth.Permit = "me", []auth.Protocol{auth.CHAP, auth.PAP}
			c.Auth.Secret = func(client, server string) ([]byte, bool) { return []byte(secret), client == "me" }
		}
	}
	var failed *ppp.Error
	if _, err := b.peer(as("guess")); !errors.As(err, &failed) || failed.Kind != ppp.OurSecret {
		t.Errorf("with a wrong secret: %v", err)
	}
	p := b.mustPeer(as("secret"))
	b.answers(p)
	p.Terminate("enough")
	b.stop(signalled{os.Interrupt})
	b.end(statusUserRequest)
	if !strings.Contains(b.said.String(), "the peer proved to be me") {
		t.Errorf("said:\n%s", b.said)
	}
}

// TestZeros: five, a second apart, and nothing between.
func TestZeros(t *testing.T) {
	for _, c := range []struct {
		name  string
		typed string
		apart time.Duration
		want  bool
	}{
		{"typed", "00000", time.Second, true},
		{"at 1.1 s", "00000", 1100 * time.Millisecond, true},
		{"at once", "00000", 0, false},
		{"pasted slowly", "0000000000", 100 * time.Millisecond, false},
		{"four", "0000", time.Second, false},
		{"something between", "000x00", time.Second, false},
		{"long ago", "00000", 5 * time.Second, false},
		{"after others", "ls\r00000", time.Second, true},
	} {
		var z zeros
		now, got := time.Now(), false
		for _, b := range []byte(c.typed) {
			now = now.Add(c.apart)
			got = got || z.see([]byte{b}, now)
		}
		if got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	var z zeros
	now := time.Now()
	for range 10 {
		if now = now.Add(time.Second); z.see([]byte("00000"), now) {
			t.Error("five in one read, ten times")
		}
	}
}

// TestSlirpZeros types them, while the link is down and while it is up.
func TestSlirpZeros(t *testing.T) {
	b := newSlirpBench(t)
	end := b.far.end()
	for i := range zerosWanted {
		if i > 0 {
			time.Sleep(zerosApart + 50*time.Millisecond)
		}
		io.WriteString(end, "0")
	}
	end.Close()
	b.end(0)
}

// What the program says that it is.
const (
	testVersion  = "1.2.3"
	testSoftware = "bodkin 1.2.3 here"
)

// run executes a command as the program does.
func run(ctx context.Context, args []string, out io.Writer) int {
	root := &cobra.Command{Use: "bodkin"}
	root.SetOut(out)
	root.SetErr(out)
	root.AddCommand(PPP(), Slirp(testVersion, testSoftware))
	return report.Execute(ctx, root, args)
}

// TestSlirpWords: what is said on a wrong call, and of help.
func TestSlirpWords(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"slirp", "-h"}, 0, "redir PORT [ADDR:]LPORT"},
		{[]string{"slirp", "--help"}, 0, "Exit status: 0"},
		{[]string{"slirp", "help redir"}, 0, "redir X, -X"},
		{[]string{"slirp", "help nothing"}, 2, "no command of slirp begins"},
		{[]string{"slirp", "-v"}, 0, testSoftware},
		{[]string{"slirp", "compress"}, 2, "bodkin: error: compress: only PPP is spoken here"},
		{[]string{"slirp", "ppp", "frob"}, 2, "bodkin: hint: "},
		{[]string{"slirp", "ppp", "tty /nowhere"}, 7, "/nowhere"},
		{[]string{"slirp", "ppp", "redir 192.0.2.1:5555 80"}, 1, "redirection tcp 192.0.2.1:5555 to 10.0.2.15:80: bind:"},
	} {
		var out bytes.Buffer
		if status := run(t.Context(), c.args, &out); status != c.status || !strings.Contains(out.String(), c.want) {
			t.Errorf("%q: status %d, want %d, and %q in\n%s", c.args, status, c.status, c.want, out.String())
		}
	}
}

// TestSlirpRedirects: a redirection leads through the link, and is said at the start.
func TestSlirpRedirects(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	b := newSlirpBench(t, fmt.Sprintf("redir %d 80", port))
	if want := fmt.Sprintf("Redirecting TCP port %d at 127.0.0.1 to 10.0.2.15:80\n", port); !strings.Contains(b.said.String(), want) || !strings.HasSuffix(b.said.String(), "\nSLiRP Ready ...\n") {
		t.Errorf("said:\n%s", b.said)
	}
	p := b.mustPeer(nil)
	go func() {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
		}
	}()
	got := make([]tunnel.Packet, 1)
	if _, err := p.ReadPackets(got); err != nil {
		t.Fatal(err)
	}
	// A SYN of 10.0.2.2 for port 80.
	if d := got[0].Data; len(d) < 40 || !bytes.Equal(d[12:20], []byte{10, 0, 2, 2, 10, 0, 2, 15}) || d[22] != 0 || d[23] != 80 || d[33] != 2 {
		t.Errorf("what came is %x", d)
	}
	p.Terminate("enough")
	b.stop(signalled{os.Interrupt})
	b.end(statusUserRequest)
}
