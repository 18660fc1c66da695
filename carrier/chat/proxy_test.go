package chat

import (
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/bodkin-net/bodkin/carrier"
)

// proxies are telnet proxies, as they speak, and how Proxy ends there.
var proxies = []struct {
	name  string
	proxy scene
	o     ProxyOptions
	asked string
	rest  string // what comes after; or
	fails string // a part of the error
}{
	{"tn-gw", "gw telnet proxy (Version 2.1) ready:\r\ntn-gw-> <c home 23\r>c home 23\r\nTrying 10.0.0.1 port 23...\r\nConnected to home.\r\n\r\nhome login: ", ProxyOptions{}, "", "\r\nhome login: ", ""},
	{"LF late, and all octets", "tn-gw-> <c home 23\r>Connected to home.\r\n\xff\xfb\x01\x00\r\n\x7e", ProxyOptions{}, "", "\xff\xfb\x01\x00\r\n\x7e", ""},
	{"LF alone", "proxy> <c home 23\r>Connection established\nSSH-2.0-x\r\n", ProxyOptions{}, "", "SSH-2.0-x\r\n", ""},
	{"a line of telnet's", "Gateway> <telnet home 23\r>Trying 10.0.0.1...\r\nConnected to home.\r\nEscape character is '^]'.\r\nlogin: ", ProxyOptions{Connect: "telnet %h %p"}, "", "Escape character is '^]'.\r\nlogin: ", ""},
	{"it asks for a host", "Welcome\r\nEnter host name: <home 23\r>home 23\r\nTrying ... Connected to 10.0.0.1\r\n.", ProxyOptions{}, "", ".", ""},
	{"Host:", "Host: <home:23\r>Connected.\r\n.", ProxyOptions{Connect: "%h:%p"}, "", ".", ""},
	{"no word of being connected, ssh", "tn-gw-> <c home 23\r>c home 23\r\nTrying 10.0.0.1 port 23...\r\nSSH-2.0-OpenSSH\r\n", ProxyOptions{}, "", "SSH-2.0-OpenSSH\r\n", ""},
	{"no word of being connected, a login", "tn-gw-> <c home 23\r>c home 23\r\nTrying 10.0.0.1 port 23...\r\n\r\nhome login: ", ProxyOptions{}, "", "home login: ", ""},
	{"its own login", "Username: <me\r>me\r\nPassword: <pw\r>\r\nLogin Accepted\r\ntn-gw-> <c home 23\r>c home 23\r\nConnected to home.\r\n$ ", ProxyOptions{User: "me"}, "proxy: Password:", "$ ", ""},
	{"its own challenge", "Username: <me\r>me\r\nSNK Challenge \"28311\": <8812\r>8812\r\nLogin Accepted\r\ntn-gw-> <c home 23\r>Connected to home.\r\n$ ", ProxyOptions{User: "me"}, `proxy: SNK Challenge "28311":`, "$ ", ""},
	{"a name that says much", "tn-gw-> <c sorry.failed.refused 23\r>c sorry.failed.refused 23\r\nTrying sorry.failed.refused...\r\nConnected to sorry.failed.refused.\r\n.", ProxyOptions{Host: "sorry.failed.refused"}, "", ".", ""},
	{"signs before the prompt", "--> no > here -- \r\n* Connection refused to strangers *\r\ntn-gw-> <c home 23\r>Connected to home.\r\n.", ProxyOptions{}, "", ".", ""},

	{"not permitted", "tn-gw-> <c home 23\r>c home 23\r\nSorry, home is not permitted\r\ntn-gw-> ", ProxyOptions{}, "", "", `proxy: the proxy said "Sorry, home is not permitted"`},
	{"unknown", "tn-gw-> <c home 23\r>Trying...\r\nUnknown host: home\r\n", ProxyOptions{}, "", "", `said "Unknown host: home"`},
	{"refused", "tn-gw-> <c home 23\r>Trying 10.0.0.1 port 23...\r\nhome: Connection refused\r\ntn-gw-> ", ProxyOptions{}, "", "", `said "home: Connection refused"`},
	{"refused in the same line", "tn-gw-> <c home 23\r>Trying 10.0.0.1... Connection timed out<closes>", ProxyOptions{}, "", "", `Connection timed out"`},
	{"the prompt again", "tn-gw-> <c home 23\r>c home 23\r\nHm.\r\ntn-gw-> ", ProxyOptions{}, "", "", `said "Hm."`},
	{"not for us", "Permission denied: 10.9.9.9 is not authorized\r\n<closes>", ProxyOptions{}, "", "", `said "Permission denied`},
	{"its own login fails", "Username: <me\r>me\r\nPassword: <pw\r>\r\nLogin incorrect\r\nUsername: ", ProxyOptions{User: "me"}, "proxy: Password:", "", `said "Login incorrect"`},
	{"its own login, again", "Username: <me\r>me\r\nPassword: <pw\r>\r\nPassword: ", ProxyOptions{User: "me"}, "proxy: Password:", "", `the proxy said "Password:"`},
	{"its own login, and nobody", "Username: ", ProxyOptions{}, "", "", `asks "Username:", and no user is given`},
	{"a password after the line", "tn-gw-> <c home 23\r>c home 23\r\nPassword: ", ProxyOptions{}, "", "", `the proxy is silent for 1m0s`},
	{"it closes", "tn-gw-> <c home 23\r>c home 23\r\n<closes>", ProxyOptions{}, "", "", "waiting for the proxy to connect: the proxy closed the connection"},
	{"it closes early", "Hello\r\n<closes>", ProxyOptions{}, "", "", `waiting for the proxy's prompt: the proxy closed the connection; 7 octets came, the last words "Hello"`},
	{"it is silent", "", ProxyOptions{}, "", "", "the proxy is silent for 1m0s; nothing came"},
	{"a host with an end", "", ProxyOptions{Host: "home\rrm"}, "", "", "cannot be typed"},
	{"a host with a blank", "", ProxyOptions{Host: "home 22"}, "", "", "cannot be typed"},
	{"a host that is an option", "", ProxyOptions{Host: "-l"}, "", "", "cannot be typed"},
	{"no port", "", ProxyOptions{Port: 65536}, "", "", "there are 1 to 65535"},
	{"a template with an end", "", ProxyOptions{Connect: "c %h\n"}, "", "", "cannot be typed"},
	{"a template with a stranger", "", ProxyOptions{Connect: "c %x"}, "", "", "nothing it stands for"},
}

