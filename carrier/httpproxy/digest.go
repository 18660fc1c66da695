package httpproxy

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"net/url"
	"strings"
)

// digestHashes are the algorithms of RFC 7616, section 6.1, the strongest first.
var digestHashes = []digestHash{
	{"SHA-512-256", 5, sha512.New512_256},
	{"SHA-256", 4, sha256.New},
	{"MD5", 3, md5.New},
}

type digestHash struct {
	name     string
	strength int // above those of the other methods
	new      func() hash.Hash
}

// hex returns H(a:b:...) of RFC 7616, section 3.3.
func (h digestHash) hex(parts ...string) string {
	sum := h.new()
	sum.Write([]byte(strings.Join(parts, ":")))
	return hex.EncodeToString(sum.Sum(nil))
}

// A digestChallenge is a challenge of Digest that we can answer.
type digestChallenge struct {
	hash      digestHash
	algorithm string // as the proxy wrote it; empty: not at all
	session   bool   // the algorithm's name ends in -sess
	realm     string
	nonce     string
	opaque    *string
	auth      bool // qop is auth; else there is none
	userhash  bool
	utf8      bool
	stale     bool
}

// newDigestChallenge reports false for a challenge that is not whole, and for an
// algorithm or a quality of protection that we do not know.
func newDigestChallenge(c challenge) (d digestChallenge, ok bool) {
	is := func(name, value string) bool {
		v, _ := c.get(name)
		return strings.EqualFold(v, value)
	}
	d.algorithm, _ = c.get("algorithm")
	name := strings.ToUpper(d.algorithm)
	if name == "" {
		name = "MD5"
	}
	name, d.session = strings.CutSuffix(name, "-SESS")
	for _, h := range digestHashes {
		if h.name == name {
			d.hash = h
		}
	}
	var hasRealm, hasNonce bool
	d.realm, hasRealm = c.get("realm")
	d.nonce, hasNonce = c.get("nonce")
	if opaque, ok := c.get("opaque"); ok {
		d.opaque = &opaque
	}
	qop, hasQOP := c.get("qop")
	for option := range strings.SplitSeq(qop, ",") {
		d.auth = d.auth || strings.EqualFold(strings.TrimSpace(option), "auth")
	}
	d.userhash, d.utf8, d.stale = is("userhash", "true"), is("charset", "UTF-8"), is("stale", "true")
	// They go back to the proxy as they came: nothing in them may end a line.
	harmless := clean(d.realm) && clean(d.nonce) && (d.opaque == nil || clean(*d.opaque))
	return d, d.hash.new != nil && hasRealm && hasNonce && d.auth == hasQOP && harmless
}

// digest is RFC 7616 for requests of CONNECT.
type digest struct {
	user, password string
	target         string
	digestChallenge

	count int // requests made with this nonce
}

func (d *digest) name() string { return strings.TrimSpace("Digest " + shown(d.algorithm)) }

func (d *digest) credentials() (string, error) {
	d.count++
	return d.value(rand.Text()), nil
}

// answer goes on once the proxy says that the nonce was stale, and nothing else
// wrong. The nonce must be a new one of the same algorithm.
func (d *digest) answer(offered []challenge) (more, bound bool, err error) {
	for _, c := range offered {
		if !strings.EqualFold(c.scheme, "Digest") {
			continue
		}
		next, ok := newDigestChallenge(c)
		if ok && next.stale && next.hash.name == d.hash.name && next.nonce != d.nonce {
			d.digestChallenge, d.count = next, 0
			return true, false, nil
		}
	}
	return false, false, nil
}

// response is RFC 7616, section 3.4.1. count is the nonce count as it is sent.
func (d *digest) response(method, uri, count, cnonce string) string {
	h := d.hash
	a1 := h.hex(d.user, d.realm, d.password)
	if d.session {
		a1 = h.hex(a1, d.nonce, cnonce)
	}
	a2 := h.hex(method, uri)
	if !d.auth {
		return h.hex(a1, d.nonce, a2)
	}
	return h.hex(a1, d.nonce, count, cnonce, "auth", a2)
}

// value returns the credentials with the client's nonce cnonce (RFC 7616, section
// 3.4).
func (d *digest) value(cnonce string) string {
	count := fmt.Sprintf("%08x", d.count)
	var b strings.Builder
	b.WriteString("Digest ")
	switch {
	case d.userhash: // section 3.4.4
		b.WriteString("username=" + quote(d.hash.hex(d.user, d.realm)) + ", userhash=true")
	case d.utf8 && !ascii(d.user): // section 3.4, in the coding of RFC 8187
		b.WriteString("username*=UTF-8''" + strings.ReplaceAll(url.QueryEscape(d.user), "+", "%20"))
	default:
		b.WriteString("username=" + quote(d.user))
	}
	b.WriteString(", realm=" + quote(d.realm) + ", nonce=" + quote(d.nonce) + ", uri=" + quote(d.target))
	if d.algorithm != "" {
		b.WriteString(", algorithm=" + d.algorithm)
	}
	if d.auth {
		b.WriteString(", qop=auth, nc=" + count)
	}
	if d.auth || d.session {
		b.WriteString(", cnonce=" + quote(cnonce))
	}
	b.WriteString(", response=" + quote(d.response("CONNECT", d.target, count, cnonce)))
	if d.opaque != nil {
		b.WriteString(", opaque=" + quote(*d.opaque))
	}
	return b.String()
}

func ascii(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > 0x7e })
}
