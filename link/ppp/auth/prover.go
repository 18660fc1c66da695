package auth

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"io"

	"github.com/bodkin-net/bodkin/carrier"
)

// A Prover is the side that proves who it is, for one link from its opening to its
// end. Make one with NewProver. It is not safe for use by several goroutines.
//
// It takes and returns packets from the Code octet on; those that it returns are
// not to be changed. Packets that are not for a Prover are ignored, so one
// protocol's packets may be given to both sides where each end proves itself.
type Prover struct {
	// MaxTries is how often a packet is sent that gets no answer; 0 is 10.
	MaxTries int

	protocol     Protocol
	name, server string
	secret       SecretFunc
	random       io.Reader
	own          *Authenticator // the other side of our end; may be nil

	verdict Verdict
	reason  string // why the verdict; empty while Pending
	ignored string // what was wrong with the last packet that did not count

	sent    []byte // our last request or response; nil before
	waiting bool   // sent has no answer yet
	tries   int    // how often sent was sent

	answered []byte // the challenge packet that sent answers
	id       byte   // the Identifier of the first request, or of sent
	proof    []byte // MS-CHAPv2: what the peer's Success must show
}

// NewProver returns a Prover that calls itself name. If server is not empty it is
// what the peer is held for, whatever it calls itself in a challenge (pppd's
// remotename); PAP's peer has no other name. A nil random is crypto/rand; only
// MS-CHAPv2 reads it, 16 octets for each challenge.
func NewProver(p Protocol, name, server string, secret SecretFunc, random io.Reader) *Prover {
	return &Prover{protocol: p, name: name, server: server, secret: orNone(secret), random: orRandom(random)}
}

// Beware tells m of the Authenticator at our own end of the link: m refuses to
// answer a challenge that a has out, for such an answer is what the peer would
// need to pass a's test where one secret serves both ways.
func (m *Prover) Beware(a *Authenticator) { m.own = a }

// Start returns PAP's first request. It returns nil for CHAP, where the peer
// begins, and if there is nothing to prove with: see Verdict then.
func (m *Prover) Start() (send []byte) {
	if m.protocol != PAP || m.sent != nil {
		return nil
	}
	secret, ok := m.find(m.server)
	if !ok {
		return nil
	}
	if len(secret) > maxName {
		m.fail("the secret of %q has %d octets, more than PAP's %d", m.name, len(secret), maxName)
		return nil
	}
	data := appendValue(appendValue(nil, m.name), secret)
	m.id = 1
	m.sent, m.waiting, m.tries = packet{papRequest, m.id, data}.encode(), true, 1
	return m.sent
}

// Receive takes a packet from the peer, which it borrows. It returns what to send,
// nil for nothing, and the verdict that holds now. A challenge on an open link is
// answered with the verdict still Success.
func (m *Prover) Receive(b []byte) (send []byte, v Verdict) {
	p, ok := parsePacket(b)
	switch {
	case !ok:
		m.ignored = "a packet with a false length"
	case m.verdict == Failure:
		// Nothing more is said to a peer that failed us, or that we failed.
	case m.protocol == PAP:
		m.receivePAP(p)
	case p.code == chapChallenge:
		send = m.receiveChallenge(p)
	case p.code == chapSuccess || p.code == chapFailure:
		m.receiveCHAPVerdict(p)
	}
	return send, m.verdict
}

// Timeout says that a restart period passed since the last packet was sent. An
// unanswered request or response is sent again, up to MaxTries times in all; then
// the Prover fails. (RFC 1994 gives only the authenticator a timer, but the
// Success that it sends may be lost, and then it waits for nothing more.)
func (m *Prover) Timeout() (send []byte, v Verdict) {
	switch {
	case !m.waiting || m.verdict == Failure:
		return nil, m.verdict
	case m.tries < tries(m.MaxTries):
		if m.protocol == PAP { // each has an Identifier of its own (RFC 1334, section 2.2.1)
			m.sent = bytes.Clone(m.sent)
			m.sent[1]++
		}
		m.tries++
		return m.sent, m.verdict
	case m.verdict == Success: // the peer asked again, and does not care
		m.waiting = false
	default:
		m.fail("%s", m.pending())
	}
	return nil, m.verdict
}

// Verdict returns what holds now.
func (m *Prover) Verdict() Verdict { return m.verdict }

// Reason says why the verdict is what it is: our facts and the peer's message, one
// printable line without the protocol's name. While Pending it says what is missing.
func (m *Prover) Reason() string {
	if m.verdict == Pending {
		return m.pending()
	}
	return m.reason
}

