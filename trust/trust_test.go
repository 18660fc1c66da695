package trust

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// testKey returns a key that is the same in every run; each n has its own.
func testKey(n byte) ed25519.PublicKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
}

// line returns the key as a file has it.
func line(n byte) string { return FormatPublic(testKey(n), fmt.Sprintf("key-%d", n)) }

// almost returns what is not the key, and is near to it.
func almost(key ed25519.PublicKey) map[string]ed25519.PublicKey {
	keys := map[string]ed25519.PublicKey{
		"nil":            nil,
		"empty":          {},
		"its beginning":  key[:31],
		"its end":        key[1:],
		"one more octet": append(append(ed25519.PublicKey{}, key...), 0),
		"twice":          append(append(ed25519.PublicKey{}, key...), key...),
		"zeros":          make(ed25519.PublicKey, ed25519.PublicKeySize),
	}
	for bit := range len(key) * 8 {
		other := append(ed25519.PublicKey{}, key...)
		other[bit/8] ^= 1 << (bit % 8)
		keys[fmt.Sprintf("bit %d turned", bit)] = other
	}
	return keys
}

func TestSame(t *testing.T) {
	key := testKey(1)
	if !same(key, append(ed25519.PublicKey{}, key...)) {
		t.Error("a key is not the same as itself")
	}
	for name, other := range almost(key) {
		if same(key, other) || same(other, key) {
			t.Errorf("a key is the same as %s", name)
		}
	}
	for _, none := range []ed25519.PublicKey{nil, {}, key[:31]} {
		if same(none, none) {
			t.Errorf("%d octets are a key", len(none))
		}
	}
}

const servers = "/etc/ks"

