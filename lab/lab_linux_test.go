package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// A commonLab is made when the first test asks for it.
type commonLab struct {
	once sync.Once
	lab  *Lab
	err  error
}

// shared is the lab of the tests that leave it as they found it, and closed that of
// those that need a firewall that passes nothing.
var shared, closed commonLab

func TestMain(m *testing.M) {
	if os.Getenv("LAB_TEST_HOLD") != "" {
		hold()
	}
	code := m.Run()
	for _, l := range []*Lab{shared.lab, closed.lab} {
		if l != nil {
			l.Close()
		}
	}
	os.Exit(code)
}

func sharedLab(t *testing.T) *Lab {
	t.Helper()
	return shared.get(t, Options{Direct: true})
}

func closedLab(t *testing.T) *Lab {
	t.Helper()
	return closed.get(t, Options{Closed: true})
}

func (c *commonLab) get(t *testing.T, o Options) *Lab {
	t.Helper()
	c.once.Do(func() { c.lab, c.err = New(context.Background(), o) })
	if c.err != nil {
		t.Fatal(c.err)
	}
	return c.lab
}

func TestLogin(t *testing.T) {
	l := sharedLab(t)
	for _, tt := range []struct{ account, target, uid string }{
		{"me", "gw", "1001"},
		{"me", Gateway4.String(), "1001"},
		{"me", Gateway6.String(), "1001"},
		{"root", "gw", "0"},
	} {
		out, err := l.Laptop.Command(t.Context(), "ssh", "-o", "BatchMode=yes", tt.target, "id", "-u").As(tt.account).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != tt.uid {
			t.Errorf("%s: ssh %s id -u: %v: %s", tt.account, tt.target, err, out)
		}
	}
	if out, err := l.Laptop.Command(t.Context(), "sudo", "-n", "id", "-u").As("me").CombinedOutput(); err != nil || string(out) != "0\n" {
		t.Errorf("sudo -n id -u: %v: %s", err, out)
	}
}

// Nothing but the gateway's port 22 answers the laptop, and whatever else it tries
// is seen.
func TestFirewall(t *testing.T) {
	l := sharedLab(t)
	if err := l.ResetLeaks(); err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{Gateway4, Gateway6} {
		c, err := dial(l.Laptop, "tcp", netip.AddrPortFrom(a, SSHPort))
		if err != nil {
			t.Errorf("the gateway's sshd at %v: %v", a, err)
			continue
		}
		c.Close()
	}
	if leaks := l.Leaks(); len(leaks) != 0 {
		t.Errorf("sshd alone: leaks %q", leaks)
	}

	type probe struct {
		network string
		to      netip.AddrPort
	}
	var probes []probe
	for _, a := range []netip.Addr{Web4, Web6, DNS4, DNS6, Hole4, Hole6, Gateway4, Gateway6, GatewayOut4, GatewayOut6, FirewallInside4, FirewallInside6} {
		for _, port := range []uint16{22, 53, 80, 443} {
			if port != SSHPort || a != Gateway4 && a != Gateway6 {
				probes = append(probes, probe{"tcp", netip.AddrPortFrom(a, port)}, probe{"udp", netip.AddrPortFrom(a, port)})
			}
		}
		probes = append(probes, probe{"ping", netip.AddrPortFrom(a, 0)})
	}
	var wg sync.WaitGroup
	for _, p := range probes {
		wg.Go(func() {
			var err error
			if p.network == "ping" {
				err = l.Laptop.Command(t.Context(), "ping", "-c", "1", "-W", "0.4", p.to.Addr().String()).Run()
			} else {
				err = exchange(l.Laptop, p.network, p.to)
			}
			if err == nil {
				t.Errorf("%s to %v passed the firewall", p.network, p.to)
			}
		})
	}
	wg.Wait()
	leaks := strings.Join(l.Leaks(), "\n")
	for _, p := range probes {
		want := fmt.Sprintf("%s from %v to %v ", p.network, source(p.to.Addr()), p.to)
		if p.network == "ping" {
			kind := 8
			if p.to.Addr().Is6() {
				kind = 128
			}
			want = fmt.Sprintf("icmp type %d code 0 from %v to %v ", kind, source(p.to.Addr()), p.to.Addr())
		}
		if !strings.Contains(leaks, want) {
			t.Errorf("not seen: %s", want)
		}
	}
	if err := l.ResetLeaks(); err != nil {
		t.Fatal(err)
	}
	if leaks := l.Leaks(); len(leaks) != 0 {
		t.Errorf("after ResetLeaks: %q", leaks)
	}
}

