package chat

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// maxLogLine is where a line that came is cut for the log, in octets.
	maxLogLine = 1024

	// maxSecrets is how many texts are kept out of the log: the last ones, for their echo
	// comes soon or never.
	maxSecrets = 16

	mask = "??????" // chat(8)'s
)

func (r *run) log(format string, args ...any) {
	if r.o.Log != nil {
		r.o.Log(fmt.Sprintf(format, args...))
	}
}

// logOctet puts an octet that came into the log's line.
func (r *run) logOctet(octet byte) {
	if r.o.Log == nil {
		return
	}
	if octet != '\n' {
		r.line = append(r.line, octet)
	}
	if octet == '\n' || len(r.line) == maxLogLine {
		r.log("%s", r.masked(visible(string(r.line))))
		r.line = r.line[:0]
	}
}

// endLine ends the log's line, if one was begun.
func (r *run) endLine() {
	if len(r.line) > 0 {
		r.log("%s", r.masked(visible(string(r.line))))
		r.line = r.line[:0]
	}
}

// hide keeps a text with escapes out of the log, and its echo.
func (r *run) hide(text string) {
	text = visible(strings.TrimSuffix(unescaped(text), "\r"))
	if text == "" || slices.Contains(r.secrets, text) {
		return
	}
	r.secrets = append(r.secrets, text)
	if len(r.secrets) > maxSecrets {
		r.secrets = r.secrets[1:]
	}
}

// unescaped returns the octets of a text with escapes.
func unescaped(text string) string {
	var out []byte
	for i := 0; i < len(text); i++ {
		if text[i] == escape && i+1 < len(text) {
			if i++; text[i] == 'd' || text[i] == 'p' || text[i] == 'K' {
				continue
			}
		}
		out = append(out, text[i])
	}
	return string(out)
}

// masked returns visible text without the secrets.
func (r *run) masked(text string) string {
	for _, s := range r.secrets {
		text = strings.ReplaceAll(text, s, mask)
	}
	return text
}
