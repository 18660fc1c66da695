package trust

import (
	"bytes"
	"errors"
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
	f.Fuzz(func(t *testing.T, text []byte, unix int64) {
		now := time.Unix(unix, 0)
		a := ParseAuthorizedClients("f", text)
		if lines := len(a.lines); len(a.Clients())+len(a.Problems()) > lines {
			t.Fatalf("%d lines, %d clients, %d problems", lines, len(a.Clients()), len(a.Problems()))
		}
		for _, c := range a.Clients() {
			back, err := parseClient(c.format())
			back.Line = c.Line
			if err != nil || !reflect.DeepEqual(c, back) {
				t.Fatalf("%+v is written as %q and read as %+v, %v", c, c.format(), back, err)
			}
			got, err := a.Check(c.Key, now)
			if !c.Expired(now) && err != nil {
				t.Fatalf("%q does not get in: %v", c.format(), err)
			}
			if err == nil && (got.Expired(now) || !bytes.Equal(got.Key, c.Key)) {
				t.Fatalf("%q lets key %x in at %v", got.format(), c.Key, now)
			}
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
