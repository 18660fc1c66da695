package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]Hop{
		"gw":                             {Scheme: SSH, Host: "gw"},
		"me@gw.example.org":              {Scheme: SSH, User: "me", Host: "gw.example.org"},
		"me@gw:2222":                     {Scheme: SSH, User: "me", Host: "gw", Port: 2222},
		"me@corp@gw":                     {Scheme: SSH, User: "me@corp", Host: "gw"},
		"198.51.100.22:22":               {Scheme: SSH, Host: "198.51.100.22", Port: 22},
		"2001:db8::22":                   {Scheme: SSH, Host: "2001:db8::22"},
		"me@[2001:db8::22]":              {Scheme: SSH, User: "me", Host: "2001:db8::22"},
		"me@[2001:db8::22]:443":          {Scheme: SSH, User: "me", Host: "2001:db8::22", Port: 443},
		"tcp://198.51.100.22:7000":       {Scheme: TCP, Host: "198.51.100.22", Port: 7000},
		"ssh://me@gw":                    {Scheme: SSH, User: "me", Host: "gw"},
		"telnet://me@gw":                 {Scheme: Telnet, User: "me", Host: "gw", Port: 23},
		"TELNET://[2001:db8::1]/":        {Scheme: Telnet, Host: "2001:db8::1", Port: 23},
		"tls://gw":                       {Scheme: TLS, Host: "gw", Port: 443},
		"bodkin://gw:4000":               {Scheme: Bodkin, Host: "gw", Port: 4000},
		"wss://gw":                       {Scheme: WSS, Host: "gw", Port: 443, Path: "/tunnel"},
		"wss://gw/":                      {Scheme: WSS, Host: "gw", Port: 443, Path: "/tunnel"},
		"wss://[2001:db8::1]:8443/a/b-c": {Scheme: WSS, Host: "2001:db8::1", Port: 8443, Path: "/a/b-c"},
		"ws://127.0.0.1:8080/t":          {Scheme: WS, Host: "127.0.0.1", Port: 8080, Path: "/t"},
		"served:laptop-2":                {Scheme: Served, Host: "laptop-2"},
		"cmd: kubectl exec -i p":         {Scheme: Cmd, Command: "kubectl exec -i p"},
		"tty:cu -l /dev/ttyS0":           {Scheme: TTY, Command: "cu -l /dev/ttyS0"},
		"tls://gw:1?ca=/etc/ca.pem":      {Scheme: TLS, Host: "gw", Port: 1, CA: "/etc/ca.pem"},
		"telnet://gw?relay=telnet&connect=connect%20%25h%3A%25p": {Scheme: Telnet, Host: "gw", Port: 23, Relay: "telnet", Connect: "connect %h:%p"},
	} {
		got, err := ParseTarget(in)
		if err != nil || got != want {
			t.Errorf("ParseTarget(%q) = %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"", "@gw", "gw:", "gw:0", "gw:65536", "gw:22:", "[::1", "[::1]22", "[::1]:", "]", "[",
		"-oProxyCommand=touch /tmp/p", "me@-oProxyCommand=id", "-l@gw", "--@gw",
		"gw`id`", "gw$(id)", "gw;id", "gw|id", "gw&", "gw>x", "gw\nProxyCommand id", "gw\x00", "gw id", "gw'", `gw"`, `gw\`,
		"gw%h", "%h", "me%r@gw", "$(id)@gw", "me id@gw", "fe80::1%eth0;id", "fe80::1%-o", "gw/", "gé", "\u202egw",
		"[gw;id]", strings.Repeat("a", 300), strings.Repeat("a", 70) + "@gw",
		"me@", "fe80::1%eth0", "gw:ssh", "tcp://gw", "bodkin://gw", "http://proxy:3128", "socks5://p", "chat:file", "cmd:", "tty: ", "cmd:a\nb",
		"ftp://gw", "telnet://", "telnet://-gw", "telnet://me:secret@gw", "telnet://gw?auth=basic", "telnet://gw?connect=c", "tls://gw?ca=a&ca=b",
		"telnet://gw?connect=c%20%25h%0did", "telnet://gw?relay=x", "ssh://gw?ca=x", "telnet://gw/path", `ssh://a\b@gw`,
	} {
		if got, err := ParseTarget(in); err == nil {
			t.Errorf("ParseTarget(%q) = %+v, want an error", in, got)
		}
	}
}

// FuzzTarget: what is accepted comes back from its text, and can be no option.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"me@gw:22", "me@[2001:db8::22]:443", "-oProxyCommand=x", "tcp://a:1", "wss://a:1/b/c%20d", "served:x", "telnet://me@gw?relay=raw&connect=%25h", "cmd:sh -i"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := ParseTarget(s)
		if err != nil {
			return
		}
		again, err := ParseTarget(target.String())
		if err != nil || again != target {
			t.Fatalf("%q: %+v came back as %+v, %v", s, target, again, err)
		}
		if target.Local() {
			return
		}
		if strings.HasPrefix(target.Host, "-") || strings.HasPrefix(target.User, "-") || strings.ContainsAny(target.Host+target.User, " \t\n'\"`$;|&<>%") {
			t.Fatalf("%q was accepted: %+v", s, target)
		}
	})
}

