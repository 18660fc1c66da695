package lab

import (
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func query(t testing.TB, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	n, err := dnsmessage.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 0x1234, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: kind, Class: dnsmessage.ClassINET}},
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// internet answers as the internet's resolver does.
var internet = &Resolver{zone: Zone}

func TestAnswer(t *testing.T) {
	for _, tt := range []struct {
		name  string
		kind  dnsmessage.Type
		code  dnsmessage.RCode
		count int
	}{
		{"web.example.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, 1},
		{"WEB.example.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, 1},
		{"only4.example.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, 0},
		{"nowhere.example.", dnsmessage.TypeA, dnsmessage.RCodeNameError, 0},
		{BigName, dnsmessage.TypeTXT, dnsmessage.RCodeSuccess, 1},
	} {
		var m dnsmessage.Message
		if err := m.Unpack(internet.answer(query(t, tt.name, tt.kind))); err != nil {
			t.Errorf("%s %v: %v", tt.name, tt.kind, err)
			continue
		}
		if m.ID != 0x1234 || !m.Response || m.RCode != tt.code || len(m.Answers) != tt.count {
			t.Errorf("%s %v: got %v", tt.name, tt.kind, m.GoString())
		}
	}
}

func TestTruncated(t *testing.T) {
	whole := internet.answer(query(t, BigName, dnsmessage.TypeTXT))
	if len(whole) <= maxDatagramAnswer {
		t.Fatalf("%s: %d octets fit in a datagram", BigName, len(whole))
	}
	var m dnsmessage.Message
	if err := m.Unpack(truncated(whole)); err != nil {
		t.Fatal(err)
	}
	if !m.Truncated || len(m.Questions) != 1 || len(m.Answers) != 0 {
		t.Errorf("got %v", m.GoString())
	}
}

// An answer is a well-formed response to the question that was asked.
func FuzzAnswer(f *testing.F) {
	f.Add(query(f, "web.example.", dnsmessage.TypeA))
	f.Add(query(f, BigName, dnsmessage.TypeTXT))
	f.Add([]byte("\x12\x34\x01\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		reply := internet.answer(b)
		if reply == nil {
			return
		}
		var p dnsmessage.Parser
		if _, err := p.Start(b); err != nil {
			t.Fatal("answered what is not a message")
		}
		asked, err := p.Question()
		if err != nil {
			t.Fatal("answered what asks nothing")
		}
		for _, r := range [][]byte{reply, truncated(reply)} {
			var m dnsmessage.Message
			if err := m.Unpack(r); err != nil {
				t.Fatalf("%x: %v", r, err)
			}
			if len(m.Questions) != 1 || !m.Response || b[0] != r[0] || b[1] != r[1] ||
				!strings.EqualFold(m.Questions[0].Name.String(), asked.Name.String()) || m.Questions[0].Type != asked.Type {
				t.Errorf("asked %v, got %v", asked.GoString(), m.GoString())
			}
		}
	})
}
