package trust

import (
	"crypto/ed25519"
	"errors"
	"fmt"
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
	} {
		p := ParseAuthorizedClients(clients, []byte(c.line)).Problems()
		if len(p) != 1 || !strings.HasPrefix(p[0].Err.Error(), "trust: "+clients+":1: ") || !strings.Contains(p[0].Err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.line, p, c.want)
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