func known(t *testing.T, text string) *KnownServers {
	t.Helper()
	k, err := ParseKnownServers(servers, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestServerRefused is every way in which a server's key is not to be believed.
func TestServerRefused(t *testing.T) {
	all := "gw " + line(1) + "\nother " + line(2) + "\n[gw]:2222 " + line(3) + "\ngw.example.org,192.0.2.1 " + line(4) + "\n"
	unknown, changed, revoked := new(*UnknownError), new(*ChangedError), new(*RevokedError)
	for _, c := range []struct {
		about, text, name string
		key               ed25519.PublicKey
		want              any
	}{
		{"an empty file", "", "gw", testKey(1), unknown},
		{"only comments", "# gw " + line(1) + "\n", "gw", testKey(1), unknown},
		{"another name", all, "elsewhere", testKey(1), unknown},
		{"the beginning of a name", all, "g", testKey(1), unknown},
		{"a name and more", all, "gw.example.org.evil", testKey(4), unknown},
		{"a subdomain", all, "x.gw.example.org", testKey(4), unknown},
		{"the name without its port", "[gw]:2222 " + line(3), "gw", testKey(3), unknown},
		{"the name with a port", "gw " + line(1), "gw:2222", testKey(1), unknown},
		{"another port", "[gw]:2222 " + line(3), "gw:2223", testKey(3), unknown},
		{"a key of nobody", all, "gw", testKey(9), changed},
		{"the key of another server", all, "gw", testKey(2), changed},
		{"the key of another port", all, "gw", testKey(3), changed},
		{"no key", all, "gw", nil, changed},
		{"revoked for all", all + "@revoked * " + line(1), "gw", testKey(1), revoked},
		{"revoked before it is known", "@revoked * " + line(1) + "\ngw " + line(1), "gw", testKey(1), revoked},
		{"revoked by name", all + "@revoked gw " + line(1), "gw", testKey(1), revoked},
		{"revoked among names", all + "@revoked a,gw,b " + line(1), "gw", testKey(1), revoked},
		{"revoked and known nowhere else", "@revoked gw " + line(1), "gw", testKey(1), revoked},
		{"a revoked line makes nothing known", "@revoked gw " + line(1), "gw", testKey(2), unknown},
	} {
		err := known(t, c.text).Check(c.name, c.key)
		if err == nil || !errors.As(err, c.want) {
			t.Errorf("%s: %v; want %T", c.about, err, c.want)
		}
	}
	k := known(t, "gw "+line(1))
	for name, key := range almost(testKey(1)) {
		var changed *ChangedError
		if err := k.Check("gw", key); !errors.As(err, &changed) {
			t.Errorf("the key, but %s: %v", name, err)
		}
	}
	for _, name := range []string{"", "*", "g*", "gw,other", "-gw", "gw ", "|1|aGFzaA==|aGFzaA==", "gw\n", "!gw", "gw:0", "gw:65536", "gw:x", "[gw", "[gw]22", "#gw", "@revoked", strings.Repeat("a", 256)} {
		if err := k.Check(name, testKey(1)); err == nil {
			t.Errorf("the name %q is believed", name)
		}
	}
}

func TestServerKnown(t *testing.T) {
	k := known(t, "# mine\n\n  gw,GW.Example.org,192.0.2.1 "+line(1)+"\r\n[gw]:2222\t"+line(2)+"\ngw "+line(3)+
		"\n2001:db8::1 "+line(4)+"\n[2001:db8::1]:443 "+line(5)+"\n@revoked other "+line(3)+"\n@revoked * "+line(9))
	for _, c := range []struct {
		name string
		n    byte
	}{
		{"gw", 1}, {"GW", 1}, {"gw.example.org", 1}, {"192.0.2.1", 1}, {"[gw]", 1}, {"gw:2222", 2}, {"[gw]:2222", 2},
		{"gw", 3}, // a second key, as while one takes the other's place
		{"2001:db8::1", 4}, {"[2001:db8::1]", 4}, {"[2001:DB8::1]:443", 5},
	} {
		if err := k.Check(c.name, testKey(c.n)); err != nil {
			t.Errorf("%s with key %d: %v", c.name, c.n, err)
		}
	}
	err := k.Check("gw", testKey(7))
	for _, want := range []string{Fingerprint(testKey(7)), Fingerprint(testKey(1)), servers + ":3", "gw shows"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a changed key: %v; want %s in it", err, want)
		}
	}
}

// TestServersMalformed: what a line may have meant is not guessed, for it may revoke.
func TestServersMalformed(t *testing.T) {
	good := FormatPublic(testKey(1), "")
	for _, c := range []struct{ bad, want string }{
		{"gw", "there is no key"},
		{"gw ssh-ed25519", "nothing follows"},
		{"gw ssh-rsa AAAA", `"ssh-rsa" stands where`},
		{good, "stands where"},
		{"gw ssh-ed25519 AAAA", "not the whole"},
		{"gw " + good[:len(good)-4], "not the whole"},
		{"gw " + good + "AAAA", "not the whole"},
		{"gw " + good[:len(good)-1] + "!", "not base64"},
		{"g*w " + good, "host or [host]:port"},
		{"|1|x|y " + good, "host or [host]:port"},
		{"* " + good, "host or [host]:port"},
		{"gw,,b " + good, "host or [host]:port"},
		{"@cert-authority gw " + good, "@revoked"},
		{"@Revoked gw " + good, "@revoked"},
		{"@revoked " + good, "stands where"},
		{"@revoked", "host or [host]:port"},
		{"gw " + good + " \x1b]0;x\a", "U+001B"},
		{"gw " + good + " \u202e", "U+202E"},
		{"gw " + good + " \xff", "not UTF-8"},
	} {
		_, err := ParseKnownServers(servers, []byte("# one\nok "+good+"\n"+c.bad+"\n"))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "trust: "+servers+":3: ") {
			t.Errorf("%q: %v; want %q of line 3", c.bad, err, c.want)
		}
	}
}

