package serve

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/tls"
	"github.com/bodkin-net/bodkin/endpoint/socks"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/trust"
	"github.com/bodkin-net/bodkin/tunnel"
)

// asServer tells the test's program that it is to be the server of a test: a process of
// its own, as its memory and its limits are measured.
const asServer = "BODKIN_SERVE_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cmd := Command("bodkin test")
	cmd.SetArgs(os.Args[1:])
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "failed:", err)
		os.Exit(1)
	}
}

// A running is a server in a process of its own.
type running struct {
	t       testing.TB
	address string
	key     ed25519.PublicKey
	dir     string // of trust's files
	env     []string
	cmd     *exec.Cmd

	mu  sync.Mutex
	log []string
}

// start starts a server with these lines in authorized_clients.
func start(t testing.TB, lines []string, flags ...string) *running {
	t.Helper()
	home := t.TempDir()
	r := &running{t: t, dir: filepath.Join(home, "config", "bodkin")}
	run := filepath.Join(home, "run")
	for _, dir := range []string{r.dir, run} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.allow(lines)
	key := trust.Generate()
	if err := key.Save(filepath.Join(r.dir, trust.KeyFile), "", ""); err != nil {
		t.Fatal(err)
	}
	r.key = key.Public()
	r.env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Dir(r.dir), "RUNTIME_DIRECTORY="+run)
	r.cmd = exec.Command(os.Args[0], append([]string{"--listen", "127.0.0.1:0"}, flags...)...)
	r.cmd.Env = append(r.env, asServer+"=1")
	out, err := r.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			line := lines.Text()
			r.mu.Lock()
			r.log = append(r.log, line)
			r.mu.Unlock()
			if _, after, ok := strings.Cut(line, "msg=listening on="); ok {
				address <- after
			}
		}
	}()
	t.Cleanup(func() {
		r.cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(15*time.Second, func() { r.cmd.Process.Kill(); t.Error("the server does not end") })
		<-read
		r.cmd.Wait()
		late.Stop()
		if t.Failed() {
			said := r.said("")
			t.Logf("the server said last:\n%s", strings.Join(said[max(0, len(said)-50):], "\n"))
		}
	})
	select {
	case r.address = <-address:
	case <-read:
		t.Fatalf("the server ended at once: %s", strings.Join(r.said(""), "\n"))
	case <-time.After(10 * time.Second):
		t.Fatal("the server does not come up")
	}
	return r
}

// said returns the lines of the log that hold a text.
func (r *running) said(text string) (found []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.log {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// allow writes authorized_clients.
func (r *running) allow(lines []string) {
	r.t.Helper()
	file := filepath.Join(r.dir, trust.ClientsFile)
	next := file + ".new"
	if err := os.WriteFile(next, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(next, file); err != nil {
		r.t.Fatal(err)
	}
}

// bodkin runs `bodkin serve` with the words, and returns what it says.
func (r *running) bodkin(words ...string) string {
	r.t.Helper()
	cmd := exec.Command(os.Args[0], words...)
	cmd.Env = append(r.env, asServer+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%v: %v\n%s", words, err, out)
	}
	return string(out)
}

// memory returns how much of it the server has, in octets.
func (r *running) memory() int {
	r.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	var kB int
	if _, err := fmt.Sscan(after, &kB); err != nil {
		r.t.Fatal(err)
	}
	return kB << 10
}

// A client is a userspace client: no device, pings made by hand.
type client struct {
	link   *native.Link
	hello  native.Hello
	agreed tunnel.Agreed

	pongs chan pong
	gone  chan error // why it ended
}

// A pong is what came back.
type pong struct {
	id, seq uint16
	kind    byte // 0: an echo reply; else the type of an ICMP error
}

// lineFor is a client's line in authorized_clients.
func lineFor(k trust.Key, options, name string) string {
	return strings.TrimSpace(options + " " + trust.FormatPublic(k.Public(), name))
}

// usualHello is the hello of a client with a kernel interface.
func usualHello() native.Hello {
	return native.Hello{
		Software: "test", Emulator: native.EmulatorKernel,
		Networks: []netip.Prefix{netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("fd62:6f64:6b69::/64")},
		Receives: tunnel.Caps{MTU: 65535, Offloads: everyOffload},
	}
}

// open connects as the holder of k, from an address of 127.0.0.0/8 if one is given, and
// opens a link, as clients did that knew of no sessions.
func (r *running) open(ctx context.Context, k trust.Key, hello native.Hello, from string) (*native.Link, native.Hello, tunnel.Agreed, error) {
	stream, err := r.tryTLSFrom(ctx, k, from)
	if err != nil {
		return nil, native.Hello{}, tunnel.Agreed{}, err
	}
	return native.Open(ctx, stream, hello)
}

// tryTLS connects as the holder of k.
func (r *running) tryTLS(ctx context.Context, k trust.Key) (carrier.Stream, error) {
	return r.tryTLSFrom(ctx, k, "")
}

// tryTLSFrom is tryTLS from an address of 127.0.0.0/8, if one is given.
func (r *running) tryTLSFrom(ctx context.Context, k trust.Key, from string) (carrier.Stream, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := d.DialContext(ctx, "tcp", r.address)
	if err != nil {
		return carrier.Stream{}, err
	}
	stream, _, err := tls.Client(ctx, streamOf(conn), r.identity(k))
	return stream, err
}

// identity is who the holder of k is to the server, and who that must be.
func (r *running) identity(k trust.Key) tls.Config {
	return tls.Config{
		Key: k.Private, NextProtos: []string{tls.Protocol},
		Verify: func(key ed25519.PublicKey) error {
			if !key.Equal(r.key) {
				return errors.New("that is another server")
			}
			return nil
		},
	}
}

// dial is open for a client that pings.
func (r *running) dial(ctx context.Context, k trust.Key, hello native.Hello, from string) (*client, error) {
	c := &client{pongs: make(chan pong, 64), gone: make(chan error, 1)}
	var err error
	if c.link, c.hello, c.agreed, err = r.open(ctx, k, hello, from); err != nil {
		return nil, err
	}
	go c.read()
	return c, nil
}

// proxied is a client whose programs are this test: they connect by what is returned.
func (r *running) proxied(k trust.Key) *socks.Proxy {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	link, _, agreed, err := r.open(ctx, k, usualHello(), "")
	if err != nil {
		r.t.Fatal(err)
	}
	p, err := socks.New(socks.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Local: agreed.Local, DNS: agreed.DNS, MTU: agreed.MTU})
	if err != nil {
		r.t.Fatal(err)
	}
	joined := make(chan error, 1)
	go func() { joined <- tunnel.Join(context.Background(), p, link) }()
	r.t.Cleanup(func() {
		p.Close()
		<-joined
	})
	return p
}

// must dials, and closes at the end.
func (r *running) must(k trust.Key, hello native.Hello) *client {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := r.dial(ctx, k, hello, "")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.link.Close() })
	return c
}

