package usernat

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/tunnel"
)

func echoUDP(c *net.UDPConn, data []byte, from *net.UDPAddr) { c.WriteToUDP(data, from) }

func TestUDPSizes(t *testing.T) {
	for _, mtu := range []int{1280, 1500, 65535} {
		b := newBench(t, Config{MTU: mtu})
		for _, addr := range []string{"198.51.100.10:0", "[2001:db8:5::10]:0"} {
			c := b.mustDial("udp", listenUDP(t, worldSpace, addr, echoUDP))
			for _, n := range []int{0, 1, 1400, 1473, 8000, 65000, 65507} {
				want := make([]byte, n)
				rand.Read(want)
				if _, err := c.Write(want); err != nil {
					t.Errorf("mtu %d, %s, %d octets: %v", mtu, addr, n, err)
					continue
				}
				got := make([]byte, 65536)
				k, err := c.Read(got)
				if err != nil || !bytes.Equal(got[:k], want) {
					t.Fatalf("mtu %d, %s: %d of %d octets, %v; %+v", mtu, addr, k, n, err, b.nat.Stats())
				}
			}
		}
		if s := b.nat.Stats(); s.UDP != 2 || s.OpenedUDP != 2 {
			t.Errorf("mtu %d: %d flows open of %d, want 2 of 2", mtu, s.UDP, s.OpenedUDP)
		}
	}
}

// Super-packets of datagrams (UDP_SEGMENT) arrive as the datagrams they are,
// both ways.
func TestUDPSegmented(t *testing.T) {
	b := newBench(t, Config{})
	for _, addr := range []string{"198.51.100.10:0", "[2001:db8:5::10]:0"} {
		const size, count = 1200, 50
		sizes := make(chan int, 2*count)
		back := listenUDP(t, worldSpace, addr, func(c *net.UDPConn, data []byte, from *net.UDPAddr) {
			sizes <- len(data)
			if len(sizes) != 1 {
				return
			}
			// Answer with a super-packet of its own.
			raw, _ := c.SyscallConn()
			raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size) })
			c.WriteToUDP(bytes.Repeat([]byte("x"), size*count-7), from)
		})
		c := b.mustDial("udp", back).(*net.UDPConn)
		raw, _ := c.SyscallConn()
		raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size) })
		if _, err := c.Write(bytes.Repeat([]byte("y"), size*count-5)); err != nil {
			t.Fatal(err)
		}
		for i := range count {
			want := size
			if i == count-1 {
				want -= 5
			}
			select {
			case n := <-sizes:
				if n != want {
					t.Fatalf("%s: datagram %d outside has %d octets, want %d", addr, i, n, want)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("%s: %d of %d datagrams came outside; %+v", addr, i, count, b.nat.Stats())
			}
		}
		buf := make([]byte, 65536)
		for i := range count {
			want := size
			if i == count-1 {
				want -= 7
			}
			if n, err := c.Read(buf); err != nil || n != want {
				t.Fatalf("%s: datagram %d inside has %d octets, want %d; %v", addr, i, n, want, err)
			}
		}
	}
}

func TestUDPRefusals(t *testing.T) {
	b := newBench(t, Config{})
	for _, c := range []struct {
		addr string
		want error
	}{
		{"198.51.100.10:9", syscall.ECONNREFUSED},
		{"[2001:db8:5::10]:9", syscall.ECONNREFUSED},
		{"198.18.0.1:9", syscall.EHOSTUNREACH},
		{"[2001:db8:bad::1]:9", syscall.ENETUNREACH},
		{"192.0.2.1:9", syscall.ENETUNREACH},
		{"10.0.2.2:9", syscall.EHOSTUNREACH},
		{"169.254.169.254:80", syscall.EHOSTUNREACH},
		{"[fd00:ec2::254]:80", syscall.EACCES},
		{"[2002:7f00:1::1]:80", syscall.EACCES},
		{"10.0.2.3:54", syscall.ECONNREFUSED},
	} {
		conn := b.mustDial("udp", c.addr)
		raw, _ := conn.(*net.UDPConn).SyscallConn()
		raw.Control(func(fd uintptr) { // else Linux keeps soft errors to itself
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1)
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
		})
		var err error
		for range 3 { // Linux sends the errors of an unreachable route once a second
			conn.SetDeadline(time.Now().Add(1100 * time.Millisecond))
			conn.Write([]byte("hello"))
			if _, err = conn.Read(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.addr, err, c.want)
		}
	}
}

