package socks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Octets go both ways by every protocol, to addresses and names of both versions,
// what is sent at once with the request among them; an end is passed on by itself.
func TestConnect(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{})
	at4, at6 := serve(t, world4, echo), serve(t, world6, echo)
	target := func(host string, at netip.AddrPort) string { return fmt.Sprintf("%s:%d", host, at.Port()) }
	http := func(target string) []byte {
		return fmt.Appendf(nil, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	}
	for _, c := range []struct {
		name   string
		send   []byte
		answer string // hexadecimal octets up to what is echoed, a star for any
	}{
		{"version 5, IPv4", request5(t, 1, at4.String()), "0500 05000001 0a00020f ****"},
		{"version 5, IPv6", request5(t, 1, at6.String()), "0500 05000004 fd000b0d000000000000000000000015 ****"},
		{"version 5, a name", request5(t, 1, target("four.test", at4)), "0500 05000001 0a00020f ****"},
		{"version 5, a name of IPv6", request5(t, 1, target("six.test", at6)), "0500 05000004 fd000b0d000000000000000000000015 ****"},
		{"version 5, an address as a name", append(append([]byte{5, 1, 0, 5, 1, 0, typeName, byte(len(world4))}, world4...), byte(at4.Port()>>8), byte(at4.Port())), "0500 05000001 0a00020f ****"},
		{"version 4", []byte{4, 1, byte(at4.Port() >> 8), byte(at4.Port()), 198, 51, 100, 10, 'm', 'e', 0}, "005a 000000000000"},
		{"version 4A", append([]byte{4, 1, byte(at4.Port() >> 8), byte(at4.Port()), 0, 0, 0, 1, 0}, "four.test\x00"...), "005a 000000000000"},
		{"HTTP", http(at4.String()), fmt.Sprintf("%x", "HTTP/1.1 200 Connection established\r\n\r\n")},
		{"HTTP, IPv6", http(at6.String()), fmt.Sprintf("%x", "HTTP/1.1 200 Connection established\r\n\r\n")},
		{"HTTP, a name", http(target("www.test", at4)), fmt.Sprintf("%x", "HTTP/1.1 200 Connection established\r\n\r\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := b.dialProxy()
			defer conn.Close()
			const early = "sent before anything was answered"
			answer := strings.ReplaceAll(c.answer, " ", "")
			got := ask(t, conn, append(bytes.Clone(c.send), early...), len(answer)/2)
			for i, x := range fmt.Sprintf("%x", got) {
				if answer[i] != '*' && byte(x) != answer[i] {
					t.Fatalf("answered %x, want %s", got, answer)
				}
			}
			more := bytes.Repeat([]byte("0123456789"), 100_000)
			go func() {
				conn.Write(more)
				conn.CloseWrite()
			}()
			back, err := io.ReadAll(conn)
			if err != nil || string(back) != early+string(more) {
				t.Fatalf("%d octets came back, want %d: %v", len(back), len(early)+len(more), err)
			}
		})
	}
	eventually(t, "the connections to end", func() bool { return b.proxy.Stats().Connections == 0 && b.nat.Stats().TCP == 0 },
		func() string { return fmt.Sprintf("%+v, %+v", b.proxy.Stats(), b.nat.Stats()) })
	if s := b.proxy.Stats(); s.SOCKS5 != 5 || s.SOCKS4 != 2 || s.HTTP != 3 || s.Direct+s.Failed+s.Malformed+s.RefusedPolicy+s.DroppedPackets != 0 {
		t.Errorf("%+v", s)
	}
}

