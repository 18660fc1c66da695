package carrier

import (
	"bytes"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Printable returns what the peer sent as text that is safe on a terminal and in
// a log: one line of printable characters. A tab or line end becomes a space, and
// whatever else is not printable (controls, C1, direction marks, octets that are
// not UTF-8) a question mark.
func Printable(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\n', r == '\r':
			return ' '
		case r == utf8.RuneError, !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text))
}

const (
	// maxWords is how many octets of text Words keeps: the last words of a
	// program that fails, its warnings of a changed key included.
	maxWords = 4096

	// maxLine is where Words breaks a line that does not end.
	maxLine = 1024
)

// Words is a Writer for text that a peer or a program sends for people to read.
// It cuts it into lines, makes them Printable, hands them on as they come, and
// keeps the last 4 KiB for the error that may follow. Its methods may be called
// from several goroutines. The zero value is ready for use.
type Words struct {
	// Line, if not nil, gets each line that is not empty, in order. It must not
	// call the Words' methods.
	Line func(line string)

	mu      sync.Mutex
	partial []byte   // the line so far, at most maxLine octets
	lines   []string // the lines kept
	size    int      // octets in lines
}

// Write takes text. It never fails.
func (w *Words) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for rest := text; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		if room := maxLine - len(w.partial); len(line) >= room {
			line, after, whole = rest[:room], rest[room:], true
		}
		w.partial = append(w.partial, line...)
		rest = after
		if whole {
			w.endLine()
		}
	}
	return len(text), nil
}

// endLine ends the partial line. The caller holds mu.
func (w *Words) endLine() {
	line := Printable(string(w.partial))
	w.partial = w.partial[:0]
	if line == "" {
		return
	}
	w.lines = append(w.lines, line)
	w.size += len(line)
	for w.size > maxWords && len(w.lines) > 1 {
		w.size -= len(w.lines[0])
		w.lines = w.lines[1:]
	}
	if w.Line != nil {
		w.Line(line)
	}
}

// Lines returns the last lines, at most 4 KiB of them, printable and none empty.
// A line that has not ended yet is ended by it.
func (w *Words) Lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endLine()
	return append([]string(nil), w.lines...)
}

// Last returns the last line, or the empty string.
func (w *Words) Last() string {
	lines := w.Lines()
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}
