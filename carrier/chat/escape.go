package chat

import (
	"strconv"
	"strings"
)

// escape begins an octet or an order in what is typed: \\ is a backslash, \d, \p and
// \K are pauses and a break, and before anything else it says nothing.
const escape = '\\'

// unescape returns what a word says. With sending, that is what to type, in which
// escapes are left, and which ends with a CR unless the word ends with \c. hidden says
// that the log must not have it: \q, or a variable, was in it.
//
// An expect has no pauses, breaks, NULs or telephone numbers. \K, \d, \p and \N are
// the letters there, \0 is nothing, and \T and \U are themselves, as in chat(8).
func (o *Options) unescape(word string, sending bool) (text string, hidden bool) {
	var out []byte
	cr := sending
	keep := func(c byte) { // c, with its escape if it is typed
		if sending {
			out = append(out, escape)
		}
		out = append(out, c)
	}
	for i := 0; i < len(word); {
		c := word[i]
		i++
		switch {
		case c == '^' && i < len(word):
			if c = word[i] & 0x1f; c != 0 {
				out = append(out, c)
			}
			i++
			continue
		case c == '$' && o.Env != nil:
			end := i
			for end < len(word) && isNameOctet(word[end]) {
				end++
			}
			if value, set := o.Env(word[i:end]); set {
				hidden = true
				out = append(out, value...)
			}
			i = end
			continue
		case c != escape:
			out = append(out, c)
			continue
		case i == len(word):
			if sending {
				out = append(out, escape, escape)
			}
			continue
		}
		c = word[i]
		i++
		switch c {
		case 'b':
			out = append(out, '\b')
		case 'r':
			out = append(out, '\r')
		case 'n':
			out = append(out, '\n')
		case 's':
			out = append(out, ' ')
		case 't':
			out = append(out, '\t')
		case 'q':
			hidden = true
		case 'c':
			if sending && i == len(word) {
				cr = false
			} else {
				out = append(out, 'c')
			}
		case 'N':
			if sending {
				out = append(out, escape, 0)
			} else {
				out = append(out, 'N')
			}
		case 'T', 'U':
			phone := o.Phone1
			if c == 'U' {
				phone = o.Phone2
			}
			if !sending || phone == "" {
				phone = string([]byte{escape, c})
			}
			out = append(out, phone...)
		case '0', '1', '2', '3', '4', '5', '6', '7':
			octet := c - '0'
			for n := 1; n < 3 && i < len(word) && '0' <= word[i] && word[i] <= '7'; n++ {
				octet = octet<<3 | (word[i] - '0')
				i++
			}
			switch {
			case octet == 0 && !sending:
			case octet == 0 || octet == escape:
				keep(octet)
			default:
				out = append(out, octet)
			}
		default: // \\ \K \d \p, and letters that mean nothing
			keep(c)
		}
	}
	if cr {
		out = append(out, '\r')
	}
	return string(out), hidden
}

func isNameOctet(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// visible returns text as characters that any terminal shows: ^C for a control, M-x
// for an octet with bit 7.
func visible(text string) string {
	var b strings.Builder
	for i := range len(text) {
		showOctet(&b, text[i])
	}
	return b.String()
}

func showOctet(b *strings.Builder, c byte) {
	if c >= 0x80 {
		b.WriteString("M-")
		c &= 0x7f
	}
	switch {
	case c < 0x20, c == 0x7f:
		b.WriteByte('^')
		b.WriteByte(c ^ 0x40)
	default:
		b.WriteByte(c)
	}
}

// quoted returns text for an error: visible, in quotes, and the last of it if it is
// long.
func quoted(text string) string {
	const most = 40
	if len(text) > most {
		return strconv.Quote("..." + visible(text[len(text)-most:]))
	}
	return strconv.Quote(visible(text))
}
