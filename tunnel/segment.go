package tunnel

import "encoding/binary"

// A fitter makes packets fit for a Port that takes fewer offloads than the
// one they came from. Its buffers are reused from batch to batch.
type fitter struct {
	caps Caps
	out  []Packet
	buf  []byte
}

// fit returns the packets of in, in their order, as f.caps takes them:
// super-packets cut into segments and checksums completed where needed. The
// result, and its Data, are valid until the next call or until those of in are
// not. A packet that is not what its facts say is left out.
func (f *fitter) fit(in []Packet) []Packet {
	first := 0
	for first < len(in) && f.takes(in[first].GSO) {
		first++
	}
	if first == len(in) { // the usual case: nothing to do
		return in
	}
	f.out = append(f.out[:0], in[:first]...)
	f.buf = f.buf[:0]
	for _, p := range in[first:] {
		if f.takes(p.GSO) {
			f.out = append(f.out, p)
			continue
		}
		h, err := p.Check()
		if err != nil {
			continue
		}
		f.segment(p, h)
	}
	return f.out
}

// takes reports whether the Port takes packets with facts o as they are.
func (f *fitter) takes(o Offload) bool {
	switch o.Type {
	case GSOTCP4:
		return f.caps.Offloads.Has(OffloadTSO4)
	case GSOTCP6:
		return f.caps.Offloads.Has(OffloadTSO6)
	case GSOUDP:
		return f.caps.Offloads.Has(OffloadUSO)
	}
	return !o.NeedsChecksum || f.caps.Offloads.Has(OffloadChecksum)
}

// segment appends the segments of p, complete, to f.out: one when p is no
// super-packet.
func (f *fitter) segment(p Packet, h Header) {
	c := Cutter{Packet: p, Header: h, Size: int(p.GSO.SegmentSize)}
	if p.GSO.Type == GSONone {
		c.Size = max(len(p.Data)-h.Payload, 1)
	}
	for {
		var segment Packet
		f.buf, segment = c.Append(f.buf, 1)
		f.out = append(f.out, segment)
		if c.Left() == 0 {
			return
		}
	}
}

// A Cutter takes a packet apart, into segments or into smaller super-packets. What
// TCP and IP change from one segment to the next is in RFC 9293, section 3.1 (sequence
// number, PSH and FIN only on the last), RFC 3168, section 6.1.2 (CWR only on the
// first) and RFC 6864 (the IPv4 identification).
type Cutter struct {
	Packet   Packet   // TCP, or a super-packet, as Check accepts it
	Header   Header   // what Check said of it
	Size     int      // payload octets of each segment but the last: those of the GSO, or where there is none, any
	Offloads Offloads // without OffloadChecksum, single segments are completed

	taken int // payload octets that are gone
}

// Left returns how many octets of the payload are still there.
func (c *Cutter) Left() int { return len(c.Packet.Data) - c.Header.Payload - c.taken }

// Skip leaves the next so many segments out.
func (c *Cutter) Skip(segments int) { c.taken += min(segments*c.Size, c.Left()) }

// Append appends to dst the next so many segments, as one packet, and returns the longer
// slice and that packet, whose Data lies in it. More than one segment are a super-packet
// again, which only a super-packet has; one is an ordinary packet whose checksum is left
// to do if the whole one's was and Offloads say so, else complete.
func (c *Cutter) Append(dst []byte, segments int) (longer []byte, piece Packet) {
	p, h := c.Packet, c.Header
	payload := p.Data[h.Payload:]
	from, end := c.taken, min(c.taken+segments*c.Size, len(payload))
	start := len(dst)
	dst = append(append(dst, p.Data[:h.Payload]...), payload[from:end]...)
	d := dst[start:len(dst):len(dst)]
	if h.Version == 4 {
		binary.BigEndian.PutUint16(d[2:], uint16(len(d)))
		binary.BigEndian.PutUint16(d[4:], binary.BigEndian.Uint16(d[4:])+uint16(from/c.Size))
		setIPv4Checksum(d, int(d[0]&0x0f)*4)
	} else {
		binary.BigEndian.PutUint16(d[4:], uint16(len(d)-40))
	}
	t := d[h.Transport:]
	switch h.Protocol {
	case ProtoTCP:
		binary.BigEndian.PutUint32(t[4:], binary.BigEndian.Uint32(t[4:])+uint32(from))
		if end < len(payload) {
			t[13] &^= tcpFIN | tcpPSH
		}
		if from > 0 {
			t[13] &^= tcpCWR
		}
	case ProtoUDP:
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
	}
	c.taken = end
	piece.Data = d
	switch {
	case end-from > c.Size:
		piece.GSO = p.GSO
	case p.GSO.NeedsChecksum && c.Offloads.Has(OffloadChecksum):
		piece.GSO.NeedsChecksum = true
	default:
		setChecksum(d, h)
		return dst, piece
	}
	binary.BigEndian.PutUint16(t[h.ChecksumOffset():], fold(pseudoHeader(d, h, len(t))))
	return dst, piece
}

// TCP header flags (RFC 9293, section 3.1).
const (
	tcpFIN = 0x01
	tcpPSH = 0x08
	tcpCWR = 0x80
)
