package ssh

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
)

// sshG is what ssh -G of OpenSSH 9.2 prints, shortened.
const sshG = `host gw
user me
hostname gw.example.org
port 2222
addressfamily inet6
canonicalizehostname false
ciphers chacha20-poly1305@openssh.com,aes128-ctr,aes128-gcm@openssh.com
connecttimeout 5
identityfile ~/.ssh/id_rsa
identityfile ~/.ssh/id ed25519
proxycommand none
loglevel INFO
serveraliveinterval 0
sessiontype default
stdinnull no
stricthostkeychecking ask
`

func TestSettings(t *testing.T) {
	s := parseSettings(sshG)
	if s.get("hostname") != "gw.example.org" || s.port() != 2222 || s.network() != "ip6" || s.connectTimeout() != 5*time.Second || !s.direct() {
		t.Errorf("%v", s)
	}
	if !reflect.DeepEqual(s["identityfile"], []string{"~/.ssh/id_rsa", "~/.ssh/id ed25519"}) {
		t.Errorf("identity files: %q", s["identityfile"])
	}
	for _, line := range []string{
		"proxycommand nc %h %p", "proxyjump hop", "bindaddress 192.0.2.1", "bindinterface eth0", "canonicalizehostname true", "canonicalizehostname always",
	} {
		if parseSettings(line + "\n" + sshG).direct() {
			t.Errorf("with %q ssh does more than connect", line)
		}
	}
	if parseSettings("").direct() {
		t.Error("without a host name nothing can be connected")
	}
}

// FuzzSettings: any text gives settings with sane numbers; each keyword has a
// value as often as it has lines.
func FuzzSettings(f *testing.F) {
	f.Add(sshG)
	f.Add("port 99999\nport\n\n hostname\tx y")
	f.Fuzz(func(t *testing.T, text string) {
		s := parseSettings(text)
		if s.port() == 0 || s.connectTimeout() <= 0 || !strings.HasPrefix(s.network(), "ip") {
			t.Fatalf("%q: port %d, timeout %v, network %q", text, s.port(), s.connectTimeout(), s.network())
		}
		values, lines := 0, 0
		for key, v := range s {
			values += len(v)
			if key == "" {
				t.Fatal("an empty keyword")
			}
		}
		for line := range strings.Lines(text) {
			if strings.TrimSpace(line) != "" {
				lines++
			}
		}
		if values != lines {
			t.Fatalf("%d values of %d lines", values, lines)
		}
	})
}

