package front

// A kind is what a connection turned out to be.
type kind uint8

const (
	kindMore kind = iota // not known yet
	kindNone             // nothing known
	kindSSH
	kindLine
	kindHTTP
	kindHello // TLS, of one sort or the other:
	kindTLS   // for Handlers.TLS
	kindHTTPS // for browsers
)

// maxMark is how many octets tell wants at most.
const maxMark = 4

// recordHandshake and recordVersion begin a record of a handshake (RFC 8446, section 5.1).
const (
	recordHandshake = 22
	recordVersion   = 3
)

// marks are how protocols begin: SSH (RFC 4253, section 4.2), TLS, and the methods of
// HTTP that a web server may be asked by (RFC 9110, section 9.3; RFC 5789).
var marks = [...]struct {
	octets string
	kind   kind
}{
	{"SSH-", kindSSH},
	{"\x16\x03", kindHello},
	{"GET ", kindHTTP},
	{"HEAD", kindHTTP},
	{"POST", kindHTTP},
	{"PUT ", kindHTTP},
	{"DELE", kindHTTP},
	{"OPTI", kindHTTP},
	{"PATC", kindHTTP},
}

// tell says what a connection is that begins with head. kindMore is said only of less
// than 4 octets; what is said beside it does not change with more of them.
func tell(head []byte, line byte, lines bool) kind {
	if len(head) > 0 && lines && head[0] == line {
		return kindLine
	}
	answer := kindNone
	for _, m := range marks {
		n := min(len(head), len(m.octets))
		if string(head[:n]) != m.octets[:n] {
			continue
		}
		if n == len(m.octets) {
			return m.kind
		}
		answer = kindMore
	}
	return answer
}
