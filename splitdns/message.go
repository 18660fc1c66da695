package splitdns

import (
	"crypto/rand"
	"encoding/binary"
	"errors"

	"golang.org/x/net/dns/dnsmessage"
)

// A query is a question that came in.
type query struct {
	message  []byte // as it came
	question dnsmessage.Question
	limit    int // the asker's, in octets of an answer over UDP
}

// plainLimit is what a datagram holds without EDNS, and at least with it; RFC 1035,
// section 4.2.1; RFC 6891, section 6.2.3.
const plainLimit = 512

// Types of questions that have more than one message for an answer (RFC 1995, RFC
// 5936): they are for name servers among themselves.
const (
	typeIXFR = dnsmessage.Type(251)
	typeAXFR = dnsmessage.Type(252)
)

// parseQuery reads a message that came in; q.message borrows it. If it is not one
// to pass on, refusal is the answer to it, or empty if it deserves none.
func parseQuery(message []byte) (q query, refusal []byte, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || h.Response {
		return q, nil, false
	}
	q = query{message: message, limit: plainLimit}
	if h.OpCode != 0 {
		return q, q.failure(dnsmessage.RCodeNotImplemented), false
	}
	if err = q.parse(&p); err != nil {
		return q, q.failure(dnsmessage.RCodeFormatError), false
	}
	if t := q.question.Type; t == typeAXFR || t == typeIXFR {
		return q, q.failure(dnsmessage.RCodeRefused), false
	}
	return q, nil, true
}

var errQuestions = errors.New("not one question")

func (q *query) parse(p *dnsmessage.Parser) (err error) {
	if q.question, err = p.Question(); err != nil {
		return err
	}
	if _, err := p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return errQuestions
	}
	if err := errors.Join(p.SkipAllAnswers(), p.SkipAllAuthorities()); err != nil {
		return err
	}
	for {
		h, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Type == dnsmessage.TypeOPT { // RFC 6891, section 6.1.2: its class is the size
			q.limit = max(plainLimit, int(h.Class))
		}
		if err := p.SkipAdditional(); err != nil {
			return err
		}
	}
}

// asked returns the message to send to a server: with an id of its own.
func (q *query) asked() []byte {
	m := append([]byte(nil), q.message...)
	rand.Read(m[:2])
	return m
}

// answers reports whether a is an answer to the message asked, which has q's
// question (RFC 5452, section 9.1).
func (q *query) answers(a, asked []byte) bool {
	var p dnsmessage.Parser
	h, err := p.Start(a)
	if err != nil || !h.Response || h.OpCode != 0 || h.ID != binary.BigEndian.Uint16(asked) {
		return false
	}
	got, err := p.Question()
	if errors.Is(err, dnsmessage.ErrSectionDone) {
		return h.RCode != dnsmessage.RCodeSuccess // an error may leave the question out
	}
	return err == nil && got.Type == q.question.Type && got.Class == q.question.Class &&
		lower(got.Name.String()) == lower(q.question.Name.String())
}

// gaveUp reports whether an answer says that the server could not: then the next
// one is asked.
func gaveUp(a []byte) bool {
	switch dnsmessage.RCode(a[3] & 0xf) {
	case dnsmessage.RCodeServerFailure, dnsmessage.RCodeRefused, dnsmessage.RCodeNotImplemented:
		return true
	}
	return false
}

// reply returns a server's answer as the asker's: with the asker's id.
func (q *query) reply(a []byte) []byte {
	copy(a[:2], q.message[:2])
	return a
}

// fit returns the answer a if it fits a datagram for the asker, else one that says
// to ask by TCP (TC; RFC 1035, section 4.2.1).
func (q *query) fit(a []byte) []byte {
	if len(a) <= q.limit {
		return a
	}
	var p dnsmessage.Parser
	h, err := p.Start(a)
	if err != nil {
		return q.failure(dnsmessage.RCodeServerFailure)
	}
	h.Truncated = true
	return q.pack(h)
}

// failure is the answer that says why there is none.
func (q *query) failure(code dnsmessage.RCode) []byte {
	flags := binary.BigEndian.Uint16(q.message[2:])
	return q.pack(dnsmessage.Header{
		ID: binary.BigEndian.Uint16(q.message), OpCode: dnsmessage.OpCode(flags >> 11 & 0xf),
		Response: true, RecursionDesired: flags&(1<<8) != 0, RecursionAvailable: true, RCode: code,
	})
}

func (q *query) pack(h dnsmessage.Header) []byte {
	m := dnsmessage.Message{Header: h}
	if q.question.Name.Length > 0 {
		m.Questions = []dnsmessage.Question{q.question}
	}
	b, err := m.Pack()
	if err != nil { // a question that was parsed can be packed
		return nil
	}
	return b
}