func (c *client) read() {
	p := make([]tunnel.Packet, tunnel.BatchSize)
	for {
		n, err := c.link.ReadPackets(p)
		if err != nil {
			c.gone <- err
			return
		}
		for _, packet := range p[:n] {
			b := packet.Data
			if len(b) < 28 || b[0] != 0x45 || b[9] != 1 {
				continue
			}
			at := pong{binary.BigEndian.Uint16(b[24:]), binary.BigEndian.Uint16(b[26:]), b[20]}
			if at.kind != 0 && len(b) >= 56 { // what is quoted in an error
				at.id, at.seq = binary.BigEndian.Uint16(b[52:]), binary.BigEndian.Uint16(b[54:])
			}
			select {
			case c.pongs <- at:
			default:
			}
		}
	}
}

// ping sends one echo request.
func (c *client) ping(src, dst netip.Addr, seq uint16) error {
	b := make([]byte, 28+8)
	ipHeader(b, 1, src, dst)
	b[20] = 8
	binary.BigEndian.PutUint16(b[24:], 77)
	binary.BigEndian.PutUint16(b[26:], seq)
	binary.BigEndian.PutUint16(b[22:], sum(b[20:]))
	return c.link.WritePackets([]tunnel.Packet{{Data: b}})
}

// ipHeader writes the header of a packet of b's length, and returns what follows it.
func ipHeader(b []byte, protocol byte, src, dst netip.Addr) []byte {
	if dst.Is6() {
		b[0], b[6], b[7] = 0x60, protocol, 64
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
		return b[40:]
	}
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(b[10:], sum(b[:20]))
	return b[20:]
}

// roundTrip pings and waits for what comes back: its type of ICMP, and after how long.
func (c *client) roundTrip(src, dst netip.Addr, seq uint16) (kind byte, took time.Duration, err error) {
	began := time.Now()
	if err := c.ping(src, dst, seq); err != nil {
		return 0, 0, err
	}
	late := time.NewTimer(5 * time.Second)
	defer late.Stop()
	for {
		select {
		case p := <-c.pongs:
			if p.seq == seq {
				return p.kind, time.Since(began), nil
			}
		case err := <-c.gone:
			c.gone <- err
			return 0, 0, err
		case <-late.C:
			return 0, 0, errors.New("nothing came back")
		}
	}
}

// self and resolver are the client's own address, and one that answers pings itself.
func (c *client) self() netip.Addr     { return c.agreed.Local[0].Addr() }
func (c *client) resolver() netip.Addr { return c.agreed.DNS[0] }

// sum is the checksum of RFC 1071.
func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

// ended waits until the client's link has ended, and says why and after how long.
func (c *client) ended(t testing.TB, within time.Duration) error {
	t.Helper()
	select {
	case err := <-c.gone:
		c.gone <- err
		return err
	case <-time.After(within):
		t.Fatalf("the link has not ended after %v", within)
		return nil
	}
}

// eventually waits until f reports true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within ten seconds: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