func source(to netip.Addr) netip.Addr {
	if to.Is4() {
		return Laptop4
	}
	return Laptop6
}

// dial connects within half a second.
func dial(m *Machine, network string, to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	return m.Dial(ctx, network, to.String())
}

// exchange sends a line and waits for any answer.
func exchange(m *Machine, network string, to netip.AddrPort) error {
	c, err := dial(m, network, to)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(500 * time.Millisecond))
	if _, err := c.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 512))
	return err
}

// The gateway sees the whole internet, as the far end of a tunnel will.
func TestInternet(t *testing.T) {
	l := sharedLab(t)
	client := http.Client{Transport: &http.Transport{DialContext: l.Gateway.Dial, DisableKeepAlives: true}, Timeout: 20 * time.Second}
	get := func(t *testing.T, url string) []byte {
		t.Helper()
		r, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v: %s: %.100s", url, err, r.Status, b)
		}
		return b
	}
	for _, a := range []netip.Addr{Web4, Web6, Office4, Office6} {
		web := "http://" + netip.AddrPortFrom(a, WebPort).String()
		t.Run("web "+a.String(), func(t *testing.T) {
			if got := get(t, web+"/"); string(got) != "bodkin lab\n" {
				t.Errorf("got %q", got)
			}
			const n = 3<<20 + 1
			want, err := io.ReadAll(Bytes(n, 7))
			if err != nil {
				t.Fatal(err)
			}
			if got := get(t, fmt.Sprintf("%s/bytes/%d?seed=7", web, n)); !bytes.Equal(got, want) {
				t.Errorf("/bytes: %d octets that differ", len(got))
			}
			sum := sha256.Sum256(want)
			if got := get(t, fmt.Sprintf("%s/sha/%d?seed=7", web, n)); string(got) != hex.EncodeToString(sum[:])+"\n" {
				t.Errorf("/sha: got %s", got)
			}
			r, err := client.Post(web+"/upload", "application/octet-stream", bytes.NewReader(want))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			var up Upload
			if err := json.NewDecoder(r.Body).Decode(&up); err != nil || up != (Upload{n, hex.EncodeToString(sum[:])}) {
				t.Errorf("/upload: %v: %+v", err, up)
			}
		})
		t.Run("echo "+a.String(), func(t *testing.T) {
			for _, network := range []string{"tcp", "udp"} {
				c, err := dial(l.Gateway, network, netip.AddrPortFrom(a, EchoPort))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(5 * time.Second))
				for _, n := range []int{1, 1400, 8000, 65000} {
					sent, got := bytes.Repeat([]byte{'x'}, n), make([]byte, n)
					if _, err := c.Write(sent); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(sent, got) {
						t.Errorf("%s: %d octets: %v", network, n, err)
					}
				}
			}
		})
		t.Run("silent "+a.String(), func(t *testing.T) {
			if err := exchange(l.Gateway, "tcp", netip.AddrPortFrom(a, SilentPort)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v, want a timeout after connecting", err)
			}
		})
		t.Run("closed "+a.String(), func(t *testing.T) {
			if _, err := dial(l.Gateway, "tcp", netip.AddrPortFrom(a, 81)); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("TCP: got %v", err)
			}
			if err := exchange(l.Gateway, "udp", netip.AddrPortFrom(a, 81)); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("UDP: got %v", err)
			}
		})
	}
	for _, a := range []netip.Addr{Hole4, Hole6} {
		if _, err := dial(l.Gateway, "tcp", netip.AddrPortFrom(a, WebPort)); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the black hole at %v: got %v", a, err)
		}
	}
	// Over a veth the error comes while connect still holds the socket; Linux may
	// then act on the next one only, which its second SYN brings a second later.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for _, a := range []netip.Addr{NoRoute4, NoRoute6} {
		if _, err := l.Gateway.Dial(ctx, "tcp", netip.AddrPortFrom(a, WebPort).String()); !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("no route to %v: got %v", a, err)
		}
	}
	for _, a := range []netip.Addr{DNS4, DNS6} {
		for _, network := range []string{"udp", "tcp"} {
			m, err := ask(l.Gateway, network, a, query(t, BigName, dnsmessage.TypeTXT))
			if err != nil {
				t.Errorf("DNS at %v over %s: %v", a, network, err)
				continue
			}
			if m.Truncated != (network == "udp") || len(m.Answers) == 0 != m.Truncated {
				t.Errorf("DNS at %v over %s: got %v", a, network, m.GoString())
			}
		}
	}
	for _, a := range []netip.Addr{Web4, Web6} {
		if out, err := l.Gateway.Command(t.Context(), "ping", "-c", "1", "-W", "2", a.String()).As("me").CombinedOutput(); err != nil {
			t.Errorf("ping %v: %v: %s", a, err, out)
		}
	}
	if err := exchange(l.Laptop, "tcp", netip.AddrPortFrom(DirectInternet4, WebPort)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("the direct cable: got %v, want a refusal from the other end", err)
	}
}

