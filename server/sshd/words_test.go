package sshd

import (
	"crypto/ed25519"
	"net"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/crypto/ssh"
)

type ed25519PublicKey = ed25519.PublicKey

// nobody is the connection of a client of which nothing is known.
type nobody struct{ ssh.ConnMetadata }

func (nobody) User() string          { return "" }
func (nobody) ClientVersion() []byte { return nil }
func (nobody) RemoteAddr() net.Addr  { return nil }

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"me", "me"},
		{"a\x1b[2J\tb\r\nc\u202e\xff\u00a0", "a?[2J b  c?? "},
		{strings.Repeat("x", maxWord), strings.Repeat("x", maxWord)},
		{strings.Repeat("ä", maxWord), strings.Repeat("ä", maxWord/2) + "..."},
		{"x" + strings.Repeat("ä", maxWord), "x" + strings.Repeat("ä", maxWord/2-1) + "?..."},
	} {
		if got := printable(c.text); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b\u202e\xffb")
	f.Fuzz(func(t *testing.T, text string) {
		got := printable(text)
		if len(got) > maxWord+3 || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q: %q", text, got)
		}
	})
}