// What somebody else sends to the flow's outer port does not come inside.
func TestUDPOnlyFromTheContacted(t *testing.T) {
	b := newBench(t, Config{})
	ports := make(chan *net.UDPAddr, 1)
	addr := listenUDP(t, worldSpace, "198.51.100.10:0", func(c *net.UDPConn, data []byte, from *net.UDPAddr) {
		ports <- from
	})
	c := b.mustDial("udp", addr)
	c.Write([]byte("hello"))
	from := <-ports
	err := worldSpace.in(func() error {
		stranger, err := net.Dial("udp", from.String())
		if err != nil {
			return err
		}
		defer stranger.Close()
		_, err = stranger.Write([]byte("me too"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := c.Read(make([]byte, 99)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stranger's %d octets came inside: %v", n, err)
	}
}

// At the limit the oldest idle flow makes room.
func TestUDPEviction(t *testing.T) {
	b := newBench(t, Config{Limits: Limits{Flows: 20}})
	addr := listenUDP(t, worldSpace, "198.51.100.10:0", echoUDP)
	for i := range 50 {
		c := b.mustDial("udp", addr)
		c.Write([]byte{byte(i)})
		got := make([]byte, 1)
		if _, err := c.Read(got); err != nil || got[0] != byte(i) {
			t.Fatalf("flow %d: %v %v", i, got, err)
		}
	}
	if s := b.nat.Stats(); s.UDP != 20 || s.Evicted != 30 {
		t.Errorf("%d flows, %d evicted; want 20, 30", s.UDP, s.Evicted)
	}
	tcp := b.mustDial("tcp", serve(t, worldSpace, "198.51.100.10:0", echo))
	tcp.Close()
	if s := b.nat.Stats(); s.Evicted != 31 {
		t.Errorf("%d evicted after a TCP connection, want 31", s.Evicted)
	}
}

func TestFlowTimeouts(t *testing.T) {
	key := func(port uint16, proto uint8) flowKey {
		return flowKey{dst: netip.AddrPortFrom(world4, port), proto: proto}
	}
	for _, c := range []struct {
		f    *flow
		want time.Duration
	}{
		{&flow{key: key(53, protoUDP), both: true}, 15 * time.Second},
		{&flow{key: key(443, protoUDP)}, time.Minute},
		{&flow{key: key(443, protoUDP), both: true}, 5 * time.Minute},
		{&flow{key: key(0, protoICMP), both: true}, 30 * time.Second},
	} {
		if got := c.f.timeout(); got != c.want {
			t.Errorf("%v, both ways %v: %v, want %v", c.f.key, c.f.both, got, c.want)
		}
	}
	b := newBench(t, Config{})
	c := b.mustDial("udp", listenUDP(t, worldSpace, "198.51.100.10:0", echoUDP))
	c.Write([]byte("x"))
	c.Read(make([]byte, 1))
	b.nat.sockets.expire(time.Now().Add(4 * time.Minute))
	if s := b.nat.Stats(); s.UDP != 1 {
		t.Errorf("%d flows after four minutes, want 1", s.UDP)
	}
	b.nat.sockets.expire(time.Now().Add(6 * time.Minute))
	if s := b.nat.Stats(); s.UDP != 0 {
		t.Errorf("%d flows after six minutes, want none", s.UDP)
	}
}

// pinger is a raw ICMP socket inside; it sends what ping would.
type pinger struct {
	c  net.PacketConn
	v6 bool
}

func (b *bench) pinger(v6 bool) *pinger {
	p := &pinger{v6: v6}
	b.in(func() (err error) {
		if v6 {
			p.c, err = net.ListenPacket("ip6:ipv6-icmp", "fd00:b0d::15")
		} else {
			p.c, err = net.ListenPacket("ip4:icmp", "10.0.2.15")
		}
		return err
	})
	b.t.Cleanup(func() { p.c.Close() })
	return p
}

// ping sends one echo request and returns the first ICMP message that is about
// it: type, code, sender, and, of a reply, the message.
func (p *pinger) ping(dst netip.Addr, id, seq uint16, data []byte, patience time.Duration) (typ, code byte, from string, m []byte, err error) {
	q := make([]byte, 8, 8+len(data))
	q[0] = echoRequest4
	if p.v6 {
		q[0] = echoRequest6
	}
	binary.BigEndian.PutUint16(q[4:], id)
	binary.BigEndian.PutUint16(q[6:], seq)
	q = append(q, data...)
	if !p.v6 {
		putSumICMP(q, world4, world4)
	}
	if _, err = p.c.WriteTo(q, &net.IPAddr{IP: dst.AsSlice()}); err != nil {
		return
	}
	p.c.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 65536)
	for {
		n, a, err := p.c.ReadFrom(buf)
		if err != nil {
			return 0, 0, "", nil, err
		}
		m := buf[:n]
		about := m
		switch {
		case p.v6 && (m[0] == 1 || m[0] == 3) && n > 48:
			about = m[48:]
		case !p.v6 && (m[0] == 3 || m[0] == 11) && n > 28:
			about = m[28:]
		case p.v6 && m[0] != echoReply6, !p.v6 && m[0] != echoReply4:
			continue
		}
		if binary.BigEndian.Uint16(about[4:]) == id && binary.BigEndian.Uint16(about[6:]) == seq {
			return m[0], m[1], a.String(), m, nil
		}
	}
}

func TestPing(t *testing.T) {
	for _, mode := range []Ping{PingSocket, PingRaw} {
		t.Run(mode.String(), func(t *testing.T) {
			if mode == PingRaw {
				const file = "/proc/sys/net/ipv4/ping_group_range"
				os.WriteFile(file, []byte("1 0"), 0)
				defer os.WriteFile(file, []byte("0 2147483647"), 0)
			}
			b := newBench(t, Config{})
			for _, v6 := range []bool{false, true} {
				p := b.pinger(v6)
				far, hole, nowhere, dns, prohibit, reply := world4, hole4, nowhere4, dns4, far4, byte(echoReply4)
				noHostType, noHostCode, prohibitedType, prohibitedCode := byte(3), byte(1), byte(3), byte(13)
				if v6 {
					far, hole, nowhere = world6, netip.MustParseAddr("2001:db8:dead::1"), netip.MustParseAddr("2001:db8:bad::1")
					dns, prohibit, reply = dns6, far6, echoReply6
					noHostType, noHostCode, prohibitedType, prohibitedCode = 1, 0, 1, 1
				}
				for i, n := range []int{0, 56, 1400, 3000} {
					data := make([]byte, n)
					rand.Read(data)
					typ, _, from, m, err := p.ping(far, 0x1234, uint16(i), data, 3*time.Second)
					if err != nil || typ != reply || from != far.String() || !bytes.Equal(m[8:], data) {
						t.Errorf("ping %v with %d octets: type %d from %v, %v; %+v", far, n, typ, from, err, b.nat.Stats())
					}
				}
				if typ, _, _, _, err := p.ping(dns, 7, 7, []byte("us"), time.Second); err != nil || typ != reply {
					t.Errorf("ping of our own address: %d, %v", typ, err)
				}
				if typ, code, _, _, err := p.ping(hole, 8, 1, nil, 300*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("ping of a silent host: type %d, code %d, %v; want silence", typ, code, err)
				}
				var typ, code byte
				var from string
				var err error
				for seq := range uint16(3) { // Linux sends these errors once a second
					if typ, code, from, _, err = p.ping(nowhere, 9, seq, []byte("some payload"), 1100*time.Millisecond); err == nil {
						break
					}
				}
				if err != nil || typ != noHostType || code != noHostCode || from != far.String() {
					t.Errorf("ping of an unreachable host: type %d, code %d from %v, %v", typ, code, from, err)
				}
				typ, code, from, _, err = p.ping(prohibit, 9, 9, nil, time.Second)
				if err != nil || typ != prohibitedType || code != prohibitedCode || from != dns.String() {
					t.Errorf("ping of a prohibited host: type %d, code %d from %v, %v", typ, code, from, err)
				}
			}
			if s := b.nat.Stats(); s.Ping != mode {
				t.Errorf("pings left by %v, want %v", s.Ping, mode)
			}
		})
	}
}

// A traceroute: TTL 1 ends at the first router of the far host.
func TestTTL(t *testing.T) {
	b := newBench(t, Config{})
	p := b.pinger(false)
	raw, _ := p.c.(*net.IPConn).SyscallConn()
	raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, 1) })
	typ, code, from, _, err := p.ping(netip.MustParseAddr("100.64.9.1"), 3, 3, make([]byte, 32), 3*time.Second)
	if err != nil || typ != exceeded4 || code != 0 || from != world4.String() {
		t.Errorf("echo with TTL 1: type %d, code %d from %v, %v", typ, code, from, err)
	}
	c := b.mustDial("udp", "100.64.9.1:33434").(*net.UDPConn)
	raw, _ = c.SyscallConn()
	raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, 1)
		unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	})
	c.Write([]byte("probe"))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("UDP with TTL 1: %v", err)
	}
}

