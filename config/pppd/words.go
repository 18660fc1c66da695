package pppd

import (
	"fmt"
	"strings"
)

// Bounds of option files: pppd's own for a word, and far above what people write
// for the rest.
const (
	maxWord  = 1024      // octets of one word; MAXWORDLEN of pppd
	maxFile  = 256 << 10 // octets of one file
	maxDepth = 8         // files named by files
	maxWords = 10000     // words of all files together
)

// A word is one word of an options file and the line it begins in, from 1.
type word struct {
	text string
	line int
}

// split cuts the text of an options file into words, as getword of pppd does:
// white space separates, # begins a comment wherever it is not quoted, single and
// double quotes hold words together, and a backslash, in quotes too, begins one of
//
//	\a \b \f \n \r \t   as in C
//	\s                  a space
//	\NNN \xNN           the octet with that octal or hexadecimal number
//	\ and a line end    nothing
//
// or stands for the character behind it. A quote that is not closed, which pppd
// only warns of, is an error.
func split(text string) ([]word, error) {
	s := scanner{text: text, line: 1}
	var words []word
	for {
		s.skip()
		if s.at >= len(s.text) {
			return words, nil
		}
		line := s.line
		w, err := s.word()
		if err != nil {
			return nil, fmt.Errorf("%d: %w", line, err)
		}
		words = append(words, word{w, line})
	}
}

type scanner struct {
	text string
	at   int // of the next octet
	line int // that it is in
}

// next takes one octet. The caller knows that there is one.
func (s *scanner) next() byte {
	c := s.text[s.at]
	s.at++
	if c == '\n' {
		s.line++
	}
	return c
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// skip passes white space, comments, and ends of lines that are taken back.
func (s *scanner) skip() {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == '#':
			for s.at < len(s.text) && s.text[s.at] != '\n' {
				s.at++
			}
		case strings.HasPrefix(s.text[s.at:], "\\\n"):
			s.next()
			s.next()
		case isSpace(c):
			s.next()
		default:
			return
		}
	}
}

func (s *scanner) word() (string, error) {
	var b []byte
	var quote byte // what ends the quotes we are in
	for s.at < len(s.text) {
		if c := s.text[s.at]; quote == 0 && (isSpace(c) || c == '#') {
			break
		}
		switch c := s.next(); {
		case c == '\\':
			if s.at >= len(s.text) {
				return "", fmt.Errorf("a backslash ends the file")
			}
			b = s.escape(b)
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == 0:
			return "", fmt.Errorf("a NUL is no text")
		default:
			b = append(b, c)
		}
		if len(b) > maxWord {
			return "", fmt.Errorf("a word of more than %d octets", maxWord)
		}
	}
	if quote != 0 {
		return "", fmt.Errorf("the quote %c is not closed", quote)
	}
	if strings.IndexByte(string(b), 0) >= 0 {
		return "", fmt.Errorf("a NUL is no text")
	}
	return string(b), nil
}

// escape appends what the octets behind a backslash stand for.
func (s *scanner) escape(b []byte) []byte {
	switch c := s.next(); c {
	case '\n':
		return b
	case 'a':
		return append(b, '\a')
	case 'b':
		return append(b, '\b')
	case 'f':
		return append(b, '\f')
	case 'n':
		return append(b, '\n')
	case 'r':
		return append(b, '\r')
	case 's':
		return append(b, ' ')
	case 't':
		return append(b, '\t')
	case 'x':
		return append(b, s.number(0, 16, 2))
	case '0', '1', '2', '3', '4', '5', '6', '7':
		return append(b, s.number(c-'0', 8, 2))
	default:
		return append(b, c)
	}
}

// number goes on with a number in base, for at most n digits.
func (s *scanner) number(value, base byte, n int) byte {
	for ; n > 0 && s.at < len(s.text); n-- {
		d := strings.IndexByte("0123456789abcdef", s.text[s.at]|0x20)
		if d < 0 || byte(d) >= base || s.text[s.at] < '0' {
			break
		}
		value = value*base + byte(d)
		s.at++
	}
	return value
}

// Quote writes a word so that it reads back as itself in an options file, and on a
// terminal as printable text.
func Quote(w string) string {
	plain := w != ""
	var b strings.Builder
	for i := 0; i < len(w); i++ {
		switch c := w[i]; {
		case c == '"' || c == '\\':
			plain = false
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, "\\x%02x", c)
		default:
			if c == ' ' || c == '#' || c == '\'' {
				plain = false
			}
			b.WriteByte(c)
		}
	}
	if plain {
		return b.String()
	}
	return `"` + b.String() + `"`
}
