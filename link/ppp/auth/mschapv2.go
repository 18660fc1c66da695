package auth

import (
	"bytes"
	"crypto/des"
	"crypto/md5"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/md4" //lint:ignore SA1019 RFC 2759 knows no other hash
)

// Sizes of RFC 2759, sections 3 to 5, in octets.
const (
	msChallengeLen = 16
	ntResponseLen  = 24
	msResponseLen  = msChallengeLen + 8 + ntResponseLen + 1 // challenge, zeroes, response, flags
)

// chapMD5 is the Response Value of CHAP with MD5 (RFC 1994, section 4.1).
func chapMD5(id byte, secret, challenge []byte) []byte {
	h := md5.New()
	h.Write([]byte{id})
	h.Write(secret)
	h.Write(challenge)
	return h.Sum(nil)
}

// An msExchange holds what both sides of one MS-CHAPv2 exchange know of it.
type msExchange struct {
	challenge     []byte // the authenticator's, 16 octets
	peerChallenge []byte // the prover's, 16 octets
	name          string // the prover's, as in its packet
}

// hash is ChallengeHash (RFC 2759, section 8.2). A Windows domain before the name
// is no part of it.
func (x msExchange) hash() []byte {
	h := sha1.New()
	h.Write(x.peerChallenge)
	h.Write(x.challenge)
	h.Write([]byte(x.name[strings.LastIndexByte(x.name, '\\')+1:]))
	return h.Sum(nil)[:8]
}

// ntResponse is GenerateNTResponse (RFC 2759, section 8.1): the proof that its
// maker knows the secret.
func (x msExchange) ntResponse(secret []byte) []byte {
	var keys [21]byte // the hash, and zeroes up to three keys of 7 octets
	copy(keys[:], ntHash(secret))
	response := make([]byte, ntResponseLen)
	challenge := x.hash()
	for i := range 3 {
		c, err := des.NewCipher(desKey(keys[7*i : 7*i+7]))
		if err != nil {
			panic(err) // a key of another size than 8 octets: desKey makes none
		}
		c.Encrypt(response[8*i:], challenge)
	}
	return response
}

// authenticatorResponse is GenerateAuthenticatorResponse (RFC 2759, section 8.7)
// before it is written in hexadecimal: the proof that the authenticator knows the
// secret too.
func (x msExchange) authenticatorResponse(secret, ntResponse []byte) []byte {
	twice := md4.New()
	twice.Write(ntHash(secret))
	h := sha1.New()
	h.Write(twice.Sum(nil))
	h.Write(ntResponse)
	h.Write([]byte("Magic server to client signing constant"))
	digest := h.Sum(nil)
	h.Reset()
	h.Write(digest)
	h.Write(x.hash())
	h.Write([]byte("Pad to make it do more than one iteration"))
	return h.Sum(nil)
}

// ntHash is NtPasswordHash (RFC 2759, section 8.3): MD4 of the secret in UTF-16,
// the low octet first. A secret that is not UTF-8 is taken for Latin-1, as pppd
// takes every secret.
func ntHash(secret []byte) []byte {
	var units []uint16
	if utf8.Valid(secret) {
		units = utf16.Encode(bytes.Runes(secret))
	} else {
		for _, b := range secret {
			units = append(units, uint16(b))
		}
	}
	h := md4.New()
	for _, u := range units {
		h.Write([]byte{byte(u), byte(u >> 8)})
	}
	return h.Sum(nil)
}

// desKey spreads 7 octets over 8 of 7 bits each, with odd parity below (RFC 2759,
// section 8.6).
func desKey(seven []byte) []byte {
	var in [8]byte
	copy(in[1:], seven)
	all := binary.BigEndian.Uint64(in[:])
	key := make([]byte, 8)
	for i := range key {
		b := byte(all>>(49-7*i)) << 1
		if bits.OnesCount8(b)%2 == 0 {
			b |= 1
		}
		key[i] = b
	}
	return key
}

// msSuccess is the message of a Success (RFC 2759, section 5).
func msSuccess(proof []byte) []byte {
	return fmt.Appendf(nil, "S=%X M=Access granted", proof)
}

// parseMSSuccess returns the proof in a Success, and the text behind it, which
// some peers leave out.
func parseMSSuccess(message []byte) (proof, text []byte, ok bool) {
	const end = 2 + 2*sha1.Size
	if len(message) < end || string(message[:2]) != "S=" {
		return nil, nil, false
	}
	proof, err := hex.DecodeString(string(message[2:end]))
	if err != nil {
		return nil, nil, false
	}
	return proof, bytes.TrimPrefix(bytes.TrimLeft(message[end:], " "), []byte("M=")), true
}

// msDenied is 691, ERROR_AUTHENTICATION_FAILURE (RFC 2759, section 6).
const msDenied = 691

// msErrors are the other errors of RFC 2759, section 6.
var msErrors = map[int]string{
	646:      "outside the hours allowed",
	647:      "account disabled",
	648:      "password expired",
	649:      "no permission to dial in",
	msDenied: "authentication failure",
	709:      "the password could not be changed",
}

// msFailure is the message of a Failure (RFC 2759, section 6): no second try, so
// the challenge in it serves no one and may be the old one.
func msFailure(challenge []byte) []byte {
	return fmt.Appendf(nil, "E=%d R=0 C=%X V=3 M=Access denied", msDenied, challenge)
}

// parseMSFailure returns what a Failure says: the error's meaning, and the text.
// What is not in the RFC's form is all text.
func parseMSFailure(message []byte) (meaning string, text []byte) {
	fields, text, _ := bytes.Cut(message, []byte("M="))
	for field := range strings.FieldsSeq(string(fields)) {
		if digits, ok := strings.CutPrefix(field, "E="); ok {
			if code, err := strconv.Atoi(digits); err == nil {
				if meaning = msErrors[code]; meaning == "" {
					meaning = "error"
				}
				return fmt.Sprintf("%s (E=%d)", meaning, code), text
			}
		}
	}
	return "", message
}
