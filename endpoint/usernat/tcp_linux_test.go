package usernat

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// echo sends back what comes, then its end.
func echo(c *net.TCPConn) {
	io.Copy(c, c)
	c.CloseWrite()
	c.Close()
}

func TestTCPEcho(t *testing.T) {
	for _, mtu := range []int{1500, 65535} {
		b := newBench(t, Config{MTU: mtu})
		for _, addr := range []string{"198.51.100.10:0", "[2001:db8:5::10]:0"} {
			c := b.mustDial("tcp", serve(t, worldSpace, addr, echo))
			for _, n := range []int{1, 1400, 100_000} {
				want := make([]byte, n)
				rand.Read(want)
				go c.Write(want)
				got := make([]byte, n)
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("mtu %d, %s: echo of %d octets: %v", mtu, addr, n, err)
				}
			}
		}
	}
}

// A SYN must not be answered before the real connect succeeded, and failures
// must be told apart.
func TestTCPRefusals(t *testing.T) {
	b := newBench(t, Config{})
	local := serve(t, farSpace, "127.0.0.1:0", echo)
	_, localPort, _ := net.SplitHostPort(local)
	for _, c := range []struct {
		addr string
		want error
	}{
		{"198.51.100.10:9", syscall.ECONNREFUSED},
		{"[2001:db8:5::10]:9", syscall.ECONNREFUSED},
		{"198.18.0.1:80", syscall.EHOSTUNREACH},
		{"[2001:db8:bad::1]:80", syscall.ENETUNREACH},
		{"192.0.2.1:80", syscall.ENETUNREACH}, // no route at the far host
		{"[2001:db8:ffff::1]:80", syscall.ENETUNREACH},
		{"10.0.2.2:" + localPort, syscall.EHOSTUNREACH}, // prohibited: the host's alias
		{"198.51.100.1:" + localPort, syscall.EHOSTUNREACH},
		{"169.254.169.254:80", syscall.EHOSTUNREACH},
		{"[2001:db8:5::1]:80", syscall.EACCES},
		{"[64:ff9b::7f00:1]:80", syscall.EACCES},
		{"240.0.0.1:80", syscall.EHOSTUNREACH},
		{"10.0.2.3:80", syscall.ECONNREFUSED},
	} {
		start := time.Now()
		conn, err := b.dial("tcp", c.addr)
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.addr, err, c.want)
		}
		// Linux sends the errors of an unreachable route once a second; then a second SYN brings it.
		far := strings.HasPrefix(c.addr, "198.18.") || strings.HasPrefix(c.addr, "[2001:db8:bad:")
		if d := time.Since(start); d > 900*time.Millisecond && !(far && d < 4*time.Second) {
			t.Errorf("%s: took %v", c.addr, d)
		}
	}
	if s := b.nat.Stats(); s.RefusedPolicy == 0 || s.OpenedTCP != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestTCPHostAllowed(t *testing.T) {
	b := newBench(t, Config{Allow: Policy{Host: true}})
	_, port, _ := net.SplitHostPort(serve(t, farSpace, "127.0.0.1:0", echo))
	_, port6, _ := net.SplitHostPort(serve(t, farSpace, "[::1]:0", echo))
	for _, addr := range []string{"10.0.2.2:" + port, "[fd00:b0d::2]:" + port6} {
		c := b.mustDial("tcp", addr)
		fmt.Fprint(c, "hello")
		got := make([]byte, 5)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
			t.Errorf("%s: %q, %v", addr, got, err)
		}
	}
}

func TestTCPBlackHole(t *testing.T) {
	b := newBench(t, Config{})
	errs := make(chan error, 1)
	go func() {
		err := b.inside.in(func() error {
			d := net.Dialer{Timeout: 1500 * time.Millisecond}
			_, err := d.Dial("tcp", "203.0.113.9:80")
			return err
		})
		errs <- err
	}()
	err := <-errs
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a host that is silent: %v, want the dialler's own timeout", err)
	}
	// Its SYN and one more came; both are one dial.
	if s := b.nat.Stats(); s.Dialing != 1 || b.nat.places.taken.Load() != 1 {
		t.Errorf("dialling %d, places taken %d, want 1 and 1", s.Dialing, b.nat.places.taken.Load())
	}
}

