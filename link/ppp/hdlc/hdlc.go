// Package hdlc frames PPP packets for octet streams, as described in RFC 1662,
// "PPP in HDLC-like Framing". It turns packets into octets and back, starts no
// goroutine and knows nothing of LCP: its caller says which octets the stream
// cannot carry.
//
// A Format writes frames of one direction; a Decoder finds those of the other.
// Either end may change its side when LCP has agreed on something else.
package hdlc

// The octets with a meaning of their own (RFC 1662, sections 3.1 and 4.2).
const (
	Flag   = 0x7e // ends a frame, and begins the next
	Escape = 0x7d // the next octet is to be read with flip
	flip   = 0x20
)

// The Address and Control fields (RFC 1662, section 3.1).
const (
	allStations = 0xff
	unnumbered  = 0x03
)

// protocolLCP is LCP's Protocol field (RFC 1661, section 2). Here it matters only
// because frames that carry it keep some of the default form whatever is agreed.
const protocolLCP = 0xc021

// overhead is the most octets that a frame has besides the packet's data, before
// escaping: address, control, protocol and the 32-bit FCS.
const overhead = 1 + 1 + 2 + 4

// An ACCM is an Async-Control-Character-Map (RFC 1662, section 7.1): bit n is set
// if octet n is to be escaped.
type ACCM uint32

// DefaultACCM is what holds before LCP has agreed on another.
const DefaultACCM ACCM = 0xffffffff