func TestServersEdit(t *testing.T) {
	const head = "# keep me\n\n"
	k := known(t, head+"gw,gw2 "+line(1)+"\n@revoked * "+line(9))
	if added, err := k.Add("GW", testKey(1), "x"); added || err != nil {
		t.Errorf("what is known: %v, %v", added, err)
	}
	var changed *ChangedError
	if _, err := k.Add("gw", testKey(2), ""); !errors.As(err, &changed) {
		t.Errorf("another key for a known name: %v", err)
	}
	var revoked *RevokedError
	if _, err := k.Add("new", testKey(9), ""); !errors.As(err, &revoked) {
		t.Errorf("a revoked key: %v", err)
	}
	for _, bad := range []string{"a b", "*", "@revoked", "#x", "a,b"} {
		if _, err := k.Add(bad, testKey(3), ""); err == nil {
			t.Errorf("the name %q was taken", bad)
		}
	}
	if _, err := k.Add("new", testKey(3), "x\ngw2 "+line(3)); err == nil {
		t.Error("a comment with a line of its own was taken")
	}
	if added, err := k.Add("New:22", testKey(3), "my new"); !added || err != nil {
		t.Errorf("a new one: %v, %v", added, err)
	}
	if n, err := k.Forget("gw"); n != 1 || err != nil {
		t.Errorf("forgetting gw: %d, %v", n, err)
	}
	if n, err := k.Forget("gone"); n != 0 || err != nil {
		t.Errorf("forgetting what is not there: %d, %v", n, err)
	}
	want := head + "gw2 " + line(1) + "\n@revoked * " + line(9) + "\n[new]:22 " + FormatPublic(testKey(3), "my new") + "\n"
	if got := string(joinLines(k.lines)); got != want {
		t.Errorf("the file is\n%s\nwant\n%s", got, want)
	}
	var unknown *UnknownError
	if err := k.Check("gw", testKey(1)); !errors.As(err, &unknown) {
		t.Errorf("gw, forgotten: %v", err)
	}
	if err := errors.Join(k.Check("gw2", testKey(1)), k.Check("new:22", testKey(3))); err != nil {
		t.Error(err)
	}
}

const clients = "/etc/ac"

var now = time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)

// TestClientRefused is every way in which a client does not get in.
func TestClientRefused(t *testing.T) {
	stranger, expired := new(*StrangerError), new(*ExpiredError)
	for _, c := range []struct {
		about, text string
		key         ed25519.PublicKey
		want        any
	}{
		{"an empty file", "", testKey(1), stranger},
		{"only comments", "#" + line(1) + "\n # " + line(1), testKey(1), stranger},
		{"another's key", line(1) + "\n" + line(2), testKey(3), stranger},
		{"no key", line(1), nil, stranger},
		{"ended by day", `expires="2026-12-31" ` + line(1), testKey(1), expired},
		{"ended this second", `expires="2026-12-31T23:59:59Z" ` + line(1), testKey(1), expired},
		{"ended in another zone", `expires="2027-01-01T00:59:59+01:00" ` + line(1), testKey(1), expired},
		{"ended twice", "expires=\"2020-01-01\" " + line(1) + "\nexpires=\"2021-01-01\" " + line(1), testKey(1), expired},
		{"an option that is not known", `restrict="10.0.0.0/8" ` + line(1), testKey(1), stranger},
		{"a known one and one that is not", `expires="2030-01-01",restrict ` + line(1), testKey(1), stranger},
		{"another case", `Expires="2030-01-01" ` + line(1), testKey(1), stranger},
		{"no date", `expires="soon" ` + line(1), testKey(1), stranger},
		{"an empty date", `expires="" ` + line(1), testKey(1), stranger},
		{"no value", `expires ` + line(1), testKey(1), stranger},
		{"no quotes", `expires=2030-01-01 ` + line(1), testKey(1), stranger},
		{"no end of quotes", `expires="2030-01-01 ` + line(1), testKey(1), stranger},
		{"two ends", `expires="2030-01-01",expires="2031-01-01" ` + line(1), testKey(1), stranger},
		{"after the value", `expires="2030-01-01"x ` + line(1), testKey(1), stranger},
		{"an empty option", `,expires="2030-01-01" ` + line(1), testKey(1), stranger},
		{"a mark", "@revoked " + line(1), testKey(1), stranger},
		{"a name, as in the other file", "gw " + line(1), testKey(1), stranger},
		{"a key in a comment", line(2) + " " + line(1), testKey(1), stranger},
		{"a key in a value", `x="` + line(1) + `" ` + line(2), testKey(1), stranger},
		{"an escape", line(1) + " \x1b[2J", testKey(1), stranger},
	} {
		got, err := ParseAuthorizedClients(clients, []byte(c.text)).Check(c.key, now)
		if err == nil || !errors.As(err, c.want) {
			t.Errorf("%s: %+v, %v; want %T", c.about, got, err, c.want)
		}
	}
	a := ParseAuthorizedClients(clients, []byte(line(1)))
	for name, key := range almost(testKey(1)) {
		if _, err := a.Check(key, now); err == nil {
			t.Errorf("the key, but %s, gets in", name)
		}
	}
}

