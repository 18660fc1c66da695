package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// The addresses of a link between `bodkin ppp` on the laptop and pppd in its guest
// on the gateway.
const (
	pppOurs   = "10.9.0.1"
	pppTheirs = "10.9.0.2"
)

// newPPPWorld is a world whose gateway has the real pppd, with the internet behind
// it, and both sides have secrets.
func newPPPWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, lab.Options{})
	if err := w.Gateway.InstallPPPD(); err != nil {
		t.Fatal(err)
	}
	if err := w.RoutePPPD("root", netip.MustParsePrefix("10.9.0.0/24")); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"pap-secrets", "chap-secrets"} {
		// client, server, secret, addresses: what bodkin proves, and what pppd does.
		ours := []string{"bodkin peer sesame *", "liar peer wrong *", `peer bodkin "open wide" *`, "peer doubter wrong *"}
		theirs := []string{"bodkin peer sesame *", "liar peer sesame *", `peer bodkin "open wide" *`, `peer doubter "open wide" *`}
		if err := w.Laptop.Secrets(file, ours...); err != nil {
			t.Fatal(err)
		}
		if err := w.Gateway.Secrets(file, theirs...); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// A pppLink is a `bodkin ppp` that runs, and the real program at the other end.
type pppLink struct {
	w      *world
	bodkin *lab.Cmd
	said   *said
	pppd   *lab.PPPD
}

// said is what a program writes, for reading meanwhile.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// ppp joins `bodkin ppp` on the laptop, on its standard input and output, to pppd
// in a guest.
func (w *world) ppp(ctx context.Context, ours, theirs []string) *pppLink {
	w.t.Helper()
	one, other, err := lab.Line()
	if err != nil {
		w.t.Fatal(err)
	}
	l := &pppLink{w: w, said: new(said)}
	if l.pppd, err = w.Gateway.PPPD(ctx, other, theirs...); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.pppd.Close() })
	l.start(ctx, one, ours)
	one.Close()
	return l
}

// start starts `bodkin ppp`; line may be nil.
func (l *pppLink) start(ctx context.Context, line *os.File, ours []string, more ...string) {
	l.w.t.Helper()
	l.bodkin = l.w.Laptop.Command(ctx, "bodkin", slices.Concat([]string{"ppp", "debug"}, ours, more)...)
	if line != nil {
		l.bodkin.Stdin, l.bodkin.Stdout = line, line
	}
	l.bodkin.Stderr = l.said
	if err := l.bodkin.Start(); err != nil {
		l.w.t.Fatal(err)
	}
	l.w.t.Cleanup(func() {
		l.bodkin.Process.Kill()
		l.bodkin.Wait()
		if l.w.t.Failed() {
			l.w.t.Logf("bodkin ppp said:\n%s", l.said)
			if l.pppd != nil {
				l.w.t.Logf("pppd said:\n%s", l.pppd.Log())
			}
		}
	})
}

// exits wants the exit statuses of both programs; -1 is any.
func (l *pppLink) exits(ctx context.Context, ours, theirs int) {
	l.w.t.Helper()
	l.bodkin.Wait()
	if got := l.bodkin.ProcessState.ExitCode(); got != ours && ours >= 0 {
		l.w.t.Errorf("bodkin ppp: exit status %d, want %d", got, ours)
	}
	if l.pppd == nil {
		return
	}
	got, err := l.pppd.Exit(ctx)
	if theirs == 11 || theirs == 19 {
		// pppd forgets why if it sees the line go before it has read our last frame.
		l.w.says(l.pppd.Log(), "authentication")
		if got == 16 {
			return
		}
	}
	if err != nil || got != theirs && theirs >= 0 {
		l.w.t.Errorf("pppd: exit status %d, want %d, %v", got, theirs, err)
	}
}

// guest runs a program in pppd's guest.
func (l *pppLink) guest(ctx context.Context, name string, args ...string) string {
	l.w.t.Helper()
	out, err := l.pppd.Run(ctx, name, args...)
	if err != nil {
		l.w.t.Error(err)
	}
	return string(out)
}

