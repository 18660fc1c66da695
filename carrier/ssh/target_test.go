package ssh

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Target
	}{
		{"gw", Target{Host: "gw"}},
		{"me@gw.example.org", Target{"me", "gw.example.org", 0}},
		{"gw:2222", Target{Port: 2222, Host: "gw"}},
		{"me@corp.example@gw", Target{User: "me@corp.example", Host: "gw"}},
		{"me@192.0.2.1:22", Target{"me", "192.0.2.1", 22}},
		{"2001:db8::1", Target{Host: "2001:db8::1"}},
		{"me@[2001:db8::1]:22", Target{"me", "2001:db8::1", 22}},
		{"[fe80::1%eth0]", Target{Host: "fe80::1%eth0"}},
		{"my_host.", Target{Host: "my_host."}},
	} {
		got, err := ParseTarget(c.in)
		if err != nil || got != c.want {
			t.Errorf("%q: %+v, %v; want %+v", c.in, got, err, c.want)
		}
	}
}

// TestHostileTargets holds what has been used to make ssh, or a shell in the
// user's ssh config, run a command.
func TestHostileTargets(t *testing.T) {
	for _, in := range []string{
		"", "@gw", "gw:", "gw:0", "gw:65536", "gw:22:", "[::1", "[::1]22", "[::1]:", "]", "[",
		"-oProxyCommand=touch /tmp/p", "me@-oProxyCommand=id", "-l@gw", "--@gw",
		"gw`id`", "gw$(id)", "gw;id", "gw|id", "gw&", "gw>x", "gw\nProxyCommand id", "gw\x00", "gw id", "gw'", `gw"`, `gw\`,
		"gw%h", "%h", "me%r@gw", "$(id)@gw", "me id@gw", "fe80::1%eth0;id", "fe80::1%-o", "gw/", "gé", "\u202egw",
		"[gw;id]", strings.Repeat("a", 300), strings.Repeat("a", 70) + "@gw",
	} {
		got, err := ParseTarget(in)
		if in == "fe80::1%-o" { // an address, and no option: it begins with a digit
			continue
		}
		if err == nil {
			t.Errorf("%q: taken as %+v", in, got)
		}
	}
	for _, target := range []Target{{Host: "-V"}, {Host: "gw", User: "-v"}, {}, {Host: "a b"}} {
		if _, _, err := Dial(t.Context(), Config{Target: target, RemoteCommand: "true", Program: []string{"no-such-ssh"}}); err == nil || !strings.Contains(err.Error(), "target") {
			t.Errorf("%+v reached ssh: %v", target, err)
		}
	}
	for _, command := range []string{"", "-V", "--"} {
		if _, _, err := Dial(t.Context(), Config{Target: Target{Host: "gw"}, RemoteCommand: command, Program: []string{"no-such-ssh"}}); err == nil || !strings.Contains(err.Error(), "command") {
			t.Errorf("remote command %q reached ssh: %v", command, err)
		}
	}
}

// FuzzTarget: what parses is harmless, and its text parses to the same.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"me@gw:22", "[fe80::1%eth0]:1", "a@b@c", "::ffff:192.0.2.1", "-v"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := ParseTarget(s)
		if err != nil {
			return
		}
		if again, err := ParseTarget(target.String()); err != nil || again != target {
			t.Fatalf("%q is %+v, its text %q is %+v, %v", s, target, target, again, err)
		}
		for _, word := range []string{target.User, target.Host} {
			if strings.HasPrefix(word, "-") || strings.ContainsAny(word, " \t\r\n\x00'\"`$\\;&|<>(){}*?!~#") {
				t.Fatalf("%q has %q", s, word)
			}
		}
	})
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
