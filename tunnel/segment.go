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
// super-packet. What TCP and IP change from one segment to the next is in RFC
// 9293, section 3.1 (sequence number, PSH and FIN only on the last), RFC 3168,
// section 6.1.2 (CWR only on the first) and RFC 6864 (the IPv4 identification).
func (f *fitter) segment(p Packet, h Header) {
	headers, payload := p.Data[:h.Payload], p.Data[h.Payload:]
	size := int(p.GSO.SegmentSize)
	if p.GSO.Type == GSONone {
		size = max(len(payload), 1)
	}
	for i, at := 0, 0; at < len(payload) || i == 0; i, at = i+1, at+size {
		end := min(at+size, len(payload))
		start := len(f.buf)
		f.buf = append(append(f.buf, headers...), payload[at:end]...)
		d := f.buf[start:len(f.buf):len(f.buf)]
		if h.Version == 4 {
			binary.BigEndian.PutUint16(d[2:], uint16(len(d)))
			binary.BigEndian.PutUint16(d[4:], binary.BigEndian.Uint16(d[4:])+uint16(i))
			setIPv4Checksum(d, int(d[0]&0x0f)*4)
		} else {
			binary.BigEndian.PutUint16(d[4:], uint16(len(d)-40))
		}
		t := d[h.Transport:]
		switch h.Protocol {
		case ProtoTCP:
			binary.BigEndian.PutUint32(t[4:], binary.BigEndian.Uint32(t[4:])+uint32(at))
			if end < len(payload) {
				t[13] &^= tcpFIN | tcpPSH
			}
			if i > 0 {
				t[13] &^= tcpCWR
			}
		case ProtoUDP:
			binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
		}
		setChecksum(d, h)
		f.out = append(f.out, Packet{Data: d})
	}
}

// TCP header flags (RFC 9293, section 3.1).
const (
	tcpFIN = 0x01
	tcpPSH = 0x08
	tcpCWR = 0x80
)
