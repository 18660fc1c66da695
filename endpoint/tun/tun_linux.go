package tun

// A packet from a program of this machine walks
//
//	kernel -> read(2) into the batch buffer (ReadPackets) -> tunnel.Join -> the link
//
// and one to it
//
//	the link's receive buffer -> tunnel.Join -> writev(2) of header and packet (WritePackets) -> kernel
//
// so that nothing here copies it.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/tunnel"
)

// Kinds and flags of struct virtio_net_hdr (Virtual I/O Device 1.2, section
// 5.1.6); UDP_L4 is Linux's own.
const (
	vnetNeedsChecksum = 1 // flags

	vnetNone  = 0 // gso_type
	vnetTCPv4 = 1
	vnetTCPv6 = 4
	vnetUDPL4 = 5
	vnetECN   = 0x80
)

// batchOctets is the size of the read buffer: a batch ends when a further
// super-packet might not fit. Three of them whole are enough to amortise the
// wake-ups, and few enough for the processor's cache.
const batchOctets = 3 * (vnetHeaderLen + tunnel.MaxPacket)

// A Device is one queue of a TUN device.
type Device struct {
	file *os.File
	raw  syscall.RawConn
	caps tunnel.Caps
	buf  []byte

	// The arguments and results of the two closures below, which are made once
	// so that a call allocates nothing.
	in, out  []tunnel.Packet
	n        int
	readErr  error
	writeErr error
	reader   func(fd uintptr) bool
	writer   func(fd uintptr) bool
	header   [vnetHeaderLen]byte
	vector   [2]unix.Iovec
	dropped  atomic.Uint64
	closed   atomic.Bool
}

// Open makes a Port of the queue file that Create returned, in this process or
// in another. It owns file from then on, and closes it. mtu is the device's, in
// octets.
func Open(file *os.File, mtu int) (*Device, error) {
	defer file.Close()
	polled, err := poll(file)
	if err != nil {
		return nil, fmt.Errorf("tun: %w", err)
	}
	raw, err := polled.SyscallConn()
	if err != nil {
		polled.Close()
		return nil, fmt.Errorf("tun: %w", err)
	}
	d := &Device{file: polled, raw: raw, buf: make([]byte, batchOctets)}
	var uso bool
	if cerr := raw.Control(func(fd uintptr) { uso, err = setOffload(int(fd)) }); cerr != nil || err != nil {
		polled.Close()
		return nil, fmt.Errorf("tun: %w", errors.Join(cerr, err))
	}
	d.caps = tunnel.Caps{MTU: mtu, Offloads: tunnel.OffloadChecksum | tunnel.OffloadTSO4 | tunnel.OffloadTSO6}
	if uso {
		d.caps.Offloads |= tunnel.OffloadUSO
	}
	d.reader, d.writer = d.read, d.write
	return d, nil
}

