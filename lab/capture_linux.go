package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxKinds bounds the kinds of packets that a Capture remembers apart; the rest is
// counted together.
const maxKinds = 100

// A Capture records the packets that one device of a machine takes in and sends out.
// It sees them before any filter of the machine's on their way in, and after all of
// them on their way out.
type Capture struct {
	sock   *os.File
	reader sync.WaitGroup

	mu        sync.Mutex
	in, out   traffic
	discarded uint32 // that came too fast to be looked at
}

// A traffic is the packets of one direction.
type traffic struct {
	all    int
	counts map[string]int
	order  []string // the keys of counts as they came
}

// Capture starts a record of a device, until Close or the Lab's end.
func (m *Machine) Capture(device string) (*Capture, error) {
	c := new(Capture)
	link, err := m.netlink.LinkByName(device)
	if err != nil {
		return nil, fmt.Errorf("lab: %s: finding %s: %w", m.Name, device, err)
	}
	err = m.Do(func() error {
		// SOCK_DGRAM: packets from the IP header on, whatever the device (packet(7)).
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		c.sock = os.NewFile(uintptr(fd), "capture")
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: link.Attrs().Index})
	})
	if err != nil {
		if c.sock != nil {
			c.sock.Close()
		}
		return nil, fmt.Errorf("lab: %s: capturing on %s: %w", m.Name, device, err)
	}
	c.reader.Go(c.read)
	return c, nil
}

// Close ends the record.
func (c *Capture) Close() {
	c.sock.Close()
	c.reader.Wait()
}

// In lists the packets that came in by the device, in the order they came: one line
// for each kind, with a count. Further lines say what is not known of.
func (c *Capture) In() []string { return c.list(&c.in) }

// Out lists the packets that went out by the device, as In does.
func (c *Capture) Out() []string { return c.list(&c.out) }

// Count is how many packets came in and went out.
func (c *Capture) Count() (in, out int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in.all, c.out.all
}

func (c *Capture) list(t *traffic) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lines []string
	rest := t.all
	for _, what := range t.order {
		lines = append(lines, fmt.Sprintf("%s (%d times)", what, t.counts[what]))
		rest -= t.counts[what]
	}
	if rest > 0 {
		lines = append(lines, fmt.Sprintf("%d packets of other kinds", rest))
	}
	if raw, err := c.sock.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			if st, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
				c.discarded += st.Drops
			}
		})
	}
	if c.discarded > 0 {
		lines = append(lines, fmt.Sprintf("%d packets came too fast to be looked at", c.discarded))
	}
	return lines
}

// read records packets until the socket closes.
func (c *Capture) read() {
	raw, err := c.sock.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, snapLength)
	for {
		var n int
		var from unix.Sockaddr
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), buf, 0)
			return !errors.Is(failed, unix.EAGAIN)
		})
		if err != nil {
			return // closed
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if failed != nil || !ok {
			continue // the device went down, or away: no packet was lost by that
		}
		what, ok := packetOf(networkOrder(link.Protocol), buf[:n])
		if !ok {
			continue
		}
		c.mu.Lock()
		if link.Pkttype == unix.PACKET_OUTGOING {
			c.out.add(what)
		} else {
			c.in.add(what)
		}
		c.mu.Unlock()
	}
}

func (t *traffic) add(what string) {
	t.all++
	if t.counts == nil {
		t.counts = make(map[string]int)
	}
	if t.counts[what] == 0 {
		if len(t.order) == maxKinds {
			return
		}
		t.order = append(t.order, what)
	}
	t.counts[what]++
}

// packetOf describes a packet, of every kind that a leak may be of, and no other.
func packetOf(kind uint16, packet []byte) (what string, ok bool) {
	frame := make([]byte, etherHeader, etherHeader+len(packet))
	frame[12], frame[13] = byte(kind>>8), byte(kind)
	what = leak(append(frame, packet...), passage{four: netip.IPv4Unspecified(), six: netip.IPv6Unspecified(), ports: []uint16{}})
	return what, what != ""
}
