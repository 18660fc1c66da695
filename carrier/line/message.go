package line

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/bodkin-net/bodkin/carrier"
)

// A message is printable text:
//
//	  1                                     1
//	+-----+-------------------------------+-----+
//	|  :  |  base64url(payload and tag)   |  =  |
//	+-----+-------------------------------+-----+
//
// and the tag the first 8 octets of SHA-256 over: the 12 octets "bodkin line ", the
// side that sends it, the dialling half's nonce, the accepting half's nonce, the
// payload. It is a checksum, and ties the message to this one talk: of what comes
// by chance, 1 in 2^64 passes. It is no protection from whoever can read the way.
const (
	startMark = ':'
	endMark   = '='
	alphabet  = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

	version = 1
	tagSize = 8

	// maxText is the longest text between the marks: the payload of begin, 3 + 8 +
	// 2*35 octets, and its tag, in base64.
	maxText = ((3+8+2*35+tagSize)*8 + 5) / 6
)

// own holds the octets that messages are made of. The codings use them too.
var own = func() (set carrier.ByteSet) {
	for _, b := range []byte(alphabet + string(startMark) + string(endMark)) {
		set.Add(b)
	}
	return set
}()

// A side is one of the two halves.
type side byte

const (
	dialling  side = 'd'
	accepting side = 'a'
)

func (s side) other() side { return dialling + accepting - s }

type nonce [8]byte

// The kinds of messages, in the order of a talk.
type kind byte

const (
	hello kind = 1 + iota // the nonces, and what the accepting half wants
	head                  // a pattern follows
	tail                  // it has ended
	begin                 // data follow
)

// A message is what one says. Which fields count is seen in layout.
type message struct {
	kind    kind
	attempt byte // of a question: how often it was asked before; of its answer: the same
	ends    bool // the sender ends lines
	ask     bool // the sender asks for an answer with line ends

	version byte
	nonce   nonce           // the sender's
	wish    Coding          // what its user insists on
	parts   parts           // what the two patterns hold
	ruler   uint16          // octets in the ruler; of an answer: how many of them came in one piece
	set     carrier.ByteSet // what it never sends; in the answer's head: what did not arrive
	out, in route           // begin: from the dialling half, to it
}

// A route is what begin says of one direction.
type route struct {
	coding Coding
	ends   bool
	line   uint16
	unsafe carrier.ByteSet // Escape only
}

// parts says which octets are tried.
type parts byte

const (
	outRest parts = 1 << iota // by the dialling half: all but the high ones
	outHigh                   // 0x80 to 0x9f and 0xff, which a 7-bit line makes controls
	inRest                    // by the accepting half
	inHigh
	allParts = outRest | outHigh | inRest | inHigh
)

// appendPayload appends the payload of m, sent by side.
func (m *message) appendPayload(dst []byte, from side) []byte {
	dst = append(dst, byte(m.kind), m.attempt, bit(m.ends, 0)|bit(m.ask, 1))
	if m.kind == hello {
		dst = append(dst, m.version)
	}
	if from == dialling || m.kind == hello {
		dst = append(dst, m.nonce[:]...)
	}
	switch {
	case m.kind == hello && from == accepting:
		dst = append(dst, byte(m.wish))
		dst = m.appendRest(dst)
	case m.kind == head:
		if from == dialling {
			dst = append(dst, byte(m.parts))
		}
		dst = binary.BigEndian.AppendUint16(dst, m.ruler)
		dst = m.appendRest(dst)
	case m.kind == begin && from == dialling:
		for _, r := range []route{m.out, m.in} {
			dst = append(dst, byte(r.coding)|bit(r.ends, 7))
			dst = binary.BigEndian.AppendUint16(dst, r.line)
			if r.coding == Escape {
				dst = appendSet(dst, r.unsafe)
			}
		}
	}
	return dst
}

// parsePayload is the way back. It reports false for what appendPayload never makes.
func parsePayload(payload []byte, from side) (m message, ok bool) {
	c := cursor{payload, true}
	m.kind, m.attempt = kind(c.octet()), c.octet()
	flags := c.octet()
	m.ends, m.ask = flags&1 != 0, flags&2 != 0
	if m.kind == hello {
		m.version = c.octet()
	}
	if from == dialling || m.kind == hello {
		copy(m.nonce[:], c.take(len(m.nonce)))
	}
	switch {
	case m.kind == hello && from == accepting:
		m.wish = Coding(c.octet())
		m.set = c.rest()
	case m.kind == head:
		if from == dialling {
			m.parts = parts(c.octet())
		}
		m.ruler = binary.BigEndian.Uint16(c.take(2))
		m.set = c.rest()
	case m.kind == begin && from == dialling:
		for _, r := range []*route{&m.out, &m.in} {
			first := c.octet()
			r.coding, r.ends = Coding(first&0x7f), first&0x80 != 0
			r.line = binary.BigEndian.Uint16(c.take(2))
			if r.coding == Escape {
				r.unsafe = setOf(c.take(32))
			}
		}
	case m.kind < hello || m.kind > begin:
		return message{}, false
	}
	// What is not looked at, or said in another way than ours, is another version's.
	if !c.ok || !bytes.Equal(m.appendPayload(nil, from), payload) {
		return message{}, false
	}
	return m, true
}

