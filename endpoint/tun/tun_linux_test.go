package tun

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/tunnel"
)

// machine is a network namespace that lives as long as the test.
type machine struct {
	t     *testing.T
	calls chan func()
}

// newMachine makes an empty network namespace, on a thread of its own that is
// thrown away at the end.
func newMachine(t *testing.T) *machine {
	m := &machine{t, make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		made <- unix.Unshare(unix.CLONE_NEWNET)
		for call := range m.calls {
			call()
		}
	}()
	if err := <-made; err != nil {
		t.Fatalf("a network namespace needs root: %v", err)
	}
	t.Cleanup(func() { close(m.calls) })
	return m
}

// do runs fn in the namespace.
func (m *machine) do(fn func() error) {
	m.t.Helper()
	done := make(chan error)
	m.calls <- func() { done <- fn() }
	if err := <-done; err != nil {
		m.t.Fatal(err)
	}
}

// device makes a device with the addresses in the namespace, up.
func (m *machine) device(mtu int, addrs ...string) (d *Device) {
	m.t.Helper()
	m.do(func() error {
		file, name, err := Create("bodkin%d")
		if err != nil {
			return err
		}
		if name != "bodkin0" {
			return fmt.Errorf("the kernel called it %q", name)
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			prefix := netip.MustParsePrefix(a)
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}, Flags: unix.IFA_F_NODAD}
			if err := netlink.AddrAdd(link, addr); err != nil {
				return err
			}
		}
		if err := errors.Join(netlink.LinkSetMTU(link, mtu), netlink.LinkSetUp(link)); err != nil {
			return err
		}
		d, err = Open(file, mtu)
		return err
	})
	return d
}

// listen and dial open sockets in the namespace.
func (m *machine) listen(addr string) (l net.Listener) {
	m.t.Helper()
	m.do(func() (err error) { l, err = net.Listen("tcp", addr); return })
	m.t.Cleanup(func() { l.Close() })
	return l
}

func (m *machine) dial(network, addr string) (c net.Conn) {
	m.t.Helper()
	m.do(func() (err error) { c, err = net.DialTimeout(network, addr, 5*time.Second); return })
	m.t.Cleanup(func() { c.Close() })
	return c
}

// counted counts the super-packets that pass a Port, and may hide what it takes.
type counted struct {
	tunnel.Port
	caps   tunnel.Caps
	supers atomic.Int64
}

func (c *counted) Caps() tunnel.Caps { return c.caps }
func (c *counted) ReadPackets(p []tunnel.Packet) (int, error) {
	n, err := c.Port.ReadPackets(p)
	for i := range p[:n] {
		if _, err := p[i].Check(); err != nil {
			panic(fmt.Sprintf("the kernel's packet %x %+v: %v", p[i].Data, p[i].GSO, err))
		}
		if p[i].GSO.Type != tunnel.GSONone {
			c.supers.Add(1)
		}
	}
	return n, err
}

// TestKernelToKernel joins the devices of two machines, once with all
// offloads and once with none, and sends TCP and UDP through.
func TestKernelToKernel(t *testing.T) {
	for _, c := range []struct {
		name     string
		offloads tunnel.Offloads
		mtu      int
	}{
		{"super-packets whole", tunnel.OffloadChecksum | tunnel.OffloadTSO4 | tunnel.OffloadTSO6 | tunnel.OffloadUSO, 1500},
		{"super-packets whole, large MTU", tunnel.OffloadChecksum | tunnel.OffloadTSO4 | tunnel.OffloadTSO6 | tunnel.OffloadUSO, 65535},
		{"cut up and completed", 0, 1500},
		{"checksums only completed", 0, 65535},
	} {
		t.Run(c.name, func(t *testing.T) {
			left, right := newMachine(t), newMachine(t)
			a := &counted{Port: left.device(c.mtu, "10.9.0.1/24", "fd09::1/64"), caps: tunnel.Caps{MTU: c.mtu, Offloads: c.offloads}}
			b := &counted{Port: right.device(c.mtu, "10.9.0.2/24", "fd09::2/64"), caps: a.caps}
			ctx, cancel := context.WithCancel(t.Context())
			joined := make(chan error, 1)
			go func() { joined <- tunnel.Join(ctx, a, b) }()

			for _, addr := range []string{"10.9.0.2:7000", "[fd09::2]:7000"} {
				sendTCP(t, left, right, addr)
				sendUDP(t, left, right, addr)
			}
			if a.supers.Load() == 0 {
				t.Error("the kernel gave no super-packet")
			}
			cancel()
			if err := <-joined; !errors.Is(err, context.Canceled) {
				t.Errorf("Join: %v", err)
			}
		})
	}
}