// What is at the limit of dials goes to those that wait over a second; a living
// host is reached through a flood of SYNs to dead ones.
func TestTCPDeadDoNotStarve(t *testing.T) {
	b := newBench(t, Config{Limits: Limits{Dials: 32}})
	addr := serve(t, worldSpace, "198.51.100.10:0", echo)
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	flood := func(n int) {
		b.in(func() error {
			for i := range n {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					return err
				}
				fds = append(fds, fd)
				unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{203, 0, 113, byte(1 + i%250)}, Port: 1000 + len(fds)})
			}
			return nil
		})
	}
	flood(200)
	eventually(t, "the dials to fill", func() bool { return b.nat.Stats().RefusedDials > 0 }, func() string { return fmt.Sprintf("%+v", b.nat.Stats()) })
	if d := b.nat.Stats().Dialing; d > 32 {
		t.Errorf("%d dials, limit 32", d)
	}
	time.Sleep(yieldAfter) // until the dead have had their time
	start := time.Now()
	c := b.mustDial("tcp", addr)
	if d := time.Since(start); d > 700*time.Millisecond {
		t.Errorf("a living host took %v", d)
	}
	fmt.Fprint(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func TestTCPHalfClose(t *testing.T) {
	b := newBench(t, Config{})
	// The server answers only after the client's end, and ends later itself.
	addr := serve(t, worldSpace, "198.51.100.10:0", func(c *net.TCPConn) {
		all, _ := io.ReadAll(c)
		fmt.Fprintf(c, "%x", sha256.Sum256(all))
		c.Close()
	})
	c := b.mustDial("tcp", addr).(*net.TCPConn)
	data := bytes.Repeat([]byte("bodkin"), 50_000)
	c.Write(data)
	c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != fmt.Sprintf("%x", sha256.Sum256(data)) {
		t.Errorf("after the client's end: %q, %v", got, err)
	}
	// And the other way: the server ends first, the client goes on.
	received := make(chan int, 1)
	addr = serve(t, worldSpace, "198.51.100.10:0", func(c *net.TCPConn) {
		c.Write([]byte("bye"))
		c.CloseWrite()
		n, _ := io.Copy(io.Discard, c)
		received <- int(n)
		c.Close()
	})
	c = b.mustDial("tcp", addr).(*net.TCPConn)
	if got, err := io.ReadAll(c); err != nil || string(got) != "bye" {
		t.Fatalf("server's words: %q, %v", got, err)
	}
	c.Write(data)
	c.CloseWrite()
	if n := <-received; n != len(data) {
		t.Errorf("the server received %d octets after its own end, want %d", n, len(data))
	}
	eventually(t, "the connections to end", func() bool { return b.nat.Stats().TCP == 0 }, func() string { return fmt.Sprintf("%+v", b.nat.Stats()) })
}

func TestTCPReset(t *testing.T) {
	b := newBench(t, Config{})
	accepted := make(chan *net.TCPConn, 4)
	addr := serve(t, worldSpace, "198.51.100.10:0", func(c *net.TCPConn) { accepted <- c })
	for _, c := range []struct {
		name string
		half func(c, s *net.TCPConn) // before the reset
	}{
		{"while open", func(c, s *net.TCPConn) {}},
		{"after the resetting side's end", func(c, s *net.TCPConn) { s.CloseWrite(); io.ReadAll(c) }},
	} {
		t.Run("outside "+c.name, func(t *testing.T) {
			in := b.mustDial("tcp", addr).(*net.TCPConn)
			out := <-accepted
			c.half(in, out)
			out.SetLinger(0)
			out.Close()
			if !resetSoon(in) {
				t.Error("no RST came inside")
			}
		})
		t.Run("inside "+c.name, func(t *testing.T) {
			in := b.mustDial("tcp", addr).(*net.TCPConn)
			out := <-accepted
			c.half(out, in)
			in.SetLinger(0)
			in.Close()
			if !resetSoon(out) {
				t.Error("no RST came outside")
			}
			out.Close()
		})
	}
}

// resetSoon reports whether the kernel learns within five seconds that c is gone.
func resetSoon(c *net.TCPConn) bool {
	raw, _ := c.SyscallConn()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		gone := false
		raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			const closed = 7 // TCP_CLOSE
			gone = err == nil && info.State == closed
		})
		if gone {
			return true
		}
	}
	return false
}

// bulk sends n octets each way at once and compares.
func bulk(c net.Conn, n int) error {
	sum := sha256.New()
	sent := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.MultiWriter(c, sum), rand.Reader, int64(n))
		if err == nil {
			err = c.(*net.TCPConn).CloseWrite()
		}
		sent <- err
	}()
	got := sha256.New()
	k, err := io.Copy(got, c)
	if e := <-sent; e != nil {
		return e
	}
	if err != nil || k != int64(n) || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
		return fmt.Errorf("%d of %d octets came back, error %v", k, n, err)
	}
	return nil
}

func TestTCPBulk(t *testing.T) {
	for _, mtu := range []int{1280, 1500, 65535} {
		b := newBench(t, Config{MTU: mtu})
		for _, addr := range []string{"198.51.100.10:0", "[2001:db8:5::10]:0"} {
			if err := bulk(b.mustDial("tcp", serve(t, worldSpace, addr, echo)), 10<<20); err != nil {
				t.Errorf("mtu %d, %s: %v", mtu, addr, err)
			}
		}
	}
}

func TestTCPConcurrent(t *testing.T) {
	b := newBench(t, Config{})
	addr := serve(t, worldSpace, "198.51.100.10:0", echo)
	const many = 500
	var wg sync.WaitGroup
	gate := make(chan struct{}) // all are open before any goes on
	var open sync.WaitGroup
	open.Add(many)
	for i := range many {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c, err := b.dial("tcp", addr)
			open.Done()
			if err != nil {
				t.Errorf("%d: %v", i, err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			<-gate
			if err := bulk(c, 20_000); err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}()
	}
	open.Wait()
	eventually(t, "all to be open at once", func() bool { return b.nat.Stats().TCP == many }, func() string { return fmt.Sprintf("%+v", b.nat.Stats()) })
	close(gate)
	wg.Wait()
	eventually(t, "all to end", func() bool { return b.nat.Stats().TCP == 0 }, func() string { return fmt.Sprintf("%+v", b.nat.Stats()) })
}

func TestTCPFlowLimit(t *testing.T) {
	b := newBench(t, Config{Limits: Limits{Flows: 3}})
	addr := serve(t, worldSpace, "198.51.100.10:0", echo)
	for range 3 {
		b.mustDial("tcp", addr)
	}
	if c, err := b.dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		if err == nil {
			c.Close()
		}
		t.Errorf("a fourth connection: %v, want refused", err)
	}
	if s := b.nat.Stats(); s.RefusedFlows == 0 {
		t.Errorf("stats %+v", s)
	}
}