// What cannot be reached is answered as what it is.
func TestHonestReplies(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{
		Limits:  Limits{Dial: 1500 * time.Millisecond},
		Routes:  []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("2001:db8::/32")},
		Exclude: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
	})
	for _, c := range []struct {
		target string
		code   byte
		status string
	}{
		{world4 + ":9", replyRefused, "502"},
		{"[" + world6 + "]:9", replyRefused, "502"},
		{"www.test:9", replyRefused, "502"},
		{nowhere4 + ":80", replyNoHost, "502"},
		{"[2001:db8:77::1]:80", replyNoNetwork, "502"},
		{forbidden4 + ":80", replyProhibited, "403"},
		{"169.254.169.254:80", replyProhibited, "403"},
		{"127.0.0.1:80", replyProhibited, "403"},
		{"[::ffff:127.0.0.1]:80", replyProhibited, "403"},
		{"[::1]:80", replyProhibited, "403"},
		{"0.0.0.0:80", replyProhibited, "403"},
		{"224.0.0.1:80", replyProhibited, "403"},

		{"localhost:80", replyProhibited, "403"},
		{"a.LocalHost.:80", replyProhibited, "403"},
		{"loop.test:80", replyProhibited, "403"},
		{"meta.test:80", replyProhibited, "403"},
		{"203.0.113.1:80", replyProhibited, "403"},
		{"[2001:db9::1]:80", replyProhibited, "403"},
		{"[64:ff9b::7f00:1]:80", replyProhibited, "403"},
		{"gone.test:80", replyNoHost, "502"},
		{"127.1:80", replyNoHost, "502"},
		{"0x7f000001:80", replyNoHost, "502"},
		{"silent.test:80", replyTimeout, "504"},
	} {
		t.Run(c.target, func(t *testing.T) {
			t.Parallel()
			b := &bench{t: t, addr: b.addr}
			conn, code := b.connect5(c.target)
			conn.Close()
			if code != c.code {
				t.Errorf("SOCKS 5: reply %d, want %d", code, c.code)
			}
			conn = b.dialProxy()
			fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", c.target, c.target)
			line := make([]byte, 12)
			io.ReadFull(conn, line)
			if string(line) != "HTTP/1.1 "+c.status {
				t.Errorf("HTTP: %q, want %s", line, c.status)
			}
			conn.Close()
		})
	}
}

// BIND, fragments of nonsense, strangers' protocols and silence end at once or in time.
func TestHandshakesThatAreNone(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{Limits: Limits{Handshake: 300 * time.Millisecond}})
	for _, c := range []struct{ name, send, want string }{
		{"BIND of version 5", "050100 05020001 c633640a0050", "0500 0507 00 01 00000000 0000"},
		{"BIND of version 4", "0402 0050 c633640a 00", "005b 000000000000"},
		{"an unknown type of address", "050100 05010009", "0500 0508 00 01 00000000 0000"},
		{"an empty name", "050100 0501000300 0050", "0500 0504 00 01 00000000 0000"},
		{"a name with a NUL", "050100 0501000301 00 0050", "0500 0504 00 01 00000000 0000"},
		{"a password alone", "050102", "05ff"},
		{"no method", "0500", "05ff"},
		{"another version inside", "050100 04010001", "0500"},
		{"TLS", "160301", ""},
		{"half a request", "050100 0501", "0500"},
		{"half a request of version 4", "0401", ""},
		{"a string without end", "0401 0050 c633640a" + strings.Repeat("41", 300), "005b 000000000000"},
		{"half a request of HTTP", fmt.Sprintf("%x", "GET / HT"), fmt.Sprintf("%x", "HTTP/1.1 4")},
		{"a page for a browser", fmt.Sprintf("%x", "GET / HTTP/1.0\r\n\r\n"), fmt.Sprintf("%x", "HTTP/1.0 400 Bad Request")},
		{"https without CONNECT", fmt.Sprintf("%x", "GET https://x/ HTTP/1.0\r\n\r\n"), fmt.Sprintf("%x", "HTTP/1.0 501 Not Implemented")},
		{"CONNECT without a port", fmt.Sprintf("%x", "CONNECT x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), fmt.Sprintf("%x", "HTTP/1.1 400 Bad Request")},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := (&bench{t: t, addr: b.addr}).dialProxy()
			defer conn.Close()
			var send []byte
			fmt.Sscanf(strings.ReplaceAll(c.send, " ", ""), "%x", &send)
			want := strings.ReplaceAll(c.want, " ", "")
			got := ask(t, conn, send, max(len(want)/2, 1))
			if fmt.Sprintf("%x", got) != want {
				t.Fatalf("answered %x, want %s", got, want)
			}
			if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("it does not end: %v", err)
			}
		})
	}
	eventually(t, "the connections to end", func() bool { return b.proxy.Stats().Connections == 0 },
		func() string { return fmt.Sprintf("%+v", b.proxy.Stats()) })
}

