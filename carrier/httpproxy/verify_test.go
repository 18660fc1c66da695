package httpproxy

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/bodkin-net/bodkin/carrier"
)

// digestProxy verifies credentials as RFC 7616 says a server does, by code of its own.
type digestProxy struct {
	t         *testing.T
	algorithm string // as in the challenge; empty: none
	qop       string // the same
	userhash  bool
	stale     int // so many nonces are stale at once

	nonces int
	counts map[string]string // the last nonce count of each nonce
}

const realm = `a "realm", with=signs`

func (p *digestProxy) challenge() string {
	p.nonces++
	text := fmt.Sprintf(`Digest realm="a \"realm\", with=signs", nonce="nonce %d", opaque="opaque %d"`, p.nonces, p.nonces)
	if p.algorithm != "" {
		text += ", algorithm=" + p.algorithm
	}
	if p.qop != "" {
		text += `, qop="` + p.qop + `"`
	}
	if p.userhash {
		text += ", userhash=true"
	}
	if p.nonces > 1 && p.nonces <= p.stale+1 {
		text += ", stale=TRUE"
	}
	return wants(`Negotiate, Basic realm="weak"`, text)
}

var (
	quoted  = regexp.MustCompile(`([a-z]+)="((?:[^"\\]|\\.)*)"`)
	escaped = regexp.MustCompile(`\\(.)`)
	bare    = regexp.MustCompile(`([a-z]+)=([^", ]+)`)
)

// good reports whether the credentials are user's, by password.
func (p *digestProxy) good(credentials, user, password string) bool {
	got := map[string]string{}
	text, ok := strings.CutPrefix(credentials, "Digest ")
	for _, m := range quoted.FindAllStringSubmatch(text, -1) {
		got[m[1]] = escaped.ReplaceAllString(m[2], "$1")
	}
	for _, m := range bare.FindAllStringSubmatch(quoted.ReplaceAllString(text, ""), -1) {
		got[m[1]] = m[2]
	}
	var h func() hash.Hash
	switch strings.TrimSuffix(strings.ToUpper(p.algorithm), "-SESS") {
	case "", "MD5":
		h = md5.New
	case "SHA-256":
		h = sha256.New
	case "SHA-512-256":
		h = sha512.New512_256
	}
	sum := func(format string, args ...any) string {
		s := h()
		fmt.Fprintf(s, format, args...)
		return fmt.Sprintf("%x", s.Sum(nil))
	}
	a1 := sum("%s:%s:%s", user, realm, password)
	if strings.HasSuffix(strings.ToLower(p.algorithm), "-sess") {
		a1 = sum("%s:%s:%s", a1, got["nonce"], got["cnonce"])
		ok = ok && got["cnonce"] != ""
	}
	a2 := sum("CONNECT:%s", got["uri"])
	want := sum("%s:%s:%s", a1, got["nonce"], a2)
	if p.qop != "" {
		want = sum("%s:%s:%s:%s:auth:%s", a1, got["nonce"], got["nc"], got["cnonce"], a2)
		// A count that does not rise is somebody's replay.
		ok = ok && got["qop"] == "auth" && len(got["nc"]) == 8 && got["nc"] > p.counts[got["nonce"]] && len(got["cnonce"]) >= 16
		p.counts[got["nonce"]] = got["nc"]
	}
	if p.userhash {
		user = sum("%s:%s", user, realm)
		ok = ok && got["userhash"] == "true"
	}
	return ok && got["username"] == user && got["realm"] == realm && got["uri"] == settings.Target &&
		got["algorithm"] == p.algorithm && got["nonce"] == fmt.Sprintf("nonce %d", p.nonces) &&
		got["opaque"] == fmt.Sprintf("opaque %d", p.nonces) && got["response"] == want
}

