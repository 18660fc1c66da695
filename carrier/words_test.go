package carrier

import (
	"slices"
	"strings"
	"testing"
	"unicode"
)

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain", "Permission denied (publickey).\r\n", "Permission denied (publickey)."},
		{"title sequence", "\x1b]0;owned\x07hello", "?]0;owned?hello"},
		{"C1 control", "a\u009b31mb", "a?31mb"},
		{"not UTF-8", "a\xff\xfeb", "a??b"},
		{"right to left override", "gpj\u202eexe", "gpj?exe"},
		{"line overwritten", "evil\rgood\ttext", "evil good text"},
		{"other scripts", "доступ запрещён", "доступ запрещён"},
	} {
		if got := Printable(c.in); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestWordsKeepsTheLast(t *testing.T) {
	var heard []string
	w := Words{Line: func(line string) { heard = append(heard, line) }}
	for range 200 {
		w.Write([]byte("0123456789012345678901234567890123456789\n\n"))
	}
	w.Write([]byte("the "))
	w.Write([]byte("end"))
	lines := w.Lines()
	if w.Last() != "the end" || len(heard) != 201 {
		t.Errorf("last %q, heard %d lines", w.Last(), len(heard))
	}
	if n := len(strings.Join(lines, "")); n > maxWords || n < maxWords-100 {
		t.Errorf("kept %d octets, want just below %d", n, maxWords)
	}
	w.Write([]byte(strings.Repeat("x", 10*maxLine)))
	if n := len(w.Last()); n != maxLine {
		t.Errorf("an endless line is kept as %d octets, want %d", n, maxLine)
	}
}

// FuzzWords: however the text is cut into writes, what is kept is the same,
// bounded, and printable.
func FuzzWords(f *testing.F) {
	f.Add([]byte("motd\r\n\x1b[2Jhello\nlast"), 3)
	f.Add([]byte("\xff\n\n\n"), 1)
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		var whole, cut Words
		whole.Write(text)
		at = min(max(at, 0), len(text))
		cut.Write(text[:at])
		cut.Write(text[at:])
		lines := whole.Lines()
		if !slices.Equal(lines, cut.Lines()) {
			t.Fatalf("cut at %d: %q, whole: %q", at, cut.Lines(), lines)
		}
		size := 0
		for _, l := range lines {
			size += len(l)
			for _, r := range l {
				if !unicode.IsPrint(r) {
					t.Fatalf("line %q has %q", l, r)
				}
			}
		}
		if size > maxWords {
			t.Fatalf("%d octets kept", size)
		}
	})
}