// TestBadLineStandsAlone: it lets nobody in, is named, and the others count.
func TestBadLineStandsAlone(t *testing.T) {
	a := ParseAuthorizedClients(clients, []byte("# mine\n"+
		line(1)+"\n"+
		"permit-all "+line(2)+"\n"+
		"ssh-rsa AAAA old\n"+
		`expires="2027-01-01" `+line(3)+"\n"+
		"expires=\"2020-01-01\" "+line(4)+"\n"+line(4)+"\n"))
	for _, c := range []struct {
		n    byte
		line int
	}{{1, 2}, {2, 0}, {3, 5}, {4, 7}} {
		got, err := a.Check(testKey(c.n), now)
		if (err == nil) != (c.line > 0) || got.Line != c.line {
			t.Errorf("key %d: line %d, %v; want line %d", c.n, got.Line, err, c.line)
		}
	}
	wants := []string{"trust: /etc/ac:3: option \"permit-all\" is not known here", "trust: /etc/ac:4: \"ssh-rsa\" stands where ssh-ed25519 is wanted"}
	if len(a.Problems()) != len(wants) {
		t.Fatalf("problems: %v", a.Problems())
	}
	for i, want := range wants {
		if got := a.Problems()[i].Err.Error(); got != want {
			t.Errorf("problem %q, want %q", got, want)
		}
	}
}

// TestProblems: what is wrong with a line is said as it is.
func TestProblems(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`expires="2030-01-01"x,y ` + line(1), `option "expires": after its value stands "x,y`},
		{`expires="2030-01-01 ` + line(1), `option "expires": its value has no end`},
		{`expires=2030-01-01 ` + line(1), `option "expires": its value is not in quotes`},
		{`expires="2030-01-01"`, `there is no key after the options`},
		{`expires="2030-01-01",` + line(1), `option "ssh-ed25519" is not known here`},
		{`x`, `there is no key after the options`},
		{`expires ` + line(1), `option "expires" wants a value`},
		{`expires="2030-01-01",expires="2030-01-01" ` + line(1), `option "expires" stands there twice`},
		{`expires="1969-12-31" ` + line(1), `"1969-12-31" is no date`},
		{`expires="2030-02-30" ` + line(1), `"2030-02-30" is no date`},
		{`expires="9999-12-31T23:59:59-01:00" ` + line(1), `is no date`},
		{`allow ` + line(1), `option "allow" wants a value: allow="10.0.0.0/8:22,443"`},
		{`allow="" ` + line(1), `option "allow": "" is no destination`},
		{`allow="10.0.0.0/8" deny="*" ` + line(1), `stands where ssh-ed25519 is wanted`},
		{`deny="0.0.0.0" ,` + line(1), `stands where`},
		{`Allow="*" ` + line(1), `option "Allow" is not known here`},
		{`flows="1",flows="2" ` + line(1), `option "flows" stands there twice`},
		{`rate="1M",rate="1M" ` + line(1), `option "rate" stands there twice`},
		{`name="a",name="b" ` + line(1), `option "name" stands there twice`},
		{`flows="0" ` + line(1), `is no number of flows`},
		{`flows="+1" ` + line(1), `is no number of flows`},
		{`flows="1048577" ` + line(1), `is no number of flows`},
		{`from="192.0.2.1/24" ` + line(1), `option "from": 192.0.2.1/24 is an address in the network 192.0.2.0/24`},
		{`from="host.example.org" ` + line(1), `neither a network nor an address`},
		{`from="fe80::1%eth0" ` + line(1), `an interface has no place`},
		{`address="10.0.0.1/24",address="10.0.1.1/24" ` + line(1), `10.0.0.1/24 and 10.0.1.1/24 are of one family`},
		{strings.Repeat(`deny="*",`, maxRepeated) + `deny="*" ` + line(1), `option "deny" stands there more than 256 times`},
	} {
		p := ParseAuthorizedClients(clients, []byte(c.line)).Problems()
		if len(p) != 1 || !strings.HasPrefix(p[0].Err.Error(), "trust: "+clients+":1: ") || !strings.Contains(p[0].Err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.line, p, c.want)
		}
	}
}

