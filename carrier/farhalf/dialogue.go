package farhalf

import (
	"bytes"
	"errors"
	"regexp"
	"strings"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	// maxBefore is how much text the far side of ssh may print that is not for us: a
	// long greeting of an rc file, and not a file sent by mistake.
	maxBefore = 64 << 10

	// maxShown is the same for a terminal, where proxies, logins and people's
	// messages add to it.
	maxShown = 2 << 20

	// maxEcho is how many octets of text an octet of ours may cause besides: its echo,
	// and the redrawing of the line that it is typed on.
	maxEcho = 4

	// maxLine is how long a line to us may be: FAIL with a reason for each of six
	// directories of 4 KiB at most does not fit, and is not needed.
	maxLine = 4096
)

var (
	errTooMuch = errors.New("far half: the far side prints other text without end")
	errTooLong = errors.New("far half: a line of the far side does not end")
	errGarbled = errors.New("far half: a line of the far side makes no sense")
)

// A message is one line to us: "BODKIN NONCE VERB ARGUMENTS".
type message struct {
	verb string // SHELL, NEED, ASK, SEND, GOT, FAIL or READY
	args []string
}

// messages is the form of each line, after the marker. What does not match is not
// believed. A FAIL line's text is for people; so is the directory of SEND, which
// only the far side uses.
var messages = map[string]*regexp.Regexp{
	"SHELL": regexp.MustCompile(`^(tty|pipe)$`),
	"NEED":  regexp.MustCompile(`^([A-Za-z0-9._-]{1,32}) ([A-Za-z0-9._-]{1,32}) (gzip|plain)$`),
	"ASK":   regexp.MustCompile(`^(tty|pipe)$`),
	"SEND":  regexp.MustCompile(`^(/.*)$`),
	"GOT":   regexp.MustCompile(`^$`),
	"FAIL":  regexp.MustCompile(`^([a-z]{1,16}) (.*)$`),
	"READY": regexp.MustCompile(`^([0-9]{1,4})$`),
}

// dialogue finds the lines to us in what the far side sends. It does no I/O.
//
// A line ends in LF, or in CR, or in both: terminals, telnet and proxies each have
// their own idea.
type dialogue struct {
	marker  []byte        // "BODKIN NONCE "
	buf     []byte        // not understood yet; less than maxLine and one push
	other   int           // octets of other text
	limit   int           // how many there may be
	said    carrier.Words // the other text
	afterCR bool          // the last line ended in CR, and what comes next is not known
}

func newDialogue(nonce string) *dialogue {
	return &dialogue{marker: []byte("BODKIN " + nonce + " "), limit: maxBefore}
}

// push takes what came.
func (d *dialogue) push(data []byte) {
	if d.afterCR && len(data) > 0 {
		d.afterCR = false
		data = bytes.TrimPrefix(data, []byte{'\n'})
	}
	d.buf = append(d.buf, data...)
}

// next returns the next line to us, or false if more must come first. After an
// error the dialogue is over.
func (d *dialogue) next() (m message, ok bool, err error) {
	at := bytes.Index(d.buf, d.marker)
	other := at
	if at < 0 { // the end may be the beginning of a marker
		other = max(0, len(d.buf)-len(d.marker)+1)
	}
	d.said.Write(d.buf[:other])
	d.buf = d.buf[other:]
	d.other += other
	if d.other > d.limit {
		return message{}, false, errTooMuch
	}
	if at < 0 {
		return message{}, false, nil
	}
	end := bytes.IndexAny(d.buf, "\r\n")
	if end > maxLine || end < 0 && len(d.buf) > maxLine {
		return message{}, false, errTooLong
	}
	if end < 0 {
		return message{}, false, nil
	}
	line, by := d.buf[:end], d.buf[end]
	d.buf = d.buf[end+1:]
	if by == '\r' {
		d.afterCR = len(d.buf) == 0
		d.buf = bytes.TrimPrefix(d.buf, []byte{'\n'})
	}
	m, ok = parse(string(line[len(d.marker):]))
	if !ok {
		return message{}, false, errGarbled
	}
	return m, true, nil
}

// parse parses a line after its marker.
func parse(line string) (message, bool) {
	verb, text, _ := strings.Cut(line, " ")
	form := messages[verb]
	if form == nil {
		return message{}, false
	}
	args := form.FindStringSubmatch(text)
	if args == nil {
		return message{}, false
	}
	for i := range args {
		args[i] = carrier.Printable(args[i])
	}
	return message{verb, args[1:]}, true
}
