// Package hdlc frames PPP packets for octet streams, as described in RFC 1662,
// "PPP in HDLC-like Framing". It turns packets into octets and back, starts no
// goroutine and knows nothing of LCP: its caller says which octets the stream
// cannot carry.
package hdlc

// An ACCM is an Async-Control-Character-Map (RFC 1662, section 7.1): bit n is set
// if octet n is to be escaped.
type ACCM uint32

// DefaultACCM is what holds before LCP has agreed on another.
const DefaultACCM ACCM = 0xffffffff
