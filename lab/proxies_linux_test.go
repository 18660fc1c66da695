package lab

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// curl asks for a page of the gateway's through a proxy, and returns how it ended.
func curl(t *testing.T, l *Lab, args ...string) (said string, err error) {
	t.Helper()
	out, err := l.Laptop.Command(t.Context(), "curl", append([]string{"-sS", "-m", "10"}, args...)...).As("me").CombinedOutput()
	return string(out), err
}

func TestProxies(t *testing.T) {
	l := closedLab(t)
	const page = "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nthe page\n"
	web, err := l.Gateway.Inetd(8080, "sh", "-c", "while read -r line && [ ${#line} -gt 1 ]; do :; done; printf %s '"+page+"'")
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()

	m, ctx := l.Firewall, t.Context()
	wilma := ProxyOptions{User: "wilma", Password: "pebbles 1"}
	only := func(o ProxyOptions, port uint16) ProxyOptions {
		o.Port = port
		return o
	}
	squid := func(schemes ...string) func() (*Daemon, error) {
		return func() (*Daemon, error) { return m.Squid(ctx, SquidOptions{ProxyOptions: wilma, Schemes: schemes}) }
	}
	http := "http://" + FirewallInside4.String()
	socks := "socks5h://" + FirewallInside4.String()
	for _, tt := range []struct {
		name  string
		start func() (*Daemon, error)
		proxy string
		args  []string
		want  string // of the page, or of what curl says
	}{
		{"squid, open", func() (*Daemon, error) { return m.Squid(ctx, SquidOptions{}) }, http, nil, "the page"},
		{"squid, another port", func() (*Daemon, error) {
			return m.Squid(ctx, SquidOptions{ProxyOptions: ProxyOptions{Port: 3129, Ports: []uint16{443}}})
		}, http, nil, "CONNECT tunnel failed, response 403"},
		{"squid, nobody", squid("basic"), http, nil, "CONNECT tunnel failed, response 407"},
		{"squid, basic", squid("basic"), http, []string{"--proxy-basic", "-U", "wilma:pebbles 1"}, "the page"},
		{"squid, basic, wrong", squid("basic"), http, []string{"--proxy-basic", "-U", "wilma:pebbles"}, "response 407"},
		{"squid, digest", squid("digest"), http, []string{"--proxy-digest", "-U", "wilma:pebbles 1"}, "the page"},
		{"squid, digest, wrong", squid("digest"), http, []string{"--proxy-digest", "-U", "wilma:pebbles"}, "response 407"},
		{"squid, NTLM", squid("ntlm"), http, []string{"--proxy-ntlm", "-U", "wilma:pebbles 1"}, "the page"},
		{"squid, any", squid("ntlm", "digest", "basic"), http, []string{"--proxy-anyauth", "-U", "wilma:pebbles 1"}, "the page"},
		{"tinyproxy", func() (*Daemon, error) { return m.Tinyproxy(ctx, ProxyOptions{}) }, http, nil, "the page"},
		{"tinyproxy, nobody", func() (*Daemon, error) { return m.Tinyproxy(ctx, ProxyOptions{User: "fred", Password: "dino"}) }, http, nil, "response 407"},
		{"tinyproxy, basic", func() (*Daemon, error) { return m.Tinyproxy(ctx, ProxyOptions{User: "fred", Password: "dino"}) }, http, []string{"-U", "fred:dino"}, "the page"},
		{"dante", func() (*Daemon, error) { return m.Dante(ctx, ProxyOptions{}) }, socks, nil, "the page"},
		{"dante, SOCKS 4", func() (*Daemon, error) { return m.Dante(ctx, ProxyOptions{}) }, strings.Replace(socks, "socks5h", "socks4", 1), nil, "the page"},
		{"dante, another port", func() (*Daemon, error) { return m.Dante(ctx, ProxyOptions{Ports: []uint16{22}}) }, socks, nil, "connection to proxy closed"},
		{"dante, nobody", func() (*Daemon, error) { return m.Dante(ctx, wilma) }, socks, nil, "No authentication method was acceptable"},
		{"dante, password", func() (*Daemon, error) { return m.Dante(ctx, wilma) }, socks, []string{"-U", "wilma:pebbles 1"}, "the page"},
		{"dante, wrong", func() (*Daemon, error) { return m.Dante(ctx, wilma) }, socks, []string{"-U", "wilma:pebbles"}, "SOCKS5"},
		{"microsocks", func() (*Daemon, error) { return m.Microsocks(ctx, only(ProxyOptions{}, 1081)) }, socks, nil, "the page"},
		{"microsocks, password", func() (*Daemon, error) { return m.Microsocks(ctx, only(wilma, 1081)) }, socks, []string{"-U", "wilma:pebbles 1"}, "the page"},
		{"microsocks, wrong", func() (*Daemon, error) { return m.Microsocks(ctx, only(wilma, 1081)) }, socks, []string{"-U", "wilma:pebbles"}, "SOCKS5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			began := time.Now()
			d, err := tt.start()
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			started := time.Since(began)
			proxy := fmt.Sprintf("%s:%d", tt.proxy, d.Port())
			said, _ := curl(t, l, append(append([]string{"--proxytunnel", "-x", proxy}, tt.args...), "http://gw:8080/")...)
			if !strings.Contains(said, tt.want) {
				t.Errorf("curl: %q, want %q\nthe proxy said:\n%s", said, tt.want, d.Log())
			}
			asked := time.Since(began)
			d.Close()
			t.Logf("started in %v, asked in %v, ended in %v", started, asked-started, time.Since(began)-asked)
			ps, err := m.Processes()
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range ps {
				if len(p.Args) > 0 { // else it has ended
					t.Errorf("left behind: %v", p)
				}
			}
		})
	}
	// What squid leaves in shared memory is the machine's, not the real one's.
	if left, err := filepath.Glob("/dev/shm/squid-cf__*"); err != nil || len(left) > 0 {
		t.Errorf("left in the real machine's memory: %v, %q", err, left)
	}
}
