package hdlc

import "bytes"

const (
	// minRead is how much room Buffer gives at least: what one read of a pipe or
	// a socket brings at most, as a rule.
	minRead = 64 << 10

	// inserted is how many octets the path may put into a frame, on top of one
	// that is escaped throughout, before we take its end for lost.
	inserted = 4 << 10
)

// A Decoder finds the frames in what was read from a stream:
//
//	n, err := stream.Read(d.Buffer())
//	d.Fill(n)
//	for {
//		protocol, data, ok := d.Next()
//		...
//	}
//
// It owns the buffer that is read into and takes frames apart there, without a
// copy. Every octet is looked at once, however few come at a time. It accepts
// frames in every form: with or without ff 03, with a protocol of one octet or
// two, with more escaped than was agreed.
//
// What is not a good frame is dropped and counted, never an error: a frame may be
// lost, and which one it was the packets above must find out.
type Decoder struct {
	// Stats counts what has come in.
	Stats Stats

	max  int // of a packet's data, in octets
	most int // of a frame as it is on the stream, in octets, before its end counts as lost

	// buffer[start:scanned] is the beginning of a frame, with no flag in it;
	// buffer[scanned:end] has not been looked at; the rest is room.
	//
	// It has room for one frame and two reads, so that a frame's beginning is
	// moved at most once for each minRead octets that come in.
	buffer              []byte
	start, scanned, end int

	synced   bool // there was a flag: what comes next is a frame
	skipping bool // of a frame that is too long

	fcs      FCS
	dropping bool      // kinds says so of some octet
	kinds    [256]kind // of octets as they are on the stream
}

// Stats counts what a Decoder has met, in frames. Silence between flags is not a
// frame, and what comes before the first flag is not one unless it is good.
type Stats struct {
	Frames   uint64 // good ones
	FCS      uint64 // with an FCS that does not match
	Aborted  uint64 // ended by escape and flag, on purpose
	Short    uint64 // fewer than 4 octets
	Long     uint64 // more data than the Decoder takes
	Protocol uint64 // sound, but with a protocol that cannot be one, or another address
}

// NewDecoder returns a Decoder for packets with at most max octets of data. That
// is our MRU, and no less than 1500: a peer that was asked for less may still
// send as much (RFC 1661, section 6.1).
//
// It takes FCS16, and drops no octets: so it stays until LCP is open.
func NewDecoder(max int) *Decoder {
	d := &Decoder{max: max, most: 2*(overhead+max) + inserted}
	d.buffer = make([]byte, d.most+2*minRead)
	d.kinds[Escape] = kindEscape
	return d
}

// SetReceiveMap says which control octets the peer has agreed to escape. One of
// them that arrives as it is was put in by the path, and is dropped (RFC 1662,
// section 4.2). It holds for frames that Next has not returned yet.
//
// With an ACCM of 0 all octets are kept. That is for the time before LCP is open,
// when not every peer escapes what the default map asks for, for pppd's
// receive-all, and for whenever LCP leaves the open state.
func (d *Decoder) SetReceiveMap(a ACCM) {
	d.dropping = a != 0
	for c := range 32 {
		d.kinds[c] = kindKeep
		if a>>c&1 != 0 {
			d.kinds[c] = kindDrop
		}
	}
}

// SetFCS says which FCS was agreed on for what we receive. It holds for frames
// that Next has not returned yet.
//
// With FCS32, frames of LCP may also have the 16-bit FCS: a peer that
// negotiates anew or says goodbye has left the state in which the agreed one holds
// before we know (RFC 1570, section 2.1.1). Other packets need the agreed FCS; two
// chances would make the check weaker.
func (d *Decoder) SetFCS(f FCS) { d.fcs = f }

// Buffer returns room to read into, at least 64 KiB. What Next has returned
// becomes invalid.
func (d *Decoder) Buffer() []byte {
	switch {
	case d.start == d.end:
		d.start, d.scanned, d.end = 0, 0, 0
	case len(d.buffer)-d.end < minRead:
		n := copy(d.buffer, d.buffer[d.start:d.end])
		d.start, d.scanned, d.end = 0, d.scanned-d.start, n
	}
	return d.buffer[d.end:]
}

// Fill says that n octets were read into what Buffer returned. All frames must
// have been taken out with Next before the next Buffer.
func (d *Decoder) Fill(n int) {
	if n < 0 || n > len(d.buffer)-d.end {
		panic("hdlc: Fill with more than Buffer gave")
	}
	d.end += n
}

// Next returns the next good frame, or false when more must be read. data has at
// most max octets, padding included; it stays valid until the next Buffer, and
// may be written to.
func (d *Decoder) Next() (protocol uint16, data []byte, ok bool) {
	for {
		n := bytes.IndexByte(d.buffer[d.scanned:d.end], Flag)
		if n < 0 {
			d.scanned = d.end
			if d.end-d.start > d.most {
				d.skipping = true
			}
			if d.skipping {
				d.start = d.end
			}
			return 0, nil, false
		}
		raw := d.buffer[d.start : d.scanned+n]
		d.start = d.scanned + n + 1
		d.scanned = d.start
		synced := d.synced
		d.synced = true

		result := &d.Stats.Long
		switch {
		case d.skipping:
			d.skipping = false
		case len(raw) == 0:
			continue
		default:
			protocol, data, result = d.take(raw)
		}
		if result == &d.Stats.Frames {
			*result++
			return protocol, data, true
		}
		if synced {
			*result++
		}
	}
}

// take takes apart, in place, what stood between two flags, and says as what it
// counts.
func (d *Decoder) take(raw []byte) (protocol uint16, data []byte, result *uint64) {
	frame, aborted := d.unescape(raw)
	if aborted {
		return 0, nil, &d.Stats.Aborted
	}
	if len(frame) < 4 { // RFC 1662, section 4.3
		return 0, nil, &d.Stats.Short
	}
	switch {
	case d.fcs == FCS32 && passes32(frame):
		frame = frame[:len(frame)-4]
	case (d.fcs == FCS16 || bytes.HasPrefix(frame, lcpHead)) && passes16(frame):
		frame = frame[:len(frame)-2]
	default:
		return 0, nil, &d.Stats.FCS
	}
	protocol, data, ok := parse(frame)
	if !ok {
		return 0, nil, &d.Stats.Protocol
	}
	if len(data) > d.max {
		return 0, nil, &d.Stats.Long
	}
	return protocol, data[:len(data):len(data)], &d.Stats.Frames
}

// lcpHead begins every frame of LCP: nothing in it may be compressed
// (RFC 1661, sections 6.5 and 6.6).
var lcpHead = []byte{allStations, unnumbered, protocolLCP >> 8, protocolLCP & 0xff}

// parse takes address, control and protocol off a frame without its FCS.
func parse(frame []byte) (protocol uint16, data []byte, ok bool) {
	if len(frame) >= 2 && frame[0] == allStations {
		if frame[1] != unnumbered {
			return 0, nil, false
		}
		frame = frame[2:]
	}
	// A protocol ends at its first odd octet (RFC 1661, section 2).
	switch {
	case len(frame) >= 1 && frame[0]&1 != 0:
		return uint16(frame[0]), frame[1:], true
	case len(frame) >= 2 && frame[1]&1 != 0:
		return uint16(frame[0])<<8 | uint16(frame[1]), frame[2:], true
	}
	return 0, nil, false
}
