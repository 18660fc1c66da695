package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	maxLeaks    = 1000            // different leaks remembered; a test fails on the first
	fenceWait   = 5 * time.Second // for a packet to cross one cable
	etherFence  = 0x88b5          // IEEE Std 802, local experimental EtherType 1
	etherHeader = 14              // octets of an Ethernet header without tags
	snapLength  = 256             // octets of a packet that are looked at: all headers
)

// A leakLog records what comes out of the laptop and should not: every packet but
// TCP within the passage, and the link's own housekeeping. It
// looks at the firewall's end of the laptop's cable, before any filter.
type leakLog struct {
	firewall, laptop *Machine
	passage          passage
	sock             *os.File
	reader           sync.WaitGroup

	mu     sync.Mutex
	count  map[string]int
	order  []string // the keys of count as they came
	others int      // leaks beyond maxLeaks
	fences map[string]chan struct{}
	ended  error // why reading stopped
}

// watch starts the record.
func watch(firewall, laptop *Machine, p passage) (*leakLog, error) {
	w := &leakLog{firewall: firewall, laptop: laptop, passage: p, count: make(map[string]int), fences: make(map[string]chan struct{})}
	link, err := firewall.netlink.LinkByName("eth0")
	if err != nil {
		return nil, fmt.Errorf("lab: firewall: finding eth0: %w", err)
	}
	filter, err := bpf.Assemble(passWhatMayLeak(p))
	if err != nil {
		return nil, fmt.Errorf("lab: firewall: assembling the record's filter: %w", err)
	}
	err = firewall.Do(func() error {
		// Protocol 0 hears nothing until bind, when the filter is in place.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		w.sock = os.NewFile(uintptr(fd), "leaks")
		raw := make([]unix.SockFilter, len(filter))
		for i, f := range filter {
			raw[i] = unix.SockFilter{Code: f.Op, Jt: f.Jt, Jf: f.Jf, K: f.K}
		}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]}); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: link.Attrs().Index})
	})
	if err != nil {
		if w.sock != nil {
			w.sock.Close()
		}
		return nil, fmt.Errorf("lab: firewall: starting the record of leaks: %w", err)
	}
	w.reader.Go(w.read)
	return w, nil
}

// passWhatMayLeak is a filter that hides the tunnel's own packets, so that the
// record costs nothing while it carries. leak decides about what is left.
func passWhatMayLeak(p passage) []bpf.Instruction {
	const accept, reject = snapLength, 0
	program := []bpf.Instruction{
		// What we send to the laptop is seen here too (packet(7)).
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OUTGOING, SkipTrue: 1},
		bpf.RetConstant{Val: reject},
	}
	ports := func() (is []bpf.Instruction) { // the port is in A
		if p.ports == nil {
			return []bpf.Instruction{bpf.RetConstant{Val: reject}}
		}
		for _, port := range p.ports {
			is = append(is, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(port), SkipTrue: 1}, bpf.RetConstant{Val: reject})
		}
		return append(is, bpf.RetConstant{Val: accept})
	}
	// A block accepts where one of its tests fails, and ends by looking at the port.
	type test struct{ load, pass bpf.Instruction } // pass skips one instruction if true
	equal := func(off, size int, value uint32) test {
		return test{bpf.LoadAbsolute{Off: uint32(etherHeader + off), Size: size}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: value, SkipTrue: 1}}
	}
	block := func(tests []test, loadPort ...bpf.Instruction) (is []bpf.Instruction) {
		for _, t := range tests {
			is = append(is, t.load, t.pass, bpf.RetConstant{Val: accept})
		}
		return append(append(is, loadPort...), ports()...)
	}
	four := block([]test{
		{bpf.LoadAbsolute{Off: etherHeader, Size: 1}, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: 4<<4 | 5, SkipTrue: 1}},
		{bpf.LoadAbsolute{Off: etherHeader, Size: 1}, bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: 4<<4 | 15, SkipTrue: 1}},
		{bpf.LoadAbsolute{Off: etherHeader + 6, Size: 2}, bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: 0x1fff, SkipTrue: 1}}, // no later fragment
		equal(9, 1, unix.IPPROTO_TCP),
		equal(16, 4, binary.BigEndian.Uint32(p.four.AsSlice())),
	}, bpf.LoadMemShift{Off: etherHeader}, bpf.LoadIndirect{Off: etherHeader + 2, Size: 2})
	tests := []test{equal(6, 1, unix.IPPROTO_TCP)}
	for i := 0; i < 16; i += 4 {
		tests = append(tests, equal(24+i, 4, binary.BigEndian.Uint32(p.six.AsSlice()[i:])))
	}
	six := block(tests, bpf.LoadAbsolute{Off: etherHeader + 40 + 2, Size: 2})
	program = append(program,
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: uint8(len(four))})
	program = append(program, four...)
	program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IPV6, SkipTrue: 1}, bpf.RetConstant{Val: accept})
	return append(program, six...)
}