func ask(m *Machine, network string, server netip.Addr, query []byte) (reply dnsmessage.Message, err error) {
	c, err := dial(m, network, netip.AddrPortFrom(server, 53))
	if err != nil {
		return reply, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if network == "tcp" {
		query = append([]byte{byte(len(query) >> 8), byte(len(query))}, query...)
	}
	if _, err := c.Write(query); err != nil {
		return reply, err
	}
	b := make([]byte, 65535)
	if network == "tcp" {
		if _, err := io.ReadFull(c, b[:2]); err != nil {
			return reply, err
		}
		b = b[:int(b[0])<<8|int(b[1])]
		_, err = io.ReadFull(c, b)
	} else {
		var n int
		n, err = c.Read(b)
		b = b[:n]
	}
	if err != nil {
		return reply, err
	}
	return reply, reply.Unpack(b)
}

func TestCommand(t *testing.T) {
	l := sharedLab(t)
	c := l.Gateway.Command(t.Context(), "sh", "-c", `cat; echo "$(id -un) $HOME $PWD $SHELL $(hostname) $X"; exit 3`).As("me")
	c.Stdin = strings.NewReader("said: ")
	c.Env = []string{"X=y"}
	out, err := c.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("got %v, want exit status 3", err)
	}
	if got, want := string(out), "said: me /home/me /home/me /bin/sh gateway y\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := l.Gateway.Command(t.Context(), "no-such-program").Run(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("an unknown program: got %v", err)
	}
	if err := l.Gateway.Command(t.Context(), "true").As("nobody-here").Run(); err == nil {
		t.Error("an unknown account was taken")
	}

	ctx, cancel := context.WithCancel(t.Context())
	long := l.Laptop.Command(ctx, "sleep", "1000").As("me")
	if err := long.Start(); err != nil {
		t.Fatal(err)
	}
	ps, err := l.Laptop.Processes()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(ps, func(p Process) bool {
		return p.PID == long.Process.Pid && p.UID == LaptopUID && slices.Equal(p.Args, []string{"sleep", "1000"}) && p.RSS > 0
	}) {
		t.Errorf("sleep is not among %+v", ps)
	}
	// sshd's half that runs as the account is one that hides its owner.
	login := l.Laptop.Command(ctx, "ssh", "gw", "echo; sleep 1000").As("me")
	greeting, err := login.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := login.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := greeting.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if ps, err = l.Gateway.Processes(); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(ps, func(p Process) bool {
		return p.UID == GatewayUID && len(p.Args) > 0 && strings.HasPrefix(p.Args[0], "sshd: me")
	}) {
		t.Errorf("me's sshd is not among %+v", ps)
	}
	if !slices.IsSortedFunc(ps, func(a, b Process) int { return a.PID - b.PID }) {
		t.Errorf("not in order: %+v", ps)
	}
	cancel()
	login.Wait()
	if err := long.Wait(); err == nil {
		t.Error("a command outlived its context")
	}
}

