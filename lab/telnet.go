package lab

// Commands and options of telnet (RFC 854, RFC 856, RFC 857, RFC 858).
const (
	se   = 240
	sb   = 250
	will = 251
	wont = 252
	do   = 253
	dont = 254
	iac  = 255

	optBinary = 0
	optEcho   = 1
	optSGA    = 3
)

// A telnetEnd is one end of a telnet connection, as plain as servers and proxies of
// its time were: no queue of requests, and subnegotiations are skipped.
type telnetEnd struct {
	lines   bool                         // a CR is the end of a line at once, and what belongs to it after it is skipped
	agree   func(verb, option byte) bool // to a DO or WILL of the peer's; nil is never
	answers []byte                       // to be sent to the peer; the owner takes them

	ours, theirs [256]bool // options in effect for what we send, for what they do
	offered      [256]bool // we said WILL and wait for the answer

	at      telnetState
	verb    byte // of the option that follows
	afterCR bool
	skip    bool // of a line's end the first octet has come, and the other may
}

type telnetState int

const (
	inData telnetState = iota
	afterIAC
	afterVerb
	inSB
	inSBAfterIAC
)

// offer asks to do an option.
func (e *telnetEnd) offer(option byte) {
	e.offered[option] = true
	e.answers = append(e.answers, iac, will, option)
}

// take appends to dst the data that an octet from the peer completes, if any.
func (e *telnetEnd) take(dst []byte, b byte) []byte {
	switch e.at {
	case afterIAC:
		e.at = inData
		switch b {
		case iac:
			return e.data(dst, iac)
		case will, wont, do, dont:
			e.at, e.verb = afterVerb, b
		case sb:
			e.at = inSB
		}
	case afterVerb:
		e.at = inData
		e.negotiate(b)
	case inSB:
		if b == iac {
			e.at = inSBAfterIAC
		}
	case inSBAfterIAC:
		e.at = inSB
		if b == se {
			e.at = inData
		}
	default:
		if b == iac {
			e.at = afterIAC
			return dst
		}
		return e.data(dst, b)
	}
	return dst
}

// data appends an octet of data as the rules for line ends have it (RFC 854, page 11;
// RFC 856 for those of a binary way: none).
func (e *telnetEnd) data(dst []byte, b byte) []byte {
	skip := e.skip
	e.skip = e.lines && b == '\r'
	switch {
	case skip && endsLine(b):
		return dst
	case e.skip:
		return append(dst, '\n')
	case e.lines:
		return append(dst, b)
	}
	after := e.afterCR
	e.afterCR = b == '\r' && !e.theirs[optBinary]
	// A CR is kept until what must follow it is there.
	if after {
		dst = append(dst, '\r')
		if b == 0 {
			return dst
		}
	}
	if e.afterCR {
		return dst
	}
	return append(dst, b)
}

// endsLine reports whether an octet belongs to the CR before it.
func endsLine(b byte) bool { return b == '\n' || b == 0 }

// negotiate answers a request or an answer of the peer (RFC 855).
func (e *telnetEnd) negotiate(option byte) {
	yes, no, state := byte(will), byte(wont), &e.ours[option]
	if e.verb == will || e.verb == wont {
		yes, no, state = do, dont, &e.theirs[option]
	}
	switch wanted := e.verb == do || e.verb == will; {
	case e.verb == do && e.offered[option], e.verb == dont && e.offered[option]:
		*state, e.offered[option] = wanted, false
	case wanted == *state:
	case !wanted:
		*state = false
		e.answers = append(e.answers, iac, no, option)
	case e.agree != nil && e.agree(e.verb, option):
		*state = true
		e.answers = append(e.answers, iac, yes, option)
	default:
		e.answers = append(e.answers, iac, no, option)
	}
}

// put appends data to dst as it goes to the peer.
func (e *telnetEnd) put(dst, data []byte) []byte {
	for i, b := range data {
		dst = append(dst, b)
		switch {
		case b == iac:
			dst = append(dst, iac)
		case b == '\r' && !e.ours[optBinary] && (i+1 == len(data) || data[i+1] != '\n'):
			dst = append(dst, 0)
		}
	}
	return dst
}
