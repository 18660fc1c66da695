package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"

	"github.com/bodkin-net/bodkin/carrier"
)

// challengeLen is the size of our challenges, in octets: what MS-CHAPv2 wants, and
// enough for CHAP never to meet the same one twice (RFC 1994, section 2.3).
const challengeLen = msChallengeLen

// An Authenticator is the side that asks the peer who it is, for one link from its
// opening to its end. Make one with NewAuthenticator. It is not safe for use by
// several goroutines.
//
// It takes and returns packets from the Code octet on; those that it returns are
// not to be changed. Packets that are not for an Authenticator are ignored, so one
// protocol's packets may be given to both sides where each end proves itself.
//
// A peer has one try: the verdict on it is final, and repetitions get the same
// answer. A name that nobody has costs the same time as a wrong secret and gets
// the same answer.
type Authenticator struct {
	// MaxTries is how often a challenge is sent that gets no response; 0 is 10.
	MaxTries int

	protocol         Protocol
	name, remoteName string
	secret           SecretFunc
	random           io.Reader

	verdict Verdict
	reason  string // why the verdict; empty while Pending
	ignored string // what was wrong with the last packet that did not count
	peer    string // the name proved; empty unless Success

	challenge []byte // CHAP: the Value of the last challenge sent; nil before
	id        byte   // its Identifier
	sent      []byte // the packet that held it
	waiting   bool   // it has no response yet
	tries     int    // how often it was sent
	answer    []byte // the data of the Success or Failure that the response got
}

// NewAuthenticator returns an Authenticator at an end that is called name. If
// remoteName is not empty, a CHAP peer is held for that, whatever it calls itself
// (pppd's remotename), and a PAP peer if it gives an empty name. A nil random is
// crypto/rand.
func NewAuthenticator(p Protocol, name, remoteName string, secret SecretFunc, random io.Reader) *Authenticator {
	return &Authenticator{protocol: p, name: name, remoteName: remoteName, secret: orNone(secret), random: orRandom(random)}
}

// Start returns CHAP's first challenge. It returns nil for PAP, where the peer
// begins, and if there is no challenge to be had: see Verdict then.
func (m *Authenticator) Start() (send []byte) {
	if m.protocol == PAP || m.challenge != nil || m.verdict != Pending {
		return nil
	}
	return m.ask()
}

// Recheck returns a new challenge for a peer that has proved itself, at any later
// time (RFC 1994, section 2): traffic goes on, the verdict stays Success until the
// response is wrong or does not come. It returns nil where there is nothing to
// ask: with PAP, before Success, and while another challenge is out.
func (m *Authenticator) Recheck() (send []byte) {
	if m.protocol == PAP || m.verdict != Success || m.waiting {
		return nil
	}
	return m.ask()
}

// ask makes a challenge (RFC 1994, section 4.1): fresh octets, and an Identifier
// other than the last one's.
func (m *Authenticator) ask() []byte {
	if len(m.name) > maxName {
		m.fail("our name %.32q... has %d octets, more than %d", m.name, len(m.name), maxName)
		return nil
	}
	fresh := make([]byte, 1+challengeLen)
	if _, err := io.ReadFull(m.random, fresh); err != nil {
		m.fail("no random octets for a challenge: %v", err)
		return nil
	}
	if m.challenge == nil {
		m.id = fresh[0]
	} else {
		m.id++
	}
	m.challenge, m.answer = fresh[1:], nil
	m.sent = packet{chapChallenge, m.id, append(appendValue(nil, m.challenge), m.name...)}.encode()
	m.waiting, m.tries, m.ignored = true, 1, ""
	return m.sent
}

// issued reports whether challenge is out from m, or was the last to be. Older
// ones do the peer no good. A nil Authenticator has issued nothing.
func (m *Authenticator) issued(challenge []byte) bool {
	return m != nil && m.challenge != nil && bytes.Equal(challenge, m.challenge)
}

// Receive takes a packet from the peer, which it borrows. It returns what to send,
// nil for nothing, and the verdict that holds now. What it returns with Failure is
// to be sent too, before the link is closed.
func (m *Authenticator) Receive(b []byte) (send []byte, v Verdict) {
	p, ok := parsePacket(b)
	switch {
	case !ok:
		m.ignored = "a packet with a false length"
	case m.protocol == PAP && p.code == papRequest:
		send = m.receivePAP(p)
	case m.protocol != PAP && p.code == chapResponse:
		send = m.receiveResponse(p)
	}
	return send, m.verdict
}

// Timeout says that a restart period passed since the last packet was sent. A
// challenge without a response is sent again, up to MaxTries times in all; then
// the peer has failed. With PAP there is nothing to send: how long the peer may
// take is for the caller to say.
//
// The repetition is the same packet. RFC 1994, section 4.1, wants a new Identifier
// each time, but on a line slower than the restart period no response would ever
// be in time for that; pppd repeats too.
func (m *Authenticator) Timeout() (send []byte, v Verdict) {
	switch {
	case !m.waiting || m.verdict == Failure:
		return nil, m.verdict
	case m.tries < tries(m.MaxTries):
		m.tries++
		return m.sent, m.verdict
	}
	m.fail("%s", m.pending())
	return nil, m.verdict
}