// A cursor takes fields off a payload.
type cursor struct {
	left []byte
	ok   bool
}

// take returns the next n octets; zeros, and ok is false, where there are fewer.
func (c *cursor) take(n int) []byte {
	if len(c.left) < n {
		c.ok = false
		return make([]byte, n)
	}
	b := c.left[:n]
	c.left = c.left[n:]
	return b
}

func (c *cursor) octet() byte { return c.take(1)[0] }

// rest returns the set at the end, where there is one.
func (c *cursor) rest() carrier.ByteSet {
	if len(c.left) == 0 {
		return carrier.ByteSet{}
	}
	return setOf(c.take(32))
}

func bit(is bool, n int) byte {
	if is {
		return 1 << n
	}
	return 0
}

// appendRest appends the set at the end of a payload, where an empty one is left out.
func (m *message) appendRest(dst []byte) []byte {
	if m.set.Empty() {
		return dst
	}
	return appendSet(dst, m.set)
}

// appendSet appends a set as 32 octets; the value 0 is the lowest bit of the first.
func appendSet(dst []byte, set carrier.ByteSet) []byte {
	for _, word := range set {
		dst = binary.LittleEndian.AppendUint64(dst, word)
	}
	return dst
}

func setOf(b []byte) (set carrier.ByteSet) {
	for i := range set {
		set[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return set
}

// tag is the tag of a payload. The nonce of a side that has not spoken yet is zero.
func tag(payload []byte, from side, dialler, accepter nonce) [tagSize]byte {
	text := append([]byte("bodkin line "), byte(from))
	text = append(text, dialler[:]...)
	text = append(text, accepter[:]...)
	sum := sha256.Sum256(append(text, payload...))
	return [tagSize]byte(sum[:tagSize])
}

// appendText appends m as it is sent.
func (m *message) appendText(dst []byte, from side, dialler, accepter nonce) []byte {
	payload := m.appendPayload(nil, from)
	if from == dialling && m.kind == hello {
		accepter = nonce{} // also when it is asked again: who answers may be another
	}
	sum := tag(payload, from, dialler, accepter)
	dst = append(dst, startMark)
	dst = base64.RawURLEncoding.AppendEncode(dst, append(payload, sum[:]...))
	return append(dst, endMark)
}

// A parser finds messages among whatever comes. The bit 7 of an octet does not
// count, nor do controls and spaces inside of a message.
type parser struct {
	open bool
	text []byte // since the start mark, at most maxText octets
}

// push takes an octet. If it ends what may be a message, text is that without its
// marks, valid until the next push.
func (p *parser) push(b byte) (text []byte, whole bool) {
	switch c := b & 0x7f; {
	case c == startMark:
		p.open, p.text = true, p.text[:0]
	case !p.open || c <= ' ' || c == 0x7f:
	case c == endMark:
		p.open = false
		return p.text, true
	case own.Has(c) && len(p.text) < maxText:
		p.text = append(p.text, c)
	default:
		p.open = false
	}
	return nil, false
}

// parseText returns the message in what parser found, if side sent it in this talk.
// accepter is the accepting half's nonce, zero where hello has yet to tell it.
func parseText(text []byte, from side, dialler, accepter nonce) (m message, ok bool) {
	var space [maxText]byte
	n, err := base64.RawURLEncoding.Strict().Decode(space[:], text)
	if err != nil || n < tagSize {
		return message{}, false
	}
	payload := space[:n-tagSize]
	if m, ok = parsePayload(payload, from); !ok {
		return message{}, false
	}
	switch {
	case from == dialling && m.kind == hello:
		dialler, accepter = m.nonce, nonce{}
	case from == dialling:
		dialler = m.nonce
	case m.kind == hello:
		accepter = m.nonce
	}
	return m, tag(payload, from, dialler, accepter) == [tagSize]byte(space[n-tagSize:n])
}
