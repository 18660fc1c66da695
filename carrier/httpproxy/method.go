package httpproxy

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"

	"github.com/Azure/go-ntlmssp"
)

// A method begins an authentication for a tunnel to target.
type method func(user, password, target string) authentication

// strongest returns the method for the strongest challenge that we can answer, or
// nil. Basic is among them only where clear says so; weak reports that it would have
// been.
func strongest(offered []challenge, clear bool) (best method, weak bool) {
	strength := 0
	for _, c := range offered {
		switch {
		case strings.EqualFold(c.scheme, "Digest"):
			d, ok := newDigestChallenge(c)
			if ok && d.hash.strength > strength {
				strength = d.hash.strength
				best = func(user, password, target string) authentication {
					return &digest{user: user, password: password, target: target, digestChallenge: d}
				}
			}
		case strings.EqualFold(c.scheme, nameNTLM):
			if strength < strengthNTLM {
				strength = strengthNTLM
				best = func(user, password, _ string) authentication { return &ntlm{user: user, password: password} }
			}
		case strings.EqualFold(c.scheme, nameBasic):
			weak = true
			if clear && strength < strengthBasic {
				strength = strengthBasic
				best = func(user, password, _ string) authentication { return basic{user, password} }
			}
		}
	}
	return best, weak
}

// Those of Digest are above, in the table of its hashes.
const (
	strengthBasic = 1
	strengthNTLM  = 2
)

const nameBasic = "Basic"

// basic is RFC 7617. The text goes out as UTF-8, whatever the proxy says of charset.
type basic struct{ user, password string }

func (basic) name() string { return nameBasic }

func (b basic) credentials() (string, error) {
	if strings.Contains(b.user, ":") {
		return "", errors.New("a user with a colon cannot be told from the password")
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(b.user+":"+b.password)), nil
}

func (basic) answer([]challenge) (more, bound bool, err error) { return false, false, nil }

const nameNTLM = "NTLM"

// ntlm is the NTLM of MS-NLMP, version 2, over HTTP as in RFC 4559, section 4: three
// messages, all on one connection, of which the server sends the second.
type ntlm struct {
	user, password string
	last           []byte // our second message; nil before the server's
}

func (*ntlm) name() string { return nameNTLM }

func (n *ntlm) credentials() (string, error) {
	message := n.last
	if message == nil {
		var err error
		if message, err = ntlmssp.NewNegotiateMessage("", ""); err != nil {
			return "", err
		}
	}
	return "NTLM " + base64.StdEncoding.EncodeToString(message), nil
}

func (n *ntlm) answer(offered []challenge) (more, bound bool, err error) {
	if n.last != nil {
		return false, false, nil
	}
	for _, c := range offered {
		if !strings.EqualFold(c.scheme, nameNTLM) || c.token == "" {
			continue
		}
		message, err := base64.StdEncoding.DecodeString(c.token)
		if err != nil {
			return false, false, errors.New("the challenge is not base 64")
		}
		n.last, err = ntlmssp.NewAuthenticateMessage(answerable(message), n.user, n.password, nil)
		if err != nil {
			return false, false, errors.New("the challenge makes no sense: " + shown(err.Error()))
		}
		return true, true, nil
	}
	return false, false, errors.New("no challenge came")
}

// answerable returns of a challenge what an answer is made from, in its full form
// (MS-NLMP, section 2.2.1.2): not the target's name, which some put beyond its end, and
// information on the target only if it lies within. Squid's ntlm_fake_auth gets both
// wrong, and other clients do not look.
func answerable(challenge []byte) []byte {
	const name, server, info, payload = 12, 24, 40, 48 // where they are
	if len(challenge) < server+8 {
		return challenge
	}
	full := append(bytes.Clone(challenge), make([]byte, max(0, payload-len(challenge)))...)
	clear(full[name : name+8])
	length, at := binary.LittleEndian.Uint16(full[info:]), binary.LittleEndian.Uint32(full[info+4:])
	if uint64(at)+uint64(length) > uint64(len(challenge)) {
		clear(full[info:payload])
	}
	return full
}