func TestParseVia(t *testing.T) {
	for in, want := range map[string]Hop{
		"http://proxy":                {Scheme: HTTP, Host: "proxy", Port: 3128},
		`http://CORP\me@proxy:8080`:   {Scheme: HTTP, User: `CORP\me`, Host: "proxy", Port: 8080},
		"https://me@proxy?auth=basic": {Scheme: HTTPS, User: "me", Host: "proxy", Port: 443, Basic: true},
		"socks5://proxy":              {Scheme: SOCKS5, Host: "proxy", Port: 1080},
		"socks5h://me@proxy:9":        {Scheme: SOCKS5, User: "me", Host: "proxy", Port: 9},
		"socks4a://[::1]":             {Scheme: SOCKS4a, Host: "::1", Port: 1080},
		"ssh://me@bastion":            {Scheme: SSH, User: "me", Host: "bastion"},
		"chat:/home/me/in.chat":       {Scheme: Chat, Command: "/home/me/in.chat"},
	} {
		got, err := ParseVia(in)
		if err != nil || got != want {
			t.Errorf("ParseVia(%q) = %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "proxy", "proxy:3128", "me@proxy", "bodkin://gw:1", "tcp://gw:1", "http://me:secret@proxy", "http://proxy?auth=none"} {
		got, err := ParseVia(in)
		if err == nil {
			t.Errorf("ParseVia(%q) = %+v, want an error", in, got)
		}
		if strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%q: the password is in %v", in, err)
		}
	}
}

func TestWay(t *testing.T) {
	for _, c := range []struct {
		target string
		via    string // blank-separated
		change func(*Up)
		ok     bool
	}{
		{"me@gw", "http://p", nil, true},
		{"telnet://me@gw", "telnet://tn-gw", nil, true},
		{"telnet://me@gw", "telnet://tn-gw chat:file", nil, true},
		{"me@gw", "cmd:nc", nil, true},
		{"cmd:sh", "", nil, true},
		{"me@gw", "http://p socks5://q ssh://b telnet://t", nil, true},
		{"me@gw", "http://p cmd:nc", nil, false},
		{"me@gw", "chat:file", nil, false},
		{"cmd:sh", "http://p", nil, false},
		{"me@gw", strings.Repeat("http://p ", 9), nil, false},
		{"me@gw", "", func(u *Up) { u.Chat = "file" }, false},
		{"me@gw", "", func(u *Up) { u.Open = true }, false},
		{"me@gw", "", func(u *Up) { u.Become = "su" }, false},
		{"telnet://gw", "", func(u *Up) { u.Chat, u.Become, u.Open = "file", "sudo", true }, true},
		{"telnet://gw", "", func(u *Up) { u.Become = "doas" }, false},
		{"telnet://gw", "", func(u *Up) { u.Far = Emulator{Kind: SLiRP} }, false},
		{"telnet://gw", "", func(u *Up) { u.Far, u.Open = Emulator{Kind: SLiRP}, true }, true},
		{"bodkin://gw:1", "", func(u *Up) { u.Far, u.Open = Emulator{Kind: PPPD}, true }, false},
		{"bodkin://gw:1", "", func(u *Up) { u.Coding = "armour" }, true},
		{"bodkin://gw:1", "", func(u *Up) { u.Coding = "morse" }, false},
	} {
		u := Up{Name: "bodkin0", SSH: []string{"ssh"}, Routes: Everything, Far: Emulator{Kind: NAT}}
		u.Target, _ = ParseTarget(c.target)
		for word := range strings.FieldsSeq(c.via) {
			h, _ := ParseVia(word)
			u.Via = append(u.Via, h)
		}
		if c.change != nil {
			c.change(&u)
		}
		if err := u.Check(); (err == nil) != c.ok {
			t.Errorf("%s via %q: %v", c.target, c.via, err)
		}
	}
}

func TestSplitProgram(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"ssh", []string{"ssh"}},
		{"  ssh   -p 2222 -i key ", []string{"ssh", "-p", "2222", "-i", "key"}},
		{"ssh -F 'my file'", []string{"ssh", "-F", "my file"}},
		{`ssh -o "ProxyCommand=nc '%h' %p"`, []string{"ssh", "-o", "ProxyCommand=nc '%h' %p"}},
		{"ssh 'it''s'", []string{"ssh", "it's"}},
		{"ssh ''", []string{"ssh", ""}},
		{`ssh -F C:\x`, []string{"ssh", "-F", `C:\x`}},
		{"ssh a'b c'd", []string{"ssh", "ab cd"}},
		{"ssh\t-v", []string{"ssh\t-v"}},
		{"", nil}, {"  ", nil}, {"''", nil}, {"ssh 'x", nil},
	} {
		got, err := SplitProgram(c.in)
		if !reflect.DeepEqual(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%q: %q, %v; want %q", c.in, got, err, c.want)
		}
	}
}

