package usernat

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"github.com/bodkin-net/bodkin/tunnel"
)

const (
	// segmentsMost is how many segments one sendmsg with UDP_SEGMENT takes
	// (UDP_MAX_SEGMENTS of kernels before 6.9).
	segmentsMost = 64

	// segmentedMost is how many octets it takes: what one IPv4 packet carries.
	segmentedMost = 65535 - headerLen4 - headerLenUDP

	// fragmentless is the largest packet, in octets, whose don't-fragment bit
	// goes out as it came. Above it, no path keeps it whole, and the bit is a
	// habit of kernels that see a large MTU, not a probe.
	fragmentless = 1500
)

// putUDP writes a UDP header (RFC 768) into b; length is its own and the
// payload's, sum the checksum field.
func putUDP(b []byte, src, dst uint16, length int, sum uint16) {
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	binary.BigEndian.PutUint16(b[6:], sum)
}

// takeUDP sends the UDP datagram, or the super-packet of datagrams, in packet.
func (n *NAT) takeUDP(h *header, packet []byte, gso tunnel.Offload, now time.Time) {
	segment := h.payload(packet)
	data := segment[headerLenUDP:]
	size := int(gso.SegmentSize)
	if gso.Type != tunnel.GSOUDP || size == 0 {
		size = 0
		length := int(binary.BigEndian.Uint16(segment[4:]))
		if length < headerLenUDP || length > len(segment) {
			n.malformed(h)
			return
		}
		data = segment[headerLenUDP:length]
	}
	key := flowKey{
		src:   netip.AddrPortFrom(h.src, binary.BigEndian.Uint16(segment)),
		dst:   netip.AddrPortFrom(h.dst, binary.BigEndian.Uint16(segment[2:])),
		proto: protoUDP,
	}
	if n.dns[h.dst] {
		if key.dst.Port() != dnsPort {
			n.sendError(h, packet, noPort)
			return
		}
		n.takeQuery(key, data)
		return
	}
	if n.host[h.dst] {
		if found, err := n.visitors.reply(key, data, size, now); found {
			n.failedSend(err, h, packet)
			return
		}
	}
	f := n.sockets.get(key)
	if f == nil {
		if f = n.openFlow(key, h, packet, now, openUDP); f == nil {
			return
		}
		n.count.udp.Add(1)
	}
	f.mu.Lock()
	var err error
	if f.fd >= 0 {
		f.used = now
		f.set(h.ttl, h.df && h.end <= fragmentless && size == 0)
		err = f.sendUDP(data, size)
	}
	f.mu.Unlock()
	n.failedSend(err, h, packet)
}

// openFlow makes the flow of key, which the packet with header h begins. If it
// may not be, the sender is told so, and the result is nil.
func (n *NAT) openFlow(key flowKey, h *header, packet []byte, now time.Time, open func(dst netip.AddrPort) (fd int, raw bool, err error)) *flow {
	if !n.permits(target{h.dst, h.proto, key.dst.Port()}, now) {
		n.refuse(h, packet)
		return nil
	}
	if !n.place() {
		n.full(h, packet)
		n.sendError(h, packet, prohibited)
		return nil
	}
	fd, raw, err := open(netip.AddrPortFrom(n.outer(h.dst), key.dst.Port()))
	if err != nil {
		n.leave()
		if outOfSockets(err) {
			n.full(h, packet)
			n.sendError(h, packet, prohibited)
		} else {
			n.failedOpen(err, h, packet)
		}
		return nil
	}
	f := &flow{key: key, fd: fd, raw: raw, id: uint16(n.ids.Add(1)), used: now}
	if !n.sockets.add(f) {
		unix.Close(fd)
		n.leave()
		return nil
	}
	return f
}

// openUDP opens a UDP socket connected to dst.
func openUDP(dst netip.AddrPort) (fd int, raw bool, err error) {
	family := unix.AF_INET
	if dst.Addr().Is6() {
		family = unix.AF_INET6
	}
	if fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return -1, false, err
	}
	if err = prepare(fd, dst); err != nil {
		unix.Close(fd)
		return -1, false, err
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) // without it: one datagram at a time
	return fd, false, nil
}

