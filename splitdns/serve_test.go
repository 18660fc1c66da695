package splitdns

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// served runs a Forwarder on loopback sockets until the test ends, and returns
// their addresses.
func served(t *testing.T, c Config) (udp, tcp string) {
	t.Helper()
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Serve(ctx, u, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return u.LocalAddr().String(), l.Addr().String()
}

// realServer answers over UDP and TCP on one loopback port.
func realServer(t *testing.T, records int) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			a := answerTo(b[:n], records)
			if len(a) > 1232 {
				a = answerTo(b[:n], 0)
				a[2] |= 2 // TC
			}
			u.WriteTo(a, from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if q, err := readMessage(c); err == nil {
				c.Write(withLength(answerTo(q, records)))
			}
			c.Close()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// The C library's way through real sockets: by UDP, and then by TCP for what is
// large, two questions on one connection.
func TestServe(t *testing.T) {
	c := config()
	c.Zones[0].Servers = []netip.AddrPort{realServer(t, 5000)}
	c.Others = []netip.AddrPort{realServer(t, 4)}
	udp, tcp := served(t, c)

	small, large := message(t, "www.example.", dnsmessage.TypeA, 1232), message(t, "www.corp.example.", dnsmessage.TypeA, 1232)
	u, err := net.Dial("udp", udp)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 1<<16)
	for _, q := range [][]byte{small, large} {
		u.Write(make([]byte, maxQuery+1)) // too long to be one: no answer
		u.Write(q)
		n, err := u.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if truncated := b[2]&2 != 0; !bytes.Equal(b[:2], q[:2]) || truncated != bytes.Equal(q, large) {
			t.Errorf("answer %x", b[:n])
		}
	}
	s, err := net.Dial("tcp", tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(10 * time.Second))
	s.Write(append(withLength(large), withLength(small)...))
	for _, want := range []int{5000, 4} {
		a, err := readMessage(s)
		if err != nil || len(a) < want || len(a) > want+100 {
			t.Errorf("%d octets, %v, want some more than %d", len(a), err, want)
		}
	}
}

// Connections beyond the bound are closed, and those before them live.
func TestTooManyConnections(t *testing.T) {
	c := config()
	c.Others = []netip.AddrPort{realServer(t, 4)}
	_, tcp := served(t, c)
	var first net.Conn
	for i := range maxConnections + 1 {
		conn, err := net.Dial("tcp", tcp)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if first == nil {
			first = conn
		}
		if i == maxConnections {
			if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("one too many: %v", err)
			}
		}
	}
	first.Write(withLength(message(t, "www.example.", dnsmessage.TypeA, 0)))
	if _, err := readMessage(first); err != nil {
		t.Error(err)
	}
}

func TestFromHere(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1:5": true, "127.66.0.53:5": true, "[::1]:5": true, "192.0.2.1:5": false, "[fe80::1%eth0]:5": false} {
		if got := fromHere(net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr))); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// Listen needs the right to port 53. Two tunnels have two addresses.
func TestListen(t *testing.T) {
	var last netip.Addr
	for range 2 {
		udp, tcp, at, err := Listen()
		if err != nil {
			t.Fatal(err)
		}
		defer udp.Close()
		defer tcp.Close()
		if udp.LocalAddr().String() != tcp.Addr().String() || tcp.Addr().String() != netip.AddrPortFrom(at, Port).String() {
			t.Errorf("%v, %v, %v", udp.LocalAddr(), tcp.Addr(), at)
		}
		if at == last || !isOurs(at) {
			t.Errorf("%v after %v", at, last)
		}
		last = at
	}
}
