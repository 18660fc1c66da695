package session

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
)

const (
	secretLen = 32
	nonceLen  = 32
	proofLen  = sha256.Size
)

// Labels keep apart what is derived from the same secret (spec.md, section 5).
const (
	labelSecret = "bodkin session 1 secret"
	labelNext   = "bodkin session 1 next"
	labelClient = "bodkin session 1 client"
	labelServer = "bodkin session 1 server"
)

// A secret is what only the two halves of a Session know.
type secret [secretLen]byte

// newSecret makes the first one of the key agreed and of both messages that agreed it.
func newSecret(shared, hello, welcome []byte) (secret, error) {
	salt := sha256.New()
	salt.Write(hello)
	salt.Write(welcome)
	return derive(shared, salt.Sum(nil), labelSecret)
}

// next returns the secret that comes after this one. There is no way back.
func (s secret) next() (secret, error) { return derive(s[:], nil, labelNext) }

func derive(key, salt []byte, label string) (s secret, err error) {
	b, err := hkdf.Key(sha256.New, key, salt, label, secretLen)
	copy(s[:], b)
	return s, err
}

// proof proves, to who knows the secret and sent or got the same messages, that its
// maker does too. The label says which side that is.
func (s secret) proof(label string, messages ...[]byte) []byte {
	h := hmac.New(sha256.New, s[:])
	h.Write([]byte(label))
	for _, m := range messages {
		h.Write(m)
	}
	return h.Sum(nil)
}

// proves reports, in constant time, whether p is that proof.
func (s secret) proves(p []byte, label string, messages ...[]byte) bool {
	return hmac.Equal(p, s.proof(label, messages...))
}
