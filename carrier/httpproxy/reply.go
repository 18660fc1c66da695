package httpproxy

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

const (
	// maxHeader is how many octets of status lines and header fields one answer may
	// have, those of 1xx before it included. Tokens of NTLM fill a few KiB.
	maxHeader = 64 << 10

	// maxFields is how many lines one header may have.
	maxFields = 100

	// maxBody is how much text of a 407 is read to keep the connection: an error
	// page. Above it a new connection costs less.
	maxBody = 64 << 10
)

// Of RFC 9110, sections 15.5.2 and 15.5.8.
const (
	statusUnauthorized = 401
	statusAuthenticate = 407
)

// A malformedError says what is wrong with an answer.
type malformedError string

func (e malformedError) Error() string { return string(e) }

const (
	errNotHTTP  malformedError = "what is not HTTP"
	errTooLong  malformedError = "a header longer than 64 KiB"
	errTooMany  malformedError = "a header of more than 100 lines"
	errNoStatus malformedError = "a status line that makes no sense"
)

// A reply is the header of one answer.
type reply struct {
	minor  int    // of the version HTTP/1.x
	status int    // 100 to 999
	reason string // the reason phrase, as it came
	fields []field
}

// A field is one header field, its folded lines joined, without the white space
// around the value.
type field struct{ name, value string }

// readReply reads an answer's header from r and not one octet further, as far as r's
// buffer does not. Answers of 1xx before it are skipped (RFC 9110, section 15.2), and
// so are empty lines. A line ends with CR LF or, as RFC 9112, section 2.2, allows,
// with LF alone.
func readReply(r *bufio.Reader) (reply, error) {
	h := headerReader{r, maxHeader}
	for {
		answer, err := h.reply()
		if err != nil {
			return reply{}, err
		}
		// We asked for no other protocol: 101 is an answer, and no good one.
		if answer.status/100 != 1 || answer.status == 101 {
			return answer, nil
		}
	}
}

// headerReader reads lines until its octets are used up.
type headerReader struct {
	r    *bufio.Reader
	left int // octets
}

// reply reads one status line and the fields after it.
func (h *headerReader) reply() (reply, error) {
	if err := h.version(); err != nil {
		return reply{}, err
	}
	line, err := h.line()
	if err != nil {
		return reply{}, err
	}
	// RFC 9112, section 4: DIGIT "." DIGIT SP 3DIGIT SP [ reason-phrase ]. The last
	// SP may be missing.
	if len(line) < 7 || line[0] != '1' || line[1] != '.' || !digits(line[2:3]) || line[3] != ' ' || !digits(line[4:7]) || len(line) > 7 && line[7] != ' ' {
		return reply{}, errNoStatus
	}
	status, _ := strconv.Atoi(line[4:7])
	if status < 100 {
		return reply{}, errNoStatus
	}
	answer := reply{minor: int(line[2] - '0'), status: status, reason: strings.TrimSpace(line[7:])}
	for n := 0; ; n++ {
		line, err := h.line()
		if err != nil {
			return reply{}, err
		}
		if line == "" {
			return answer, nil
		}
		if n == maxFields {
			return reply{}, errTooMany
		}
		answer.add(line)
	}
}

// version reads up to the version's number, skipping empty lines. What is not HTTP
// is known by its first octets, without waiting for a line's end.
func (h *headerReader) version() error {
	const before = "HTTP/"
	for got := 0; got < len(before); {
		if h.left == 0 {
			return errTooLong
		}
		b, err := h.r.ReadByte()
		if err != nil {
			return err
		}
		h.left--
		switch {
		case b == before[got]:
			got++
		case got > 0 || b != '\r' && b != '\n':
			return errNotHTTP
		}
	}
	return nil
}

// line reads one line and returns it without its end.
func (h *headerReader) line() (string, error) {
	var line []byte
	for {
		piece, err := h.r.ReadSlice('\n')
		if h.left -= len(piece); h.left < 0 {
			return "", errTooLong
		}
		if err != nil && err != bufio.ErrBufferFull {
			return "", err
		}
		line = append(line, piece...)
		if err == nil {
			return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
		}
	}
}

// add adds a line of the header. One that begins with white space goes on with the
// field before it (RFC 9112, section 5.2); one that is no field is left out.
func (r *reply) add(line string) {
	if line[0] == ' ' || line[0] == '\t' {
		if n := len(r.fields); n > 0 {
			r.fields[n-1].value = strings.TrimSpace(r.fields[n-1].value + " " + strings.TrimSpace(line))
		}
		return
	}
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(name) {
		name = "" // what is folded below it belongs to nobody either
	}
	r.fields = append(r.fields, field{name, strings.TrimSpace(value)})
}

// all returns the values of the fields of that name, in order.
func (r *reply) all(name string) (values []string) {
	for _, f := range r.fields {
		if strings.EqualFold(f.name, name) {
			values = append(values, f.value)
		}
	}
	return values
}

// first returns the first value of that name, or the empty string.
func (r *reply) first(name string) string {
	if all := r.all(name); len(all) > 0 {
		return all[0]
	}
	return ""
}

// says reports whether a list of tokens in the fields of that name holds token.
func (r *reply) says(name, token string) bool {
	for _, value := range r.all(name) {
		for item := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}

// line returns the status as people know it, "407 Proxy Authentication Required",
// fit to be shown.
func (r *reply) line() string {
	return strings.TrimSpace(strconv.Itoa(r.status) + " " + shown(r.reason))
}

// persists reports whether the connection goes on after this answer (RFC 9112,
// section 9.3), as far as the answer says.
func (r *reply) persists() bool {
	if r.says("Connection", "close") || r.says("Proxy-Connection", "close") {
		return false
	}
	return r.minor > 0 || r.says("Connection", "keep-alive") || r.says("Proxy-Connection", "keep-alive")
}

// discardBody reads the body of r and reports whether its end was found within
// maxBody octets, so that the next answer begins right after it. A body whose length
// is in doubt ends with the connection.
func (r *reply) discardBody(from *bufio.Reader) bool {
	coding, length := r.all("Transfer-Encoding"), r.all("Content-Length")
	switch {
	case len(coding) == 1 && len(length) == 0 && strings.EqualFold(coding[0], "chunked"):
		return discardChunks(from)
	case len(coding) == 0 && len(length) == 1 && digits(length[0]):
		n, err := strconv.Atoi(length[0])
		if err != nil || n > maxBody {
			return false
		}
		_, err = io.CopyN(io.Discard, from, int64(n))
		return err == nil
	}
	return false
}

// discardChunks reads a body in chunks (RFC 9112, section 7.1), of maxBody octets
// with all that belongs to it.
func discardChunks(from *bufio.Reader) bool {
	h := headerReader{from, maxBody}
	for {
		line, err := h.line()
		if err != nil {
			return false
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimRight(size, " \t"), 16, 31)
		if err != nil || int(n) > h.left {
			return false
		}
		if n == 0 {
			break
		}
		if _, err := io.CopyN(io.Discard, from, int64(n)); err != nil {
			return false
		}
		h.left -= int(n)
		if end, err := h.line(); err != nil || end != "" {
			return false
		}
	}
	for { // trailers
		if line, err := h.line(); err != nil || line == "" {
			return err == nil
		}
	}
}

func digits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}