// A machine's files are its own.
func TestFiles(t *testing.T) {
	l := sharedLab(t)
	const path = "/etc/bodkin-lab-test/file"
	if err := l.Laptop.WriteFile(path, []byte("x"), 0o600, "me"); err != nil {
		t.Fatal(err)
	}
	if b, err := l.Laptop.ReadFile(path); err != nil || string(b) != "x" {
		t.Errorf("read back %q, %v", b, err)
	}
	if _, err := l.Gateway.ReadFile(path); !os.IsNotExist(err) {
		t.Errorf("the gateway has it too: %v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the real machine has it too: %v", err)
	}
	if err := l.Laptop.Install("/bin/true"); err != nil {
		t.Fatal(err)
	}
	if out, err := l.Laptop.Command(t.Context(), "sh", "-c", "command -v true; command -v /usr/local/bin/true").As("me").Output(); err != nil || !strings.Contains(string(out), "/usr/local/bin/true") {
		t.Errorf("installed program: %v: %s", err, out)
	}
	if err := l.Gateway.SetShell("me", "/bin/false"); err != nil {
		t.Fatal(err)
	}
	if err := l.Laptop.Command(t.Context(), "ssh", "gw", "true").As("me").Run(); err == nil {
		t.Error("/bin/false let a command run")
	}
	if err := l.Gateway.SetShell("me", "/bin/sh"); err != nil {
		t.Fatal(err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	l, err := New(t.Context(), Options{
		RPFilter: RPStrict, ResolvConf: ResolvSymlink, Shell: "/bin/bash", AllowTCP: []uint16{4000}, Rate: 20e6,
		SSHD: []string{"MaxSessions 7", "Match User me", "    ForceCommand echo forced $SHELL"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if v, err := l.Laptop.Sysctl("net/ipv4/conf/eth0/rp_filter"); err != nil || v != "1" {
		t.Errorf("rp_filter is %q, %v", v, err)
	}
	if out, err := l.Laptop.Command(t.Context(), "ssh", "gw", "id").As("me").CombinedOutput(); err != nil || string(out) != "forced /bin/bash\n" {
		t.Errorf("ssh gw id: %v: %s", err, out)
	}
	listener, err := l.Gateway.Listen("tcp", ":4000")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	received := make(chan error, 1)
	go func() {
		c, err := listener.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, c)
			c.Close()
		}
		received <- err
	}()
	c, err := dial(l.Laptop, "tcp", netip.AddrPortFrom(Gateway4, 4000))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	const n = 1 << 20 // 0.42 s at 20 Mbit/s
	if _, err := io.Copy(c, Bytes(n, 0)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := <-received; err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 300*time.Millisecond {
		t.Errorf("%d octets took %v: the cable is not slow", n, d)
	}
	if leaks := l.Leaks(); len(leaks) != 0 {
		t.Errorf("leaks: %q", leaks)
	}
}

func TestSSHTunnel(t *testing.T) {
	l := sharedLab(t)
	before, err := l.Laptop.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	w, err := l.SSHTunnel(t.Context(), "aes128-gcm@openssh.com", Web4)
	if err != nil {
		t.Fatal(err)
	}
	if err := exchange(l.Laptop, "tcp", netip.AddrPortFrom(Web4, WebPort)); err != nil {
		t.Errorf("the web through ssh -w: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	after, err := l.Laptop.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if d := Difference(before, after); len(d) != 0 {
		t.Errorf("left on the laptop: %q", d)
	}
	if v, err := l.Gateway.Sysctl("net/ipv4/ip_forward"); err != nil || v != "0" {
		t.Errorf("the gateway still forwards: %q, %v", v, err)
	}
}
