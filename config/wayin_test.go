package config

import (
	"strings"
	"testing"
)

func TestParseWayIn(t *testing.T) {
	for _, c := range []struct {
		flag, in, want, to string
	}{
		{"-R", "8080", "127.0.0.1:8080::8080", "0.0.0.0:8080"},
		{"-R", "udp:5353", "udp:127.0.0.1:5353::5353", "0.0.0.0:5353"},
		{"-R", "8080::80", "127.0.0.1:8080::80", "0.0.0.0:80"},
		{"-R", "8080:10.0.2.15:80", "127.0.0.1:8080:10.0.2.15:80", "10.0.2.15:80"},
		{"-R", "[::1]:8080:[fd00::1]:80", "[::1]:8080:[fd00::1]:80", "[fd00::1]:80"},
		{"-R", "[::1]:8080::80", "[::1]:8080::80", "[::]:80"},
		{"-R", "192.0.2.1:0:192.168.1.2:22", "192.0.2.1:0:192.168.1.2:22", "192.168.1.2:22"},
		{"-R", "*:8080:10.0.2.15:80", "[::]:8080:10.0.2.15:80", "10.0.2.15:80"},
		{"-L", "8080:wiki.corp:80", "127.0.0.1:8080:wiki.corp:80", ""},
		{"-L", "udp:5353:10.0.0.53:53", "udp:127.0.0.1:5353:10.0.0.53:53", "10.0.0.53:53"},
	} {
		w, err := ParseWayIn(c.flag, c.in)
		if err != nil || w.String() != c.want || c.to != "" && w.To().String() != c.to {
			t.Errorf("%s %s: %v to %v, %v; want %s to %s", c.flag, c.in, w, w.To(), err, c.want, c.to)
		}
		again, err := ParseWayIn(c.flag, w.String())
		if err != nil || again != w {
			t.Errorf("%s %s: read again it is %v, %v", c.flag, w, again, err)
		}
	}
	for in, says := range map[string]string{
		"":                     "not a port",
		"x":                    "not a port",
		"0":                    "leads nowhere",
		"70000":                "not a port",
		"8080:host:80":         "no address",
		"8080:10.0.0.1":        "too few words",
		"1:2:3:4:5":            "too few words",
		"[::1:80":              "bracket",
		"[::1]x:80":            "bracket",
		"8080:127.0.0.1:0":     "leads nowhere",
		"8080:224.0.0.1:80":    "no place",
		"8080:0.0.0.0:80":      "no place",
		"host:8080:10.0.0.1:1": "no address to listen",
		"8080:fe80::1%eth0:80": "too few words, or too many",
	} {
		if w, err := ParseWayIn("-R", in); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, %v; want %q", in, w, err, says)
		}
	}
	if w, err := ParseWayIn("-L", "8080"); err == nil {
		t.Errorf("-L 8080: %v", w)
	}
}

func FuzzParseWayIn(f *testing.F) {
	for _, s := range []string{"8080", "udp:[::1]:53:[2001:db8::1]:53", "*:1:a.b:2", "a:b:c:d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, flag := range []string{"-R", "-L"} {
			w, err := ParseWayIn(flag, s)
			if err != nil {
				continue
			}
			again, err := ParseWayIn(flag, w.String())
			if err != nil || again != w {
				t.Errorf("%s %q: %v, read again %v, %v", flag, s, w, again, err)
			}
			if !w.Listen.IsValid() || w.Port == 0 {
				t.Errorf("%s %q: %+v", flag, s, w)
			}
		}
	})
}