// Packets from sources that cannot be, and other things that must not come out.
func TestDropped(t *testing.T) {
	n, err := New(Config{DNS: []netip.Addr{dns4}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	udp := func(src, dst string) tunnel.Packet {
		s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
		b := make([]byte, headerLenOf(s)+headerLenUDP)
		ip := putHeader(b, s, d, protoUDP, 64, headerLenUDP, 1)
		putUDP(b[ip:], 1, 2, headerLenUDP, 0)
		return tunnel.Packet{Data: b, GSO: tunnel.Offload{NeedsChecksum: true}}
	}
	spoofed := []string{"127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "240.0.0.1"}
	for _, src := range spoofed {
		n.WritePackets([]tunnel.Packet{udp(src, "198.51.100.10")})
	}
	for _, src := range []string{"::", "::1", "ff02::1", "::ffff:10.0.2.15"} {
		spoofed = append(spoofed, src)
		n.WritePackets([]tunnel.Packet{udp(src, "2001:db8:5::10")})
	}
	if s := n.Stats(); s.DroppedSource != uint64(len(spoofed)) || s.OpenedUDP != 0 {
		t.Errorf("of %d impossible sources %d dropped; %+v", len(spoofed), s.DroppedSource, s)
	}
	bad := udp("10.0.2.15", "198.51.100.10")
	bad.GSO = tunnel.Offload{}
	binary.BigEndian.PutUint16(bad.Data[26:], 0x1234) // a checksum that is wrong
	n.WritePackets([]tunnel.Packet{bad, {Data: []byte{0x45}}, {}})
	if s := n.Stats(); s.DroppedMalformed != 3 {
		t.Errorf("%d malformed dropped, want 3", s.DroppedMalformed)
	}
	for _, dst := range []string{"255.255.255.255", "224.0.0.251", "198.51.100.255", "127.0.0.1", "0.0.0.0"} {
		n.WritePackets([]tunnel.Packet{udp("10.0.2.15", dst)})
	}
	if s := n.Stats(); s.RefusedPolicy != 5 || s.OpenedUDP != 0 {
		t.Errorf("prohibited destinations: %+v", s)
	}
	var p [16]tunnel.Packet
	k, err := n.ReadPackets(p[:])
	if err != nil || k != 5 {
		t.Fatalf("%d answers, %v", k, err)
	}
	for _, a := range p[:k] {
		if h, ok := parse(a.Data); !ok || h.proto != protoICMP || h.src != dns4 || a.Data[20] != 3 || a.Data[21] != 13 {
			t.Errorf("answer %x", a.Data)
		}
	}
}