// sendUDP sends data: one datagram, or, if size is not 0, datagrams of size
// octets each and the last of what is left. The caller holds f.mu.
func (f *flow) sendUDP(data []byte, size int) error {
	if size == 0 || len(data) <= size {
		return f.send(data, nil)
	}
	var control [32]byte // unix.CmsgSpace(2) is 24 at most
	most := min(segmentsMost, segmentedMost/size) * size
	for len(data) > 0 {
		run := data[:min(len(data), most)]
		err := f.send(run, segmentControl(control[:], size))
		switch {
		case err == unix.EINVAL, err == unix.EIO, err == unix.EMSGSIZE, err == unix.EOPNOTSUPP:
			// The device or the path cannot take segments of this size.
			for len(run) > 0 && (err == nil || err != unix.EAGAIN) {
				n := min(len(run), size)
				err = f.send(run[:n], nil)
				run = run[n:]
			}
		}
		if err != nil {
			return err
		}
		data = data[min(len(data), most):]
	}
	return nil
}

// segmentControl writes the control message UDP_SEGMENT (udp(7)) into b.
func segmentControl(b []byte, size int) []byte {
	n := unix.CmsgLen(2)
	clear(b)
	if wordSize == 8 {
		binary.NativeEndian.PutUint64(b, uint64(n))
	} else {
		binary.NativeEndian.PutUint32(b, uint32(n))
	}
	binary.NativeEndian.PutUint32(b[wordSize:], unix.IPPROTO_UDP)
	binary.NativeEndian.PutUint32(b[wordSize+4:], unix.UDP_SEGMENT)
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], uint16(size))
	return b[:unix.CmsgSpace(2)]
}

// wordSize is the size of size_t in octets.
const wordSize = unix.SizeofCmsghdr - 8

// send sends once. A failure that belongs to an earlier packet is left to the
// error queue, which has told it or will. The caller holds f.mu.
func (f *flow) send(data, control []byte) error {
	var err error
	for range 3 {
		err = send(f.fd, data, control)
		switch err {
		case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EPROTO, unix.ENOPROTOOPT:
			continue
		}
		break
	}
	return err
}

// failedOpen tells the sender of packet why no socket could be opened for it.
func (n *NAT) failedOpen(err error, h *header, packet []byte) {
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.ENETDOWN):
		n.sendError(h, packet, noNetwork)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		n.sendError(h, packet, prohibited)
	default:
		n.sendError(h, packet, noHost)
	}
}

// failedSend tells the sender of packet why it was not sent.
func (n *NAT) failedSend(err error, h *header, packet []byte) {
	switch err {
	case nil, unix.ECONNREFUSED, unix.EMSGSIZE: // the error queue tells these
	case unix.EAGAIN, unix.ENOBUFS:
		n.count.droppedFull.Add(1)
	default:
		n.failedOpen(err, h, packet)
	}
}

// answerUDP brings what r received for f inside.
func (n *NAT) answerUDP(f *flow, r *receiver) {
	data := r.data[:r.n]
	ip, size := headerLenOf(f.key.src.Addr()), r.facts.segment
	ttl := r.facts.ttl
	if ttl == 0 {
		ttl = ttlOwn
	}
	if size == 0 || size >= len(data) {
		n.emitUDP(f.key.dst, f.key.src, ttl, data, tunnel.Offload{}, true)
		return
	}
	if ip+headerLenUDP+size <= n.stack.MTU() && headerLen4+headerLenUDP+len(data) <= 65535 {
		n.emitUDP(f.key.dst, f.key.src, ttl, data, tunnel.Offload{Type: tunnel.GSOUDP, SegmentSize: uint16(size)}, true)
		return
	}
	for len(data) > 0 {
		k := min(len(data), size)
		n.emitUDP(f.key.dst, f.key.src, ttl, data[:k], tunnel.Offload{}, true)
		data = data[k:]
	}
}

// emitUDP sends a datagram inside. Its checksum is left to do, unless it must be
// fragmented.
func (n *NAT) emitUDP(src, dst netip.AddrPort, ttl uint8, data []byte, gso tunnel.Offload, wait bool) {
	var head [headerLenUDP]byte
	length := headerLenUDP + len(data)
	ip := headerLenOf(src.Addr())
	sum := pseudoSum(src.Addr(), dst.Addr(), protoUDP, length)
	if gso.Type == tunnel.GSONone && ip+length > n.stack.MTU() {
		putUDP(head[:], src.Port(), dst.Port(), length, 0)
		sum = ^checksum.Combine(checksum.Checksum(head[:], sum), checksum.Checksum(data, 0))
		if sum == 0 {
			sum = 0xffff // RFC 768: 0 would say that there is none
		}
	} else {
		gso.NeedsChecksum = true
	}
	putUDP(head[:], src.Port(), dst.Port(), length, sum)
	n.emit(src.Addr(), dst.Addr(), protoUDP, ttl, head[:], data, gso, wait)
}
