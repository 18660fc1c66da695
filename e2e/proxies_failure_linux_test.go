package e2e_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// strangerPort is where what is no proxy listens on the firewall.
const strangerPort = 3999

// stranger listens on the firewall. It reads what it is sent, at least so many octets,
// says words and then hangs up, unless it is to stay.
func (w *world) stranger(reads int, words string, stays bool) {
	w.t.Helper()
	l, err := w.Firewall.Listen("tcp", fmt.Sprintf(":%d", strangerPort))
	if err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(patience))
			io.ReadFull(c, make([]byte, reads))
			io.WriteString(c, words)
			if stays {
				io.Copy(io.Discard, c)
			}
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	w.t.Cleanup(func() {
		l.Close()
		<-ended
	})
}

func says(words string) func(w *world)       { return func(w *world) { w.stranger(1, words, false) } }
func saysAndStays(words string) func(*world) { return func(w *world) { w.stranger(1, words, true) } }
func hangsUp(w *world)                       { w.stranger(0, "", false) }
func staysSilent(w *world)                   { w.stranger(0, "", true) }

var (
	right = "--password=@/home/me/proxy-password"
	wrong = "--password=run:echo swordfish"
	soon  = "--dialogue-timeout=1s" // is how long to wait for those who never answer
)

// only443 is a proxy that connects to that port alone.
var only443 = lab.ProxyOptions{Ports: []uint16{443}}