// up waits until both sides are.
func (l *pppLink) up(ctx context.Context) {
	l.w.t.Helper()
	if _, _, err := l.pppd.AwaitUp(ctx, "ipv4"); err != nil {
		l.w.t.Fatal(err)
	}
	l.w.eventually("the laptop has its end", func() bool {
		return strings.Contains(l.w.on(l.w.Laptop, "root", "ip", "route", "get", pppTheirs).out, "dev ppp")
	})
}

// pings goes both ways, in IPv4 and IPv6.
func (l *pppLink) pings(ctx context.Context, size int) {
	l.w.t.Helper()
	theirs6, ours6, err := l.pppd.AwaitUp(ctx, "ipv6")
	if err != nil {
		l.w.t.Error(err)
		return
	}
	for _, to := range []string{pppTheirs, theirs6 + "%ppp0"} {
		if r := l.w.on(l.w.Laptop, "root", "ping", "-c", "1", "-w", "20", "-s", fmt.Sprint(size), to); r.status != 0 {
			l.w.t.Errorf("ping to %s:\n%s", to, r.out)
		}
	}
	for _, to := range []string{pppOurs, ours6 + "%ppp0"} {
		l.guest(ctx, "ping", "-c", "1", "-w", "20", "-s", fmt.Sprint(size), to)
	}
}

// pages fetches one each way.
func (l *pppLink) pages(ctx context.Context) {
	l.w.t.Helper()
	l.guest(ctx, "busybox", "httpd", "-p", "8080", "-h", "/etc")
	if r := l.w.on(l.w.Laptop, "root", "curl", "-sS", "-m", "20", "http://"+pppTheirs+":8080/hostname"); r.out != "gateway\n" {
		l.w.t.Errorf("the guest's page: %q", r.out)
	}
	serveOn(l.w.t, l.w.Laptop, pppOurs+":8080", "from the laptop")
	if got := l.guest(ctx, "curl", "-sS", "-m", "20", "http://"+pppOurs+":8080/"); got != "from the laptop" {
		l.w.t.Errorf("the laptop's page: %q", got)
	}
}

// bulkOnALine is what goes each way: twenty seconds' worth of a serial line.
const bulkOnALine = 20_000_000

// bulk sends as much both ways at once, and compares the hashes.
func (l *pppLink) bulk(ctx context.Context) {
	l.w.t.Helper()
	sent, err := io.ReadAll(lab.Bytes(bulkOnALine, 9))
	if err != nil {
		l.w.t.Fatal(err)
	}
	hash := fmt.Sprintf("%x", sha256.Sum256(sent))
	l.w.write(l.w.Gateway, "/tmp/bulk", string(sent), "root")
	toLaptop, err := l.w.Laptop.Listen("tcp", pppOurs+":9001")
	if err != nil {
		l.w.t.Fatal(err)
	}
	defer toLaptop.Close()
	toGuest, err := l.w.Laptop.Listen("tcp", pppOurs+":9002")
	if err != nil {
		l.w.t.Fatal(err)
	}
	defer toGuest.Close()
	stop := context.AfterFunc(ctx, func() {
		toLaptop.Close()
		toGuest.Close()
	})
	defer stop()

	began := time.Now()
	var all sync.WaitGroup
	all.Go(func() { l.guest(ctx, "sh", "-c", "busybox nc "+pppOurs+" 9001 </tmp/bulk") })
	all.Go(func() {
		got := sha256.New()
		n, err := accepted(ctx, toLaptop, func(c net.Conn) (int64, error) { return io.Copy(got, c) })
		if sum := fmt.Sprintf("%x", got.Sum(nil)); err != nil || sum != hash {
			l.w.t.Errorf("%d octets came to the laptop, with the hash %s, want %s: %v", n, sum, hash, err)
		}
	})
	all.Go(func() {
		if n, err := accepted(ctx, toGuest, func(c net.Conn) (int64, error) { return io.Copy(c, bytes.NewReader(sent)) }); err != nil {
			l.w.t.Errorf("%d octets went to the guest: %v", n, err)
		}
	})
	all.Go(func() {
		if got := l.guest(ctx, "sh", "-c", "busybox nc "+pppOurs+" 9002 </dev/null | sha256sum"); !strings.HasPrefix(got, hash) {
			l.w.t.Errorf("what came to the guest has the hash %q, want %s", got, hash)
		}
	})
	all.Wait()
	l.w.t.Logf("%d octets each way at once in %.1f s", bulkOnALine, time.Since(began).Seconds())
}