func TestDigest(t *testing.T) {
	for _, algorithm := range []string{"", "MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "sha-512-256"} {
		for _, qop := range []string{"", "auth", "auth-int, auth"} {
			for _, userhash := range []bool{false, true} {
				for _, c := range []struct {
					name          string
					password      string
					stale         int
					hangs, closes bool
					refused       string
				}{
					{name: "right", password: "päss: word"},
					{name: "wrong", password: "other", refused: "wrong user or password"},
					{name: "stale", password: "päss: word", stale: 1},
					{name: "wrong and stale", password: "other", stale: 1, refused: "wrong user or password"},
					{name: "closes", password: "päss: word", closes: true},
					{name: "hangs up", password: "päss: word", hangs: true},
				} {
					t.Run(fmt.Sprintf("%s qop=%s userhash=%v %s", algorithm, qop, userhash, c.name), func(t *testing.T) {
						p := &digestProxy{t: t, algorithm: algorithm, qop: qop, userhash: userhash, stale: c.stale, counts: map[string]string{}}
						var asked int
						_, reached, err := through(t, as(`m"e\`, c.password, &asked), func(number int, client *client) {
							for {
								credentials := client.credentials()
								fresh := p.nonces > c.stale
								if credentials == gone {
									return
								} else if fresh && p.good(credentials, `m"e\`, "päss: word") {
									client.say(yes)
									return
								}
								answer := p.challenge()
								if c.closes {
									answer = strings.Replace(answer, "\r\n", "\r\nConnection: close\r\n", 1)
								}
								client.say(answer)
								if c.closes || c.hangs && number == 1 {
									return
								}
							}
						}, nil)
						if c.refused != "" {
							mustBeRefused(t, err, c.refused)
						} else if err != nil {
							t.Error(err)
						}
						want := 1
						if c.closes || c.hangs {
							want = 2
						}
						if asked != 1 || reached != want {
							t.Errorf("%d questions, %d connections", asked, reached)
						}
					})
				}
			}
		}
	}
}

// The password SecREt01 as Windows stores it: MD4 of it in UTF-16, from "The NTLM
// Authentication Protocol and Security Support Provider" (E. Glass).
const secret01 = "cd06ca7c7e10c99b1d33b7485a2ed808"

func unicode16(text string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(text)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// ntlmChallenge returns a CHALLENGE_MESSAGE (MS-NLMP, section 2.2.1.2) with its
// server's challenge, in a domain.
func ntlmChallenge(server [8]byte, domain string, info []byte) []byte {
	const flags = 0x1 | 0x4 | 0x200 | 0x800000 // Unicode, request target, NTLM, target info
	name := unicode16(domain)
	b := []byte("NTLMSSP\x00\x02\x00\x00\x00")
	field := func(n, at int) {
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
		b = binary.LittleEndian.AppendUint32(b, uint32(at))
	}
	field(len(name), 48)
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = append(append(b, server[:]...), make([]byte, 8)...)
	field(len(info), 48+len(name))
	return append(append(b, name...), info...)
}

// ntlmGood verifies an AUTHENTICATE_MESSAGE (section 2.2.1.3) by NTLMv2 (section
// 3.3.2).
func ntlmGood(message []byte, server [8]byte, domain, user, stored string, info []byte) error {
	field := func(at int) []byte {
		if len(message) < at+8 {
			return nil
		}
		n, from := int(binary.LittleEndian.Uint16(message[at:])), int(binary.LittleEndian.Uint32(message[at+4:]))
		if from+n > len(message) {
			return nil
		}
		return message[from : from+n]
	}
	if !bytes.HasPrefix(message, []byte("NTLMSSP\x00\x03\x00\x00\x00")) {
		return fmt.Errorf("not the third message: %q", message)
	}
	response := field(20)
	if got := field(28); !bytes.Equal(got, unicode16(domain)) {
		return fmt.Errorf("domain %q", got)
	}
	if got := field(36); !bytes.Equal(got, unicode16(user)) {
		return fmt.Errorf("user %q", got)
	}
	if len(response) < 44 || !bytes.Contains(response[44:], info) {
		return fmt.Errorf("a response of %d octets, without the server's own words", len(response))
	}
	mac := func(key []byte, parts ...[]byte) []byte {
		m := hmac.New(md5.New, key)
		m.Write(bytes.Join(parts, nil))
		return m.Sum(nil)
	}
	nt, err := hex.DecodeString(stored)
	if err != nil {
		return err
	}
	key := mac(nt, unicode16(strings.ToUpper(user)+domain))
	if want := mac(key, server[:], response[16:]); !bytes.Equal(response[:16], want) {
		return fmt.Errorf("the proof is %x, want %x", response[:16], want)
	}
	return nil
}

func TestNTLM(t *testing.T) {
	server := [8]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}
	info := append([]byte{2, 0, 12, 0}, unicode16("DOMAIN")...)
	info = append(info, 0, 0, 0, 0)
	token := base64.StdEncoding.EncodeToString(ntlmChallenge(server, "DOMAIN", info))
	second := wants("NTLM " + token)
	beyond := ntlmChallenge(server, "DOMAIN", info)
	copy(beyond[16:], "\xae\xaa\xaa\xaa") // where the target's name is
	nameless := wants("NTLM " + base64.StdEncoding.EncodeToString(beyond))
	// What ntlm_fake_auth sends: such a name, and the name itself in the place of the
	// information on the target.
	fake := []byte("NTLMSSP\x00\x02\x00\x00\x00\x09\x00\x09\x00\xae\xaa\xaa\xaa\x07\x82\x08\xa2" + string(server[:]) + "\x00\x00\x00\x00\x00\x00\x3a\x00WORKGROUP")
	faked := wants("NTLM " + base64.StdEncoding.EncodeToString(fake))
	const first = "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Basic realm=\"x\"\r\n"
	const keeping = first + "Content-Length: 0\r\n\r\n"
	for _, c := range []struct {
		name, user, domain, password string
		first, second                string
		reached                      int
		refused                      string
		hungUp                       bool
	}{
		{"with a domain", `MYDOMAIN\user`, "MYDOMAIN", "SecREt01", keeping, second, 1, "", false},
		{"without", "user", "", "SecREt01", keeping, second, 1, "", false},
		{"the target's name beyond the end", "user", "", "SecREt01", keeping, nameless, 1, "", false},
		{"squid's fake", "user", "", "SecREt01", keeping, faked, 1, "", false},
		{"closed after the offer", "user", "", "SecREt01", first + "Connection: close\r\n\r\n", second, 2, "", false},
		{"wrong password", "user", "", "secret01", keeping, second, 1, "wrong user or password", false},
		{"closed in the middle", "user", "", "SecREt01", keeping, strings.Replace(second, "\r\n", "\r\nConnection: close\r\n", 1), 1, "does not keep", false},
		{"hung up in the middle", "user", "", "SecREt01", keeping, "", 2, "", true},
		{"hung up at the last message", "user", "", "SecREt01", keeping, second, 1, "", true},
		{"no challenge", "user", "", "SecREt01", keeping, keeping, 1, "no challenge came", false},
		{"not base 64", "user", "", "SecREt01", keeping, wants("NTLM TlRM="), 1, "not base 64", false},
		{"garbage", "user", "", "SecREt01", keeping, wants("NTLM TlRMTVNTUAACAAAA"), 1, "makes no sense", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked int
			_, reached, err := through(t, as(c.user, c.password, &asked), func(_ int, proxy *client) {
				step := 1 // of this connection: the messages are bound to it
				for {
					credentials := proxy.credentials()
					if credentials == gone {
						return
					}
					message, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(credentials, "NTLM "))
					switch {
					case credentials == "":
						proxy.say(c.first)
						if !strings.HasSuffix(c.first, keeping) {
							return
						}
					case step == 1 && bytes.HasPrefix(message, []byte("NTLMSSP\x00\x01\x00\x00\x00")):
						proxy.say(c.second)
						if c.second == "" {
							return
						}
						step = 2
					case step == 2 && c.hungUp:
						return
					case step == 2 && (c.second == second || c.second == nameless) && ntlmGood(message, server, c.domain, "user", secret01, info) == nil,
						step == 2 && c.second == faked && ntlmGood(message, server, c.domain, "user", secret01, nil) == nil:
						proxy.say(yes)
						return
					case c.refused != "":
						proxy.say(keeping)
					default:
						t.Errorf("step %d: %q: %v", step, credentials, ntlmGood(message, server, c.domain, "user", secret01, info))
						return
					}
				}
			}, nil)
			hungUp := new(carrier.HangUpError)
			switch {
			case c.refused != "":
				mustBeRefused(t, err, c.refused)
			case c.hungUp:
				if !errors.As(err, &hungUp) {
					t.Errorf("%v", err)
				}
			case err != nil:
				t.Error(err)
			}
			if asked != 1 || reached != c.reached {
				t.Errorf("%d questions, %d connections", asked, reached)
			}
		})
	}
}

