package way

import (
	"os"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/cmd/bodkin/secret"
	"github.com/bodkin-net/bodkin/config"
)

func TestFromEnvironment(t *testing.T) {
	for _, c := range []struct {
		name   string
		env    string // blank-separated assignments
		target string
		want   string // the hop; empty: none; "error: " and a piece of it
		secret string
	}{
		{"nothing", "", "gw", "", ""},
		{"https", "HTTPS_PROXY=http://proxy:3128", "gw", "http://proxy", ""},
		{"small letters", "https_proxy=http://proxy:8080", "gw", "http://proxy:8080", ""},
		{"no scheme", "HTTPS_PROXY=proxy:8080", "gw", "http://proxy:8080", ""},
		{"all", "ALL_PROXY=socks5://proxy:1080", "gw", "socks5://proxy", ""},
		{"https before all", "all_proxy=socks5://other HTTPS_PROXY=http://proxy", "gw", "http://proxy", ""},
		{"with a password", "HTTPS_PROXY=http://me:s3cret@proxy:3128", "gw", "http://me@proxy", "s3cret"},
		{"with a password in clear text", "HTTPS_PROXY=http://me:s3cret@proxy:3128/?auth=basic", "gw", "http://me@proxy?auth=basic", "s3cret"},
		{"not for this one", "HTTPS_PROXY=http://proxy NO_PROXY=.corp.example,gw", "gw", "", ""},
		{"not for this domain", "HTTPS_PROXY=http://proxy NO_PROXY=corp.example", "me@gw.corp.example", "", ""},
		{"another's domain", "HTTPS_PROXY=http://proxy:3128 NO_PROXY=corp.example", "me@gw.example", "http://proxy", ""},
		{"nonsense", "HTTPS_PROXY=http://me:s3cret@pro[xy", "gw", "error: port", ""},
		{"no such kind", "HTTPS_PROXY=ftp://me:s3cret@proxy", "gw", "error: ftp://", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"} {
				t.Setenv(name, "")
				t.Setenv(strings.ToLower(name), "")
			}
			for word := range strings.FieldsSeq(c.env) {
				name, value, _ := strings.Cut(word, "=")
				t.Setenv(name, value)
			}
			target, err := config.ParseTarget(c.target)
			if err != nil {
				t.Fatal(err)
			}
			secrets, err := secret.Parse(nil)
			if err != nil {
				t.Fatal(err)
			}
			hops, err := FromEnvironment(target, secrets)
			if want, bad := strings.CutPrefix(c.want, "error: "); bad {
				if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("%v, %v", hops, err)
				}
				return
			}
			got := ""
			if len(hops) > 0 {
				got = hops[0].String()
			}
			if got != c.want || err != nil || len(hops) > 1 {
				t.Fatalf("%v, %v; want %s", hops, err, c.want)
			}
			if c.secret != "" {
				if s, err := secrets.For(hops[0].Place())(t.Context(), "Password"); s != c.secret || err != nil {
					t.Errorf("the password is %q, %v", s, err)
				}
			}
		})
	}
}

// TestOwn: what holds the password is not handed on, and what holds none is.
func TestOwn(t *testing.T) {
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"} {
		t.Setenv(name, "")
		t.Setenv(strings.ToLower(name), "")
	}
	const url = "http://me:s3cret@proxy:3128"
	t.Setenv("https_proxy", url)
	t.Setenv("HTTP_PROXY", strings.TrimPrefix(url, "http://"))
	t.Setenv("ALL_PROXY", "http://other:3128")
	t.Setenv("WORD", "swordfish")
	secrets, err := secret.Parse([]string{"here=env:WORD", "there=env:WORD"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FromEnvironment(config.Hop{Host: "gw"}, secrets); err != nil {
		t.Fatal(err)
	}
	secrets.Own()
	for place, want := range map[string]string{"me@proxy": "s3cret", "here": "swordfish", "there": "swordfish"} {
		if s, err := secrets.For(place)(t.Context(), "Password"); s != want || err != nil {
			t.Errorf("the secret for %s is %q, %v", place, s, err)
		}
	}
	left := strings.Join(os.Environ(), "\n")
	if strings.Contains(left, "s3cret") || strings.Contains(left, "swordfish") || !strings.Contains(left, "ALL_PROXY=http://other:3128") {
		t.Errorf("the environment holds %s", left)
	}
}
