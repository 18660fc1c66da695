package httpproxy

import (
	"strings"
	"testing"
)

// The examples of RFC 7616, section 3.9. The second is as its erratum 4897 has it: the
// RFC took SHA-512 cut short for SHA-512/256.
func TestDigestExamples(t *testing.T) {
	const (
		mufasa   = "Circle of Life"
		nonce    = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
		cnonce   = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
		http     = `Digest realm="http-auth@example.org", qop="auth, auth-int", nonce="` + nonce + `", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS", algorithm=`
		api      = `Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true`
		apiNonce = "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v"
	)
	for _, c := range []struct {
		name, challenge, user, password, uri, cnonce string
		want                                         string
	}{
		{"MD5", http + "MD5", "Mufasa", mufasa, "/dir/index.html", cnonce,
			"8ca523f5e9506fed4657c9700eebdbec"},
		{"SHA-256", http + "SHA-256", "Mufasa", mufasa, "/dir/index.html", cnonce,
			"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"},
		{"SHA-512-256", api, "Jäsøn Doe", "Secret, or not?", "/doe.json", apiNonce,
			"3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"},
	} {
		d, ok := newDigestChallenge(parseChallenges([]string{c.challenge})[0])
		if !ok {
			t.Fatalf("%s: not understood", c.name)
		}
		a := digest{user: c.user, password: c.password, digestChallenge: d}
		if got := a.response("GET", c.uri, "00000001", c.cnonce); got != c.want {
			t.Errorf("%s: response %s, want %s", c.name, got, c.want)
		}
	}
	d, _ := newDigestChallenge(parseChallenges([]string{api})[0])
	a := digest{user: "Jäsøn Doe", digestChallenge: d}
	if want := `username="793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b", userhash=true`; !strings.Contains(a.value(apiNonce), want) {
		t.Errorf("userhash: %s, want %s", a.value(apiNonce), want)
	}
}

// TestDigestValue: each form of the credentials.
func TestDigestValue(t *testing.T) {
	for _, c := range []struct {
		name, challenge, user string
		want                  []string
	}{
		{"of RFC 2069", `Digest realm="r", nonce="n"`, "me",
			[]string{`username="me"`, `realm="r"`, `nonce="n"`, `uri="gw:22"`, `response="a98602f490aef17c8581a8ac94cf8454"`}},
		{"with qop", `Digest realm="r", nonce="n", qop="auth", algorithm=MD5, opaque=""`, "me",
			[]string{`username="me"`, `realm="r"`, `nonce="n"`, `uri="gw:22"`, `algorithm=MD5`, `qop=auth`, `nc=00000001`, `cnonce="c"`, `response="2957d67f6f2f8ed358f39dde32bcb268"`, `opaque=""`}},
		{"quotes", `Digest realm="a \"b\" \\", nonce="n"`, `m"e`,
			[]string{`username="m\"e"`, `realm="a \"b\" \\"`, `nonce="n"`, `uri="gw:22"`, ``}},
		{"UTF-8", `Digest realm="r", nonce="n", charset=UTF-8`, "Jäsøn Doe",
			[]string{`username*=UTF-8''J%C3%A4s%C3%B8n%20Doe`, `realm="r"`, `nonce="n"`, `uri="gw:22"`, ``}},
		{"no charset", `Digest realm="r", nonce="n"`, "Jäsøn",
			[]string{`username="Jäsøn"`, `realm="r"`, `nonce="n"`, `uri="gw:22"`, ``}},
		{"a session", `Digest realm="r", nonce="n", algorithm=MD5-sess`, "me",
			[]string{`username="me"`, `realm="r"`, `nonce="n"`, `uri="gw:22"`, `algorithm=MD5-sess`, `cnonce="c"`, ``}},
	} {
		d, ok := newDigestChallenge(parseChallenges([]string{c.challenge})[0])
		if !ok {
			t.Fatalf("%s: not understood", c.name)
		}
		a := digest{user: c.user, password: "secret", target: "gw:22", digestChallenge: d, count: 1}
		got := strings.Split(strings.TrimPrefix(a.value("c"), "Digest "), ", ")
		for i, want := range c.want {
			if i >= len(got) || got[i] != want && !(want == "" && strings.HasPrefix(got[i], "response=")) {
				t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
				break
			}
		}
	}
}

func TestDigestNotUnderstood(t *testing.T) {
	for _, c := range []string{
		`Digest nonce="n"`,
		`Digest realm="r"`,
		`Digest realm="r", nonce="n", qop="auth-int"`,
		`Digest realm="r", nonce="n", algorithm=SHA-1`,
		"Digest realm=\"r\rProxy-Evil: 1\", nonce=\"n\"",
	} {
		if _, ok := newDigestChallenge(parseChallenges([]string{c})[0]); ok {
			t.Errorf("%q: understood", c)
		}
	}
}

// TestDigestCounts: a nonce used again is counted; a stale one is replaced once the
// proxy names another.
func TestDigestCounts(t *testing.T) {
	d, _ := newDigestChallenge(parseChallenges([]string{`Digest realm="r", nonce="n", qop="auth"`})[0])
	a := &digest{user: "me", target: "gw:22", digestChallenge: d}
	for _, want := range []string{"nc=00000001", "nc=00000002"} {
		if got, _ := a.credentials(); !strings.Contains(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for _, c := range []struct {
		challenge string
		more      bool
	}{
		{`Digest realm="r", nonce="m", qop="auth"`, false},
		{`Digest realm="r", nonce="n", qop="auth", stale=true`, false},
		{`Digest realm="r", nonce="m", qop="auth", algorithm=SHA-256, stale=true`, false},
		{`Digest realm="r", nonce="m", qop="auth", stale=TRUE`, true},
	} {
		if more, _, _ := a.answer(parseChallenges([]string{c.challenge})); more != c.more {
			t.Errorf("%s: goes on: %v", c.challenge, more)
		}
	}
	if got, _ := a.credentials(); !strings.Contains(got, `nonce="m"`) || !strings.Contains(got, "nc=00000001") {
		t.Errorf("after a stale nonce: %s", got)
	}
}
