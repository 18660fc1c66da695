package chat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"unicode"

	"github.com/bodkin-net/bodkin/carrier"
)

// FuzzParse: a script's words, each in quotes on lines of their own, are the same
// script.
func FuzzParse(f *testing.F) {
	f.Add("# dial\nABORT BUSY '' \"AT Z\" OK-\\d-OK 'it''s' x")
	f.Add("MATCH 'a(b|c)+' REPLY {1} ASK 'who \\' is'")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || ExitCode(err) != 1 {
				t.Errorf("%T %v", err, err)
			}
			return
		}
		var again strings.Builder
		var words []string
		for _, step := range s.steps {
			expect := step.keyword
			if expect == "" {
				expect = strings.Join(step.parts, "-")
				if is, _ := isKeyword(expect); is || !reflect.DeepEqual(cut(expect), step.parts) {
					expect += "-" // which is not there
				}
			}
			words = append(words, expect)
			if step.whole {
				words = append(words, step.word)
			}
		}
		for _, word := range words {
			quote := `"`
			if closing(word+`"`, '"') != len(word) {
				quote = `'`
			}
			if closing(word+quote, quote[0]) != len(word) {
				return // cannot be quoted
			}
			fmt.Fprintf(&again, "  %s%s%s\n", quote, word, quote)
		}
		s2, err := Parse(again.String())
		if err != nil {
			t.Fatalf("%q: %v", again.String(), err)
		}
		if s3, err := ParseWords(words); err != nil || len(s3.steps) != len(s2.steps) {
			t.Errorf("as words: %v", err)
		}
		for i := range s.steps {
			a, b := s.steps[i], s2.steps[i]
			if a.keyword != b.keyword || a.word != b.word || a.whole != b.whole || !reflect.DeepEqual(a.parts, b.parts) {
				t.Errorf("step %d is %+v, then %+v", i, a, b)
			}
		}
	})
}

// FuzzRun: no octet after the last match is lost, whatever the script, and how what
// comes is cut up changes nothing.
func FuzzRun(f *testing.F) {
	f.Add("ogin: me word: pw", "login: Password: ~\xff}#", uint64(1))
	f.Add("ABORT no REPORT x TIMEOUT 3 a-b-c d MATCH '(x+)y' REPLY {1}", "axxxyno", uint64(2))
	f.Fuzz(func(t *testing.T, text, comes string, seed uint64) {
		if len(text) > 1<<12 || len(comes) > 1<<12 || strings.Contains(text, "@") {
			return
		}
		s, err := Parse(text)
		if err != nil {
			return
		}
		var first string
		for _, cuts := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 0))
				p := newPeer(comes, 1<<16)
				p.silent = false
				taken := 0
				read := readerFunc(func(b []byte) (int, error) {
					if cuts {
						p.piece = 1 + random.IntN(5)
					}
					n, err := p.Read(b)
					taken += n
					return n, err
				})
				o := Options{Env: func(name string) (string, bool) { return "value", name != "" }, Log: func(line string) {
					if strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
						t.Errorf("logged %q", line)
					}
				}}
				st, err := s.Run(t.Context(), carrier.Stream{ReadWriteCloser: struct {
					io.Reader
					io.Writer
					io.Closer
				}{read, p, p}}, o)
				var rest []byte
				if err == nil {
					rest, _ = io.ReadAll(st)
					if taken != len(comes) {
						t.Errorf("%d of %d octets were read", taken, len(comes))
					}
				}
				if !strings.HasSuffix(comes, string(rest)) {
					t.Errorf("the rest %q is no end of %q", rest, comes)
				}
				is := fmt.Sprintf("exit code %d, sent %q, rest %q", ExitCode(err), p.heard.String(), rest)
				if !cuts {
					first = is
				} else if is != first {
					t.Errorf("%s; in pieces %s", first, is)
				}
			})
		}
	})
}

// FuzzMatch: the first end of a match is where package regexp first finds one that
// ends there.
func FuzzMatch(f *testing.F) {
	f.Add(`(?m)^log(in|on)*: ?`, "a\nlogin: ")
	f.Add(`a*?b|\w{3,5}\s`, "xaabcde f")
	f.Fuzz(func(t *testing.T, expr, text string) {
		if len(expr) > 64 || len(text) > 128 {
			return
		}
		p, err := compile(expr)
		if err != nil {
			return
		}
		whole := regexp.MustCompile(`(?:` + expr + `)\z`)
		s := newSearch(p)
		seen := make([]byte, 0, len(text))
		for i := 0; ; i++ {
			want := whole.Match(seen)
			if s.found != want {
				t.Fatalf("%q in %q: found %v, want %v", expr, seen, s.found, want)
			}
			if s.found {
				if got := p.groups(seen); got == nil {
					t.Errorf("no groups in %q", seen)
				}
				return
			}
			if i == len(text) {
				return
			}
			seen = append(seen, text[i]&0x7f)
			s.put(seen[i])
		}
	})
}

// FuzzTalk: nothing that a host or a proxy says makes us type what nobody gave us, or
// show what is not printable; and a proxy's Stream begins after a line's end.
func FuzzTalk(f *testing.F) {
	f.Add("gw login: \r\nPassword: \r\n\x1b[1m$ ", uint8(3))
	f.Add("tn-gw-> \r\nTrying...\r\nConnected to home.\r\n\xff\xfb", uint8(1))
	f.Add("otp-md5 95 pi\r\nResponse: \r\n# bodkin", uint8(200))
	f.Fuzz(func(t *testing.T, comes string, piece uint8) {
		if len(comes) > 1<<12 {
			return
		}
		printable := func(line string) {
			if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("showed %q", line)
			}
		}
		secret := func(_ context.Context, question string) (string, error) {
			printable(question)
			if len(question) > 2*maxShown+100 {
				t.Errorf("a question of %d octets", len(question))
			}
			return "pw", nil
		}
		speaks := func() *peer {
			p := newPeer(comes, 1+int(piece))
			p.silent = false
			return p
		}
		heard := func(p *peer, allowed *regexp.Regexp) {
			if !allowed.Match(p.heard.Bytes()) {
				t.Errorf("typed %q", p.heard.String())
			}
		}
		p := speaks()
		_, err := Login(t.Context(), p.stream(), LoginOptions{User: "me", Secret: secret, Become: "su", Banner: printable})
		if err == nil {
			t.Error("nobody can know the marker")
		} else {
			printable(err.Error())
		}
		heard(p, regexp.MustCompile(`^(me\r)?(pw\r){0,2}(me\r)?(pw\r){0,2}(echo bodkin-''\w{16}; exec su\r)?$`))

		p = speaks()
		st, err := Proxy(t.Context(), p.stream(), ProxyOptions{Host: "home", Port: 22, User: "me", Secret: secret, Banner: printable})
		if err != nil {
			printable(err.Error())
		} else {
			rest, _ := io.ReadAll(st)
			before, ends := strings.CutSuffix(comes, string(rest))
			if !ends || !strings.HasSuffix(before, "\n") && before != "" && !strings.HasPrefix(string(rest), "SSH-") {
				t.Errorf("the rest %q does not begin a line of %q", rest, comes)
			}
		}
		heard(p, regexp.MustCompile(`^(me\r|pw\r){0,3}((c )?home 22\r)?$`))
	})
}