func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }

// read records packets until the socket closes.
func (w *leakLog) read() {
	buf := make([]byte, snapLength)
	for {
		n, err := w.sock.Read(buf)
		if err != nil {
			w.mu.Lock()
			w.ended = err
			w.mu.Unlock()
			return
		}
		w.record(buf[:n])
	}
}

func (w *leakLog) record(frame []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(frame) >= etherHeader && binary.BigEndian.Uint16(frame[12:]) == etherFence {
		token := string(bytes.TrimRight(frame[etherHeader:], "\x00"))
		if passed, ok := w.fences[token]; ok {
			close(passed)
			delete(w.fences, token)
		}
		return
	}
	what := leak(frame, w.passage)
	if what == "" {
		return
	}
	if w.count[what] == 0 {
		if len(w.order) == maxLeaks {
			w.others++
			return
		}
		w.order = append(w.order, what)
	}
	w.count[what]++
}

// leak says in words what a frame from the laptop leaks, or "" if nothing.
func leak(frame []byte, p passage) string {
	if len(frame) < etherHeader {
		return fmt.Sprintf("a frame of %d octets", len(frame))
	}
	packet := frame[etherHeader:]
	switch kind := binary.BigEndian.Uint16(frame[12:]); kind {
	case unix.ETH_P_ARP:
		return ""
	case unix.ETH_P_IP:
		if len(packet) < 20 || int(packet[0]&15)*4 < 20 || len(packet) < int(packet[0]&15)*4 {
			return "a malformed IPv4 packet"
		}
		src, _ := netip.AddrFromSlice(packet[12:16])
		dst, _ := netip.AddrFromSlice(packet[16:20])
		proto, payload := packet[9], packet[int(packet[0]&15)*4:]
		if binary.BigEndian.Uint16(packet[6:])&0x1fff != 0 {
			return fmt.Sprintf("a fragment from %v to %v, protocol %d", src, dst, proto)
		}
		// IGMP for the link's own groups (RFC 2236, RFC 3376).
		if proto == unix.IPPROTO_IGMP && dst.IsMulticast() {
			return ""
		}
		return describe(src, dst, proto, payload, p)
	case unix.ETH_P_IPV6:
		if len(packet) < 40 {
			return "a malformed IPv6 packet"
		}
		src, _ := netip.AddrFromSlice(packet[8:24])
		dst, _ := netip.AddrFromSlice(packet[24:40])
		proto, payload := packet[6], packet[40:]
		// Multicast listener reports carry a hop-by-hop header with the router
		// alert (RFC 3810, section 5).
		if proto == unix.IPPROTO_HOPOPTS && dst.IsLinkLocalMulticast() && len(payload) > 8 && payload[0] == unix.IPPROTO_ICMPV6 && payload[1] == 0 {
			if t := payload[8]; t == 131 || t == 132 || t == 143 {
				return ""
			}
		}
		// Neighbour discovery (RFC 4861, section 4).
		if proto == unix.IPPROTO_ICMPV6 && len(payload) > 0 && payload[0] >= 133 && payload[0] <= 136 {
			return ""
		}
		return describe(src, dst, proto, payload, p)
	default:
		return fmt.Sprintf("a frame of EtherType 0x%04x", kind)
	}
}