// A user and a password are asked for by each protocol that has them.
func TestPassword(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{User: "me", Password: "secret"})
	at := serve(t, world4, echo)
	for _, c := range []struct {
		name, send, want string
	}{
		{"without", "050100", "05ff"},
		{"right", "05020002 01 02 6d65 06 736563726574", "0502 0100"},
		{"wrong", "05020002 01 02 6d65 06 736563726573", "0502 0101"},
		{"empty", "05020002 01 00 00", "0502 0101"},
		{"version 4", "0401 0050 c633640a 6d6500", "005b 000000000000"},
	} {
		conn := b.dialProxy()
		var send []byte
		fmt.Sscanf(strings.ReplaceAll(c.send, " ", ""), "%x", &send)
		want := strings.ReplaceAll(c.want, " ", "")
		if got := ask(t, conn, send, len(want)/2); fmt.Sprintf("%x", got) != want {
			t.Errorf("%s: answered %x, want %s", c.name, got, want)
		}
		conn.Close()
	}
	for auth, want := range map[string]string{
		"":                    "HTTP/1.1 407",
		"Basic bWU6c2VjcmV0":  "HTTP/1.1 200",
		"basic bWU6c2VjcmV0":  "HTTP/1.1 200",
		"Basic bWU6c2VjcmVz":  "HTTP/1.1 407",
		"Bearer bWU6c2VjcmV0": "HTTP/1.1 407",
		"Basic !":             "HTTP/1.1 407",
	} {
		conn := b.dialProxy()
		fmt.Fprintf(conn, "CONNECT %v HTTP/1.1\r\nHost: %v\r\nProxy-Authorization: %s\r\n\r\n", at, at, auth)
		line := make([]byte, len(want))
		io.ReadFull(conn, line)
		if string(line) != want {
			t.Errorf("%q: %q, want %q", auth, line, want)
		}
		conn.Close()
	}
}

// A reset is a reset on the other side.
func TestReset(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{})
	at := serve(t, world4, func(c *net.TCPConn) {
		c.Read(make([]byte, 1)) // before, the reset might come sooner than the reply
		refuse(c)
	})
	conn, code := b.connect5(at.String())
	conn.Write([]byte{1})
	if _, err := conn.Read(make([]byte, 1)); code != replyDone || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reply %d, then %v", code, err)
	}
	ended := make(chan error, 1)
	at = serve(t, world4, func(c *net.TCPConn) {
		_, err := c.Read(make([]byte, 1))
		c.Close()
		ended <- err
	})
	conn, _ = b.connect5(at.String())
	refuse(conn)
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the far server read %v", err)
	}
}

// At the limit a connection is reset; those that are there go on.
func TestConnectionLimit(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{Limits: Limits{Connections: 2}})
	at := serve(t, world4, echo)
	first, _ := b.connect5(at.String())
	b.connect5(at.String())
	if third, err := net.Dial("tcp", b.addr); err == nil { // else it was reset at once
		defer third.Close()
		third.SetDeadline(time.Now().Add(20 * time.Second))
		third.Write([]byte{5})
		if _, err := third.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a third connection is served: %v", err)
		}
	}
	if got := ask(t, first, []byte("still"), 5); string(got) != "still" {
		t.Errorf("the first one says %q", got)
	}
	first.Close()
	eventually(t, "a place", func() bool { return b.proxy.Stats().Connections == 1 }, func() string { return "" })
	if _, code := b.connect5(at.String()); code != replyDone {
		t.Errorf("reply %d", code)
	}
	if s := b.proxy.Stats(); s.RefusedLimit != 1 {
		t.Errorf("%+v", s)
	}
}

