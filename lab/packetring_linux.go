package lab

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ringFrame  = 2048     // octets of a slot: a full Ethernet frame and what the kernel says of it
	ringBlock  = 64 << 10 // octets that the kernel allocates at once
	ringFrames = 4096     // slots: what 1 Gbit/s of full frames brings in 50 ms, 8 MiB
)

// A packetRing receives the frames that come in by one device, and sends others out
// by it (packet(7)). The kernel writes what comes into memory that it shares, each
// frame with the time of its coming: who looks late still knows when it was.
type packetRing struct {
	fd   int
	ring []byte
	next int // the slot that is read next
}

// openRing opens a device of the calling thread's network. The caller closes it.
func openRing(index int) (r *packetRing, err error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	r = &packetRing{fd: fd}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	for _, o := range []struct {
		name              string
		level, opt, value int
	}{
		{"PACKET_VERSION", unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2},
		{"PACKET_IGNORE_OUTGOING", unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{"PACKET_QDISC_BYPASS", unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1},
		{"SO_SNDBUFFORCE", unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4 << 20},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return nil, fmt.Errorf("setting %s: %w", o.name, err)
		}
	}
	request := unix.TpacketReq{Block_size: ringBlock, Block_nr: ringFrames * ringFrame / ringBlock, Frame_size: ringFrame, Frame_nr: ringFrames}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &request); err != nil {
		return nil, fmt.Errorf("setting PACKET_RX_RING: %w", err)
	}
	if r.ring, err = unix.Mmap(fd, 0, ringFrames*ringFrame, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("mapping the ring: %w", err)
	}
	// Last: from here on frames come.
	return r, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: index})
}

func (r *packetRing) close() {
	if r.ring != nil {
		unix.Munmap(r.ring)
	}
	unix.Close(r.fd)
}

// A received is a frame in the ring, valid until release.
type received struct {
	octets []byte // from the Ethernet header on
	came   int64  // nanoseconds of the wall clock
	whole  bool   // it fit into its slot, and its checksums are complete
}

// receive returns the next frame that has come, or false.
func (r *packetRing) receive() (f received, ok bool) {
	slot := r.ring[r.next*ringFrame:][:ringFrame]
	h := (*unix.Tpacket2Hdr)(unsafe.Pointer(&slot[0]))
	status := atomic.LoadUint32(&h.Status)
	if status&unix.TP_STATUS_USER == 0 {
		return received{}, false
	}
	f.octets = slot[h.Mac:][:h.Snaplen]
	f.came = int64(h.Sec)*1e9 + int64(h.Nsec)
	f.whole = h.Snaplen == h.Len && status&unix.TP_STATUS_CSUMNOTREADY == 0
	return f, true
}

// release gives the slot of the last frame back.
func (r *packetRing) release() {
	h := (*unix.Tpacket2Hdr)(unsafe.Pointer(&r.ring[r.next*ringFrame]))
	atomic.StoreUint32(&h.Status, unix.TP_STATUS_KERNEL)
	r.next = (r.next + 1) % ringFrames
}

// send sends a frame out by the device.
func (r *packetRing) send(frame []byte) error {
	_, err := unix.Write(r.fd, frame)
	return err
}

// overrun is how many frames found the ring full since the last call.
func (r *packetRing) overrun() int64 {
	st, err := unix.GetsockoptTpacketStats(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return int64(st.Drops)
}

// carriesIP says whether a frame holds an IP packet.
func carriesIP(frame []byte) bool {
	if len(frame) < etherHeader {
		return false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP, unix.ETH_P_IPV6:
		return true
	}
	return false
}
