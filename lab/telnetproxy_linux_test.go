package lab

import (
	"bytes"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

const tnGreeting = "gw tn-gw telnet proxy (Version V1.0) ready:\r\n" + proxyPrompt

// An exchange with a proxy: what it is told, and all that it says then.
type told struct{ line, said string }

func TestTelnetProxy(t *testing.T) {
	l := closedLab(t)
	telnetd, err := l.Gateway.Telnetd(t.Context(), TelnetdOptions{Password: "sesame"})
	if err != nil {
		t.Fatal(err)
	}
	defer telnetd.Close()
	hosts := map[string]netip.Addr{"home": Gateway4, "web": Web4}
	for i, tt := range []struct {
		name    string
		o       TelnetProxyOptions
		said    string // first of all
		told    []told
		then    string // at the end of it: "the login", "the end" or nothing in particular
		records []string
	}{
		{
			"to the login", TelnetProxyOptions{}, tnGreeting,
			[]told{{"c home", "Trying 198.51.100.22 port 23...\r\nConnected to home.\r\n"}},
			"the login", []string{"home 23: connected"},
		}, {
			"to the login, terminating", TelnetProxyOptions{Terminating: true}, tnGreeting,
			[]told{{"connect home telnet", "Trying 198.51.100.22 port 23...\r\nConnected to home.\r\n"}},
			"the login", []string{"home 23: connected"},
		}, {
			"refusals", TelnetProxyOptions{Permit: func(host string, _ uint16) bool { return host != "evil" }}, tnGreeting,
			[]told{
				{"x-gw", proxyPrompt},
				{"telnet home", "Unknown command, try help\r\n" + proxyPrompt},
				{"c", "Usage: connect hostname [serv/port]\r\n" + proxyPrompt},
				{"c evil", "Sorry, permission denied\r\n" + proxyPrompt},
				{"c nowhere 22", "Unknown host or port\r\n" + proxyPrompt},
				{"c home 0", "Unknown host or port\r\n" + proxyPrompt},
				{"c 198.51.100.22 4444", "Trying 198.51.100.22 port 4444...\r\nConnection refused\r\n" + proxyPrompt},
				{"quit", "Disconnecting...\r\n"},
			},
			"the end", []string{"evil 23: Sorry, permission denied", "nowhere 22: Unknown host or port", "198.51.100.22 4444: Connection refused"},
		}, {
			"a login of its own, with echo", TelnetProxyOptions{User: "fred", Password: "xyzzy", Echo: true, Late: 10 * time.Millisecond},
			"gw tn-gw telnet proxy (Version V1.0) ready:\r\nUsername: ",
			[]told{
				{"fred", "fred\r\nPassword: "},
				{"plugh", "\r\nLogin incorrect\r\nUsername: "},
				{"fred", "fred\r\nPassword: "},
				{"xyzzy", "\r\nLogin Accepted\r\n" + proxyPrompt},
				{"c home", "c home\r\nTrying 198.51.100.22 port 23...\r\nConnected to home.\r\n"},
			},
			"the login", []string{"home 23: connected"},
		}, {
			"three wrong logins", TelnetProxyOptions{User: "fred", Password: "xyzzy"},
			"gw tn-gw telnet proxy (Version V1.0) ready:\r\nUsername: ",
			[]told{
				{"fred", "Password: "}, {"a", "Login incorrect\r\nUsername: "},
				{"wilma", "Password: "}, {"xyzzy", "Login incorrect\r\nUsername: "},
				{"", "Password: "}, {"", "Login incorrect\r\nToo many attempts\r\n"},
			},
			"the end", nil,
		},
		{"a banner", TelnetProxyOptions{Banner: 64 << 10}, banner(64<<10) + tnGreeting, nil, "", nil},
		{"hangs up at once", TelnetProxyOptions{HangUpAt: ProxyAccepted}, "", nil, "the end", nil},
		{"hangs up after octets", TelnetProxyOptions{HangUpAfter: 10}, tnGreeting[:10], nil, "the end", nil},
		{"hangs up at the name", TelnetProxyOptions{HangUpAt: ProxyUser, User: "a"}, tnGreeting[:len(tnGreeting)-len(proxyPrompt)] + "Username: ", []told{{"a", ""}}, "the end", nil},
		{"hangs up at the command", TelnetProxyOptions{HangUpAt: ProxyCommand}, tnGreeting, []told{{"c home", ""}}, "the end", nil},
		{"hangs up trying", TelnetProxyOptions{HangUpAt: ProxyTrying}, tnGreeting, []told{{"c home", "Trying 198.51.100.22 port 23...\r\n"}}, "the end", nil},
		{"hangs up connected", TelnetProxyOptions{HangUpAt: ProxyReached}, tnGreeting, []told{{"c home", "Trying 198.51.100.22 port 23...\r\nConnected to home.\r\n"}}, "the end", []string{"home 23: connected"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Port, tt.o.Hosts = uint16(2300+i), hosts
			proxy, err := l.Firewall.TelnetProxy(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			defer proxy.Close()
			y := typistAt(t, l.Laptop, netip.AddrPortFrom(FirewallInside4, tt.o.Port))
			if said := y.see(tt.said); said != tt.said {
				t.Fatalf("first it said %q", said)
			}
			for _, told := range tt.told {
				y.types(told.line)
				if said := y.see(told.said); said != told.said {
					t.Fatalf("told %q it said %q, want %q", told.line, said, told.said)
				}
			}
			switch tt.then {
			case "the login":
				y.see("login: ")
				y.types("me")
				y.see("assword: ")
				y.types("sesame")
				y.see("$ ")
				y.types("echo $((6*7))")
				if said := y.see("$ "); !strings.Contains(said, "\r\n42\r\n") {
					t.Errorf("the shell said %q", said)
				}
				y.types("exit")
				y.end()
			case "the end":
				if said := y.end(); said != "" {
					t.Errorf("before the end it said %q", said)
				}
			}
			if got := proxy.Connections(); !slices.Equal(got, tt.records) {
				t.Errorf("it recorded %q, want %q", got, tt.records)
			}
		})
	}
}

// What a proxy carries comes out as it went in, in each way it can carry it.
func TestTelnetProxyCarries(t *testing.T) {
	l := closedLab(t)
	echo, err := l.Gateway.Inetd(7007, "cat")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	long, err := io.ReadAll(Bytes(300_000, 3))
	if err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		name                string
		terminating, binary bool
	}{{"verbatim", false, false}, {"telnet", true, false}, {"binary telnet", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			port := uint16(2400 + i)
			proxy, err := l.Firewall.TelnetProxy(TelnetProxyOptions{Port: port, Terminating: tt.terminating, Binary: tt.binary})
			if err != nil {
				t.Fatal(err)
			}
			defer proxy.Close()
			y := typistAt(t, l.Laptop, netip.AddrPortFrom(FirewallInside6, port))
			y.binary = tt.binary
			y.see(proxyPrompt)
			if _, err := y.conn.Write([]byte{iac, do, optBinary, iac, will, optBinary}); err != nil {
				t.Fatal(err)
			}
			y.types("c " + Gateway6.String() + " 7007")
			y.see("Connected to " + Gateway6.String() + ".\r\n")
			var far telnetEnd
			out := long
			if tt.terminating {
				far.ours[optBinary], far.theirs[optBinary] = tt.binary, tt.binary
				out = far.put(nil, long)
			}
			go y.conn.Write(out)
			var got []byte
			buf := make([]byte, 8192)
			for len(got) < len(long) {
				n, err := y.conn.Read(buf)
				if err != nil {
					t.Fatalf("%v after %d octets", err, len(got))
				}
				if !tt.terminating {
					got = append(got, buf[:n]...)
					continue
				}
				for _, b := range buf[:n] {
					got = far.take(got, b)
				}
			}
			if !bytes.Equal(got, long) {
				t.Error("what came back differs")
			}
		})
	}
}

// Of a host that ends the proxy passes the end on.
func TestTelnetProxyPassesTheEnd(t *testing.T) {
	l := closedLab(t)
	hello, err := l.Gateway.Inetd(7008, "echo", "hello")
	if err != nil {
		t.Fatal(err)
	}
	defer hello.Close()
	proxy, err := l.Firewall.TelnetProxy(TelnetProxyOptions{Port: 2500})
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	y := typistAt(t, l.Laptop, netip.AddrPortFrom(FirewallInside4, 2500))
	y.see(proxyPrompt)
	y.types("c " + Gateway4.String() + " 7008")
	y.see("Connected to " + Gateway4.String() + ".\r\n")
	if got := y.end(); got != "hello\n" {
		t.Errorf("%q came", got)
	}
}
