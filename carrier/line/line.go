// Package line carries all octets over a way that eats or changes some: telnet
// without BINARY, terminals, lines of 7 bits, relays that take CR and LF for their
// own. spec.md beside it is the protocol, written for another implementer.
//
// The two halves at its ends first measure the way: Dial speaks, Accept answers.
// Each sends a pattern from which the other learns which octets arrive as they are,
// and for each direction the cheapest coding that fits is chosen: none, an escape
// map, or an armour of printable characters. Then both switch, and what Dial and
// Accept return carries anything.
//
// Neither secrecy nor integrity is given here. TLS runs inside; what is damaged on
// the way in spite of the coding is found there, unless the decoder meets what no
// encoder sends: see DamageError.
package line

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// FirstOctet begins Dial's first message, so that one who listens can tell it from
// TLS (0x16) and the plain link ('b').
const FirstOctet = startMark

// A Coding says how octets are carried in one direction.
type Coding byte

const (
	Auto   Coding = iota // the cheapest that fits: for Options only
	Clean                // as they are
	Escape               // an unsafe octet becomes two safe ones
	Armour               // three octets become four printable characters
)

func (c Coding) String() string {
	switch c {
	case Auto:
		return "auto"
	case Clean:
		return "clean"
	case Escape:
		return "escape"
	case Armour:
		return "armour"
	}
	return fmt.Sprintf("coding %d", byte(c))
}

// Options say what the user wants.
type Options struct {
	// Coding is what the user insists on, for both directions; Auto leaves it to
	// the measuring. A coding that cannot carry all octets here is a RefusedError,
	// and so is one against which the other half insists.
	Coding Coding

	// Log, if not nil, gets what was found, printable and one line at a time.
	Log func(line string)
}

// Measured is what was found, and what was chosen for it.
type Measured struct {
	In, Out   Way           // from the peer to us, from us to the peer
	RoundTrip time.Duration // of the quickest question and its answer; Dial's only
	Rate      float64       // octets per second of the slower direction; 0: too many to be seen
}

// A Way is one direction.
type Way struct {
	Coding  Coding
	Unsafe  carrier.ByteSet // what does not arrive as it was sent, and what was not tried
	MaxLine int             // octets in a line, its end not counted; 0: no line ends are needed

	// Efficiency is the octets carried per octet sent, where all values are equally
	// frequent, as they are in TLS.
	Efficiency float64

	ends bool // each Write ends with a line end: the way delivers lines only
}

func (w Way) String() string {
	text := "clean"
	switch w.Coding {
	case Escape:
		text = fmt.Sprintf("%d octets escaped, %.0f %%", escaped(w.Unsafe), math.Floor(100*w.Efficiency))
	case Armour:
		text = fmt.Sprintf("7-bit armour, %.0f %%", math.Floor(100*w.Efficiency))
	}
	if w.MaxLine > 0 {
		text += fmt.Sprintf(", in lines of at most %d", w.MaxLine)
	}
	return text
}

// A DamageError says that something came which no encoder sends: the way changes
// what it did not change while it was measured.
type DamageError struct {
	At    int64 // how many octets came before it, as they arrived
	Octet byte  // what came
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("line: what came is damaged: octet 0x%02x, after %d others, is none that the peer sends", e.Octet, e.At)
}

// Dial measures the way as the half that speaks first, and returns the Stream that
// carries all octets over it: s itself, if it needs no coding. Octets of s.Unsafe
// are never sent, not even to try them; with LF among them (a shell could be
// reading) neither is any other control, so that nothing sent is a command line.
//
// It goes on as long as it hears something new, or until ctx ends. Errors are
// *carrier.SilenceError (nothing new for a minute), *carrier.HangUpError, and
// *carrier.RefusedError, all of layer "line", or ctx's cause. s is closed then, for
// that alone ends a Read that waits.
func Dial(ctx context.Context, s carrier.Stream, o Options) (carrier.Stream, Measured, error) {
	return measure(s, dialling, o, func(t *talk) (Measured, error) { return t.ask(ctx) })
}

// Accept is the other half of Dial: it waits for the peer to speak first, and skips
// what comes before. Errors and s are as with Dial.
func Accept(ctx context.Context, s carrier.Stream, o Options) (carrier.Stream, Measured, error) {
	return measure(s, accepting, o, func(t *talk) (Measured, error) { return t.answer(ctx) })
}

func measure(s carrier.Stream, side side, o Options, role func(*talk) (Measured, error)) (carrier.Stream, Measured, error) {
	if o.Coding > Armour {
		s.Close()
		return carrier.Stream{}, Measured{}, refuse("there is no %v", o.Coding)
	}
	t, err := startTalk(s, side, o)
	if err != nil {
		s.Close()
		return carrier.Stream{}, Measured{}, err
	}
	m, err := role(t)
	if err != nil {
		s.Close() // wakes the reader and the writer
		t.stop()
		return carrier.Stream{}, Measured{}, err
	}
	data := t.stop()
	if o.Log != nil {
		o.Log(fmt.Sprintf("the way out: %v; in: %v", m.Out, m.In))
	}
	return code(carrier.Unread(s, data), m.Out, m.In), m, nil
}

// refuse makes the error of a way that will not do.
func refuse(format string, args ...any) *carrier.RefusedError {
	return &carrier.RefusedError{Layer: "line", Reason: fmt.Sprintf(format, args...)}
}