func TestProxy(t *testing.T) {
	for _, c := range proxies {
		for _, piece := range []int{1 << 16, 1, 2, 7} {
			synctest.Test(t, func(t *testing.T) {
				near, far := pipe(piece)
				var playing sync.WaitGroup
				playing.Go(func() {
					if err := c.proxy.play(far); err != nil && c.fails == "" {
						t.Errorf("%s, %d at once: %v", c.name, piece, err)
					}
				})
				var k knows
				o := c.o
				o.Secret = k.secret
				if o.Host == "" {
					o.Host = "home"
				}
				if o.Port == 0 {
					o.Port = 23
				}
				st, err := Proxy(t.Context(), carrier.Stream{ReadWriteCloser: near}, o)
				if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
					t.Errorf("%s, %d at once: %v, want %q", c.name, piece, err, c.fails)
				}
				if asked := strings.Join(k.asked, "|"); asked != c.asked {
					t.Errorf("%s, %d at once: was asked %q, want %q", c.name, piece, asked, c.asked)
				}
				if err == nil {
					got := make([]byte, len(c.rest))
					if _, err := io.ReadFull(st, got); err != nil || string(got) != c.rest {
						t.Errorf("%s, %d at once: the rest is %q, %v; want %q", c.name, piece, got, err, c.rest)
					}
					st.Close()
				}
				playing.Wait()
			})
		}
	}
}

// TestScreen is what is left of octets that a terminal would not show as text.
func TestScreen(t *testing.T) {
	for comes, want := range map[string][]string{
		"a\r\nb\nc":                         {"a", "b", "c"},
		"a\r\r\nb":                          {"a", "b"},
		"old\rnew":                          {"new"},
		"a\r\x00b":                          {"b"},
		"abx\bc":                            {"abc"},
		"\x1b[1;31mred\x1b[0m $ ":           {"red $ "},
		"\x1b]0;title\x07a":                 {"a"},
		"\x1b]0;ti\x1b\\b":                  {"b"},
		"\x1bPq#0\x1b\\b":                   {"b"},
		"\x1b(Ba\x1b=b\x1b7c":               {"abc"},
		"\x1b[?2004ha\x1b[Kb":               {"ab"},
		"\x1b[3\x1b[4mb":                    {"b"},
		"\x1b[\x18b":                        {"b"},
		"\a\x00a\x7fb\tc":                   {"ab\tc"},
		strings.Repeat("x", maxShown) + "$": {strings.Repeat("x", maxShown/2) + "$"},
		"\x1b]" + strings.Repeat("x", maxSequence) + "b": {"b"},
	} {
		var s screen
		var got []string
		for i := range len(comes) {
			if line, whole := s.put(comes[i]); whole {
				got = append(got, string(line))
			}
		}
		got = append(got, string(s.line))
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", comes, got, want)
		}
	}
}