// proxyFailures breaks one thing on the way after another.
var proxyFailures = []struct {
	name  string
	start func(w *world) // nil: there is no proxy
	args  []string       // after "bodkin up -d"; what begins with a flag is on the way to me@gw

	status int
	reason string
	hint   string
}{
	// The password.
	{"squid, wrong password, Basic", func(w *world) { w.squid(lab.SquidOptions{ProxyOptions: asked}) },
		[]string{"--via", "http://wilma@proxy?auth=basic", wrong}, 20, `proxy:3128: wrong user or password for "wilma", by Basic (407`, "check user and password"},
	{"squid, wrong password, Digest", func(w *world) { w.squid(lab.SquidOptions{ProxyOptions: asked, Schemes: []string{"digest"}}) },
		[]string{"--via", "http://wilma@proxy", wrong}, 20, `wrong user or password for "wilma", by Digest (407`, "check user and password"},
	{"squid, nobody", func(w *world) { w.squid(lab.SquidOptions{ProxyOptions: asked, Schemes: []string{"digest", "basic"}}) },
		[]string{"--via", "http://proxy"}, 20, "proxy:3128 wants a user and a password (Digest, Basic)", "http://user@host:port"},
	{"squid, Basic alone, in clear text", func(w *world) { w.squid(lab.SquidOptions{ProxyOptions: asked}) },
		[]string{"--via", "http://wilma@proxy", right}, 20, "wants the password in clear text (Basic)", "auth=basic"},
	{"tinyproxy, wrong password", func(w *world) { w.tinyproxy(lab.ProxyOptions{User: "wilma", Password: "dino-1"}) },
		[]string{"--via", "http://wilma@proxy:8888?auth=basic", wrong}, 20, `wrong user or password for "wilma", by Basic (401`, "check user and password"},
	{"microsocks, wrong password", func(w *world) { w.microsocks(asked) },
		[]string{"--via", "socks5://wilma@proxy", wrong}, 20, `proxy:1080: wrong user or password for "wilma"`, "check user and password"},
	{"danted, wrong password", func(w *world) { w.dante(asked) },
		[]string{"--via", "socks5://wilma@proxy", wrong}, 20, `proxy:1080: wrong user or password for "wilma"`, "check user and password"},
	{"danted, nobody", func(w *world) { w.dante(asked) },
		[]string{"--via", "socks5://proxy"}, 20, "proxy:1080 wants a user and a password", "socks5://user@host:port"},
	{"a password that is nowhere", func(w *world) { w.squid(lab.SquidOptions{ProxyOptions: asked, Schemes: []string{"digest"}}) },
		[]string{"--via", "http://wilma@proxy", "--password", "@/home/me/nowhere"}, 20, "/home/me/nowhere: no such file", ""},
	{"a password that nobody can be asked for", func(w *world) { w.squid(lab.SquidOptions{ProxyOptions: asked, Schemes: []string{"digest"}}) },
		[]string{"--via", "http://wilma@proxy"}, 20, "no terminal to ask on", "--password"},

	// What it does not permit.
	{"squid, a forbidden port", func(w *world) { w.squid(lab.SquidOptions{ProxyOptions: only443}) },
		[]string{"--via", "http://proxy"}, 20, "proxy:3128 refused to connect to gw:22: 403 Forbidden, ERR_ACCESS_DENIED 0", "port 443"},
	{"tinyproxy, a forbidden port", func(w *world) { w.tinyproxy(only443) },
		[]string{"--via", "http://proxy:8888"}, 20, "proxy:8888 refused to connect to gw:22: 403 ", "port 443"},
	{"danted, a forbidden port", func(w *world) { w.dante(only443) },
		[]string{"--via", "socks5://proxy"}, 20, "not allowed by its rules", ""},
	{"tn-gw, a forbidden port", func(w *world) {
		w.telnetProxy(lab.TelnetProxyOptions{Permit: func(_ string, port uint16) bool { return port == 23 }})
	}, []string{"--via", "telnet://tn-gw"}, 20, `"Sorry, permission denied"`, "other ports"},
	{"a telnet proxy that goes on speaking telnet, without BINARY", func(w *world) { w.telnetProxy(lab.TelnetProxyOptions{Terminating: true}) },
		[]string{"--via", "telnet://tn-gw?relay=telnet"}, 24, "does not carry every octet as it is, which ssh needs", "bodkin://host:port"},

	// What it cannot reach, and what cannot be reached.
	{"no proxy", nil, []string{"--via", "http://proxy"}, 11, "192.0.2.1:3128: connect: connection refused", "check host and port"},
	{"no SOCKS proxy", nil, []string{"--via", "socks5://proxy:1081"}, 11, "connection refused", "check host and port"},
	{"nobody behind squid", func(w *world) { w.squid(lab.SquidOptions{}) },
		[]string{"--via", "http://proxy", "--via", "socks5://gw:1081"}, 11, "proxy:3128 could not connect to gw:1081: 503", "check name and port of gw:1081"},
	{"nobody behind microsocks", func(w *world) { w.microsocks(lab.ProxyOptions{}) },
		[]string{"--via", "socks5://proxy", "--via", "http://nowhere.example"}, 11, "proxy:1080 did not connect to nowhere.example:3128: ", "check name and port of nowhere.example:3128"},

	// Those who are no proxies, or no good ones.
	{"a proxy that hangs up", hangsUp, []string{"--via", "http://proxy:3999"}, 23, "proxy:3999 closed the connection in place of an answer (nothing came)", "is a web proxy"},
	{"one that hangs up in an answer", says("HTTP/1.1 200 Conn"), []string{"--via", "http://proxy:3999"}, 23, `17 octets came, the last "HTTP/1.1 200 Conn"`, ""},
	{"a SOCKS proxy that hangs up", hangsUp, []string{"--via", "socks5://proxy:3999"}, 23, "closed the connection in place of its choice of a method", "this version of SOCKS"},
	{"a SOCKS 4a proxy that hangs up", hangsUp, []string{"--via", "socks4a://proxy:3999"}, 23, "closed the connection in place of its answer", "this version of SOCKS"},
	{"tn-gw hangs up", func(w *world) { w.telnetProxy(lab.TelnetProxyOptions{HangUpAt: lab.ProxyTrying}) },
		[]string{"--via", "telnet://tn-gw"}, 23, "Trying 198.51.100.22 port 22...", ""},
	{"an sshd in the place of a web proxy", saysAndStays("SSH-2.0-OpenSSH_9.2\r\n"), []string{"--via", "http://proxy:3999"}, 20,
		`proxy:3999 answered with what is not HTTP (21 octets came, the last "SSH-2.0-OpenSSH_9.2")`, "socks5://"},
	{"a web proxy in the place of SOCKS", says("HTTP/1.1 400 Bad Request\r\n\r\n"),
		[]string{"--via", "socks5://proxy:3999"}, 20, "is no SOCKS proxy of this version", "http://"},
	{"a page to log in at", says("HTTP/1.1 302 Found\r\nLocation: http://login.corp/\x1b[31m\r\nContent-Length: 0\r\n\r\n"), []string{"--via", "http://proxy:3999"}, 20,
		`302 Found, and points to "http://login.corp/?[31m"`, "browser"},
	{"a header without end", saysAndStays("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70_000)), []string{"--via", "http://proxy:3999"}, 20, "a header longer than 64 KiB", ""},
	{"noise", saysAndStays("\x00\xff\x1b]0;owned\a"), []string{"--via", "http://proxy:3999"}, 20, "what is not HTTP", ""},
	{"a certificate that nobody vouches for", func(w *world) { w.squidInTLS(lab.SquidOptions{}) },
		[]string{"--via", "https://proxy:3128"}, 25, "the certificate of proxy is not trusted", "ca=FILE"},
	{"a certificate of another's", func(w *world) { w.squidInTLS(lab.SquidOptions{}) },
		[]string{"--via", "https://tn-gw:3128?ca=/home/me/proxy.pem"}, 25, "the certificate of tn-gw is not trusted", "for another name"},
	{"no TLS there", func(w *world) { w.squid(lab.SquidOptions{}) },
		[]string{"--via", "https://proxy:3128"}, 20, `it is no TLS, but begins "HTTP/1.1 400 Bad Request`, "http:// is for a proxy that does not"},

	// Those who never answer.
	{"a silent web proxy", staysSilent, []string{"--via", "http://proxy:3999", soon}, 22, "no answer of proxy:3999 in 6s (nothing came)", "is a web proxy"},
	{"a silent SOCKS proxy", staysSilent, []string{"--via", "socks5://proxy:3999", soon}, 22, "proxy:3999 did not send its choice of a method in 1s", "is a proxy"},
	{"a silent SOCKS 4a proxy", staysSilent, []string{"--via", "socks4a://proxy:3999", soon}, 22, "proxy:3999 did not send its answer in 2s", "is a proxy"},
	{"a silent telnet proxy", staysSilent, []string{"--via", "telnet://proxy:3999", soon}, 22, "the proxy's prompt", ""},
	{"a silent web proxy in TLS", staysSilent, []string{"--via", "https://proxy:3999", soon}, 22, "proxy:3999: ", "speaks TLS"},

	// No far half where one should wait.
	{"nobody waits", func(w *world) { w.squid(lab.SquidOptions{}) }, []string{overTLS, "--via", "http://proxy"}, 11, "could not connect to gw:7000", "check name and port of gw:7000"},
	{"an sshd in the place of a far half", func(w *world) { w.squid(lab.SquidOptions{}) }, []string{"tls://gw:22", "--via", "http://proxy", "--known-as", "[gw]:7000"}, 25, `it is no TLS, but begins "SSH-2.0-`, "bodkin far --listen"},
	{"silence in the place of a far half", func(w *world) { w.squid(lab.SquidOptions{}); staysSilent(w) }, []string{"tls://firewall:3999", "--via", "http://proxy", "--known-as", "[gw]:7000", soon}, 22, "it sent 0 octets", "bodkin far --listen"},
	{"another far half", func(w *world) {
		w.squid(lab.SquidOptions{})
		w.farListens()
		w.write(w.Laptop, "/home/me/.config/bodkin/known_servers", "[gw]:7000 "+w.other(), "me")
	},
		[]string{overTLS, "--via", "http://proxy"}, 25, "gw", "bodkin key forget"},

	// A jump host.
	{"a jump host that does not let us in", func(w *world) { w.squid(lab.SquidOptions{}) },
		[]string{"--via", "http://proxy", "--via", "ssh://nobody@gw"}, 12, "gw: permission denied: nobody@gw: Permission denied", "ssh -v nobody@gw"},
	{"a jump host that forwards nothing", func(w *world) {
		w.squid(lab.SquidOptions{})
		w.restrict("no-port-forwarding")
	}, []string{"--via", "http://proxy", "--via", "ssh://me@gw"}, 12, "gw: forwarding refused: ", "AllowTcpForwarding"},
	{"nobody behind a jump host", func(w *world) { w.squid(lab.SquidOptions{}) },
		[]string{"--via", "http://proxy", "--via", "ssh://me@gw", "--via", "http://localhost:4444"}, 11, "gw: connection refused: ", "nothing listens there"},
	{"a jump host whose key has changed", func(w *world) {
		w.squid(lab.SquidOptions{})
		w.write(w.Laptop, "/home/me/none", "", "me")
	}, []string{"--via", "http://proxy", "--via", "ssh://me@gw", "-e", "ssh -o UserKnownHostsFile=/home/me/none"}, 12, "gw: host key unknown: ", "fingerprint"},

	// A program.
	{"nc finds no proxy", nil, []string{"--via", "cmd:nc -X connect -x proxy:3128 gw 22"}, 11, "nc ended with exit status 1", "works in a shell"},
	{"nc is refused", func(w *world) { w.squid(lab.SquidOptions{ProxyOptions: only443}) },
		[]string{"--via", "cmd:nc -X connect -x proxy:3128 gw 22"}, 11, `it said: "nc: Proxy error: `, "works in a shell"},
	{"no such program", nil, []string{"--via", "cmd:no-such-nc gw 22"}, 11, "no-such-nc", "works in a shell"},
}

// TestProxyFailures: who is to blame is named, with an exit status of its own, the reason
// and the next thing to try; the laptop is as it was. Nobody waits longer than was said.
func TestProxyFailures(t *testing.T) {
	t.Parallel()
	w := proxyWorld(t)
	before := w.snapshot()
	for _, tt := range proxyFailures {
		t.Run(tt.name, func(t *testing.T) {
			w := w.in(t)
			if tt.start != nil {
				tt.start(w)
			}
			args := append([]string{"up", "-d"}, tt.args...)
			if strings.HasPrefix(tt.args[0], "-") {
				args = append(args, overSSH)
			}
			r := w.bodkin(args...)
			reason, hint := complaint(r.out)
			if r.status != tt.status || !strings.Contains(reason, tt.reason) || !strings.Contains(hint, tt.hint) || tt.hint != "" && hint == "" {
				t.Errorf("exit status %d, want %d with the reason %q and the hint %q; it said:\n%s", r.status, tt.status, tt.reason, tt.hint, r.out)
			}
			if strings.ContainsAny(r.out, "\x1b\a\x00") || strings.Contains(r.out, proxyPassword) || strings.Contains(r.out, "swordfish") && !strings.Contains(r.out, wrong) {
				t.Errorf("it said %q", r.out)
			}
			w.asBefore(before, "a failed up")
			w.noProcesses()
		})
	}
}

// other is a public key that is nobody's here: the one of ssh.
func (w *world) other() string {
	w.t.Helper()
	key, err := w.Laptop.ReadFile("/home/me/.ssh/id_ed25519.pub")
	if err != nil {
		w.t.Fatal(err)
	}
	return string(key)
}

// restrict has the gateway let our key in with an option of authorized_keys, until the
// test ends.
func (w *world) restrict(option string) {
	w.t.Helper()
	const file = "/home/me/.ssh/authorized_keys"
	key, err := w.Gateway.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(w.Gateway, file, option+" "+string(key), "me")
	w.t.Cleanup(func() { w.write(w.Gateway, file, string(key), "me") })
}

// complaint takes the error and the hint from what bodkin said.
func complaint(said string) (reason, hint string) {
	for line := range strings.Lines(said) {
		if text, ok := strings.CutPrefix(line, "bodkin: error: "); ok {
			reason += text
		}
		if text, ok := strings.CutPrefix(line, "bodkin: hint: "); ok {
			hint += text
		}
	}
	return reason, hint
}
