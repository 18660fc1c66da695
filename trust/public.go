package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// keyType is the name of Ed25519 in ssh (RFC 8709, section 4).
const keyType = "ssh-ed25519"

// wirePrefix is what the octets of every public key begin with: two strings, each after
// its length in four octets, of which the second is the key (RFC 8709, section 4).
var wirePrefix = func() []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(keyType)))
	b = append(b, keyType...)
	return binary.BigEndian.AppendUint32(b, ed25519.PublicKeySize)
}()

// same reports whether a and b are one key. It is the only comparison of keys in this
// package; its time does not depend on where they differ. What is no key is the same
// as nothing, not even as itself.
func same(a, b ed25519.PublicKey) bool {
	return len(a) == ed25519.PublicKeySize && subtle.ConstantTimeCompare(a, b) == 1
}

// wire returns the key's octets as ssh sends them (RFC 8709, section 4).
func wire(key ed25519.PublicKey) []byte { return append(bytes.Clone(wirePrefix), key...) }

// Fingerprint returns "SHA256:..." as ssh prints it.
func Fingerprint(key ed25519.PublicKey) string {
	sum := sha256.Sum256(wire(key))
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// FormatPublic returns the key as one line without an end, "ssh-ed25519 AAAA...
// comment". The comment may be empty.
func FormatPublic(key ed25519.PublicKey, comment string) string {
	return strings.TrimSuffix(keyType+" "+base64.StdEncoding.EncodeToString(wire(key))+" "+comment, " ")
}

// ParsePublic reads what FormatPublic writes, with spaces and a line end around it as
// may be. It fails for a key of another type, for a second line, and for text that is
// not printable.
func ParsePublic(text string) (key ed25519.PublicKey, comment string, err error) {
	text = strings.TrimSpace(text)
	if err := printable(text); err != nil {
		return nil, "", fmt.Errorf("trust: public key: %w", err)
	}
	if key, comment, err = parseKey(text); err != nil {
		return nil, "", fmt.Errorf("trust: public key: %w", err)
	}
	return key, comment, nil
}

// parseKey reads "ssh-ed25519 AAAA... comment".
func parseKey(text string) (key ed25519.PublicKey, comment string, err error) {
	kind, rest := cutWord(text)
	encoded, comment := cutWord(rest)
	switch {
	case kind == "":
		return nil, "", errors.New("there is no key")
	case kind != keyType:
		return nil, "", fmt.Errorf("%s stands where %s is wanted", quote(kind), keyType)
	case encoded == "":
		return nil, "", errors.New("nothing follows " + keyType)
	}
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, "", fmt.Errorf("%s is not base64", quote(encoded))
	}
	raw, ok := bytes.CutPrefix(b, wirePrefix)
	if !ok || len(raw) != ed25519.PublicKeySize {
		return nil, "", fmt.Errorf("%s is not the whole of an %s key, and no more", quote(encoded), keyType)
	}
	return ed25519.PublicKey(raw), comment, nil
}
