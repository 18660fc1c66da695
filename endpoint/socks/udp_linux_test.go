package socks

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// listenUDP echoes datagrams at host in the world.
func listenUDP(t testing.TB, host string) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 65536)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:n], from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// associate makes a UDP association: its TCP connection, and a socket that is
// connected to it.
func (b *bench) associate() (*net.TCPConn, *net.UDPConn) {
	b.t.Helper()
	c := b.dialProxy()
	a := ask(b.t, c, request5(b.t, commandAssociate, "0.0.0.0:0"), 2+4+4+2)
	if len(a) != 12 || a[3] != replyDone || a[5] != typeIPv4 {
		b.t.Fatalf("answered %x", a)
	}
	u, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: a[6:10], Port: int(a[10])<<8 | int(a[11])})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { u.Close() })
	u.SetDeadline(time.Now().Add(10 * time.Second))
	return c, u
}

// datagram is what a program sends.
func datagram(to string, data []byte) []byte {
	host, port, _ := net.SplitHostPort(to)
	n, _ := net.LookupPort("udp", port)
	b := []byte{0, 0, 0}
	if a, err := netip.ParseAddr(host); err == nil {
		b = appendAddrPort(b, netip.AddrPortFrom(a, uint16(n)))
	} else {
		b = append(append(b, typeName, byte(len(host))), host...)
		b = append(b, byte(n>>8), byte(n))
	}
	return append(b, data...)
}

func receive(t testing.TB, u *net.UDPConn) (from address, data []byte) {
	t.Helper()
	b := make([]byte, 65536)
	n, err := u.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	from, data, err = parseDatagram(b[:n])
	if err != nil {
		t.Fatalf("%x: %v", b[:n], err)
	}
	return from, data
}

// Datagrams of every size go to addresses and names of both versions and come back
// with who sent them.
func TestAssociate(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{})
	_, u := b.associate()
	at4, at6 := listenUDP(t, world4), listenUDP(t, world6)
	for _, c := range []struct {
		to   string
		from netip.AddrPort
	}{
		{at4.String(), at4},
		{at6.String(), at6},
		{fmt.Sprintf("four.test:%d", at4.Port()), at4},
		{fmt.Sprintf("six.test:%d", at6.Port()), at6},
	} {
		for _, size := range []int{0, 1, 1400, 1500, 9000, 65000} {
			want := bytes.Repeat([]byte{byte(size)}, size)
			if _, err := u.Write(datagram(c.to, want)); err != nil {
				t.Fatal(err)
			}
			from, data := receive(t, u)
			if from.ip != c.from.Addr() || from.port != c.from.Port() || !bytes.Equal(data, want) {
				t.Errorf("to %s, %d octets: %d came from %v", c.to, size, len(data), from)
			}
		}
	}
	// A question for the tunnel's resolver.
	q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("four.test."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	packed, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	u.Write(datagram("10.0.2.3:53", packed))
	_, data := receive(t, u)
	if err := q.Unpack(data); err != nil || len(q.Answers) != 1 {
		t.Errorf("answered %+v, %v", q, err)
	}
	if s := b.proxy.Stats(); s.UDP != 1 || s.Associations != 1 || s.DroppedDatagrams != 0 {
		t.Errorf("%+v", s)
	}
}

// An association takes datagrams from its program alone, no fragments, nothing for
// what is prohibited, and nothing back from whom it has not written to.
func TestAssociateIsClosed(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{})
	_, u := b.associate()
	at := listenUDP(t, world4)
	u.Write(datagram(at.String(), []byte("first")))
	if _, data := receive(t, u); string(data) != "first" {
		t.Fatalf("%q", data)
	}
	stranger, err := net.DialUDP("udp", nil, u.RemoteAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	fragment := datagram(at.String(), []byte("fragment"))
	fragment[2] = 1
	bad := [][]byte{fragment, {}, {0, 0, 0}, {0, 0, 0, 9}, {0, 0, 0, typeName, 200, 'x'},
		datagram("127.0.0.1:9", nil), datagram("224.0.0.1:9", nil), datagram("meta.test:9", nil), datagram("gone.test:9", nil), datagram(world4+":0", nil)}
	for _, d := range bad {
		u.Write(d)
	}
	stranger.Write(datagram(at.String(), []byte("stranger")))
	eventually(t, "the datagrams to be dropped", func() bool { return b.proxy.Stats().DroppedDatagrams == uint64(len(bad)+1) },
		func() string { return fmt.Sprintf("%+v", b.proxy.Stats()) })
	u.Write(datagram(at.String(), []byte("last")))
	if _, data := receive(t, u); string(data) != "last" {
		t.Fatalf("%q", data)
	}
}

// An association ends with its TCP connection, and with silence.
func TestAssociateEnds(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{Limits: Limits{Idle: 300 * time.Millisecond, Associations: 1}})
	c, _ := b.associate()
	second := b.dialProxy()
	if a := ask(t, second, request5(t, commandAssociate, "0.0.0.0:0"), 12); len(a) != 12 || a[3] != replyFailed {
		t.Errorf("a second one is answered %x", a)
	}
	c.Close()
	ended := func() bool { return b.proxy.Stats().Associations == 0 }
	eventually(t, "its end", ended, func() string { return fmt.Sprintf("%+v", b.proxy.Stats()) })
	c, _ = b.associate()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the TCP connection of a silent one: %v", err)
	}
	eventually(t, "its end", ended, func() string { return fmt.Sprintf("%+v", b.proxy.Stats()) })
}

// Programs at a UDP forward are told apart.
func TestForwardUDP(t *testing.T) {
	newResolver(t)
	at := listenUDP(t, world4)
	b := newBench(t, Config{Forwards: []Forward{{"udp", netip.MustParseAddrPort("127.0.0.1:0"), fmt.Sprintf("four.test:%d", at.Port())}}})
	for i := range 3 {
		u, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(b.proxy.Forwards()[0]))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		u.SetDeadline(time.Now().Add(10 * time.Second))
		for j := range 3 {
			want := fmt.Sprint(i, j)
			if got := ask(t, u, []byte(want), len(want)); string(got) != want {
				t.Errorf("%q came back for %q", got, want)
			}
		}
	}
	if n := b.nat.Stats().OpenedUDP; n != 3 {
		t.Errorf("%d flows at the far side", n)
	}
}
