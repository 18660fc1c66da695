package chat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// A peer is a Stream whose far side says one thing, in pieces, and hears all.
type peer struct {
	says   []byte
	piece  int  // octets a Read gives
	silent bool // after that nothing comes; else the end

	mu      sync.Mutex
	heard   bytes.Buffer
	breaks  int
	closed  chan struct{}
	closing sync.Once
}

func newPeer(says string, piece int) *peer {
	return &peer{says: []byte(says), piece: piece, silent: true, closed: make(chan struct{})}
}

func (p *peer) stream() carrier.Stream { return carrier.Stream{ReadWriteCloser: p} }

func (p *peer) Read(b []byte) (int, error) {
	if len(p.says) == 0 {
		if !p.silent {
			return 0, io.EOF
		}
		<-p.closed
		return 0, net.ErrClosed
	}
	n := copy(b[:min(p.piece, len(b))], p.says)
	p.says = p.says[n:]
	return n, nil
}

func (p *peer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard.Write(b)
}

func (p *peer) Break() error { p.breaks++; return nil }

func (p *peer) Close() error {
	p.closing.Do(func() { close(p.closed) })
	return nil
}

// rest returns what a Stream still has to give, without waiting for more.
func rest(t *testing.T, p *peer, st carrier.Stream) string {
	t.Helper()
	var got []byte
	p.silent = false
	b := make([]byte, 7)
	for {
		n, err := st.Read(b)
		got = append(got, b[:n]...)
		if err != nil {
			return string(got)
		}
	}
}

// A line of conversations is one way a script goes.
type conversation struct {
	name  string
	words []string
	comes string
	sends string
	code  int
	rest  string
	ours  bool // beyond chat(8)
}

// long is a word of n octets.
func long(n int) string { return strings.Repeat("A", n) }

