package trust

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxFile is the largest file that is read, in octets: some ten thousand keys.
	maxFile = 1 << 20

	// maxQuoted is how much of a word an error shows, in octets.
	maxQuoted = 80
)

// splitLines returns the lines of a file without their ends. The first has number 1.
func splitLines(text []byte) []string {
	s := strings.TrimSuffix(string(text), "\n")
	if s == "" {
		return nil
	}
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	return lines
}

// joinLines is the way back.
func joinLines(lines []string) []byte {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l)
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// idle reports whether a line says nothing: it is empty, or a comment.
func idle(line string) bool {
	line = strings.TrimLeft(line, " \t")
	return line == "" || line[0] == '#'
}

// cutWord returns the first word of text and what follows the spaces after it.
func cutWord(text string) (word, rest string) {
	text = strings.Trim(text, " \t")
	at := strings.IndexAny(text, " \t")
	if at < 0 {
		return text, ""
	}
	return text[:at], strings.TrimLeft(text[at:], " \t")
}

// printable refuses text that could do something to a terminal or a log: what is in a
// file may come from elsewhere, and is shown.
func printable(text string) error {
	if !utf8.ValidString(text) {
		return errors.New("it is not UTF-8")
	}
	for _, r := range text {
		if r != '\t' && !unicode.IsPrint(r) {
			return fmt.Errorf("it holds the character %U, which is not printable", r)
		}
	}
	return nil
}

// quote returns word in quotes, and only its beginning if it is long.
func quote(word string) string {
	if len(word) > maxQuoted {
		return fmt.Sprintf("%q...", word[:maxQuoted])
	}
	return fmt.Sprintf("%q", word)
}