// TestOptions is a line with all there is.
func TestOptions(t *testing.T) {
	const options = `expires="2027-01-01",from="192.0.2.0/24",from="2001:db8::7",name="laptop",address="10.77.0.5/24",address="fd00::5/128",` +
		`allow="10.0.0.0/8:22,8000-8080",allow="[2001:db8::/32]:443",allow="*:53",allow="host",deny="link-local",deny="10.9.0.0/16",flows="256",rate="10M"`
	prefix := netip.MustParsePrefix
	want := Client{Key: testKey(1), Comment: "key-1", Line: 2, Called: "laptop", Name: "laptop", Flows: 256, Rate: 10_000_000,
		Expires: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
		From:    []netip.Prefix{prefix("192.0.2.0/24"), prefix("2001:db8::7/128")},
		Address: []netip.Prefix{prefix("10.77.0.5/24"), prefix("fd00::5/128")},
		Allow: []Destination{
			{Prefix: prefix("10.0.0.0/8"), Ports: []PortRange{{22, 22}, {8000, 8080}}},
			{Prefix: prefix("2001:db8::/32"), Ports: []PortRange{{443, 443}}},
			{Place: Anywhere, Ports: []PortRange{{53, 53}}}, {Place: Host}},
		Deny: []Destination{{Place: LinkLocal}, {Prefix: prefix("10.9.0.0/16")}},
	}
	a := ParseAuthorizedClients(clients, []byte("\n"+options+" "+line(1)+"\n"))
	if len(a.Problems()) > 0 || len(a.Clients()) != 1 || !reflect.DeepEqual(a.Clients()[0], want) {
		t.Fatalf("%v, %+v\nwant %+v", a.Problems(), a.Clients(), want)
	}
	if got := a.Clients()[0].Options(); got != options {
		t.Errorf("written as %s", got)
	}
}

