package chat

// maxShown is how long a line of a screen may be, in octets. Of a longer one the end
// is kept: that is where a prompt is.
const maxShown = 1024

// A screen is what a terminal would show of the octets that come: lines of text, and
// one that is not finished. Colours, titles, bracketed paste and other sequences of
// escape (ECMA-48, section 5.4) are not text. It never answers any.
type screen struct {
	line   []byte // the unfinished line
	ended  bool   // a CR came: what follows overwrites the line
	state  screenState
	length int // octets of the sequence so far
}

type screenState byte

const (
	inText     screenState = iota
	inEscape               // ESC came
	inControl              // ESC [ came: until 40 to 7e
	inString               // ESC ], P, X, ^ or _ came: until BEL, or ESC \
	inStringES             // and an ESC in it
	inCharset              // ESC and an intermediate came: until 30 to 7e
)

// maxSequence is the longest sequence believed in, in octets: beyond it, it is text.
const maxSequence = 4096

// put takes an octet. If that ends a line, it is returned, valid until the next call.
func (s *screen) put(c byte) (line []byte, whole bool) {
	if s.state != inText {
		s.sequence(c)
		return nil, false
	}
	switch c {
	case 0x1b:
		s.state, s.length = inEscape, 0
	case '\n':
		line = s.line
		s.line, s.ended = s.line[:0], false
		return line, true
	case '\r':
		s.ended = true
	case '\b':
		if n := len(s.line); n > 0 && !s.ended {
			s.line = s.line[:n-1]
		}
	default:
		if c < 0x20 && c != '\t' || c == 0x7f {
			break // NUL and BEL, for example
		}
		if s.ended {
			s.forget()
		}
		if len(s.line) == maxShown {
			s.line = s.line[:copy(s.line, s.line[maxShown/2:])]
		}
		s.line = append(s.line, c)
	}
	return nil, false
}

// sequence takes an octet of a sequence of escape.
func (s *screen) sequence(c byte) {
	s.length++
	switch {
	case s.length > maxSequence, c == 0x18, c == 0x1a: // CAN and SUB end any
		s.state = inText
	case s.state == inString:
		switch c {
		case 0x07:
			s.state = inText
		case 0x1b:
			s.state = inStringES
		}
	case s.state == inStringES, c == 0x1b:
		s.state = inEscape
		if c == '\\' {
			s.state = inText
		}
	case c < 0x20: // a control in the middle is none of it
	case s.state == inEscape:
		switch c {
		case '[':
			s.state = inControl
		case ']', 'P', 'X', '^', '_':
			s.state = inString
		default:
			s.state = inText
			if c < 0x30 {
				s.state = inCharset
			}
		}
	case s.state == inControl && c >= 0x40, s.state == inCharset && c >= 0x30:
		s.state = inText
	}
}

// forget empties the unfinished line.
func (s *screen) forget() { s.line, s.ended = s.line[:0], false }
