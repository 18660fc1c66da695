package line

import (
	"bytes"
	"slices"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	lf   = '\n'
	cr   = '\r'
	xon  = 0x11
	xoff = 0x13
	iac  = 0xff // telnet's

	// shortLine is how long a line may be on every way that has lines: less than 80
	// columns, and far less than the 255 octets of old terminals.
	shortLine = 72

	// rulerOctet is what a ruler is made of.
	rulerOctet = '-'

	// longRuler is longer than the lines of all ways known to bound them: 4,095 octets
	// for a terminal's (termios(3), "Canonical and noncanonical mode").
	longRuler = 4200

	// longLine is a line that a whole ruler proves.
	longLine = 4096
)

// A pattern tells the other side which octets arrive as they are, and alone. Each
// one that is tried stands between two octets known to arrive, those next to each
// other in the alphabet: "A", 0x80, "B", 0x81, "C". Nothing is counted or aligned,
// the other side looks for each such piece by itself, so what happens to one octet
// is of no account for the next. The dialling half goes through the alphabet
// upwards and the other one downwards, so an echo proves nothing.
type pattern struct {
	side   side
	next   int     // place in the alphabet
	pieces []piece // a line may end after each
	proofs []proof // in the order of the pieces
}

// A piece is sent as a whole. One that is alone has a line of its own, if there are
// lines: it may take the octets before it with it.
type piece struct {
	text  []byte
	alone bool
}

// A proof is the octets that only arrive together if the one arrives as it is.
type proof struct {
	text  []byte
	octet byte
}

// newPattern returns the pattern by which side tries octets.
//
// An XOFF is always followed by an XON, in case it stops something. The pairs that
// mean something to telnet or to a terminal are tried too, where both octets are;
// the first is escaped if its pair does not arrive. What a terminal may take for
// editing comes last.
func newPattern(side side, try carrier.ByteSet) *pattern {
	p := &pattern{side: side}
	var quiet, busy, erasers []byte
	for v := range 256 {
		switch b := byte(v); {
		case !try.Has(b) || own.Has(b) || b == xoff:
		case b >= 0x80 && b != iac || b >= ' ' && b < 0x7f:
			quiet = append(quiet, b)
		case b == 0x08 || b == 0x12 || b == 0x15 || b == 0x16 || b == 0x17 || b == 0x7f:
			erasers = append(erasers, b)
		default:
			busy = append(busy, b)
		}
	}
	// Octets that are nothing special share what stands between them.
	for group := range slices.Chunk(quiet, 16) {
		text := []byte{p.mark()}
		for _, b := range group {
			text = append(text, b, p.mark())
			p.proofs = append(p.proofs, proof{text[len(text)-3:], b})
		}
		p.pieces = append(p.pieces, piece{text: text})
	}
	for _, b := range busy {
		p.try(false, []byte{b}, b)
	}
	for _, pair := range [][]byte{{cr, 0}, {cr, lf}, {iac, iac}, {xoff, xon}} {
		if try.Has(pair[0]) && try.Has(pair[1]) {
			p.try(false, pair, pair[0])
		}
	}
	for _, b := range erasers {
		p.try(true, []byte{b}, b)
	}
	return p
}

// mark returns the next octet of the alphabet.
func (p *pattern) mark() byte {
	i := p.next % len(alphabet)
	p.next++
	if p.side == accepting {
		i = len(alphabet) - 1 - i
	}
	return alphabet[i]
}

// try adds a piece of its own for content, which proves octet.
func (p *pattern) try(alone bool, content []byte, octet byte) {
	text := append(append([]byte{p.mark()}, content...), p.mark())
	p.pieces = append(p.pieces, piece{text, alone})
	p.proofs = append(p.proofs, proof{text, octet})
}

// appendText appends the pattern as it is sent, in lines or not.
func (p *pattern) appendText(dst []byte, lines bool) []byte {
	column := 0
	for _, piece := range p.pieces {
		if lines && column > 0 && (piece.alone || column+len(piece.text) > shortLine) {
			dst = append(dst, lf)
			column = 0
		}
		dst = append(dst, piece.text...)
		column += len(piece.text)
	}
	return dst
}

// cut reports whether whole pieces are missing of what was heard: the octets between
// those that are tried too. A line was longer than the way bears.
func (p *pattern) cut(heard []byte) bool {
	var left [256]int
	sent, missing := 0, 0
	for _, piece := range p.pieces {
		for _, b := range piece.text {
			if own.Has(b) {
				left[b]++
				sent++
			}
		}
	}
	for _, b := range heard {
		left[b]--
	}
	for _, n := range left {
		missing += max(0, n)
	}
	return missing > sent/8
}

// unsafe returns which of the octets that the pattern tries did not arrive as they
// are, where heard is what came in its place, and which came without being sent.
// Octets that messages are made of never count: they do arrive.
func (p *pattern) unsafe(heard []byte) (bad carrier.ByteSet) {
	var sent, came [256]int
	for _, piece := range p.pieces {
		for _, b := range piece.text {
			sent[b]++
		}
	}
	for _, b := range heard {
		came[b]++
	}
	for b := range 256 {
		if came[b] > sent[b] && !own.Has(byte(b)) {
			bad.Add(byte(b))
		}
	}
	for _, proof := range p.proofs {
		if !bytes.Contains(heard, proof.text) {
			bad.Add(proof.octet)
		}
	}
	return bad
}

// rulerIn returns how much of a ruler came in one piece.
func rulerIn(heard []byte) int {
	longest, n := 0, 0
	for _, b := range heard {
		if b&0x7f == rulerOctet {
			n++
			longest = max(longest, n)
		} else if b&0x7f > ' ' {
			n = 0
		}
	}
	return longest
}

// never returns the octets that are not tried where the Streams of both halves know
// what the way eats. Where LF may not be sent, no other control is: one of them
// may be a command by itself.
func never(a, b carrier.ByteSet) carrier.ByteSet {
	set := union(a, b)
	if set.Has(lf) {
		set = union(set, controls)
	}
	if set.Has(xon) {
		set.Add(xoff)
	}
	return set
}

var controls = between(0, 0x1f, 0x7f, 0x7f)

// high is what a way that takes bit 7 off turns into controls.
var high = between(0x80, 0x9f, 0xff, 0xff)

// between returns the set of the ranges given by their first and last octets.
func between(ranges ...byte) (set carrier.ByteSet) {
	for ; len(ranges) > 0; ranges = ranges[2:] {
		for v := int(ranges[0]); v <= int(ranges[1]); v++ {
			set.Add(byte(v))
		}
	}
	return set
}

func union(a, b carrier.ByteSet) carrier.ByteSet {
	for i := range a {
		a[i] |= b[i]
	}
	return a
}

func without(a, b carrier.ByteSet) carrier.ByteSet {
	for i := range a {
		a[i] &^= b[i]
	}
	return a
}

// tried returns what a side tries whose parts are rest and high.
func tried(never carrier.ByteSet, withRest, withHigh bool) (set carrier.ByteSet) {
	all := between(0, 0xff)
	if withRest {
		set = union(set, without(all, high))
	}
	if withHigh {
		set = union(set, high)
	}
	return without(set, never)
}
