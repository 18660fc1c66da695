package splitdns

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// scripted is a connection to a server that says one thing.
type scripted struct {
	net.Conn
	sent    func([]byte)
	answers [][]byte
}

func (s *scripted) Write(b []byte) (int, error) { s.sent(b); return len(b), nil }
func (s *scripted) Close() error                { return nil }
func (s *scripted) Read(b []byte) (int, error) {
	if len(s.answers) == 0 {
		return 0, net.ErrClosed
	}
	n := copy(b, s.answers[0])
	s.answers = s.answers[1:]
	return n, nil
}

// private reports whether a question's name is at or below the domain, read
// label by label from the octets.
func private(question []byte, domain ...string) bool {
	var labels []string
	for at := 0; at < len(question) && question[at] != 0; at += int(question[at]) + 1 {
		labels = append(labels, string(question[at+1:at+1+int(question[at])]))
	}
	if len(labels) < len(domain) {
		return false
	}
	for i, want := range domain {
		if !strings.EqualFold(labels[len(labels)-len(domain)+i], want) {
			return false
		}
	}
	return true
}

// Whatever comes in: a name of the zone's is asked of nobody else, what is asked
// is what came in, and the answer is the asker's.
func FuzzQuery(f *testing.F) {
	f.Add(message(f, "www.corp.example.", dnsmessage.TypeA, 1232))
	f.Add(message(f, "www.example.", dnsmessage.TypeAAAA, 0))
	f.Add(message(f, ".", dnsmessage.TypeNS, 512))
	f.Add([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x04CORP\x07exaMple\x00\x00\x01\x00\x01"))
	f.Add([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0ccorp.example\x00\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, query []byte) {
		fwd, err := New(Config{
			Zones:  []Zone{{Domains: []string{"corp.example"}, Servers: []netip.AddrPort{far1}}},
			Others: []netip.AddrPort{public},
			Dial: func(_ context.Context, _, address string) (net.Conn, error) {
				return &scripted{sent: func(b []byte) {
					if !bytes.Equal(b[2:], query[2:]) {
						t.Errorf("sent %x", b)
					}
					if inside := private(questionOf(b), "corp", "example"); inside != (address == far1.String()) {
						t.Errorf("%x is asked of %s", b, address)
					}
				}}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		a := fwd.answer(t.Context(), "udp", bytes.Clone(query))
		if a != nil && (!bytes.Equal(a[:2], query[:2]) || a[2]&0x80 == 0 || query[2]&0x80 != 0) {
			t.Errorf("answered %x", a)
		}
	})
}

// Whatever a server says: only what repeats the id and the question reaches the
// asker, and never more than he takes.
func FuzzAnswer(f *testing.F) {
	query := message(f, "www.example.", dnsmessage.TypeA, 0)
	for _, a := range [][]byte{answerTo(query, 4), answerTo(query, 1000), refusesAll(query), query, query[:12], nil} {
		f.Add(a, true)
		f.Add(a, false)
	}
	f.Fuzz(func(t *testing.T, answer []byte, rightID bool) {
		s := new(scripted)
		s.sent = func(b []byte) {
			a := bytes.Clone(answer)
			if rightID && len(a) >= 2 {
				copy(a, b[:2])
			}
			if len(a) > maxAnswer+1 {
				a = a[:maxAnswer+1]
			}
			s.answers = [][]byte{a}
			rightID = len(a) >= 2 && bytes.Equal(a[:2], b[:2])
		}
		fwd, err := New(Config{Others: []netip.AddrPort{public}, Dial: func(context.Context, string, string) (net.Conn, error) { return s, nil }})
		if err != nil {
			t.Fatal(err)
		}
		a := fwd.answer(t.Context(), "udp", query)
		if len(a) < 12 || len(a) > plainLimit || !bytes.Equal(a[:2], query[:2]) || a[2]&0x80 == 0 {
			t.Fatalf("%x became %x", answer, a)
		}
		if rcode(a) == 0 && (!rightID || !bytes.EqualFold(questionOf(a), questionOf(query))) {
			t.Errorf("%x was believed: %x", answer, a)
		}
	})
}

// A name of an address is about that address and no other.
func FuzzReversed(f *testing.F) {
	f.Add("3.2.16.10.in-addr.arpa", []byte{10, 16, 2, 3})
	f.Add("x.10.in-addr.arpa", []byte{0xfd, 15: 1})
	f.Fuzz(func(t *testing.T, name string, octets []byte) {
		if p, ok := reversed(name); ok && p != p.Masked() {
			t.Errorf("%q is about %v", name, p)
		}
		a, ok := netip.AddrFromSlice(octets)
		if !ok {
			return
		}
		var b strings.Builder
		for i := len(octets) - 1; i >= 0; i-- {
			if a.Is4() {
				fmt.Fprintf(&b, "%d.", octets[i])
			} else {
				fmt.Fprintf(&b, "%x.%x.", octets[i]&15, octets[i]>>4)
			}
		}
		b.WriteString(map[bool]string{true: "in-addr.arpa", false: "ip6.arpa"}[a.Is4()])
		if p, ok := reversed(b.String()); !ok || p != netip.PrefixFrom(a, a.BitLen()) {
			t.Errorf("%s is about %v, want %v", b.String(), p, a)
		}
	})
}