// Verdict returns what holds now.
func (m *Authenticator) Verdict() Verdict { return m.verdict }

// Peer returns the name that the peer proved, printable and at most 255 octets. It
// is empty unless the verdict is Success.
func (m *Authenticator) Peer() string { return m.peer }

// Reason says why the verdict is what it is, in one printable line without the
// protocol's name. It may tell more than the peer was told. While Pending it says
// what is missing.
func (m *Authenticator) Reason() string {
	if m.verdict == Pending {
		return m.pending()
	}
	return m.reason
}

func (m *Authenticator) pending() string {
	var missing string
	switch {
	case m.protocol == PAP:
		missing = "the peer has not said who it is"
	case m.sent == nil:
		missing = "no challenge sent"
	default:
		missing = fmt.Sprintf("the peer has not answered %d challenges", m.tries)
	}
	if m.ignored != "" {
		missing += ", but sent " + m.ignored
	}
	return missing
}

func (m *Authenticator) fail(format string, args ...any) {
	m.verdict, m.waiting, m.peer, m.reason = Failure, false, "", fmt.Sprintf(format, args...)
}

// receivePAP answers a request, each with its own Identifier, the first by its
// merit and all others like the first (RFC 1334, section 2.2.1).
func (m *Authenticator) receivePAP(p packet) (send []byte) {
	name, password, ok := parsePAPRequest(p.data)
	if !ok {
		m.ignored = "a request that is cut off"
		return nil
	}
	if m.verdict == Pending {
		client := string(name)
		if client == "" {
			client = m.remoteName
		}
		m.judge(client, func(secret []byte) bool {
			is, want := sha256.Sum256(password), sha256.Sum256(secret) // of one length, whatever theirs
			return subtle.ConstantTimeCompare(is[:], want[:]) == 1
		})
	}
	if m.verdict == Success {
		return packet{papAck, p.id, appendValue(nil, "Login ok")}.encode()
	}
	return packet{papNak, p.id, appendValue(nil, "Login incorrect")}.encode()
}

// receiveResponse judges the first response to our last challenge, and gives
// repetitions the same answer unread (RFC 1994, section 4.1).
func (m *Authenticator) receiveResponse(p packet) (send []byte) {
	switch {
	case m.sent == nil || p.id != m.id:
		m.ignored = "a response to no challenge of ours"
		return nil
	case m.waiting:
		value, name, ok := parseValue(p.data)
		if !ok {
			m.ignored = "a response that is cut off"
			return nil
		}
		m.judgeResponse(value, string(name))
	case m.answer == nil: // we gave up before it came
		return nil
	}
	if m.verdict == Success {
		return packet{chapSuccess, p.id, m.answer}.encode()
	}
	return packet{chapFailure, p.id, m.answer}.encode()
}

func (m *Authenticator) judgeResponse(value []byte, name string) {
	client := name
	if m.remoteName != "" {
		client = m.remoteName
	}
	m.waiting = false
	if m.protocol == CHAP {
		m.answer = []byte("Access denied")
		if m.judge(client, func(secret []byte) bool {
			return subtle.ConstantTimeCompare(value, chapMD5(m.id, secret, m.challenge)) == 1
		}) {
			m.answer = []byte("Access granted")
		}
		return
	}
	m.answer = msFailure(m.challenge)
	var proof []byte
	if m.judge(client, func(secret []byte) bool {
		if len(value) != msResponseLen {
			return false
		}
		x := msExchange{m.challenge, value[:msChallengeLen], name}
		response := x.ntResponse(secret)
		proof = x.authenticatorResponse(secret, response)
		return subtle.ConstantTimeCompare(value[msChallengeLen+8:][:ntResponseLen], response) == 1
	}) {
		m.answer = msSuccess(proof)
	}
}

// decoy is the secret of those who have none: the work on it takes as long.
var decoy = []byte("nobody's secret")

// judge makes the verdict on a peer that claims to be client, and reports whether
// it is good. proves is called in any case, for the time that it takes.
func (m *Authenticator) judge(client string, proves func(secret []byte) bool) bool {
	// A name that does not print as it is could be taken for another later.
	shown := carrier.Printable(client[:min(len(client), maxName)])
	var secret []byte
	known := false
	if shown == client {
		secret, known = m.secret(client, m.name)
	}
	if !known {
		secret = decoy
	}
	proved := proves(secret)
	switch {
	case !known:
		m.fail("no secret for %q at %q", shown, m.name)
	case !proved:
		m.fail("%q does not know the secret that it has at %q", shown, m.name)
	case m.verdict == Success && client != m.peer:
		m.fail("the peer was %q and now is %q", m.peer, shown)
	default:
		m.verdict, m.peer = Success, client
		m.reason = fmt.Sprintf("%q proved who it is", client)
		return true
	}
	return false
}