func TestPreferFast(t *testing.T) {
	const standard = "chacha20-poly1305@openssh.com,aes128-ctr,aes128-gcm@openssh.com"
	for _, c := range []struct {
		name, chosen string
		aes          bool
		want         string
	}{
		{"default", standard, true, "aes128-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr"},
		{"no AES here", standard, false, ""},
		{"the user chose", "aes256-gcm@openssh.com", true, ""},
		{"the user chose the same in another order", "aes128-ctr,chacha20-poly1305@openssh.com,aes128-gcm@openssh.com", true, ""},
	} {
		if got := preferFast(c.chosen, standard, c.aes); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	for _, list := range []string{"aes128-gcm@openssh.com,aes128-ctr", "aes128-ctr", ""} {
		if got := preferFast(list, list, true); got != "" {
			t.Errorf("%q becomes %q", list, got)
		}
	}
}

// TestArguments shows the whole list for a plain config and an older ssh.
func TestArguments(t *testing.T) {
	c := Config{Program: []string{"ssh", "-v"}, Target: Target{"me", "gw", 2222}}
	args, notes := c.arguments(parseSettings("hostname gw\nserveraliveinterval 60\nciphers x\n"), settings{}, true)
	want := "ssh -o ClearAllForwardings=yes -o ForwardAgent=no -o ForwardX11=no -o PermitLocalCommand=no -o ControlMaster=no" +
		" -o ControlPath=none -o Tunnel=no -o NoHostAuthenticationForLocalhost=no -o RequestTTY=no -o BatchMode=yes" +
		" -l me -p 2222 -v -T -a -x -e none -S none"
	if got := strings.Join(args, " "); got != want || notes != nil {
		t.Errorf("got  %s\nwant %s\nnotes %q", got, want, notes)
	}
	args, _ = c.arguments(parseSettings(sshG), settings{}, false)
	got := strings.Join(args, " ")
	for _, want := range []string{"-o SessionType=default -o StdinNull=no", "-o ServerAliveInterval=15 -o ServerAliveCountMax=3"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
	for _, never := range []string{"BatchMode", "StrictHostKeyChecking", "ForkAfter", "RemoteCommand", "Ciphers"} {
		if strings.Contains(got, never) {
			t.Errorf("%s\nhas %s", got, never)
		}
	}
	for _, v := range []string{"false", "off", "accept-new"} {
		args, notes := c.arguments(settings{"stricthostkeychecking": {v}}, settings{}, false)
		if !strings.Contains(strings.Join(args, " "), "-o StrictHostKeyChecking=ask") || len(notes) != 1 {
			t.Errorf("%s: %q, %q", v, args, notes)
		}
	}
}

func TestProxyCommand(t *testing.T) {
	for _, c := range []struct {
		argv []string
		want string // empty: refused
	}{
		{[]string{"/usr/bin/bodkin", "fdpass", "/tmp/bodkin-1/socket"}, "/usr/bin/bodkin fdpass /tmp/bodkin-1/socket"},
		{[]string{"/home/me/my programs/bodkin"}, "'/home/me/my programs/bodkin'"},
		{[]string{"/x/100%/$(id)`id`"}, "'/x/100%%/$(id)`id`'"},
		{[]string{"=x", "~", ""}, "'=x' '~' ''"},
		{[]string{"/it's"}, ""}, {[]string{"/wow!"}, ""}, {[]string{`/a\b`}, ""}, {[]string{"/a\nb"}, ""},
	} {
		got, err := proxyCommand(c.argv)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q, %v; want %q", c.argv, got, err, c.want)
		}
	}
}

// TestDiagnose has messages of real failures that are hard to bring about here.
func TestDiagnose(t *testing.T) {
	c := Config{Target: Target{Host: "gw"}}
	for _, y := range []struct {
		said    string
		kind    Kind
		refused bool
	}{
		{"ssh: connect to host gw port 22: Connection timed out", TimedOut, false},
		{"ssh: connect to host gw port 22: Operation timed out", TimedOut, false},
		{"ssh: connect to host gw port 22: No route to host", NoRoute, false},
		{"ssh: connect to host gw port 22: Network is unreachable", NoRoute, false},
		{"ssh: Could not resolve hostname gw: Temporary failure in name resolution", NameNotFound, false},
		{"Timeout, server gw not responding.", ServerGone, false},
		{"client_loop: send disconnect: Broken pipe", Closed, false},
		{"kex_exchange_identification: Connection closed by remote host", Closed, false},
		{"kex_exchange_identification: read: Connection reset by peer", Closed, false},
		{"Received disconnect from 192.0.2.1 port 22:2: Too many authentication failures", PermissionDenied, true},
		{"No ED25519 host key is known for gw and you have requested strict checking.\nHost key verification failed.", HostKeyUnknown, true},
		{"Bad owner or permissions on /home/me/.ssh/config", BadConfig, true},
		{"welcome\nme@gw: Permission denied (publickey,password).", PermissionDenied, true},
		{"something new", Other, false},
		{"", Other, false},
	} {
		var said []string
		if y.said != "" {
			said = strings.Split(y.said, "\n")
		}
		err := c.diagnose(&command.ExitError{Name: "ssh", Status: 255, How: "exit status 255"}, said, nil)
		kind, _, refused := kindOf(err)
		if kind != y.kind || refused != y.refused {
			t.Errorf("%q: %v: kind %q, refused %v", y.said, err, kind, refused)
		}
	}
}

// kindOf returns the kind of an *Error, and whether it is for good.
func kindOf(err error) (kind Kind, hint string, refused bool) {
	var e *Error
	if errors.As(err, &e) {
		kind, hint = e.Kind, e.Hint
	}
	var r *carrier.RefusedError
	return kind, hint, errors.As(err, &r)
}