// FuzzNTLM: whatever the proxy calls a challenge, the answer is a message of our own
// shape, or an error fit to be shown.
func FuzzNTLM(f *testing.F) {
	info := append(append([]byte{2, 0, 12, 0}, unicode16("DOMAIN")...), 0, 0, 0, 0)
	whole := ntlmChallenge([8]byte{1, 2, 3, 4, 5, 6, 7, 8}, "DOMAIN", info)
	f.Add(whole)
	f.Add(whole[:40])
	f.Add(whole[:len(whole)-5])
	f.Fuzz(func(t *testing.T, message []byte) {
		n := &ntlm{user: `D\me`, password: "secret"}
		more, bound, err := n.answer([]challenge{{scheme: "NTLM", token: base64.StdEncoding.EncodeToString(message)}})
		if err != nil || !more {
			if err == nil || carrier.Printable(err.Error()) != err.Error() || len(err.Error()) > 1000 {
				t.Fatalf("%v, %q", more, err)
			}
			return
		}
		if !bound || !bytes.HasPrefix(n.last, []byte("NTLMSSP\x00\x03\x00\x00\x00")) || bytes.Contains(n.last, []byte("secret")) {
			t.Fatalf("%q", n.last)
		}
		if more, _, err := n.answer(nil); more || err != nil {
			t.Fatalf("after the last message: %v, %v", more, err)
		}
	})
}