// conversations is the language, by example. Those that are not only ours are what
// the chat(8) of ppp 2.4.9 does, which TestLikeChat asks.
var conversations = []conversation{
	{name: "nothing"},
	{name: "one expect", words: []string{"ogin:"}, comes: "gw login: x", rest: " x"},
	{name: "expect and send", words: []string{"ogin:", "me", "word:", "secret"}, comes: "login: Password:>", sends: "me\rsecret\r", rest: ">"},
	{name: "nothing expected", words: []string{"", "ATZ", "OK", "ATDT1"}, comes: "\r\nOK\r\n", sends: "ATZ\rATDT1\r", rest: "\r\n"},
	{name: "an empty send is a CR", words: []string{"a", ""}, comes: "ab", sends: "\r", rest: "b"},
	{name: `\c at the end`, words: []string{"", `a\c`}, sends: "a"},
	{name: `\c before it`, words: []string{"", `a\cb`}, sends: "acb\r"},
	{name: "escapes", words: []string{"", `\b\n\r\s\t\\\q!`}, sends: "\b\n\r \t\\!\r"},
	{name: "letters that mean nothing", words: []string{"", `\x\$\-\"\~`}, sends: `x$-"~` + "\r"},
	{name: "octal", words: []string{"", `x\0y\Nz\101\377\400\18\1`}, sends: "x\x00y\x00zA\xff\x00\x018\x01\r"},
	{name: "an octal backslash", words: []string{"", `\134d`}, sends: "\\d\r"},
	{name: "controls", words: []string{"", `^C^m^@^^x^`}, sends: "\x03\r\x1ex^\r"},
	{name: "a backslash at the end", words: []string{"", `a\`}, sends: "a\\\r"},
	{name: "no telephone", words: []string{"", `A\TB\U`}, sends: "ATBU\r"},
	{name: "EOT", words: []string{"", "EOT"}, sends: "\x04"},
	{name: "EOT is a word", words: []string{"", "xEOT"}, sends: "xEOT\r"},
	{name: "expects with escapes", words: []string{`a\sb\r\n\tc\\^A`}, comes: "a b\r\n\tc\\\x01.", rest: "."},
	{name: "octal in an expect", words: []string{`\101\0B\N`}, comes: "ABN.", rest: "."},
	{name: "sending letters in an expect", words: []string{`\c\d\K\p\q\T`}, comes: `cdKp\T.`, rest: "."},
	{name: "a backslash at the end of an expect", words: []string{`a\`}, comes: "a.", rest: "."},
	{name: "bit 7 is for others", words: []string{"login:"}, comes: "\xec\xefgin:\xff\xfe", rest: "\xff\xfe"},
	{name: "an expect that bit 7 hides", words: []string{"TIMEOUT", "1", `\341-y-`, "z"}, comes: "\xe1", sends: "y\rz\r"},
	{name: "a prefix twice", words: []string{"aab"}, comes: "aaab.", rest: "."},
	{name: "only after the expect before", words: []string{"ab", "", "ab", "x"}, comes: "xabab.", sends: "\rx\r", rest: "."},
	{name: "an expect as long as can be", words: []string{long(1024)}, comes: long(1025), rest: "A"},
	{name: "an expect too long", words: []string{long(1025)}, comes: long(1100), code: 1},

	{name: "a sub-expect not needed", words: []string{"a-x-b", "y"}, comes: "a.", sends: "y\r", rest: "."},
	{name: "an escaped dash", words: []string{`a\-b`, "c"}, comes: "ab-a-b.", sends: "c\r", rest: "."},
	{name: "a dash in a send", words: []string{"", "-a-b"}, sends: "-a-b\r"},
	{name: "a dash first", words: []string{"", "", "-x-b", "q"}, comes: "", sends: "\rq\r"},
	{name: "a sub-send", words: []string{"TIMEOUT", "1", "a-x-b", "y"}, sends: "x\r", code: 3},
	{name: "a sub-send and no more", words: []string{"TIMEOUT", "1", "a-x", "y"}, sends: "x\ry\r"},
	{name: "a dash at the end", words: []string{"TIMEOUT", "1", "a-", "y"}, code: 3},
	{name: "two dashes", words: []string{"TIMEOUT", "1", "a--b", "y"}, sends: "\r", code: 3},
	{name: "dashes and sends", words: []string{"TIMEOUT", "1", "a-x-b-y", "z"}, sends: "x\ry\rz\r"},
	{name: "EOT as a sub-send", words: []string{"TIMEOUT", "1", "a-EOT-b"}, sends: "\x04", code: 3},
	{name: "nothing comes", words: []string{"TIMEOUT", "1", "a"}, code: 3},
	{name: "something else comes", words: []string{"TIMEOUT", "1", "a", "b"}, comes: "xyz", code: 3},

	{name: "ABORT", words: []string{"ABORT", "BUSY", "ABORT", "NO CARRIER", "CONNECT", "x"}, comes: "NO CARRIER", code: 5},
	{name: "ABORT spares what follows", words: []string{"ABORT", "NO", "x", "y", "z"}, comes: "NOx", code: 4},
	{name: "the expect goes first", words: []string{"ABORT", "x", "x", "y"}, comes: "x", sends: "y\r"},
	{name: "an ABORT takes no sub-send", words: []string{"ABORT", "no", "a-x-b"}, comes: "no", code: 4},
	{name: "an ABORT before the wait", words: []string{"a", "", "ABORT", "no", "b", "x"}, comes: "noab", sends: "\rx\r"},
	{name: "an ABORT not over two waits", words: []string{"ABORT", "ab", "a", "", "b", "x"}, comes: "ab", sends: "\rx\r"},
	{name: "an empty ABORT", words: []string{"ABORT", "", "x"}, comes: "a", code: 4},
	{name: "CLR_ABORT moves the others up", words: []string{"ABORT", "A", "ABORT", "B", "ABORT", "C", "CLR_ABORT", "A", "z"}, comes: "C", code: 5},
	{name: "CLR_ABORT of two alike", words: []string{"ABORT", "A", "ABORT", "A", "ABORT", "B", "CLR_ABORT", "A", "z"}, comes: "AB", code: 4},
	{name: "CLR_ABORT of one too far away", words: []string{"ABORT", "A", "ABORT", "B", "ABORT", "A", "CLR_ABORT", "A", "z"}, comes: "AB", code: 5},
	{name: "an ABORT as long as can be", words: []string{"ABORT", long(49), "x"}, comes: "x"},
	{name: "an ABORT too long", words: []string{"ABORT", long(50), "x"}, comes: "x", code: 1},
	{name: "50 of ABORT", words: append(times(50, "ABORT", "N"), "x"), comes: "x"},
	{name: "51 of ABORT", words: append(times(51, "ABORT", "N"), "x"), comes: "x", code: 2},
	{name: "51 less one", words: append(times(50, "ABORT", "N"), "CLR_ABORT", "N", "ABORT", "N", "x"), comes: "N", code: 4},

	{name: "TIMEOUT that is no number", words: []string{"TIMEOUT", "x", "", "a"}, sends: "a\r"},
	{name: "keywords and nothing more", words: []string{"ECHO", "OFF", "HANGUP", "OFF", "SAY", "", "REPORT", "x", "CLR_REPORT", "x", "ABORT"}},
	{name: "a keyword where a word is due", words: []string{"ABORT", "TIMEOUT", "", "ECHO"}, sends: "ECHO\r"},

	{name: "MATCH", ours: true, words: []string{"MATCH", `log(in|on): ?`, "", "me"}, comes: "gw logon: .", sends: "me\r", rest: " ."},
	{name: "MATCH at its first end", ours: true, words: []string{"MATCH", `ab*`}, comes: "abbb", rest: "bbb"},
	{name: "MATCH with groups", ours: true, words: []string{"MATCH", `code (\d+)-(\w+)\.`, "REPLY", `<{2}.{1}.{0}.{7}>\{1}`}, comes: "your code 471-xy. ?", sends: "<xy.471.code 471-xy..>{1}\r", rest: " ?"},
	{name: "what a group says is not an escape", ours: true, words: []string{"MATCH", `(\S+)>`, "REPLY", `{1}\c`}, comes: "a\\d\x07{2}>", sends: "a\\d?{2}"},
	{name: "MATCH that is ABORTed", ours: true, words: []string{"ABORT", "no", "MATCH", `y+es`}, comes: "no", code: 4},
	{name: "MATCH from the beginning", ours: true, words: []string{"MATCH", `^a`, "MATCH", `(?m)^b`}, comes: "a-b\r\nb.", rest: "."},
	{name: "MATCH of nothing", ours: true, words: []string{"MATCH", `x*`, "", "a"}, comes: "x", sends: "a\r", rest: "x"},
	{name: "a word that is a keyword of ours", ours: true, words: []string{`\MATCH`, "x"}, comes: "MATCH", sends: "x\r"},
	{name: "ASK", ours: true, words: []string{"MATCH", `otp-md5 \d+ \w+`, "ASK", "{0}"}, comes: "otp-md5 95 p", sends: "answer to \\ otp-md5 95 p\r"},
}

// times returns words n times.
func times(n int, words ...string) []string {
	var all []string
	for range n {
		all = append(all, words...)
	}
	return all
}

// answers are Options for conversations.
func answers() Options {
	return Options{Answer: func(_ context.Context, q string) (string, error) { return `answer to \ ` + q + "\n", nil }}
}

// TestConversations follows each script, however the far side's octets are cut up.
func TestConversations(t *testing.T) {
	for _, c := range conversations {
		for _, piece := range []int{1, 2, 3, 5, 1 << 16} {
			synctest.Test(t, func(t *testing.T) {
				p := newPeer(c.comes, piece)
				s, err := ParseWords(c.words)
				if err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				st, err := s.Run(t.Context(), p.stream(), answers())
				if ExitCode(err) != c.code || p.heard.String() != c.sends {
					t.Errorf("%s, %d at once: sent %q, exit code %d, want %q, %d: %v", c.name, piece, p.heard.String(), ExitCode(err), c.sends, c.code, err)
				}
				if err != nil {
					select {
					case <-p.closed:
					default:
						t.Errorf("%s: the Stream is not closed", c.name)
					}
					return
				}
				// A Read may be under way: let it see the end.
				synctest.Wait()
				if c.rest == "" {
					st.Close()
				} else if got := rest(t, p, st); got != c.rest {
					t.Errorf("%s, %d at once: the rest is %q, want %q", c.name, piece, got, c.rest)
				}
				p.Close()
			})
		}
	}
}

// TestEverySplit: a login's octets in two pieces, cut at each place.
func TestEverySplit(t *testing.T) {
	const comes = "\r\nDebian\r\ngw login: me\r\nPassword: \r\n~ $ \x7e\xff\x7d\x23"
	s, err := ParseWords([]string{"ABORT", "incorrect", "ogin:", "me", "word:", "pw", "MATCH", `[$#] `})
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(comes) {
		p := newPeer("", 1<<16)
		p.says = []byte(comes)
		p.silent = false
		first := true
		st := carrier.Stream{ReadWriteCloser: struct {
			io.Reader
			io.Writer
			io.Closer
		}{readerFunc(func(b []byte) (int, error) {
			if first && cut > 0 {
				first = false
				return p.Read(b[:min(cut, len(b))])
			}
			return p.Read(b)
		}), p, p}}
		st, err := s.Run(t.Context(), st, Options{})
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if got, _ := io.ReadAll(st); string(got) != "\x7e\xff\x7d\x23" {
			t.Errorf("cut at %d: the rest is %q", cut, got)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// TestTimeouts: when an expect gives up, and that a sub-expect has a time of its own.
func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		words string
		o     Options
		takes time.Duration
	}{
		{"a", Options{}, 45 * time.Second},
		{"a", Options{Timeout: 7 * time.Second}, 7 * time.Second},
		{"TIMEOUT 10 a-x-b", Options{}, 20 * time.Second},
		{"TIMEOUT 10 a--b TIMEOUT 3 c", Options{}, 20 * time.Second},
		{"TIMEOUT 0 a", Options{Timeout: time.Second}, 45 * time.Second},
		{"TIMEOUT -3 a", Options{}, 45 * time.Second},
		{"TIMEOUT 12min a", Options{}, 12 * time.Second},
		{`TIMEOUT 1 a-\d\d\p-b`, Options{}, 4100 * time.Millisecond},
		{"TIMEOUT 1 a-xyz-b", Options{TypeDelay: 10 * time.Millisecond}, 2040 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPeer("", 1)
			s, err := Parse(c.words)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, err = s.Run(t.Context(), p.stream(), c.o)
			var silence *carrier.SilenceError
			if !errors.As(err, &silence) || ExitCode(err) != 3 || time.Since(began) != c.takes {
				t.Errorf("%s: after %v: %v; want %v", c.words, time.Since(began), err, c.takes)
			}
		})
	}
}

// TestDrip: what comes in time, an octet a second, is waited for; and an expect's time
// is not begun anew by each octet.
func TestDrip(t *testing.T) {
	for words, code := range map[string]int{"TIMEOUT 10 login:": 0, "TIMEOUT 5 login:": 3} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			var typing sync.WaitGroup
			defer typing.Wait()
			typing.Go(func() {
				defer far.Close()
				for _, c := range []byte("login:") {
					time.Sleep(time.Second)
					if _, err := far.Write([]byte{c}); err != nil {
						return
					}
				}
			})
			s, _ := Parse(words)
			st, err := s.Run(t.Context(), carrier.Stream{ReadWriteCloser: near}, Options{})
			if ExitCode(err) != code {
				t.Errorf("%s: %v", words, err)
			}
			if err == nil {
				st.Close()
			}
		})
	}
}

