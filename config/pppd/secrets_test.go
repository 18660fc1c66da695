package pppd

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func secretFiles(content map[string]string) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if text, ok := content[path]; ok {
			return []byte(text), nil
		}
		return nil, errors.New(path + ": no such file")
	}
}

// The file of the tests of Find. The comments say what stands out.
const someSecrets = `# client	server	secret	addresses
me	gw	sesame	10.0.0.5
me	*	anywhere	*
*	gw	anyone
*	*	whoever	-

"two words" 'a "server"' "with # and \" and \\"	*
esc\x41ped	\107\x57	back\sslash
me	gw	second	*          # the first counts
long \
	line   \
	secret	10.1.0.0/16
"over
two" lines secret 10.2.0.1
comment	ends	here # not taken back \
empty	gw	""
file	gw	@/etc/ppp/one	*
at	gw	@home
`

func TestFind(t *testing.T) {
	s, err := ParseSecrets("chap-secrets", strings.NewReader(someSecrets), secretFiles(map[string]string{
		"/etc/ppp/one": "# mine\n  \"from a file\" and more\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ client, server, secret, source string }{
		{"me", "gw", "sesame", ":2"},
		{"me", "elsewhere", "anywhere", ":3"},
		{"you", "gw", "anyone", ":4"},
		{"you", "elsewhere", "whoever", ":5"},
		{"", "", "anyone", ":4"},
		{"me", "", "sesame", ":2"}, // a server without a name
		{"*", "*", "whoever", ":5"},
		{"two words", `a "server"`, `with # and " and \`, ":7"},
		{"escAped", "GW", "back slash", ":8"},
		{"long", "line", "secret", ":10"},
		{"over\ntwo", "lines", "secret", ":13"},
		{"comment", "ends", "here", ":15"},
		{"empty", "gw", "", ":16"},
		{"file", "gw", "from a file", ":17"},
		{"at", "gw", "@home", ":18"},
		{"Me", "gw", "anyone", ":4"}, // case counts
	} {
		got, ok := s.Find(test.client, test.server)
		if !ok || string(got.Octets) != test.secret || got.Source != "chap-secrets"+test.source {
			t.Errorf("%q at %q: %q from %s, %v", test.client, test.server, got.Octets, got.Source, ok)
		}
	}
}

// A server's name goes before a client's, as with pppd.
func TestFewestWildcards(t *testing.T) {
	for _, text := range []string{"me * client\n* gw server\n", "* gw server\nme * client\n"} {
		s, err := ParseSecrets("f", strings.NewReader(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := s.Find("me", "gw"); string(got.Octets) != "server" {
			t.Errorf("%q: %q", text, got.Octets)
		}
	}
	var none Secrets
	if _, ok := none.Find("", ""); ok {
		t.Error("a secret out of nothing")
	}
}

// What a line at fault says, and that nothing else takes its place.
func TestSecretFaults(t *testing.T) {
	for _, test := range []struct{ text, fault string }{
		{"me", "f:1: a client, a server and a secret are wanted, but there are 1 words"},
		{"me gw", "f:1: a client, a server and a secret are wanted, but there are 2 words"},
		{"me gw @login *", "f:1: the system's passwords (@login) are not at hand"},
		{"me gw @/none *", "f:1: the secret's file: /none: no such file"},
		{"me gw @/empty *", `f:1: the secret's file "/empty" is empty`},
		{"me gw @/broken *", "f:1: /broken:1: the quote \" is not closed"},
		{"\n\nme gw \"never closed", "f:3: the quote \" is not closed"},
	} {
		s, err := ParseSecrets("f", strings.NewReader(test.text+"\n"), secretFiles(map[string]string{"/empty": "#\n", "/broken": `"x`}))
		if err == nil || !strings.Contains(err.Error(), test.fault) || !strings.HasPrefix(err.Error(), "config: ") {
			t.Errorf("%q: %v", test.text, err)
		}
		if got, ok := s.Find("me", "gw"); ok {
			t.Errorf("%q gives %q", test.text, got.Octets)
		}
	}
	s, err := ParseSecrets("f", strings.NewReader("* * whoever *\nme gw @login *\n"), nil)
	if got, ok := s.Find("me", "gw"); ok || err == nil {
		t.Errorf("a line that cannot be used made way for %q; %v", got.Octets, err)
	}
	if got, ok := s.Find("you", "gw"); !ok || string(got.Octets) != "whoever" {
		t.Errorf("a line that others have no part in made them fail: %q", got.Octets)
	}
	if _, err := ParseSecrets("f", strings.NewReader("me gw @/one"), nil); err == nil {
		t.Error("a file is opened by nothing")
	}
	if _, err := ParseSecrets("f", strings.NewReader(strings.Repeat("#", maxSecrets+1)), nil); err == nil {
		t.Error("a file without end")
	}
}

// All faults are told, and none tells a secret.
func TestFaultsTellNoSecret(t *testing.T) {
	_, err := ParseSecrets("f", strings.NewReader("a b hush hush.example\nme\nc d hush 10.0.0.0/33 *\ne f hush -- mtu 1400\n"), nil)
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Fatalf("not four faults: %v", err)
	}
	if strings.Contains(err.Error(), "hush") {
		t.Errorf("it is out: %v", err)
	}
}

func TestAllows(t *testing.T) {
	for _, test := range []struct {
		words string
		unit  int
		yes   string
		no    string
	}{
		{"", 0, "fe80::1", "10.0.0.1 2001:db8::1"},
		{"-", 0, "", "10.0.0.1"},
		{"- *", 0, "", "10.0.0.1"},
		{"*", 0, "10.0.0.1 192.0.2.1 2001:db8::1 ::ffff:10.0.0.1", "127.0.0.1 0.0.0.0 224.0.0.1 240.0.0.1 255.255.255.255 ::1 :: ff02::1"},
		{"10.0.0.5", 0, "10.0.0.5 ::ffff:10.0.0.5", "10.0.0.4 10.0.0.6"},
		{"10.0.0.5 10.0.0.9", 0, "10.0.0.5 10.0.0.9", "10.0.0.6"},
		{"!10.0.0.5 *", 0, "10.0.0.4", "10.0.0.5"},
		{"* !10.0.0.5", 0, "10.0.0.5", ""},
		{"10.0.0.0/24", 0, "10.0.0.0 10.0.0.255", "10.0.1.0 9.255.255.255"},
		{"10.0.0.77/24", 0, "10.0.0.1", "10.0.1.0"},
		{"!10.0.0.0/24 10.0.0.0/8", 0, "10.1.0.0", "10.0.0.1"},
		{"10.0.0.0/24+", 0, "10.0.0.1", "10.0.0.0 10.0.0.2"},
		{"10.0.0.0/24+", 253, "10.0.0.254", "10.0.0.253"},
		{"10.0.0.0/24+", 254, "", "10.0.0.255 10.0.0.254"},
		{"10.0.0.77/16+", 256, "10.0.1.1", "10.0.1.78"},
		{"10.0.0.0/24+ *", 254, "10.0.0.255", ""},
		{"10.0.0.0/24+", -1, "", "10.0.0.0 10.0.0.1"},
		{"10.0.0.0/32+", 0, "", "10.0.0.0 10.0.0.1"},
		{"10.0.0.0/31+", 0, "", "10.0.0.0 10.0.0.1"},
		{"2001:db8::/64 2001:db9::9", 0, "2001:db8::5 2001:db9::9", "2001:db9::5 10.0.0.1"},
		{"2001:db8::/64+", 2, "2001:db8::3", "2001:db8::2"},
		{"10.0.0.1 host.example *", 0, "10.0.0.1", "10.0.0.2"},
		{"!host.example *", 0, "", "10.0.0.2"},
		{"10.0.0.0/33 *", 0, "", "10.0.0.2"},
		{"10.0.0.1 -- mtu 1400", 0, "10.0.0.1", "10.0.0.2"},
		{"10.0.0.1+ *", 0, "", "10.0.0.1"},
		{"fe80::1%eth0 *", 0, "", "10.0.0.1"},
	} {
		s, err := ParseSecrets("f", strings.NewReader("me gw x "+test.words), nil)
		secret, ok := s.Find("me", "gw")
		if !ok {
			t.Fatalf("%q: %v", test.words, err)
		}
		for i, list := range []string{test.no, test.yes} {
			for text := range strings.FieldsSeq(list) {
				if secret.Allows(netip.MustParseAddr(text), test.unit) != (i == 1) {
					t.Errorf("%q on unit %d: %s is wrong (%v)", test.words, test.unit, text, err)
				}
			}
		}
	}
}

// FuzzSecrets: a file of any text panics nothing, its faults name it, and a line
// written behind a good one is found as it was written.
func FuzzSecrets(f *testing.F) {
	f.Add("# nothing\n", "me", "gw", "sesame")
	f.Add("a b c 10.0.0.0/8+ !1.2.3.4\n", "two words", "*", "\"#\\")
	f.Add("\"open", "", "", "")
	f.Add("a b @/x\n", "a", "b", "@/y")
	f.Fuzz(func(t *testing.T, text, client, server, secret string) {
		s, err := ParseSecrets("f", strings.NewReader(text), secretFiles(nil))
		if err != nil && !strings.HasPrefix(err.Error(), "config: f:") {
			t.Fatalf("an error without a place: %v", err)
		}
		if got, ok := s.Find(client, server); ok {
			got.Allows(netip.MustParseAddr("10.0.0.1"), 3)
		}
		for _, w := range []string{client, server, secret} {
			if len(w) > maxWord || strings.Contains(w, "\x00") {
				return
			}
		}
		line := Quote(client) + " " + Quote(server) + "\t" + Quote(secret) + " *\n"
		s, err = ParseSecrets("f", strings.NewReader(line), secretFiles(nil))
		got, ok := s.Find(client, server)
		if strings.HasPrefix(secret, "@/") || secret == "@login" {
			if ok || err == nil {
				t.Fatalf("%q gave %q, %v", line, got.Octets, err)
			}
			return
		}
		if !ok || err != nil || string(got.Octets) != secret || !got.Allows(netip.MustParseAddr("10.0.0.1"), 0) {
			t.Fatalf("%q gave %q, %v, %v", line, got.Octets, ok, err)
		}
	})
}