// FuzzSplitProgram: words that are quoted one by one come back the same.
func FuzzSplitProgram(f *testing.F) {
	f.Add("ssh", "-F", "my 'file'")
	f.Add("a", "", `"`)
	f.Fuzz(func(t *testing.T, a, b, c string) {
		words := []string{a, b, c}
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, "'"+strings.ReplaceAll(w, "'", "''")+"'")
		}
		got, err := SplitProgram(strings.Join(quoted, " "))
		if a != "" && (err != nil || !reflect.DeepEqual(got, words)) {
			t.Fatalf("%q: %q, %v", words, got, err)
		}
		SplitProgram(a) // any text at all
	})
}

func TestCheck(t *testing.T) {
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	good := Up{Name: "bodkin0", Target: Hop{Scheme: SSH, Host: "gw"}, SSH: []string{"ssh"}, Routes: Everything}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Up){
		"name":           func(u *Up) { u.Name = "../etc" },
		"no program":     func(u *Up) { u.SSH = nil },
		"plan, detach":   func(u *Up) { u.Plan, u.Detach = true, true },
		"loopback":       func(u *Up) { u.Routes = prefixes("127.0.0.0/8") },
		"multicast":      func(u *Up) { u.Routes = prefixes("224.0.0.0/4") },
		"outside":        func(u *Up) { u.Routes, u.Exclude = prefixes("10.0.0.0/8"), prefixes("192.168.0.0/16") },
		"both":           func(u *Up) { u.Exclude = prefixes("0.0.0.0/0") },
		"other resolver": func(u *Up) { u.Routes, u.DNS.Server = prefixes("10.0.0.0/8"), netip.MustParseAddr("9.9.9.9") },
	} {
		u := good
		change(&u)
		if err := u.Check(); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

func TestParseDNS(t *testing.T) {
	for _, c := range []struct {
		values     string
		everything bool
		off        bool
		server     string
		domains    []string
	}{
		{"auto", true, false, "", nil},
		{"auto", false, true, "", nil},
		{"off", true, true, "", nil},
		{"9.9.9.9", true, false, "9.9.9.9", nil},
		{"corp.example=far", false, false, "", []string{"corp.example"}},
		{"corp.example.=10.0.0.53 other.example=10.0.0.53", false, false, "10.0.0.53", []string{"corp.example", "other.example"}},
		{"corp.example 10.1.1.1", false, false, "10.1.1.1", []string{"corp.example"}},
	} {
		got, err := ParseDNS(strings.Fields(c.values), c.everything)
		server := ""
		if got.Server.IsValid() {
			server = got.Server.String()
		}
		if err != nil || got.Off != c.off || server != c.server || !slices.Equal(got.Domains, c.domains) {
			t.Errorf("ParseDNS(%q) = %+v, %v", c.values, got, err)
		}
	}
	for _, v := range []string{"127.0.0.1", "auto off", "x;id.example", "on", "9.9.9.9 1.1.1.1", "a.b=near", "=far", "a.b=10.0.0.1 c.d=10.0.0.2", "a.b=fe80::1%eth0"} {
		if got, err := ParseDNS(strings.Fields(v), true); err == nil {
			t.Errorf("ParseDNS(%q) = %+v, want an error", v, got)
		}
	}
}
