package farhalf

import (
	"bytes"
	"errors"
	"regexp"
	"strings"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	// maxBefore is how much text the far side may print that is not for us: a long
	// greeting of an rc file, and not a file sent by mistake.
	maxBefore = 64 << 10

	// maxLine is how long a line to us may be: FAIL with a reason for each of six
	// directories of 4 KiB at most does not fit, and is not needed.
	maxLine = 4096
)

var (
	errTooMuch = errors.New("far half: the far side printed 64 KiB of other text")
	errTooLong = errors.New("far half: a line of the far side does not end")
	errGarbled = errors.New("far half: a line of the far side makes no sense")
)

// A message is one line to us: "BODKIN NONCE VERB ARGUMENTS".
type message struct {
	verb string // NEED, ASK, SEND, FAIL or READY
	args []string
}

// messages is the form of each line, after the marker. What does not match is not
// believed. A FAIL line's text is for people; so is the directory of SEND, which
// only the far side uses.
var messages = map[string]*regexp.Regexp{
	"NEED":  regexp.MustCompile(`^([A-Za-z0-9._-]{1,32}) ([A-Za-z0-9._-]{1,32}) (gzip|plain)$`),
	"ASK":   regexp.MustCompile(`^(tty|pipe)$`),
	"SEND":  regexp.MustCompile(`^(/.*)$`),
	"FAIL":  regexp.MustCompile(`^([a-z]{1,16}) (.*)$`),
	"READY": regexp.MustCompile(`^([0-9]{1,4})$`),
}

// dialogue finds the lines to us in what the far side sends. It does no I/O.
type dialogue struct {
	marker []byte        // "BODKIN NONCE "
	buf    []byte        // not understood yet; less than maxLine and one push
	before int           // octets of other text, at most maxBefore
	said   carrier.Words // the other text
}

func newDialogue(nonce string) *dialogue {
	return &dialogue{marker: []byte("BODKIN " + nonce + " ")}
}

// push takes what came.
func (d *dialogue) push(data []byte) { d.buf = append(d.buf, data...) }

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
	d.before += other
	if d.before > maxBefore {
		return message{}, false, errTooMuch
	}
	if at < 0 {
		return message{}, false, nil
	}
	line, rest, whole := bytes.Cut(d.buf, []byte{'\n'})
	if len(line) > maxLine {
		return message{}, false, errTooLong
	}
	if !whole {
		return message{}, false, nil
	}
	d.buf = rest
	m, ok = parse(strings.TrimSuffix(string(line[len(d.marker):]), "\r"))
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
