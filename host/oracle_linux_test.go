package host

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An oracle sees all frames that reach a device, and can send from it.
type oracle struct {
	fd int
}

func newOracle(t *testing.T, on netlink.Link) *oracle {
	t.Helper()
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: on.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	// Frames arrive in order behind one another; a second without any is the end.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		t.Fatal(err)
	}
	return &oracle{fd}
}

// until returns the frames that came in, up to the one that holds last.
func (o *oracle) until(t *testing.T, last string) (frames [][]byte) {
	t.Helper()
	for {
		b := make([]byte, 65536)
		n, from, err := unix.Recvfrom(o.fd, b, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatalf("the oracle waits for %q: %v", last, err)
		}
		if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if bytes.Contains(b[:n], []byte(last)) {
			return frames
		}
		frames = append(frames, b[:n])
	}
}

func (o *oracle) send(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := unix.Write(o.fd, frame); err != nil {
		t.Fatal(err)
	}
}

// say sends text in one datagram, with that mark; the error is the kernel's
// refusal.
func say(to, text string, mark uint32) error {
	d := net.Dialer{Timeout: time.Second}
	if mark != 0 {
		d.Control = Marked(mark)
	}
	c, err := d.Dial("udp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(text))
	return err
}

// connect starts a connection and does not wait for it.
func connect(to string, control func(string, string, syscall.RawConn) error) error {
	d := net.Dialer{Timeout: 20 * time.Millisecond, Control: control}
	c, err := d.Dial("tcp", to)
	if err == nil {
		c.Close()
	}
	if e, ok := err.(net.Error); ok && e.Timeout() {
		return nil
	}
	return err
}

// meets reports whether the frame has to do with the address: as an IP packet
// from or to it, or as a question for it by ARP or neighbour discovery.
func meets(frame []byte, a netip.Addr) bool { return bytes.Contains(frame[14:], a.AsSlice()) }

// The gateway's and eth0's frames, built by hand.

var gatewayMAC = []byte{2, 0, 0, 0, 0, 1}

func ethernet(to net.HardwareAddr, kind uint16, payload []byte) []byte {
	f := append(append([]byte{}, to...), gatewayMAC...)
	return append(binary.BigEndian.AppendUint16(f, kind), payload...)
}

func arpQuestion(eth net.HardwareAddr, asker, wanted netip.Addr) []byte { // RFC 826
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	b = append(append(b, gatewayMAC...), asker.AsSlice()...)
	b = append(append(b, make([]byte, 6)...), wanted.AsSlice()...)
	return ethernet(net.HardwareAddr{255, 255, 255, 255, 255, 255}, unix.ETH_P_ARP, b)
}

// ipFrame wraps a transport segment whose checksum field is at sumAt.
func ipFrame(eth net.HardwareAddr, from, to netip.Addr, protocol byte, segment []byte, sumAt int) []byte {
	pseudo := append(append([]byte{}, from.AsSlice()...), to.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(segment)))
	pseudo = append(pseudo, 0, 0, 0, protocol)
	binary.BigEndian.PutUint16(segment[sumAt:], checksum(append(pseudo, segment...)))
	if from.Is4() {
		return ipv4Frame(eth, from, to, protocol, segment)
	}
	b := []byte{0x60, 0, 0, 0, 0, 0, protocol, 64}
	binary.BigEndian.PutUint16(b[4:], uint16(len(segment)))
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	return ethernet(eth, unix.ETH_P_IPV6, append(b, segment...))
}

func ipv4Frame(eth net.HardwareAddr, from, to netip.Addr, protocol byte, payload []byte) []byte {
	b := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0}
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return ethernet(eth, unix.ETH_P_IP, append(b, payload...))
}

func checksum(b []byte) uint16 { // RFC 1071
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func udpFrame(eth net.HardwareAddr, from, to netip.AddrPort, text string) []byte {
	b := binary.BigEndian.AppendUint16(nil, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(text)))
	b = append(append(b, 0, 0), text...)
	return ipFrame(eth, from.Addr(), to.Addr(), unix.IPPROTO_UDP, b, 6)
}

func synAckFrame(eth net.HardwareAddr, from, to netip.AddrPort) []byte { // RFC 9293, section 3.1
	b := binary.BigEndian.AppendUint16(nil, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x12, 0xff, 0xff, 0, 0, 0, 0)
	return ipFrame(eth, from.Addr(), to.Addr(), unix.IPPROTO_TCP, b, 16)
}

// beyond runs serve in a new network namespace that has the device: a machine
// at the cable's other end. What serve opens stays open there.
func beyond(t *testing.T, device netlink.Link, serve func() error) {
	t.Helper()
	ready, move, done := make(chan int), make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread, with its namespace, ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			close(ready)
			done <- err
			return
		}
		ready <- unix.Gettid()
		<-move
		done <- serve()
	}()
	tid, ok := <-ready
	if ok {
		fd, err := unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", tid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = netlink.LinkSetNsFd(device, fd)
			unix.Close(fd)
		}
		if err != nil {
			t.Error(err)
		}
		close(move)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