// accepted does something with the first connection, and closes it.
func accepted(ctx context.Context, l net.Listener, do func(net.Conn) (int64, error)) (int64, error) {
	c, err := l.Accept()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	return do(c)
}

// A pppRow is one bring-up of `bodkin ppp` with pppd.
type pppRow struct {
	name         string
	ours, theirs []string                              // options
	use          func(ctx context.Context, l *pppLink) // nil: pings of size octets; what fails does not come up
	size         int                                   // of the pings' data; 0: 100
	fails        bool                                  // it does not come up
	end          func(l *pppLink) error                // nil: SIGTERM to bodkin
	status       [2]int                                // exit statuses: bodkin's, pppd's; -1: any
}

func options(text string) []string { return strings.Fields(text) }

// TestPPPWithPPPD is `bodkin ppp` and the real pppd, with the same options by the
// same names.
func TestPPPWithPPPD(t *testing.T) {
	terminated := [2]int{5, 16} // who ended it, and who was told and waited for the hangup
	wePeer := "name bodkin remotename peer"
	itPeer := "silent name peer remotename bodkin noipdefault"
	rows := []pppRow{
		{name: "pppd calls", ours: options("silent noauth noipdefault"), theirs: options("noauth 10.9.0.2:10.9.0.1"),
			use: func(ctx context.Context, l *pppLink) {
				l.pings(ctx, 1400)
				l.pages(ctx)
				l.bulk(ctx)
			}, status: terminated},
		{name: "bodkin calls, pppd is the way out", ours: options("noauth noipdefault usepeerdns replacedefaultroute"),
			theirs: options("silent noauth 10.9.0.2:10.9.0.1 ms-dns " + lab.DNS4.String()),
			use: func(ctx context.Context, l *pppLink) {
				l.pings(ctx, 100)
				l.w.says(l.w.laptop("curl", "-sS", "-m", "20", "http://only4.example/"), "bodkin lab")
			},
			end:    func(l *pppLink) error { return l.pppd.Signal(syscall.SIGTERM) },
			status: [2]int{0, 5}},
		{name: "bodkin gives addresses and name servers", ours: options("noauth 10.9.0.1:10.9.0.2 ms-dns 192.0.2.53 ms-dns 192.0.2.54"),
			theirs: options("silent noauth noipdefault usepeerdns"),
			use: func(ctx context.Context, l *pppLink) {
				l.pings(ctx, 100)
				if got := l.guest(ctx, "cat", "/etc/ppp/resolv.conf"); got != "nameserver 192.0.2.53\nnameserver 192.0.2.54\n" {
					l.w.t.Errorf("pppd took the name servers %q", got)
				}
			}, status: terminated},
		{name: "pppd is killed", ours: options("noauth noipdefault"), theirs: options("silent noauth 10.9.0.2:10.9.0.1"),
			end: func(l *pppLink) error { return l.pppd.Kill9() }, status: [2]int{16, -1}},

		{name: "asyncmap ffffffff, no compression, mru 552", ours: options("noauth noipdefault default-asyncmap noaccomp nopcomp mru 552"),
			theirs: options("noauth 10.9.0.2:10.9.0.1 default-asyncmap noaccomp nopcomp mru 552 +ipv6"),
			use:    func(ctx context.Context, l *pppLink) { l.pages(ctx) }, status: terminated},
		{name: "asyncmap a0000, mru 16384", ours: options("noauth noipdefault asyncmap a0000 mru 16384 mtu 16384"), size: 16000,
			theirs: options("noauth 10.9.0.2:10.9.0.1 asyncmap a0000 mru 16384 mtu 16384"), status: terminated},
		{name: "asyncmap 200a0000, escape ff", ours: options("noauth noipdefault asyncmap 200a0000 escape ff noaccomp"), size: 1400,
			theirs: options("noauth 10.9.0.2:10.9.0.1 asyncmap 200a0000 escape ff nopcomp"), status: terminated},
		{name: "asyncmap 0, nothing else", ours: options("noauth noipdefault asyncmap 0 nomagic novj noccp"), size: 1400,
			theirs: options("noauth 10.9.0.2:10.9.0.1 asyncmap 0 nomagic novj noccp nodeflate nobsdcomp mru 1500"), status: terminated},
	}
	for _, p := range []string{"pap", "chap", "mschap-v2"} {
		rows = append(rows, pppRow{name: p + " both ways",
			ours:   options("10.9.0.1:10.9.0.2 require-" + p + " " + wePeer),
			theirs: options("require-" + p + " " + itPeer), status: terminated,
		}, pppRow{name: p + ", bodkin does not know the secret", fails: true,
			ours:   options("10.9.0.1:10.9.0.2 noauth name liar remotename peer"),
			theirs: options("require-" + p + " silent name peer noipdefault"), status: [2]int{19, 11},
		}, pppRow{name: p + ", pppd does not", fails: true,
			ours:   options("10.9.0.1:10.9.0.2 require-" + p + " name doubter remotename peer"),
			theirs: options("noauth silent name peer remotename doubter noipdefault"), status: [2]int{11, 19},
		})
	}
	// Two worlds at once, with a guest each.
	for part := range 2 {
		t.Run(fmt.Sprint("part ", part), func(t *testing.T) {
			t.Parallel()
			w := newPPPWorld(t)
			for i, row := range rows {
				if i%2 == part {
					t.Run(row.name, func(t *testing.T) { w.in(t).row(row) })
				}
			}
		})
	}
}