// describe says what an IP packet leaks, or "" if it is the tunnel's own.
func describe(src, dst netip.Addr, proto byte, payload []byte, p passage) string {
	name := map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}[proto]
	if name == "" {
		if (proto == unix.IPPROTO_ICMP || proto == unix.IPPROTO_ICMPV6) && len(payload) >= 2 {
			return fmt.Sprintf("icmp type %d code %d from %v to %v", payload[0], payload[1], src, dst)
		}
		return fmt.Sprintf("protocol %d from %v to %v", proto, src, dst)
	}
	if len(payload) < 4 {
		return fmt.Sprintf("a malformed %s packet from %v to %v", name, src, dst)
	}
	port := binary.BigEndian.Uint16(payload[2:])
	if name == "tcp" && p.allows(dst, port) {
		return ""
	}
	return fmt.Sprintf("%s from %v to %v", name, src, netip.AddrPortFrom(dst, port))
}

// fence returns once every packet that left the laptop before has been recorded:
// it sends one of its own from each processor, since each has a queue of its own.
func (w *leakLog) fence() error {
	link, err := w.laptop.netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	var passed []chan struct{}
	err = w.laptop.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		var cpus unix.CPUSet
		if err := unix.SchedGetaffinity(0, &cpus); err != nil {
			return err
		}
		for cpu := range len(cpus) * strconv.IntSize {
			if !cpus.IsSet(cpu) {
				continue
			}
			var one unix.CPUSet
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				return err
			}
			token := fmt.Sprintf("fence %d %d", time.Now().UnixNano(), cpu)
			ch := make(chan struct{})
			w.mu.Lock()
			w.fences[token] = ch
			w.mu.Unlock()
			passed = append(passed, ch)

			frame := make([]byte, 60) // the shortest of Ethernet; to everyone, from nobody
			copy(frame, []byte{255, 255, 255, 255, 255, 255})
			binary.BigEndian.PutUint16(frame[12:], etherFence)
			copy(frame[etherHeader:], token)
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Protocol: networkOrder(etherFence), Ifindex: link.Attrs().Index, Halen: 6}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	timeout := time.NewTimer(fenceWait)
	defer timeout.Stop()
	for _, ch := range passed {
		select {
		case <-ch:
		case <-timeout.C:
			return errors.New("the laptop's cable carries nothing")
		}
	}
	return nil
}

func (w *leakLog) close() {
	w.sock.Close()
	w.reader.Wait()
}

// Leaks lists what left the laptop outside the tunnel since the lab began or
// ResetLeaks: everything but TCP to the gateway's allowed ports (or, if the
// firewall is closed, to the firewall), ARP, neighbour
// discovery and multicast reports. One line each, with a count, in the order they
// came. When it returns, every packet sent before the call is accounted for; if
// that cannot be had, it says so in a line of its own.
func (l *Lab) Leaks() []string {
	w := l.leaks
	err := w.fence()
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for _, what := range w.order {
		lines = append(lines, fmt.Sprintf("%s (%d times)", what, w.count[what]))
	}
	if w.others > 0 {
		lines = append(lines, fmt.Sprintf("%d packets of other kinds", w.others))
	}
	if err != nil {
		lines = append(lines, fmt.Sprintf("the record is incomplete: %v", err))
	}
	if w.ended != nil {
		lines = append(lines, fmt.Sprintf("the record ended: %v", w.ended))
	}
	if n := w.dropped(); n > 0 {
		lines = append(lines, fmt.Sprintf("%d packets came too fast to be looked at", n))
	}
	return lines
}

// dropped is how many packets the kernel could not queue for us since the last call.
func (w *leakLog) dropped() (n uint32) {
	raw, err := w.sock.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		if st, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			n = st.Drops
		}
	})
	return n
}

// ResetLeaks forgets what left the laptop so far.
func (l *Lab) ResetLeaks() error {
	w := l.leaks
	if err := w.fence(); err != nil {
		return fmt.Errorf("lab: firewall: clearing the record of leaks: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count, w.order, w.others = make(map[string]int), nil, 0
	w.dropped()
	return nil
}
