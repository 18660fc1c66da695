package hdlc

import "slices"

// A Format is how the frames of one direction look. The zero Format is the
// default one, but that it escapes only flag and escape themselves.
//
// LCP packets with codes 1 to 7 are always sent with the default Format, whatever
// is agreed (RFC 1661, section 5): Escape holding at least DefaultACCM, and all else
// zero. So a caller has two. RFC 1570, section 2.1.1, recommends a copy with the
// agreed FCS before those that end an open link; here a Decoder takes either.
type Format struct {
	Escape Set
	FCS    FCS
	ACFC   bool // leave out ff 03, but not from LCP's frames (RFC 1661, section 6.6)
	PFC    bool // send protocols below 0x100 in one octet (RFC 1661, section 6.5)
}

// Append appends to dst one frame that holds data, and returns the longer slice,
// in the manner of append. data may not lie in the room that dst has.
//
//	0 or 1 0 or 1   1 or 2   len(data)  2 or 4    1     octets, before escaping
//	+------+------+----------+--------+--------+------+
//	| 0xff | 0x03 | protocol |  data  |  FCS   | 0x7e |  RFC 1662, section 3.1
//	+------+------+----------+--------+--------+------+
//
// The flag that ends a frame opens the next. What precedes the first frame, and
// one after an idle second, may be noise by then, which a flag closes off
// (RFC 1662, section 4.4): there the caller appends a Flag before the frame.
//
// The protocol goes out high octet first, the FCS low octet first. At worst a
// frame is 2*len(data)+17 octets; with so much room in dst nothing is allocated.
func (f *Format) Append(dst []byte, protocol uint16, data []byte) []byte {
	var headArray, fcsArray [4]byte
	head := headArray[:0]
	if !f.ACFC || protocol == protocolLCP {
		head = append(head, allStations, unnumbered)
	}
	// A frame of three octets would be no frame (RFC 1662, section 4.3).
	if !f.PFC || protocol > 0xff || len(data) == 0 {
		head = append(head, byte(protocol>>8))
	}
	head = append(head, byte(protocol))

	dst = slices.Grow(dst, 2*(overhead+len(data))+1)
	dst = f.Escape.append(dst, head)
	dst = f.Escape.append(dst, data)
	dst = f.Escape.append(dst, f.FCS.appendFCS(fcsArray[:0], head, data))
	return append(dst, Flag)
}