// poll returns a file of its own for the queue, non-blocking and in the runtime's
// poller.
func poll(file *os.File) (*os.File, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	if cerr := raw.Control(func(old uintptr) {
		if fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetNonblock(fd, true)
		}
	}); cerr != nil || err != nil {
		return nil, errors.Join(cerr, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Caps says what the kernel takes.
func (d *Device) Caps() tunnel.Caps { return d.caps }

// Dropped counts the packets that the kernel would not take, and those from it
// that could not be carried.
func (d *Device) Dropped() uint64 { return d.dropped.Load() }

// Close wakes both directions. The device goes when no process holds its file.
func (d *Device) Close() error {
	d.closed.Store(true)
	return d.file.Close()
}

// ReadPackets waits for a packet, then takes what waits behind it.
func (d *Device) ReadPackets(p []tunnel.Packet) (int, error) {
	for {
		d.in, d.n, d.readErr = p, 0, nil
		err := d.raw.Read(d.reader)
		if d.n > 0 {
			return d.n, nil
		}
		if err = d.end(err, d.readErr); err != nil {
			return 0, err
		}
	}
}

// read fills d.in until the queue is empty or the buffer full. It reports
// false, to be called again when there is something, only when it got nothing.
func (d *Device) read(fd uintptr) bool {
	at, got := 0, false
	for d.n < len(d.in) && len(d.buf)-at >= vnetHeaderLen+tunnel.MaxPacket {
		n, err := read(fd, d.buf[at:])
		switch err {
		case 0:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return got
		default:
			d.readErr = err
			return true
		}
		got = true
		if n < vnetHeaderLen {
			d.dropped.Add(1)
			continue
		}
		packet, ok := parseVnet(d.buf[at : at+n : at+n])
		if !ok {
			d.dropped.Add(1)
			continue
		}
		d.in[d.n] = packet
		d.n++
		at += n
	}
	return true
}

// parseVnet makes a packet of what the kernel wrote: a virtio_net_hdr, in the
// machine's own byte order, and the packet behind it.
//
//	   1       1        2         2           2            2
//	+-------+------+---------+---------+-----------+------------+
//	| flags | type | hdr_len | gso_size| csum_start| csum_offset|
//	+-------+------+---------+---------+-----------+------------+
//
// hdr_len is what lies in the kernel's linear buffer, no header's length, so it
// is not used.
func parseVnet(b []byte) (tunnel.Packet, bool) {
	p := tunnel.Packet{Data: b[vnetHeaderLen:]}
	if b[0]&vnetNeedsChecksum == 0 {
		return p, b[1] == vnetNone
	}
	start, offset := int(binary.NativeEndian.Uint16(b[6:])), int(binary.NativeEndian.Uint16(b[8:]))
	p.GSO.NeedsChecksum = true
	p.GSO.SegmentSize = binary.NativeEndian.Uint16(b[4:])
	switch b[1] &^ vnetECN {
	case vnetNone:
		p.GSO.SegmentSize = 0
	case vnetTCPv4:
		p.GSO.Type = tunnel.GSOTCP4
	case vnetTCPv6:
		p.GSO.Type = tunnel.GSOTCP6
	case vnetUDPL4:
		p.GSO.Type = tunnel.GSOUDP
	default:
		return p, false
	}
	h, err := tunnel.Parse(p.Data)
	if err == nil && h.Transport == start && h.ChecksumOffset() == offset {
		return p, true
	}
	// The sum is not the outer TCP's or UDP's: that of a packet inside, from a
	// tunnel in this tunnel. Nobody further on knows of such, so do it here.
	if p.GSO.Type != tunnel.GSONone {
		return p, false
	}
	p.GSO = tunnel.Offload{}
	return p, tunnel.CompleteChecksum(p.Data, start, offset)
}

// WritePackets hands the packets to the kernel, each with one system call, as
// TUN has no other way. Those the kernel refuses are dropped and counted.
func (d *Device) WritePackets(p []tunnel.Packet) error {
	for i := range p {
		h, err := p[i].Check()
		if err != nil {
			d.dropped.Add(1)
			continue
		}
		d.putVnet(p[i], h)
		d.out, d.writeErr = p[i:i+1], nil
		err = d.raw.Write(d.writer)
		if err = d.end(err, d.writeErr); err != nil {
			return err
		}
	}
	return nil
}

// putVnet writes the virtio_net_hdr of p into d.header.
func (d *Device) putVnet(p tunnel.Packet, h tunnel.Header) {
	d.header = [vnetHeaderLen]byte{}
	if !p.GSO.NeedsChecksum {
		return
	}
	d.header[0] = vnetNeedsChecksum
	binary.NativeEndian.PutUint16(d.header[6:], uint16(h.Transport))
	binary.NativeEndian.PutUint16(d.header[8:], uint16(h.ChecksumOffset()))
	switch p.GSO.Type {
	case tunnel.GSONone:
		return
	case tunnel.GSOTCP4:
		d.header[1] = vnetTCPv4
	case tunnel.GSOTCP6:
		d.header[1] = vnetTCPv6
	case tunnel.GSOUDP:
		d.header[1] = vnetUDPL4
	}
	binary.NativeEndian.PutUint16(d.header[2:], uint16(h.Payload))
	binary.NativeEndian.PutUint16(d.header[4:], p.GSO.SegmentSize)
}

// write writes d.header and d.out[0] as one packet. It reports false, to be
// called again when there is room.
func (d *Device) write(fd uintptr) bool {
	data := d.out[0].Data
	d.vector[0].Base, d.vector[1].Base = &d.header[0], &data[0]
	d.vector[0].SetLen(vnetHeaderLen)
	d.vector[1].SetLen(len(data))
	for {
		err := writev(fd, &d.vector)
		switch err {
		case 0:
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		case unix.EINVAL, unix.EMSGSIZE, unix.ENOBUFS, unix.ENOMEM, unix.EIO, unix.EPERM, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EFAULT:
			// The packet is not to the kernel's taste, or the device is not up
			// yet (EIO): the tunnel goes on without it.
			d.dropped.Add(1)
			return true
		default:
			d.writeErr = err
			return true
		}
	}
}

// end makes the error of a queue's end: net.ErrClosed after Close, else what
// the kernel said.
func (d *Device) end(err, kernel error) error {
	switch {
	case d.closed.Load() || errors.Is(err, os.ErrClosed):
		return net.ErrClosed
	case errors.Is(kernel, unix.EBADFD) || errors.Is(kernel, unix.ENODEV):
		return fmt.Errorf("tun: the device is gone: %w", kernel)
	case kernel != nil:
		return fmt.Errorf("tun: %w", kernel)
	case err != nil:
		return fmt.Errorf("tun: %w", err)
	}
	return nil
}
