package enclosure

import (
	"maps"
	"net"
	"os"
	"strings"
	"testing"
)

// callsNow is how often each Unix socket was connected to.
func callsNow() map[string]int {
	called.Lock()
	defer called.Unlock()
	return maps.Clone(calls)
}

// TestNoOtherWay: there is the loopback and the tunnel, and nobody outside to ask.
func TestNoOtherWay(t *testing.T) {
	before := callsNow()
	for _, test := range []struct{ line, want string }{
		{"ls /sys/class/net | tr '\\n' ' '", "bodkin0 lo "},
		{"awk -F: 'NR>2 {print $1}' /proc/net/dev | tr -d ' ' | sort | tr '\\n' ' '", "bodkin0 lo "},
		{"awk 'NR>1 {print $1}' /proc/net/route | sort -u", "bodkin0\n"},
		{"awk '{print $NF}' /proc/net/ipv6_route | sort -u | tr '\\n' ' '", "bodkin0 lo "},
		// The loopback is another, and so are abstract Unix sockets.
		{"curl -sS -m 5 http://127.0.0.1/whoami 2>&1 || true", "Failed to connect to 127.0.0.1 port 80"},
		{"cat /etc/resolv.conf | grep nameserver", "nameserver 10.0.2.3\nnameserver fd62:6f64:6b69::3\n"},
		{"cat /run/systemd/resolve/stub-resolv.conf | grep nameserver", "nameserver 10.0.2.3\nnameserver fd62:6f64:6b69::3\n"},
		{"cat /etc/nsswitch.conf", "passwd: files systemd\nhosts: files myhostname dns\nnetworks: files\n"},
		{"ls -d /run/nscd/* /run/dbus/* /run/avahi-daemon/* 2>/dev/null || echo none", "none\n"},
		{"ls /run/systemd/resolve/ | tr '\\n' ' '", "resolv.conf stub-resolv.conf "},
		{"getent hosts web.example", "2001:db8:5::10 "},
		// No proxy of the network outside.
		{"echo ${http_proxy-none}", "none\n"},
		// No power, not even over the namespaces it is in.
		{"grep -E 'Cap(Inh|Prm|Eff|Amb)|NoNewPrivs' /proc/self/status | tr -d '\\t' | tr '\\n' ' '",
			"CapInh:0000000000000000 CapPrm:0000000000000000 CapEff:0000000000000000 CapAmb:0000000000000000 NoNewPrivs:0 "},
		{"umount /run/nscd /run 2>/dev/null; ls /run/nscd", ""},
		{"ip link set bodkin0 down 2>&1 || true", "not permitted"},
		{"sudo -n true 2>&1 || true", "sudo"},
		{"echo x 2>&1 >/etc/new || true", "Read-only file system"},
		// Nobody but the command, its shell and process 1.
		{"ls -d /proc/[0-9]* | wc -l | awk '{print $1 < 8}'", "1\n"},
	} {
		if got := inside(t, test.line); !strings.Contains(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", test.line, got, test.want)
		}
	}
	for _, path := range daemons {
		if callsNow()[path] != before[path] {
			t.Errorf("somebody inside asked %s", path)
		}
	}
}

// TestFriends: agents, desktops, logs are Unix sockets in /run, and go on working.
func TestFriends(t *testing.T) {
	for _, path := range friends {
		before := callsNow()[path]
		if got := inside(t, "busybox nc local:"+path+" </dev/null || /usr/bin/python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); s.connect(\""+path+"\"); print(s.recv(100))'"); !strings.Contains(got, "hello") {
			t.Errorf("%s says %q", path, got)
		}
		if callsNow()[path] <= before {
			t.Errorf("nobody called %s", path)
		}
	}
}

// TestRoutes: with some prefixes only those are there, and nothing else.
func TestRoutes(t *testing.T) {
	for _, test := range []struct {
		flags      []string
		line, want string
	}{
		{[]string{"-route", "198.51.100.0/28"}, "curl -sS -m 5 http://198.51.100.10/whoami", "for 198.51.100.10"},
		{[]string{"-route", "198.51.100.0/28"}, "ping -c 1 -W 1 203.0.113.1 2>&1", "Network is unreachable"},
		{[]string{"-route", "198.51.100.0/28"}, "ping -c 1 -W 1 2001:db8:5::10 2>&1", "Network is unreachable"},
		{[]string{"-route", "198.51.100.0/28"}, "getent hosts web.example", "2001:db8:5::10"},
		{[]string{"-exclude", "198.51.100.0/28"}, "ping -c 1 -W 1 198.51.100.10 2>&1", "No route to host"},
		{[]string{"-exclude", "198.51.100.0/28"}, "curl -sS -m 5 'http://[2001:db8:5::10]/whoami'", "for [2001:db8:5::10]"},
		{[]string{"-search", "example"}, "getent hosts web", "2001:db8:5::10"},
	} {
		args := append(append([]string{"drive"}, test.flags...), "sh", "-c", test.line)
		if r := finish(t, asUser(t, driver, args...)); !strings.Contains(r.out, test.want) {
			t.Errorf("%q: %q, want %q\n%s", args, r.out, test.want, r.err)
		}
	}
}

// TestChangesOutside: what others put in the place of resolv.conf, or start anew,
// does not show inside.
func TestChangesOutside(t *testing.T) {
	cmd := asUser(t, driver, "drive", "sh", "-c", "read x; grep nameserver /etc/resolv.conf; ls /run/nscd; getent hosts web.example; echo end")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan result, 1)
	go func() { done <- finish(t, cmd) }()

	// As NetworkManager and systemd-resolved write it, and systemd starts nscd.
	replace := func(path, text string) {
		if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	original, err := os.Readlink("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	replace("/run/systemd/resolve/stub-resolv.conf", "nameserver 192.0.2.1\n")
	replace("/etc/resolv.conf", "nameserver 192.0.2.2\n")
	os.RemoveAll("/run/nscd")
	if err := os.Mkdir("/run/nscd", 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", "/run/nscd/socket")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		os.Remove("/etc/resolv.conf")
		if err := os.Symlink(original, "/etc/resolv.conf"); err != nil {
			t.Error(err)
		}
		if err := listen("/run/nscd/socket"); err != nil {
			t.Error(err)
		}
	})
	stdin.Write([]byte("\n"))
	r := <-done
	if want := "nameserver 10.0.2.3\nnameserver fd62:6f64:6b69::3\n2001:db8:5::10"; !strings.HasPrefix(r.out, want) || !strings.HasSuffix(r.out, "end\n") {
		t.Errorf("inside: %q %s", r.out, r.err)
	}
}