// sendTCP sends 4 MB from left to right and holds the hashes against each other.
func sendTCP(t *testing.T, left, right *machine, addr string) {
	t.Helper()
	l := right.listen(addr)
	sum := make(chan [32]byte, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		h := sha256.New()
		io.Copy(h, conn)
		sum <- [32]byte(h.Sum(nil))
	}()
	data := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	conn := left.dial("tcp", addr)
	if _, err := conn.Write(data); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	select {
	case got := <-sum:
		if got != sha256.Sum256(data) {
			t.Errorf("%s: other octets arrived", addr)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: 4 MB did not arrive", addr)
	}
}

// sendUDP sends datagrams of several sizes, and a burst as one UDP
// super-packet where the kernel makes such.
func sendUDP(t *testing.T, left, right *machine, addr string) {
	t.Helper()
	var in net.PacketConn
	right.do(func() (err error) { in, err = net.ListenPacket("udp", addr); return })
	defer in.Close()
	out := left.dial("udp", addr)
	raw, err := out.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 65536)
	expect := func(want []byte) {
		t.Helper()
		in.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, _, err := in.ReadFrom(buf)
		if err != nil || !bytes.Equal(buf[:n], want) {
			t.Fatalf("%s: %d octets of UDP expected, %d came: %v", addr, len(want), n, err)
		}
	}
	for _, size := range []int{0, 1, 1400, 8000} {
		data := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := out.Write(data); err != nil {
			t.Fatal(err)
		}
		expect(data)
	}
	raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1000)
	})
	if err != nil {
		t.Fatal(err)
	}
	burst := make([]byte, 4500)
	rand.NewChaCha8([32]byte{2}).Read(burst)
	if _, err := out.Write(burst); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(burst); at += 1000 {
		expect(burst[at:min(at+1000, len(burst))])
	}
}

func TestCloseWakes(t *testing.T) {
	d := newMachine(t).device(1500)
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := d.ReadPackets(make([]tunnel.Packet, 4)); err != nil {
				ended <- err
				return
			}
		}
	}()
	d.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("ReadPackets: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("ReadPackets did not wake")
	}
}

func TestCreateRefused(t *testing.T) {
	m := newMachine(t)
	m.device(1500)
	m.do(func() error {
		if _, _, err := Create("bodkin0"); !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("a second bodkin0: %v", err)
		}
		if _, _, err := Create("a-name-that-is-much-too-long"); err == nil {
			return errors.New("a name of 28 octets was accepted")
		}
		return nil
	})
}

// TestWrongPacketsAreDropped: what is not what it says never reaches the kernel.
func TestWrongPacketsAreDropped(t *testing.T) {
	d := newMachine(t).device(1500)
	defer d.Close()
	err := d.WritePackets([]tunnel.Packet{
		{},
		{Data: []byte("no IP")},
		{Data: make([]byte, 40), GSO: tunnel.Offload{Type: tunnel.GSOTCP4, NeedsChecksum: true, SegmentSize: 1}},
	})
	if err != nil || d.Dropped() != 3 {
		t.Errorf("%d dropped, %v", d.Dropped(), err)
	}
}

// FuzzVnet: whatever a header says, what comes of it is a packet as it should
// be or none at all, and its header is written back to the same facts.
func FuzzVnet(f *testing.F) {
	udp := []byte("\x01\x00\x00\x00\x00\x00\x14\x00\x06\x00\x45\x00\x00\x1e\x00\x01\x00\x00\x40\x11\xf6\xb0\x0a\x00\x02\x0f\xcb\x00\x71\x64\x80\x00\x00\x35\x00\x0a\x4b\x1ahi")
	f.Add(udp)
	f.Add(append([]byte{1, vnetUDPL4, 28, 0, 1, 0, 20, 0, 6, 0}, udp[vnetHeaderLen:]...))
	f.Add(append(make([]byte, vnetHeaderLen), udp[vnetHeaderLen:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < vnetHeaderLen {
			return
		}
		p, ok := parseVnet(b)
		if !ok {
			return
		}
		h, err := p.Check()
		if err != nil {
			return // WritePackets and the link drop it
		}
		var d Device
		d.putVnet(p, h)
		again, ok := parseVnet(append(d.header[:], p.Data...))
		if !ok || again.GSO != p.GSO {
			t.Fatalf("%+v came back as %+v, %v", p.GSO, again.GSO, ok)
		}
	})
}

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "tun: these tests make devices in network namespaces: run them as root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}
