package trust

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// FuzzKnownServers: what is read means the same when it is written, each key is known
// by each of its names unless it is revoked, and what is forgotten is unknown.
func FuzzKnownServers(f *testing.F) {
	f.Add([]byte("gw,[gw]:22 " + line(1) + "\n# c\n@revoked * " + line(2) + "\n"))
	f.Add([]byte("GW.example.org\t" + line(1) + "\r\n\n@revoked a,* " + line(1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := ParseKnownServers("f", text)
		if err != nil {
			return
		}
		again, err := ParseKnownServers("f", joinLines(k.lines))
		if err != nil || !reflect.DeepEqual(k.Servers(), again.Servers()) {
			t.Fatalf("came back as %+v, %v; was %+v", again, err, k.Servers())
		}
		for _, s := range k.Servers() {
			back, err := parseServer(s.format())
			back.Line = s.Line
			if err != nil || !reflect.DeepEqual(s, back) {
				t.Fatalf("%+v is written as %q and read as %+v, %v", s, s.format(), back, err)
			}
			if s.Revoked {
				continue
			}
			for _, name := range s.Names {
				err := k.Check(name, s.Key)
				var revoked *RevokedError
				if err != nil && !errors.As(err, &revoked) {
					t.Fatalf("%s with its own key: %v", name, err)
				}
			}
		}
		for _, s := range k.Servers() {
			if s.Revoked {
				continue
			}
			if _, err := k.Forget(s.Names[0]); err != nil {
				t.Fatal(err)
			}
			if k.Check(s.Names[0], s.Key) == nil {
				t.Fatalf("%s is known after it was forgotten", s.Names[0])
			}
		}
	})
}

// FuzzAuthorizedClients: what is read means the same when it is written; who gets in
// has a line and is in time; who is forgotten does not get in.
func FuzzAuthorizedClients(f *testing.F) {
	f.Add([]byte(line(1)+"\nexpires=\"2027-01-01\" "+line(2)+"\n# c\nbad\n"), int64(0))
	f.Add([]byte("expires=\"2027-01-01T00:00:00.5+23:59\" "+line(2)+"\r\n"), int64(1<<31))
	f.Add([]byte(`from="192.0.2.0/24",name="laptop",address="10.77.0.5/24",address="fd00::5/64",allow="10.0.0.0/8:22,8000-8080",allow="host",deny="[2001:db8::/32]:25",flows="256",rate="10M" `+line(1)+"\n"+line(1)+"\n"), int64(0))
	f.Add([]byte("name=\"key-2\" "+line(1)+"\n"+line(2)+"\naddress=\"10.0.0.1\" "+line(3)+"\naddress=\"10.0.0.1\" "+line(4)), int64(0))
	f.Fuzz(func(t *testing.T, text []byte, unix int64) {
		now := time.Unix(unix, 0)
		a := ParseAuthorizedClients("f", text)
		if lines := len(a.lines); len(a.Clients())+len(a.Problems()) > lines {
			t.Fatalf("%d lines, %d clients, %d problems", lines, len(a.Clients()), len(a.Problems()))
		}
		names := make(map[string]ed25519.PublicKey)
		for _, c := range a.Clients() {
			back, err := parseClient(c.format())
			back.Line, back.Called = c.Line, c.Called
			if err != nil || !reflect.DeepEqual(c, back) {
				t.Fatalf("%+v is written as %q and read as %+v, %v", c, c.format(), back, err)
			}
			from := netip.Addr{}
			if len(c.From) > 0 {
				from = c.From[0].Addr()
			}
			got, err := a.CheckFrom(c.Key, from, now)
			if !c.Expired(now) && err != nil {
				t.Fatalf("%q does not get in: %v", c.format(), err)
			}
			if err == nil && (got.Expired(now) || !bytes.Equal(got.Key, c.Key)) {
				t.Fatalf("%q lets key %x in at %v", got.format(), c.Key, now)
			}
			if got, err := a.Check(c.Key, now); err == nil && len(got.From) > 0 {
				t.Fatalf("%q lets in from nowhere", got.format())
			}
			if other, ok := names[c.Called]; ok && c.Called != "" && !same(other, c.Key) {
				t.Fatalf("two clients are called %q", c.Called)
			}
			names[c.Called] = c.Key
		}
		for _, c := range a.Clients() {
			a.Forget(c.Key)
			if _, err := a.Check(c.Key, now); err == nil {
				t.Fatalf("%q gets in after it was forgotten", c.format())
			}
		}
	})
}

// FuzzPublic: what is taken for a key is written as it was.
func FuzzPublic(f *testing.F) {
	f.Add(line(1))
	f.Add("\t" + line(1) + "  more words \r\n")
	f.Fuzz(func(t *testing.T, text string) {
		key, comment, err := ParsePublic(text)
		if err != nil {
			return
		}
		again, comment2, err := ParsePublic(FormatPublic(key, comment))
		if err != nil || !same(key, again) || comment != comment2 {
			t.Fatalf("%q came back as %q, %q, %v", text, FormatPublic(again, comment2), comment2, err)
		}
	})
}

// FuzzDestination: what is read is written so that it is read as the same.
func FuzzDestination(f *testing.F) {
	for _, text := range []string{"10.0.0.0/8:22,8000-8080", "[2001:db8::/32]:22", "2001:db8::1", "*:443", "host", "link-local", "[::1]"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDestination(text)
		if err != nil {
			return
		}
		again, err := ParseDestination(d.String())
		if err != nil || !reflect.DeepEqual(d, again) {
			t.Fatalf("%q is written as %q and read as %+v, %v", text, d, again, err)
		}
		for _, p := range d.Prefixes() {
			if p != p.Masked() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
				t.Fatalf("%q holds %s", text, p)
			}
		}
	})
}

// FuzzLimits: the same for the other values.
func FuzzLimits(f *testing.F) {
	for _, text := range []string{"10M", "1500", "laptop", "10.77.0.5/24", "fd00::5", "256", "2027-01-01"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := ParseRate(text); err == nil {
			if again, err := ParseRate(FormatRate(n)); err != nil || again != n || n < minRate {
				t.Fatalf("rate %q is %d, written %q", text, n, FormatRate(n))
			}
		}
		if name, err := ParseName(text); err == nil {
			if again, err := ParseName(name); err != nil || again != name {
				t.Fatalf("name %q is %q", text, name)
			}
		}
		if name := nameOf(text); name != "" {
			if again, err := ParseName(name); err != nil || again != name {
				t.Fatalf("comment %q gives the name %q, %v", text, name, err)
			}
		}
		if p, err := ParseAddress(text); err == nil {
			if again, err := ParseAddress(p.String()); err != nil || again != p {
				t.Fatalf("address %q is %q", text, p)
			}
		}
		if e, err := ParseExpiry(text); err == nil {
			if again, err := ParseExpiry(FormatExpiry(e)); err != nil || !again.Equal(e) {
				t.Fatalf("date %q is %v", text, e)
			}
		}
	})
}
