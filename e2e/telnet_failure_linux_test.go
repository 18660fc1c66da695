package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// telnetFailures breaks one thing after another on the way to a telnet login. Each has
// its own exit status, reason and next step.
var telnetFailures = []struct {
	name    string
	proxy   lab.TelnetProxyOptions
	arrange func(w *world)
	args    []string // before those of viaTelnet

	status int
	reason []string
	hint   string
}{
	{
		name:    "a wrong password",
		arrange: func(w *world) { w.write(w.Laptop, "/home/me/password", "guess\n", "me") },
		status:  21, reason: []string{"login: the host said", "Login incorrect"}, hint: "check the name and the password",
	},
	{
		name:    "no password file",
		arrange: func(w *world) { w.remove(w.Laptop, "/home/me/password") },
		status:  21, reason: []string{"login: ", "/home/me/password: no such file"}, hint: "",
	},
	{
		name: "a password file that others may read",
		arrange: func(w *world) {
			if err := w.Laptop.WriteFile("/home/me/password", []byte(password+"\n"), 0o644, "me"); err != nil {
				w.t.Fatal(err)
			}
		},
		status: 21, reason: []string{"login: ", "/home/me/password: others may read it"}, hint: "chmod 600 /home/me/password",
	},
	{
		name:   "a proxy that does not permit it",
		proxy:  lab.TelnetProxyOptions{Permit: func(string, uint16) bool { return false }},
		status: 20, reason: []string{"proxy: the proxy said", "permission denied"}, hint: "may allow other ports",
	},
	{
		name:   "a proxy that wants to know who",
		proxy:  lab.TelnetProxyOptions{User: "visitor", Password: "let me out"},
		status: 20, reason: []string{"proxy: the proxy asks", "Username:"}, hint: "telnet://user@proxy",
	},
	{
		name:    "nobody listens behind the proxy",
		arrange: func(w *world) { w.on(w.Gateway, "root", "ip", "addr", "flush", "dev", "lo") },
		args:    []string{"--via", "telnet://tn-gw", "--password", "@/home/me/password", "telnet://me@home:2323", "--known-as", "home"},
		status:  20, reason: []string{"proxy: the proxy said", "Connection refused"}, hint: "it cannot reach the host there",
	},
	{
		name:   "a host that the proxy does not know",
		args:   []string{"--via", "telnet://tn-gw", "--known-as", "home", "telnet://me@elsewhere"},
		status: 20, reason: []string{"proxy: the proxy said", "Unknown host"}, hint: "try its address",
	},
	{
		name:   "a proxy that hangs up at once",
		proxy:  lab.TelnetProxyOptions{HangUpAt: lab.ProxyAccepted},
		status: 23, reason: []string{"hang-up: proxy: waiting for the proxy's prompt", "nothing came"}, hint: "run it again",
	},
	{
		name:   "a proxy that hangs up at the command",
		proxy:  lab.TelnetProxyOptions{HangUpAt: lab.ProxyCommand},
		status: 23, reason: []string{"hang-up: proxy: waiting for the proxy to connect"}, hint: "run it again",
	},
	{
		name:   "a proxy that hangs up while it tries",
		proxy:  lab.TelnetProxyOptions{HangUpAt: lab.ProxyTrying},
		status: 23, reason: []string{"hang-up: proxy: waiting for the proxy to connect", "Trying"}, hint: "run it again",
	},
	{
		name:   "a proxy that hangs up in the login",
		proxy:  lab.TelnetProxyOptions{HangUpAfter: 170},
		status: 23, reason: []string{"hang-up: login: waiting for a login prompt"}, hint: "run it again",
	},
	{
		name:   "a prompt that never comes",
		proxy:  lab.TelnetProxyOptions{Late: time.Hour},
		args:   []string{"--dialogue-timeout", "300ms"},
		status: 22, reason: []string{"dialogue: proxy: waiting for the proxy's prompt: the proxy is silent for 300ms"}, hint: "write a chat script",
	},
	{
		name: "a login that never asks",
		arrange: func(w *world) {
			if _, err := w.Gateway.Telnetd(w.t.Context(), lab.TelnetdOptions{Port: 2300, Program: []string{"sleep", "1000"}}); err != nil {
				w.t.Fatal(err)
			}
		},
		args:   []string{"--dialogue-timeout", "300ms", "--known-as", "home", "--via", "telnet://tn-gw", "telnet://me@home:2300"},
		status: 22, reason: []string{"dialogue: login: waiting for a login prompt: the host is silent for 300ms"}, hint: "write a chat script",
	},
	{
		name:   "no proxy at all",
		args:   []string{"--via", "telnet://tn-gw:24", "--known-as", "home", "telnet://me@home"},
		status: 11, reason: []string{"reach: ", "refused"}, hint: "port",
	},
	{
		name:   "a host of another kind",
		args:   []string{"--via", "telnet://tn-gw", "--known-as", "home", "telnet://me@home:22"},
		status: 23, reason: []string{"hang-up: login: waiting for a login prompt", "SSH identification"}, hint: "",
	},
	{
		name: "an account without a shell",
		arrange: func(w *world) {
			if err := w.Gateway.SetShell("me", "/usr/sbin/nologin"); err != nil {
				w.t.Fatal(err)
			}
		},
		status: 21, reason: []string{"login: the host said", "This account is currently not available"}, hint: "",
	},
	{
		name: "a key that is not the known one",
		arrange: func(w *world) {
			public, err := w.Laptop.ReadFile(nearDir + "/key.pub")
			if err != nil {
				w.t.Fatal(err)
			}
			w.write(w.Laptop, nearDir+"/known_servers", "home "+string(public), "me")
		},
		status: 25, reason: []string{"key: home shows the key SHA256:", "and has SHA256:"}, hint: "bodkin key forget server home",
	},
	{
		name:    "nowhere to put the far half",
		arrange: func(w *world) { w.cover(w.Gateway, 0, "mode=1777,size=64k") },
		status:  13, reason: []string{"far half: ", "disk is full"}, hint: "make room there",
	},
}

func TestTelnetFailures(t *testing.T) {
	for _, tt := range telnetFailures {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := telnetWorld(t, tt.proxy, lab.TelnetdOptions{})
			w.pair("home")
			if tt.arrange != nil {
				tt.arrange(w)
			}
			args := tt.args
			if len(args) < 5 {
				args = through(args...)
			}
			before := w.snapshot()
			r := w.bodkin(append([]string{"up", "-d"}, args...)...)
			if r.status != tt.status {
				t.Errorf("exit status %d, want %d", r.status, tt.status)
			}
			failure, hint := "", ""
			for line := range strings.Lines(r.out) {
				if text, ok := strings.CutPrefix(line, "bodkin: error: "); ok {
					failure += text
				}
				if text, ok := strings.CutPrefix(line, "bodkin: hint: "); ok {
					hint += text
				}
			}
			for _, piece := range tt.reason {
				if !strings.Contains(failure, piece) {
					t.Errorf("the reason does not say %q", piece)
				}
			}
			if !strings.HasPrefix(failure, tt.reason[0]) {
				t.Errorf("the error does not begin with %q", tt.reason[0])
			}
			if hint == "" || !strings.Contains(hint, tt.hint) {
				t.Errorf("the hint does not say %q", tt.hint)
			}
			if strings.Contains(r.out, password) || strings.Contains(r.out, "guess") {
				t.Error("the password is shown")
			}
			if t.Failed() {
				t.Logf("it said, in %v:\n%s", r.took, r.out)
			}
			w.asBefore(before, "a failed up")
			w.noProcesses()
		})
	}
}
