package usernat

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/tunnel"
)

// A narrow Port is what a PPP link with a small MRU is: it takes no offloads, and
// nothing larger than its MTU.
type narrow struct {
	tunnel.Port
	mtu     int
	largest atomic.Int64
	over    atomic.Int64
}

func (n *narrow) Caps() tunnel.Caps { return tunnel.Caps{MTU: n.mtu} }

func (n *narrow) WritePackets(p []tunnel.Packet) error {
	for _, packet := range p {
		n.largest.Store(max(n.largest.Load(), int64(len(packet.Data))))
		if len(packet.Data) > n.mtu || packet.GSO != (tunnel.Offload{}) {
			n.over.Add(1)
		}
	}
	return n.Port.WritePackets(p)
}

// A peer with a small MRU gets packets of that size and no larger, and all of
// TCP, UDP and ping works, though the kernel inside believes in 1500 octets, as
// pppd's does: what it may send is not what it takes.
func TestSmallMTU(t *testing.T) {
	for _, mtu := range []int{128, 552, 1279} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			n := &narrow{mtu: mtu}
			b := newBenchBehind(t, Config{Redirect: []Redirect{redirect("tcp", inner4, 8080)}}, func(p tunnel.Port) tunnel.Port {
				n.Port = p
				return n
			})
			b.settles()
			if err := b.nat.SetMTU(mtu); err != nil {
				t.Fatal(err)
			}
			want := make([]byte, 300_000)
			rand.Read(want)
			both := func(name string, c net.Conn) {
				t.Helper()
				go func() {
					c.Write(want)
					c.(*net.TCPConn).CloseWrite()
				}()
				got, err := io.ReadAll(c)
				if err != nil || sha256.Sum256(got) != sha256.Sum256(want) {
					t.Errorf("%s: %d octets of %d, %v", name, len(got), len(want), err)
				}
			}
			both("out", b.mustDial("tcp", serve(t, worldSpace, "198.51.100.10:0", echo)))
			serve(t, b.inside, "10.0.2.15:8080", echo)
			both("in", come(t, "tcp", b.nat.Redirects()[0]))

			udp := b.mustDial("udp", listenUDP(t, worldSpace, "198.51.100.10:0", func(c *net.UDPConn, data []byte, from *net.UDPAddr) {
				c.WriteToUDP(data, from)
			}))
			text := strings.Repeat("datagram", 400)
			fmt.Fprint(udp, text)
			got := make([]byte, 5000)
			if k, err := udp.Read(got); err != nil || string(got[:k]) != text {
				t.Errorf("udp: %d octets of %d, %v", k, len(text), err)
			}
			b.ping(netip.MustParseAddr("198.51.100.10"), 1200)
			b.in(func() error { // an ICMP error quotes no more than fits
				c, err := net.Dial("udp", "198.51.100.1:9") // prohibited
				if err != nil {
					return err
				}
				defer c.Close()
				fmt.Fprint(c, text)
				if _, err = c.Read(got); err == nil {
					t.Error("a prohibited address answers")
				}
				return nil
			})
			if n.over.Load() > 0 || n.largest.Load() < int64(mtu)-8 {
				t.Errorf("%d packets of more than %d octets or unfinished; the largest has %d", n.over.Load(), mtu, n.largest.Load())
			}
		})
	}
}

// ping sends an echo request with n octets of data from inside and waits for the reply.
func (b *bench) ping(to netip.Addr, n int) {
	b.t.Helper()
	b.in(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
		m := make([]byte, headerLenICMP+n)
		m[0], m[4], m[5] = echoRequest4, 'b', 'k'
		putSumICMP(m, to, to)
		if err := unix.Sendto(fd, m, 0, &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
			return err
		}
		buf := make([]byte, 65536)
		for {
			k, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				return fmt.Errorf("ping: %w", err)
			}
			h, ok := parse4(buf[:k])
			if r := buf[headerLen4:k]; ok && h.src == to && len(r) == len(m) && r[0] == echoReply4 {
				return nil
			}
		}
	})
}

// IPv6 does not exist below its least MTU.
func TestSmallMTUWithoutIPv6(t *testing.T) {
	n, err := New(Config{MTU: minMTU6 - 1, DNS: []netip.Addr{dns6}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	b := make([]byte, headerLen6+headerLenICMP)
	putHeader(b, inner6, dns6, protoICMPv6, 64, headerLenICMP, 0)
	b[headerLen6] = echoRequest6
	putSumICMP(b[headerLen6:], inner6, dns6)
	for range 2 {
		if err := n.WritePackets([]tunnel.Packet{{Data: b}}); err != nil {
			t.Fatal(err)
		}
	}
	if s := n.Stats(); s.DroppedOther != 2 {
		t.Errorf("stats %+v", s)
	}
	n.SetMTU(minMTU6)
	n.WritePackets([]tunnel.Packet{{Data: b}})
	p := make([]tunnel.Packet, 1)
	if k, err := n.ReadPackets(p); k != 1 || err != nil || p[0].Data[headerLen6] != echoReply6 {
		t.Errorf("with an MTU of 1280: %d, %v", k, err)
	}
	for _, mtu := range []int{0, 127, 65536} {
		if n.SetMTU(mtu) == nil {
			t.Errorf("an MTU of %d", mtu)
		}
	}
}