// TestFrom: a key counts where it is said to come from, and nowhere else.
func TestFrom(t *testing.T) {
	a := ParseAuthorizedClients(clients, []byte(`from="192.0.2.0/24",from="2001:db8::/32" `+line(1)+"\n"+
		`from="198.51.100.7",expires="2020-01-01" `+line(2)+"\n"+`from="198.51.100.8",flows="8" `+line(2)+"\n"+line(3)+"\n"))
	elsewhere, expired := new(*ElsewhereError), new(*ExpiredError)
	for _, c := range []struct {
		n    byte
		from string
		want any // nil: it gets in
	}{
		{1, "192.0.2.200", nil}, {1, "::ffff:192.0.2.200", nil}, {1, "2001:db8::9", nil}, {1, "2001:db8::9%eth0", nil},
		{1, "192.0.3.0", elsewhere}, {1, "192.0.1.255", elsewhere}, {1, "::192.0.2.200", elsewhere}, {1, "2001:db9::", elsewhere}, {1, "", elsewhere},
		{2, "198.51.100.7", elsewhere}, {2, "198.51.100.8", nil}, {2, "", elsewhere},
		{3, "203.0.113.9", nil}, {3, "", nil},
	} {
		from, _ := netip.ParseAddr(c.from)
		got, err := a.CheckFrom(testKey(c.n), from, now)
		if (err == nil) != (c.want == nil) || err != nil && !errors.As(err, c.want) {
			t.Errorf("key %d from %q: %+v, %v", c.n, c.from, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "%") {
			t.Errorf("said %v", err)
		}
	}
	b := ParseAuthorizedClients(clients, []byte(`from="198.51.100.7",expires="2020-01-01" `+line(2)))
	if _, err := b.CheckFrom(testKey(2), netip.MustParseAddr("198.51.100.7"), now); !errors.As(err, expired) {
		t.Error(err)
	}
}

// TestNames: who is called what, and that nobody takes what is another's.
func TestNames(t *testing.T) {
	a := ParseAuthorizedClients(clients, []byte(`name="Laptop" `+line(1)+"\n"+ // 1
		`name="laptop" `+line(2)+"\n"+ // 2: taken
		`name="laptop",expires="2027-01-01" `+line(1)+"\n"+ // 3: the same holder
		FormatPublic(testKey(3), "laptop")+"\n"+ // 4: its comment is another's name
		FormatPublic(testKey(4), "me@Home box (old)")+"\n"+ // 5
		FormatPublic(testKey(5), "twin")+"\n"+FormatPublic(testKey(6), "Twin")+"\n"+ // 6, 7
		FormatPublic(testKey(7), "")+"\n"+FormatPublic(testKey(8), "10.0.0.1")+"\n"+ // 8, 9
		FormatPublic(testKey(9), strings.Repeat("a", 62)+"-b c")+"\n"+ // 10
		`address="10.77.0.5/24" `+line(10)+"\n"+`address="10.77.0.5/16" `+line(11)+"\n"+`address="10.77.0.5" `+line(10)+"\n")) // 11, 12: taken, 13
	called := map[int]string{}
	for _, c := range a.Clients() {
		called[c.Line] = c.Called
	}
	want := map[int]string{1: "laptop", 3: "laptop", 4: "", 5: "me-home-box-old", 6: "", 7: "", 8: "", 9: "", 10: strings.Repeat("a", 62), 11: "key-10", 13: "key-10"}
	if !reflect.DeepEqual(called, want) {
		t.Errorf("called %v\nwant %v", called, want)
	}
	if p := a.Problems(); len(p) != 2 || p[0].Err.Error() != "trust: /etc/ac:2: laptop is already that of line 1" || p[1].Err.Error() != "trust: /etc/ac:12: 10.77.0.5 is already that of line 11" {
		t.Errorf("problems %v", p)
	}
	before := len(a.lines)
	if _, err := a.Add(Client{Key: testKey(20), Name: "laptop"}); err == nil || err.Error() != "trust: /etc/ac: laptop is already that of line 1" {
		t.Errorf("taking a name: %v", err)
	}
	if _, err := a.Check(testKey(20), now); err == nil || len(a.lines) != before {
		t.Error("it stands there all the same")
	}
}

func TestParseDestination(t *testing.T) {
	for _, c := range []struct{ text, written string }{
		{"10.0.0.0/8", "10.0.0.0/8"},
		{"10.0.0.0/8:22,443", "10.0.0.0/8:22,443"},
		{"10.0.0.7:80,8000-8080", "10.0.0.7:80,8000-8080"},
		{"10.0.0.7/32", "10.0.0.7"},
		{"0.0.0.0/0:1-65535", "0.0.0.0/0:1-65535"},
		{"10.0.0.7:80-80", "10.0.0.7:80"},
		{"[2001:DB8::/32]:22", "[2001:db8::/32]:22"},
		{"[2001:db8::1]:22", "[2001:db8::1]:22"},
		{"[2001:db8::/32]", "2001:db8::/32"},
		{"2001:db8::1", "2001:db8::1"},
		{"2001:db8::1:22", "2001:db8::1:22"}, // an address
		{"::/0", "::/0"},
		{"*", "*"}, {"*:443", "*:443"}, {"host", "host"}, {"link-local", "link-local"},
	} {
		d, err := ParseDestination(c.text)
		if err != nil || d.String() != c.written {
			t.Errorf("%q: %q, %v; want %q", c.text, d, err, c.written)
		}
	}
	for _, bad := range []string{"", ":", ":22", "*:", "10.0.0.0/8:", "10.0.0.0/8:0", "10.0.0.0/8:65536", "10.0.0.0/8:022", "10.0.0.0/8:+22", "10.0.0.0/8:22,", "10.0.0.0/8:,22",
		"10.0.0.0/8:22-", "10.0.0.0/8:-22", "10.0.0.0/8:443-22", "10.0.0.0/8:1-2-3", "10.0.0.0/8: 22", "10.0.0.0/8:ssh", " 10.0.0.0/8", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/08", "10.0.0",
		"010.0.0.0/8", "10.0.0.0/8/8", "[10.0.0.0/8]:22", "[10.0.0.1]", "2001:db8::/32:22", "[2001:db8::/32]22", "[2001:db8::/32", "2001:db8::/32]", "[]:22", "[*]:22", "[[::1]]:22",
		"fe80::1%eth0", "[fe80::1%eth0]:22", "::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "host:22", "link-local:80", "Host", "hosts", "any", "10.0.0.0/8,10.1.0.0/16",
		"10.0.0.0/8:" + strings.Repeat("1,", maxPorts) + "1"} {
		if d, err := ParseDestination(bad); err == nil {
			t.Errorf("%q is taken as %q", bad, d)
		}
	}
	for text, n := range map[string]int{"*": 2, "host": 0, "link-local": 0, "::/0": 1} {
		if d, _ := ParseDestination(text); len(d.Prefixes()) != n {
			t.Errorf("%q is %v", text, d.Prefixes())
		}
	}
}

// TestLimitValues is what the other values mean, and what is none.
func TestLimitValues(t *testing.T) {
	for text, want := range map[string]int64{"1K": 1000, "1000": 1000, "1001": 1001, "2500K": 2_500_000, "10M": 10_000_000, "1G": 1e9, "9223372036G": 9223372036e9} {
		if n, err := ParseRate(text); err != nil || n != want {
			t.Errorf("rate %q: %d, %v", text, n, err)
		}
	}
	for _, bad := range []string{"", "0", "K", "0K", "10", "999", "-1M", "+1M", "01M", "1.5M", "10m", "10MB", "10 M", "1KM", "9223372037G", "1e6", "10T"} {
		if n, err := ParseRate(bad); err == nil {
			t.Errorf("rate %q is taken as %d", bad, n)
		}
	}
	for _, bad := range []string{"", "-", "-a", "a-", "a.b", "a_b", "a b", "ä", "10", "1-2", strings.Repeat("a", 64)} {
		if name, err := ParseName(bad); err == nil {
			t.Errorf("name %q is taken as %q", bad, name)
		}
	}
	for _, good := range []string{"10.77.0.5/24", "10.77.0.5", "10.77.0.4/31", "10.77.0.0/32", "fd00::5/64", "2001:db8::/127", "192.0.2.0/31"} {
		if _, err := ParseAddress(good); err != nil {
			t.Errorf("address %q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "10.77.0.0/24", "fd00::/64", "0.0.0.0", "::", "127.0.0.1/8", "::1", "224.0.0.5", "ff02::1", "169.254.1.1/16", "fe80::1/64", "fe80::1%lo", "255.255.255.255", "::ffff:10.0.0.1/120", "10.0.0.1/33", "laptop"} {
		if p, err := ParseAddress(bad); err == nil {
			t.Errorf("address %q is taken as %v", bad, p)
		}
	}
}

func TestClientsEdit(t *testing.T) {
	a := ParseAuthorizedClients(clients, []byte("# keep\n"+line(1)+"\nnonsense stays too\n"))
	year := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		client Client
		added  bool
	}{
		{Client{Key: testKey(1)}, false},
		{Client{Key: testKey(2), Comment: "you"}, true},
		{Client{Key: testKey(2), Comment: "you", Expires: year}, true},
		{Client{Key: testKey(2), Comment: "you", Expires: year.In(time.FixedZone("", 3600))}, false},
	} {
		if added, err := a.Add(c.client); added != c.added || err != nil {
			t.Errorf("%v: %v, %v", c.client.Expires, added, err)
		}
	}
	if _, err := a.Add(Client{Key: testKey(3), Comment: "x\n" + line(4)}); err == nil {
		t.Error("a comment with a line of its own was taken")
	}
	if _, err := a.Add(Client{Key: testKey(3)[:31]}); err == nil {
		t.Error("the beginning of a key was taken")
	}
	want := "# keep\n" + line(1) + "\nnonsense stays too\nexpires=\"2027-01-01\" " + FormatPublic(testKey(2), "you") + "\n"
	if got := string(joinLines(a.lines)); got != want {
		t.Errorf("the file is\n%s\nwant\n%s", got, want)
	}
	if n := a.Forget(testKey(2)); n != 1 {
		t.Errorf("forgot %d lines", n)
	}
	if _, err := a.Check(testKey(2), now); err == nil {
		t.Error("who was forgotten gets in")
	}
	if _, err := a.Check(testKey(1), now); err != nil {
		t.Error(err)
	}
}

func TestParsePublic(t *testing.T) {
	// Made by ssh-keygen -t ed25519 (OpenSSH 9.2).
	const text = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG+coVVtEMAWXIgAYKN7tQOb4DRDjghO6LmqaLIJc+F+ a comment"
	key, comment, err := ParsePublic("  " + text + "\n")
	if err != nil || comment != "a comment" || FormatPublic(key, comment) != text {
		t.Fatalf("%q, %q, %v", FormatPublic(key, comment), comment, err)
	}
	if got, want := Fingerprint(key), "SHA256:njIlXjiGiygIruIRPKH0p8izyOXoGqkrobMnBcWKuew"; got != want {
		t.Errorf("fingerprint %s, ssh-keygen -l says %s", got, want)
	}
	for _, bad := range []string{"", text + "\n" + text, text[:60], "ssh-ed25519  ", strings.ToUpper(text), "gw " + text} {
		if _, _, err := ParsePublic(bad); err == nil {
			t.Errorf("%q is taken for a key", bad)
		}
	}
}
