package enclosure

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPrograms is what an ordinary user can do: whatever speaks IP works as it is.
func TestPrograms(t *testing.T) {
	for _, line := range []string{"git init -q repo", "cd repo && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m first && git update-server-info"} {
		cmd := asUser(t, "sh", "-c", line)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	for _, test := range []struct{ line, want string }{
		{"curl -sS http://web.example/whoami", "web.example for "},
		{"curl -sS -4 http://web.example/whoami", "for 198.51.100.10:"},
		{"curl -sS -6 http://web.example/whoami", "for [2001:db8:5::10]:"},
		{"busybox wget -q -O - http://web.example/whoami", "web.example for "},
		{"wget -q -O - http://web.example/whoami", "web.example for "},
		{"dig +short web.example", "198.51.100.10\n"},
		{"dig +short web.example aaaa", "2001:db8:5::10\n"},
		{"getent ahosts web.example", "198.51.100.10"},
		{"getent hosts nowhere.example || echo none", "none\n"},
		{"/usr/bin/python3 -c 'import urllib.request as u; print(u.urlopen(\"http://web.example/whoami\").read())'", "web.example for "},
		{"ping -c 1 -W 5 198.51.100.10", "1 received"},
		{"ping -6 -c 1 -W 5 web.example", "1 received"},
		{"git clone -q http://web.example/files/repo/.git copy && git -C copy log --oneline", " first\n"},
		{"id -un && id -u", "ann\n4321\n"},
		{"touch mine && stat -c %U mine", "ann\n"},
	} {
		if got := inside(t, test.line); !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, without %q", test.line, got, test.want)
		}
	}
}

// TestRoot: root needs no user namespace, and stays root; what it writes into /etc is there.
func TestRoot(t *testing.T) {
	mounts := func() string {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before := mounts()
	cmd := exec.CommandContext(t.Context(), driver, "drive", "sh", "-c",
		"curl -sS http://web.example/whoami && ping -c 1 -W 5 web.example && id -u && echo kept >/etc/kept && cat /etc/resolv.conf && ! ls /run/nscd/socket")
	r := finish(t, cmd)
	if r.status != 0 || !strings.Contains(r.out, "1 received") || !strings.Contains(r.out, "\n0\n") || !strings.Contains(r.out, "nameserver 10.0.2.3\n") {
		t.Errorf("status %d\n%s%s", r.status, r.out, r.err)
	}
	if out, err := exec.Command("cat", "/etc/kept").Output(); string(out) != "kept\n" {
		t.Errorf("what root wrote into /etc: %q, %v", out, err)
	}
	if after := mounts(); after != before {
		t.Errorf("mounts came out:\n%s\nbefore:\n%s", after, before)
	}
}
