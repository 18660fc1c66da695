// Package auth holds the three ways by which one end of a PPP link proves to the
// other who it is: PAP (RFC 1334), CHAP with MD5 (RFC 1994) and MS-CHAPv2 (RFC
// 2759). Each is two pure machines, the one that proves and the one that asks:
// packets and timeouts in, packets and a verdict out. Clocks and streams belong
// to the caller, and so does the Protocol field: a packet here begins with its
// Code octet.
//
// What they are worth: PAP shows the secret to whoever listens. CHAP lets whoever
// listened once try guesses against MD5 as fast as the hardware allows. MS-CHAPv2
// rests on MD4 and three DES keys, of which the last has 16 bits; its whole
// strength is one DES key of 56 bits, a day's work on rented machines. None
// protects what follows on the link. They keep the wrong account off a line that
// is private already, such as one inside ssh; they make no line private.
package auth

import (
	"crypto/rand"
	"fmt"
	"io"

	"github.com/bodkin-net/bodkin/carrier"
)

// A Protocol is a way to prove who one is.
type Protocol int

// The protocols, the best first.
const (
	MSCHAPv2 Protocol = iota + 1 // RFC 2759, option c223 81
	CHAP                         // RFC 1994 with MD5, option c223 05
	PAP                          // RFC 1334, option c023: the secret crosses in clear
)

// String returns pppd's word for it.
func (p Protocol) String() string {
	switch p {
	case MSCHAPv2:
		return "mschap-v2"
	case CHAP:
		return "chap"
	case PAP:
		return "pap"
	}
	return "unknown"
}

// options are the data of LCP's Authentication-Protocol option (RFC 1661,
// section 6.2): the protocol's number, and for CHAP the algorithm's.
var options = map[Protocol]string{
	PAP:      "\xc0\x23",
	CHAP:     "\xc2\x23\x05",
	MSCHAPv2: "\xc2\x23\x81",
}

// Option returns the data of the LCP option that asks for p, without the option's
// type and length.
func (p Protocol) Option() []byte { return []byte(options[p]) }

// ParseOption returns the protocol that the data of an Authentication-Protocol
// option asks for. It reports false for all that is not ours: EAP, MS-CHAP of
// version 1, data too short or too long.
func ParseOption(data []byte) (p Protocol, ok bool) {
	for p, option := range options {
		if string(data) == option {
			return p, true
		}
	}
	return 0, false
}

// Number returns the PPP protocol number under which p's packets travel.
func (p Protocol) Number() uint16 {
	if p == PAP {
		return 0xc023
	}
	return 0xc223
}

// A Verdict is what an exchange has come to.
type Verdict int

// The verdicts. Failure is final. Success holds until a later challenge on the
// open link goes wrong.
const (
	Pending Verdict = iota
	Success
	Failure
)

// A SecretFunc returns what client and server share, client being the one who
// proves. One of the two names is the peer's word: printable, at most 255 octets,
// and not yet proved. An empty secret is a secret like any other, as with pppd; for
// CHAP it should have an octet at least (RFC 1994, section 2.3).
type SecretFunc func(client, server string) (secret []byte, ok bool)

const (
	// maxName is the longest name or PAP password: it has one octet for its
	// length (RFC 1334, section 2.2.1). CHAP knows no such limit, pppd has it too.
	maxName = 255

	// maxText is how much of a peer's message is kept for people, in octets: as
	// much as PAP can carry.
	maxText = 255

	// defaultTries is how often a packet is sent that gets no answer: pppd's
	// pap-max-authreq and chap-max-challenge.
	defaultTries = 10
)

// tries returns max, or the default where max is not set.
func tries(max int) int {
	if max > 0 {
		return max
	}
	return defaultTries
}

// orNone and orRandom stand in for what a caller left out.
func orNone(secret SecretFunc) SecretFunc {
	if secret != nil {
		return secret
	}
	return func(string, string) ([]byte, bool) { return nil, false }
}

func orRandom(random io.Reader) io.Reader {
	if random != nil {
		return random
	}
	return rand.Reader
}

// said makes the peer's message the end of a sentence; none makes none.
func said(text []byte) string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	if words := carrier.Printable(string(text)); words != "" {
		return fmt.Sprintf(", saying %q", words)
	}
	return ""
}
