package httpproxy

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseChallenges(t *testing.T) {
	basic := challenge{scheme: "Basic", params: []param{{"realm", "x"}}}
	for _, c := range []struct {
		value string
		want  []challenge
	}{
		{`Basic realm="x"`, []challenge{basic}},
		{`Basic realm=x`, []challenge{basic}},
		{`Basic realm = "x" , NTLM`, []challenge{basic, {scheme: "NTLM"}}},
		{`NTLM, Basic realm="x"`, []challenge{{scheme: "NTLM"}, basic}},
		{`, ,Negotiate,, Basic realm="x",`, []challenge{{scheme: "Negotiate"}, basic}},
		{`NTLM TlRMTVNTUAAC==`, []challenge{{scheme: "NTLM", token: "TlRMTVNTUAAC=="}}},
		{`Negotiate a=, NTLM b==`, []challenge{{scheme: "Negotiate", token: "a="}, {scheme: "NTLM", token: "b=="}}},
		{`Digest realm="a, b=\"c\"", qop="auth,auth-int", nonce=n, Basic realm="x"`, []challenge{
			{scheme: "Digest", params: []param{{"realm", `a, b="c"`}, {"qop", "auth,auth-int"}, {"nonce", "n"}}}, basic}},
		{`Digest realm="", , nonce="\n"`, []challenge{{scheme: "Digest", params: []param{{"realm", ""}, {"nonce", "n"}}}}},
		{`Basic realm="x"; more`, nil},
		{`Basic realm="x`, nil},
		{`Basic realm="x\`, nil},
		{`Basic realm="x", REALM="y"`, nil},
		{`NTLM, Basic realm=`, []challenge{{scheme: "NTLM"}, {scheme: "Basic", token: "realm="}}},
		{`NTLM, Basic realm=,x="y"`, []challenge{{scheme: "NTLM"}, {scheme: "Basic", token: "realm="}}},
		{`NTLM, Basic realm="x" NTLM`, []challenge{{scheme: "NTLM"}}},
		{`"Basic"`, nil},
		{``, nil},
	} {
		got := parseChallenges([]string{c.value})
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.value, got, c.want)
		}
	}
	// One value that makes no sense leaves the others alone.
	if got := parseChallenges([]string{`Basic realm="x`, `NTLM`}); !reflect.DeepEqual(got, []challenge{{scheme: "NTLM"}}) {
		t.Errorf("after a broken value: %+v", got)
	}
}

func TestStrongest(t *testing.T) {
	const (
		md5    = `Digest realm="r", nonce="1"`
		sha256 = `Digest realm="r", nonce="2", algorithm=SHA-256-sess, qop="auth"`
		basic  = `Basic realm="r"`
	)
	for _, c := range []struct {
		values []string
		clear  bool
		want   string // empty: none
		weak   bool
	}{
		{[]string{basic, "NTLM", md5, sha256}, true, "Digest SHA-256-sess", true},
		{[]string{sha256, md5, "NTLM", basic}, true, "Digest SHA-256-sess", true},
		{[]string{basic, "ntlm", "Negotiate", md5}, true, "Digest", true},
		{[]string{basic, "NTLM"}, true, "NTLM", true},
		{[]string{"NTLM", basic}, false, "NTLM", true},
		{[]string{"Negotiate", basic}, true, "Basic", true},
		{[]string{"Negotiate", basic}, false, "", true},
		{[]string{"Negotiate", "Bearer", "Digest nonce=x"}, true, "", false},
	} {
		best, weak := strongest(parseChallenges(c.values), c.clear)
		got := ""
		if best != nil {
			got = best("me", "secret", "gw:22").name()
		}
		if got != c.want || weak != c.weak {
			t.Errorf("%q: %q, weak %v", c.values, got, weak)
		}
	}
}

// FuzzChallenges: what was understood, written out in order, is understood so again.
// Every method that is chosen makes credentials of one line, or says why not.
func FuzzChallenges(f *testing.F) {
	f.Add(`Digest realm="a, b=\"c\"", qop="auth,auth-int", nonce=n, stale=true, Basic realm="x", NTLM`)
	f.Add(`NTLM TlRMTVNTUAACAAAADAAMADgAAAA1goriASNFZ4mrze8AAAAAAAAAACQAJABEAAAABgBwFwAAAA9TAGUAcgB2AGUAcgACAAwARABvAG0AYQBpAG4AAQAMAFMAZQByAHYAZQByAAAAAAA=`)
	f.Add(`, a b=, c d = "e\f" ,,g`)
	f.Fuzz(func(t *testing.T, value string) {
		all := parseChallenges([]string{value})
		var written []string
		for _, c := range all {
			text := c.scheme
			if c.token != "" {
				text += " " + c.token
			}
			for i, p := range c.params {
				if i > 0 {
					text += ","
				}
				text += " " + p.name + "=" + quote(p.value)
			}
			written = append(written, text)
		}
		if again := parseChallenges([]string{strings.Join(written, ", ")}); !reflect.DeepEqual(again, all) {
			t.Fatalf("%q\nwas   %+v\nbecame %+v", value, all, again)
		}
		best, _ := strongest(all, true)
		if best == nil || strings.ContainsAny(value, "\r\n") { // no line of a header has these
			return
		}
		a := best("me", "secret", "gw:22")
		for range 2 {
			credentials, err := a.credentials()
			if err != nil {
				t.Fatal(err)
			}
			if !clean(credentials) {
				t.Fatalf("%q", credentials)
			}
			if more, _, err := a.answer(all); err != nil || !more {
				break
			}
		}
	})
}