// TestLateOctets: a script that ends after an expect that timed out hands on what comes
// then, also the octets of the Read that was under way.
func TestLateOctets(t *testing.T) {
	for _, deadlines := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			st := carrier.Stream{ReadWriteCloser: near}
			if !deadlines {
				st.ReadWriteCloser = struct{ io.ReadWriteCloser }{near}
			}
			go func() {
				b := make([]byte, 10)
				n, _ := far.Read(b)
				far.Write([]byte("hello, " + string(b[:n])))
				far.Close()
			}()
			s, _ := Parse(`TIMEOUT 1 a-x`)
			st, err := s.Run(t.Context(), st, Options{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(st)
			if string(got) != "hello, x\r" || err != nil {
				t.Errorf("deadlines %v: %q, %v", deadlines, got, err)
			}
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCloseWhileReading: Close ends a Read that Run has begun.
func TestCloseWhileReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer("", 1)
		s, _ := Parse(`TIMEOUT 1 a-x`)
		st, err := s.Run(t.Context(), p.stream(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() {
			_, err := st.Read(make([]byte, 1))
			ended <- err
		}()
		synctest.Wait()
		st.Close()
		if err := <-ended; !carrier.IsClosed(err) {
			t.Errorf("Read, woken by Close: %v", err)
		}
	})
}

// TestEnds: the ways that a peer breaks off, and that ctx ends.
func TestEnds(t *testing.T) {
	for _, c := range []struct {
		words, comes, says string
		code               int
	}{
		{"CONNECT", "\r\nbusy\r\n", `chat: waiting for "CONNECT": the peer closed; 8 octets came, the last "^M^Jbusy^M^J"`, 3},
		{"CONNECT", "", `nothing came`, 3},
		{`'' \qgeheim b`, "geheim!", `7 octets came, the last "??????!"`, 3},
		{"ABORT BUSY x", "BUSY", `the peer said "BUSY"`, 4},
	} {
		p := newPeer(c.comes, 3)
		p.silent = false
		s, _ := Parse(c.words)
		_, err := s.Run(t.Context(), p.stream(), Options{})
		if ExitCode(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %d, %v; want %s", c.words, ExitCode(err), err, c.says)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		for _, words := range []string{"a", `'' \d`} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second/2, func() { cancel(errors.New("told so")) })
			s, _ := Parse(words)
			_, err := s.Run(ctx, newPeer("", 1).stream(), Options{})
			if err == nil || err.Error() != "told so" || ExitCode(err) != 2 {
				t.Errorf("%s: %v", words, err)
			}
		}
		// A peer that takes nothing.
		near, far := net.Pipe()
		defer far.Close()
		s, _ := Parse("TIMEOUT 5 '' hello")
		began := time.Now()
		_, err := s.Run(t.Context(), carrier.Stream{ReadWriteCloser: near}, Options{})
		if ExitCode(err) != 1 || time.Since(began) != 5*time.Second {
			t.Errorf("not taken: %v after %v", err, time.Since(began))
		}
	})
}

// TestKeywords: what is said, reported, echoed and logged.
func TestKeywords(t *testing.T) {
	var say, report, echo, verbose bytes.Buffer
	var log []string
	var hangUps []bool
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("gehe\\sim\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPeer("OK\r\n\x01CONNECT 9600\r\ngehe im\rogin: \xf0done", 1<<10)
	s, err := Parse("# a comment\nREPORT CONNECT HANGUP OFF SAY 'Dialling...\\n\\c'\n" +
		"'' ATZ OK '' ECHO ON CONNECT \\c\nHANGUP ON ogin: @" + file + "\nECHO OFF pdone BREAK '' '$USER \\T\\d'")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Run(t.Context(), p.stream(), Options{
		Say: &say, Report: &report, Echo: &echo, Verbose: &verbose, Phone1: "555",
		Log:    func(l string) { log = append(log, l) },
		HangUp: func(ends bool) { hangUps = append(hangUps, ends) },
		Env:    func(name string) (string, bool) { return "me", name == "USER" },
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, v := range map[string][2]string{
		"sent":     {p.heard.String(), "ATZ\r\rgehe im\n\rme 555\r"},
		"said":     {say.String(), "Dialling...\n"},
		"echoed":   {echo.String(), "\n^ACONNECT 9600\ngehe imogin:\n"},
		"verbose":  {verbose.String(), "OK\n^ACONNECT 9600\ngehe imogin: pdone"},
		"hang-ups": {fmt.Sprint(hangUps), "[false true]"},
		"reported": {report.String()[min(len(report.String()), 23):], "CONNECT 9600\n"},
	} {
		if v[0] != v[1] {
			t.Errorf("%s %q, want %q", what, v[0], v[1])
		}
	}
	if p.breaks != 1 {
		t.Errorf("%d breaks", p.breaks)
	}
	all := strings.Join(log, "\n")
	for _, want := range []string{"report on (CONNECT)\n", "send (ATZ^M)\n", "expect (ogin:)\n", "send (??????)\n", " -- got it", "^ACONNECT\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in the log:\n%s", want, all)
		}
	}
	if strings.Contains(all, "\r") || strings.Contains(all, "\x01") || strings.Contains(all, "me 555") {
		t.Errorf("the log has what it must not:\n%q", log)
	}
}
