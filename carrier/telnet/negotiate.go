package telnet

import (
	"fmt"
	"strings"

	"github.com/bodkin-net/bodkin/carrier"
)

// maxTerminal bounds the name of a terminal, in octets, as RFC 1091, section 5,
// does.
const maxTerminal = 40

// A negotiation holds all options of both sides. It does no I/O: what it wants said
// it appends to a slice. It is the same for client and server but for what they
// agree to.
type negotiation struct {
	us, him side

	terminal      string // what we answer to TTYPE SEND
	width, height uint16 // what we tell after DO NAWS

	said int               // messages said in answer to the peer
	log  func(line string) // for people; never nil
}

// A side is one side's options: ours or the peer's.
type side struct {
	yes, no byte            // how we say it: WILL and WONT of ours, DO and DONT of his
	agree   carrier.ByteSet // the options we would have on
	refused carrier.ByteSet // those we said no to: never answered again
	options [256]state
}

// newNegotiation returns one with all options off, as every connection begins.
func newNegotiation(us, him []byte) negotiation {
	n := negotiation{us: side{yes: will, no: wont}, him: side{yes: do, no: dont}, log: func(string) {}}
	for _, option := range us {
		n.us.agree.Add(option)
	}
	for _, option := range him {
		n.him.agree.Add(option)
	}
	return n
}

// happen takes event e on an option and appends what it makes us say. It reports
// whether it changed or said anything.
func (s *side) happen(out []byte, option byte, e event) ([]byte, bool) {
	before, agree := s.options[option], s.agree.Has(option)
	if e == heardYes && before == no && !agree {
		if s.refused.Has(option) {
			return out, false
		}
		s.refused.Add(option)
	}
	step := before.after(e, agree)
	s.options[option] = step.next
	switch step.say {
	case sayYes:
		out = append(out, iac, s.yes, option)
	case sayNo:
		out = append(out, iac, s.no, option)
	}
	return out, step.say != sayNothing || step.next != before
}

// waiting reports whether an answer to one of our requests is due.
func (s *side) waiting() bool {
	for _, state := range s.options {
		if state.waiting() {
			return true
		}
	}
	return false
}

// offer asks for options, first ours and then the peer's.
func (n *negotiation) offer(out []byte, us, him []byte) []byte {
	from := len(out)
	for _, option := range us {
		out, _ = n.us.happen(out, option, askYes)
	}
	for _, option := range him {
		out, _ = n.him.happen(out, option, askYes)
	}
	n.logSaid(out[from:])
	return out
}

// withdraw takes back our request for an option that was not answered yet.
func (n *negotiation) withdraw(out []byte, option byte) []byte {
	from := len(out)
	out, _ = n.us.happen(out, option, withdraw)
	n.logSaid(out[from:])
	return out
}

// hear takes the peer's WILL, WONT, DO or DONT.
func (n *negotiation) hear(out []byte, verb, option byte) []byte {
	s, e := &n.him, heardYes
	if verb == do || verb == dont {
		s = &n.us
	}
	if verb == wont || verb == dont {
		e = heardNo
	}
	from := len(out)
	out, changed := s.happen(out, option, e)
	if changed {
		n.log("the peer says " + verbNames[verb] + " " + optionName(option))
	}
	if len(out) > from {
		n.said++
		n.logSaid(out[from:])
	}
	if option == optNAWS && verb == do && changed && n.us.options[optNAWS] == yes {
		out = n.sayWindow(out)
	}
	return out
}

// hearSub takes a subnegotiation of the peer's, with IAC no longer doubled. Only
// IAC SB TTYPE SEND IAC SE has an answer: there is no other option on about which
// the peer may ask.
func (n *negotiation) hearSub(out []byte, option byte, sub []byte) []byte {
	if option != optTType || n.us.options[optTType] != yes || len(sub) != 1 || sub[0] != ttypeSend {
		return out
	}
	n.said++
	n.log("we say TTYPE " + n.terminal)
	out = append(out, iac, sb, optTType, ttypeIs)
	out = append(out, n.terminal...)
	return append(out, iac, se)
}

// sayWindow appends the size of the window:
//
//	IAC SB NAWS <width> <height> IAC SE, 16 bits each, high octet first, IAC doubled
//	RFC 1073, section 3
func (n *negotiation) sayWindow(out []byte) []byte {
	n.said++
	n.log(fmt.Sprintf("we say NAWS %d x %d", n.width, n.height))
	out = append(out, iac, sb, optNAWS)
	for _, b := range [...]byte{byte(n.width >> 8), byte(n.width), byte(n.height >> 8), byte(n.height)} {
		if out = append(out, b); b == iac {
			out = append(out, b)
		}
	}
	return append(out, iac, se)
}

// logSaid logs messages of three octets each.
func (n *negotiation) logSaid(out []byte) {
	for ; len(out) >= 3; out = out[3:] {
		n.log("we say " + verbNames[out[1]] + " " + optionName(out[2]))
	}
}

// terminalName returns name if RFC 1091, section 5, allows it, and "DUMB" if not.
func terminalName(name string) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	if name == "" || len(name) > maxTerminal || strings.Trim(name, letters+"0123456789+-./") != "" {
		return "DUMB"
	}
	return name
}