func (m *Prover) pending() string {
	var missing string
	switch {
	case m.sent == nil && m.protocol == PAP:
		missing = "no request sent"
	case m.sent == nil:
		missing = "no challenge from the peer"
	default:
		missing = fmt.Sprintf("no answer to %d tries as %q", m.tries, m.name)
	}
	if m.ignored != "" {
		missing += ", but " + m.ignored
	}
	return missing
}

func (m *Prover) fail(format string, args ...any) {
	m.verdict, m.waiting, m.reason = Failure, false, fmt.Sprintf(format, args...)
}

// find looks for the secret that we share with server, and fails without one: an
// answer made without it would be of use to nobody but a listener.
func (m *Prover) find(server string) (secret []byte, ok bool) {
	if len(m.name) > maxName {
		m.fail("our name %.32q... has %d octets, more than %d", m.name, len(m.name), maxName)
		return nil, false
	}
	if secret, ok = m.secret(m.name, server); !ok {
		m.fail("no secret for %q at %q", m.name, server)
	}
	return secret, ok
}

func (m *Prover) receivePAP(p packet) {
	if p.code != papAck && p.code != papNak || !m.waiting {
		return
	}
	// An answer to any of our requests will do: they are all the same.
	if int(p.id-m.id) >= m.tries {
		m.ignored = fmt.Sprintf("an answer to a request 0x%x that we did not send", p.id)
		return
	}
	m.decide(p.code == papAck, "", papMessage(p.data))
}

// decide ends the exchange as the peer wants it.
func (m *Prover) decide(good bool, meaning string, text []byte) {
	if !good {
		if meaning != "" {
			meaning = ": " + meaning
		}
		m.fail("the peer does not take us for %q%s%s", m.name, meaning, said(text))
		return
	}
	m.verdict, m.waiting = Success, false
	m.reason = fmt.Sprintf("the peer takes us for %q%s", m.name, said(text))
}

// receiveChallenge answers a challenge (RFC 1994, section 4.1), the same challenge
// with the same response.
func (m *Prover) receiveChallenge(p packet) (send []byte) {
	if m.answered != nil && m.id == p.id && bytes.Equal(m.answered, p.data) {
		return m.sent
	}
	challenge, name, ok := parseValue(p.data)
	switch {
	case !ok || len(challenge) == 0:
		m.ignored = "a challenge without a value"
		return nil
	case m.protocol == MSCHAPv2 && len(challenge) != msChallengeLen:
		m.ignored = fmt.Sprintf("a challenge of %d octets instead of %d", len(challenge), msChallengeLen)
		return nil
	case m.own.issued(challenge):
		m.fail("the peer sent our own challenge back: it does not know the secret, or the line is a loop")
		return nil
	}
	server := m.server
	if server == "" {
		server = carrier.Printable(string(name[:min(len(name), maxName)]))
	}
	secret, ok := m.find(server)
	if !ok {
		return nil
	}
	value, ok := m.respond(p.id, challenge, secret)
	if !ok {
		return nil
	}
	m.answered, m.id = bytes.Clone(p.data), p.id
	m.sent = packet{chapResponse, p.id, append(appendValue(nil, value), m.name...)}.encode()
	m.waiting, m.tries, m.ignored = true, 1, ""
	return m.sent
}

// respond makes the Value of a Response (RFC 1994, section 4.1; RFC 2759, section
// 4), and for MS-CHAPv2 keeps what the peer must show in return.
func (m *Prover) respond(id byte, challenge, secret []byte) (value []byte, ok bool) {
	if m.protocol == CHAP {
		return chapMD5(id, secret, challenge), true
	}
	value = make([]byte, msResponseLen)
	x := msExchange{challenge, value[:msChallengeLen], m.name}
	if _, err := io.ReadFull(m.random, x.peerChallenge); err != nil {
		m.fail("no random octets for a challenge: %v", err)
		return nil, false
	}
	response := x.ntResponse(secret)
	copy(value[msChallengeLen+8:], response)
	m.proof = x.authenticatorResponse(secret, response)
	return value, true
}

// receiveCHAPVerdict takes a Success or Failure (RFC 1994, section 4.2).
func (m *Prover) receiveCHAPVerdict(p packet) {
	if !m.waiting || p.id != m.id {
		return
	}
	if m.protocol == CHAP {
		m.decide(p.code == chapSuccess, "", p.data)
		return
	}
	if p.code == chapFailure {
		meaning, text := parseMSFailure(p.data)
		m.decide(false, meaning, text)
		return
	}
	proof, text, ok := parseMSSuccess(p.data)
	if !ok || subtle.ConstantTimeCompare(proof, m.proof) != 1 {
		m.fail("the peer took us for %q without knowing the secret itself", m.name)
		return
	}
	m.decide(true, "", text)
}