// With Direct, what is not routed goes out from here, and by no other way.
func TestDirect(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{Direct: true, Routes: []netip.Prefix{netip.MustParsePrefix(world4 + "/32")}})
	at4, at6 := serve(t, world4, echo), serve(t, world6, echo)
	for _, c := range []struct {
		target string
		direct uint64
	}{
		{at4.String(), 0}, {fmt.Sprintf("four.test:%d", at4.Port()), 0},
		{at6.String(), 1}, {fmt.Sprintf("six.test:%d", at6.Port()), 2},
	} {
		conn, code := b.connect5(c.target)
		if code != replyDone {
			t.Fatalf("%s: reply %d", c.target, code)
		}
		conn.Write([]byte("hello"))
		conn.CloseWrite()
		if back, err := io.ReadAll(conn); string(back) != "hello" || err != nil {
			t.Errorf("%s: %q, %v", c.target, back, err)
		}
		if s := b.proxy.Stats(); s.Direct != c.direct {
			t.Errorf("%s: %d direct, want %d", c.target, s.Direct, c.direct)
		}
	}
}

// The first address of a name that answers is used, without waiting for those before
// it to give up.
func TestRace(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{})
	at := serve(t, world4, echo)
	begin := time.Now()
	if _, code := b.connect5(fmt.Sprintf("slow.test:%d", at.Port())); code != replyDone {
		t.Fatalf("reply %d", code)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A dial ends when the program that waits for it goes away.
func TestProgramGone(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{})
	for i, reset := range []bool{false, true} {
		c := b.dialProxy()
		ask(t, c, request5(t, commandConnect, silent4+":80"), 2)
		eventually(t, "the dial", func() bool { return b.nat.Stats().Dialing == i+1 }, func() string { return "" })
		if reset {
			c.SetLinger(0)
		}
		c.Close()
		eventually(t, "its end", func() bool { return b.proxy.Stats().Connections == 0 }, func() string { return fmt.Sprintf("%+v", b.proxy.Stats()) })
	}
}

// A program of ours dials without the proxy, and ports of this machine lead through
// the tunnel.
func TestDialAndForward(t *testing.T) {
	newResolver(t)
	at := serve(t, world4, echo)
	any := netip.MustParseAddrPort("127.0.0.1:0")
	b := newBench(t, Config{Forwards: []Forward{
		{"tcp", any, fmt.Sprintf("four.test:%d", at.Port())},
		{"tcp", any, world4 + ":9"},
	}})
	c, err := b.proxy.DialContext(context.Background(), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("hello"))
	c.(interface{ CloseWrite() error }).CloseWrite()
	if back, err := io.ReadAll(c); string(back) != "hello" || err != nil {
		t.Errorf("%q, %v", back, err)
	}
	c.Close()
	if _, err = b.proxy.DialContext(context.Background(), "tcp", world4+":9"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a port where nobody listens: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err = b.proxy.DialContext(ctx, "tcp", silent4+":9"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a ctx that ended: %v", err)
	}
	f, err := net.Dial("tcp", b.proxy.Forwards()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := ask(t, f, []byte("hello"), 5); string(got) != "hello" {
		t.Errorf("the forward says %q", got)
	}
	f, err = net.Dial("tcp", b.proxy.Forwards()[1].String())
	if err == nil { // else the reset was quicker
		defer f.Close()
		_, err = f.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a forward to nobody: %v", err)
	}
}

// What would open the tunnel to strangers, or cannot be, is refused by New.
func TestConfig(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("10.0.2.15/24")}
	for want, c := range map[string]Config{
		"not a loopback address":       {Local: local, Listen: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:0")}},
		"who can reach it":             {Local: local, Forwards: []Forward{{"tcp", netip.MustParseAddrPort("198.51.100.10:0"), "x:1"}}},
		"no address inside the tunnel": {},
		"neither tcp nor udp":          {Local: local, Forwards: []Forward{{"sctp", netip.MustParseAddrPort("127.0.0.1:0"), "x:1"}}},
		"is not host:port":             {Local: local, Forwards: []Forward{{"tcp", netip.MustParseAddrPort("127.0.0.1:0"), "x"}}},
		"MTU 5":                        {Local: local, MTU: 5},
		"a password without a user":    {Local: local, Password: "x"},
		"no IPv6 with an MTU":          {Local: []netip.Prefix{netip.MustParsePrefix("fd00::2/64")}, MTU: 1000},
		"not a unicast address":        {Local: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
		"negative":                     {Local: local, Limits: Limits{Dial: -1}},
	} {
		p, err := New(c)
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "socks: ") {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	p, err := New(Config{Local: local, Public: true, Listen: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:0")}})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
}