// row runs one.
func (w *world) row(row pppRow) {
	ctx := within(w.t, 2*patience)
	before := w.snapshot()
	l := w.ppp(ctx, append(row.ours, "lcp-restart", "1", "lcp-max-configure", "30"), row.theirs)
	if !row.fails {
		l.up(ctx)
		if row.use != nil {
			row.use(ctx, l)
		} else {
			l.pings(ctx, max(row.size, 100))
		}
		end := row.end
		if end == nil {
			end = func(l *pppLink) error { return l.bodkin.Process.Signal(syscall.SIGTERM) }
		}
		if err := end(l); err != nil {
			w.t.Error(err)
		}
	}
	l.exits(ctx, row.status[0], row.status[1])
	w.asBefore(before, "bodkin ppp")
}

// TestPPPDialsAgain: pppd is a command on a terminal of bodkin's making; when it is
// killed another is started, with the same addresses.
func TestPPPDialsAgain(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Laptop.InstallPPPD(); err != nil {
		t.Fatal(err)
	}
	before := w.snapshot()
	ctx := within(t, 2*patience)
	l := &pppLink{w: w, said: new(said)}
	l.start(ctx, nil, options("noauth noipdefault lcp-restart 1 lcp-max-configure 30 persist holdoff 1 pty"), "pppd silent noauth 10.9.0.2:10.9.0.1")
	answers := func() bool {
		return w.on(w.Laptop, "root", "ping", "-c", "1", "-W", "1", "-I", "ppp0", pppTheirs).status == 0
	}
	w.eventually("pppd answers", answers)
	w.killTheOnly(w.Laptop, "/bin/sh", "/usr/local/bin/pppd")
	w.eventually("the link has ended", func() bool { return strings.Contains(l.said.String(), "Connection terminated") })
	w.eventually("another pppd answers", answers)
	if err := l.bodkin.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	l.exits(ctx, 5, -1)
	w.asBefore(before, "bodkin ppp")
}
