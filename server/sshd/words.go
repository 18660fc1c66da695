package sshd

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxWord is how much of what a client says is shown, in octets: a long user name, the
// reason of an error.
const maxWord = 256

// printable returns what a client said, or an error that quotes it, as one line of
// printable characters, and only its beginning if it is long.
func printable(text string) string {
	end := ""
	if len(text) > maxWord {
		text, end = strings.ToValidUTF8(text[:maxWord], "?"), "..."
	}
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError, !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text) + end
}
