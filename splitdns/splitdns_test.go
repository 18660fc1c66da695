package splitdns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Servers of the tests; a test's own dial says who they are.
var (
	far1   = netip.MustParseAddrPort("10.0.2.3:53")
	far2   = netip.MustParseAddrPort("10.0.2.4:53")
	public = netip.MustParseAddrPort("192.0.2.53:53")
)

func config() Config {
	return Config{
		Zones: []Zone{{
			Domains: []string{"corp.example", "Intern."}, Servers: []netip.AddrPort{far1, far2},
			Reverse: []netip.Prefix{netip.MustParsePrefix("10.16.0.0/12"), netip.MustParsePrefix("fd00:2::/64")},
		}},
		Others:  []netip.AddrPort{public},
		Outside: []string{"gw.corp.example"},
	}
}

func TestWhoIsAsked(t *testing.T) {
	c := config()
	c.Zones = append(c.Zones, Zone{
		Domains: []string{"lab.corp.example"}, Servers: []netip.AddrPort{far2},
		Reverse: []netip.Prefix{netip.MustParsePrefix("10.17.0.0/16")},
	})
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]netip.AddrPort{
		"corp.example.":                far1,
		"www.corp.example.":            far1,
		"a.b.c.CoRp.ExAmPlE.":          far1,
		"intern.":                      far1,
		"wiki.intern.":                 far1,
		"lab.corp.example.":            far2,
		"x.lab.corp.example.":          far2,
		"gw.corp.example.":             {}, // outside
		"x.gw.corp.example.":           far1,
		"notcorp.example.":             {},
		"corp.example.net.":            {},
		"example.":                     {},
		"interN.example.":              {},
		".":                            {},
		"3.2.16.10.in-addr.arpa.":      far1,
		"3.2.31.10.in-addr.arpa.":      far1,
		"3.2.32.10.in-addr.arpa.":      {},
		"3.2.17.10.IN-ADDR.ARPA.":      far2,
		"16.10.in-addr.arpa.":          far1,
		"0-63.2.16.10.in-addr.arpa.":   far1, // RFC 2317
		"10.in-addr.arpa.":             {},   // more than the prefix
		"3.2.16.010.in-addr.arpa.":     {},
		"1.3.2.16.10.in-addr.arpa.":    far1,
		"3.2.16.10.in-addr.arpa.corp.": {},
		"5.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa.": far1,
		"0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa.":                                         {}, // fd00:2::/48
		"0.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa.":                                 far1,
		"1.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa.":                                 {},
	} {
		var got netip.AddrPort
		if s := f.zones.servers(name); s != nil {
			got = s[0]
		}
		if got != want {
			t.Errorf("%s is asked of %v, want %v", name, got, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		want  string
		spoil func(*Config)
	}{
		{"own servers: none", func(c *Config) { c.Others = nil }},
		{"zone's servers: none", func(c *Config) { c.Zones[0].Servers = nil }},
		{"that is ourselves", func(c *Config) { c.Others[0] = netip.AddrPortFrom(FirstAddress, 53) }},
		{"not one to ask", func(c *Config) { c.Others[0] = netip.MustParseAddrPort("0.0.0.0:53") }},
		{"named twice", func(c *Config) { c.Zones[0].Domains[1] = "CORP.example." }},
		{"want a name", func(c *Config) { c.Zones[0].Domains[0] = "." }},
		{"labels of 1 to 63", func(c *Config) { c.Zones[0].Domains[0] = "a..b" }},
		{"labels of 1 to 63", func(c *Config) { c.Outside[0] = strings.Repeat("a", 64) + ".example" }},
		{"prefix invalid", func(c *Config) { c.Zones[0].Reverse[0] = netip.Prefix{} }},
	} {
		conf := config()
		c.spoil(&conf)
		if _, err := New(conf); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %s: %v", c.want, err)
		}
	}
}

// message is a question as a program sends it, with an EDNS option that nobody
// here knows; size 0 is without EDNS.
func message(t testing.TB, name string, kind dnsmessage.Type, size int) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 0x1234, RecursionDesired: true, AuthenticData: true})
	err := errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{
		Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET,
	}), b.StartAdditionals())
	if size > 0 {
		var h dnsmessage.ResourceHeader
		err = errors.Join(err, h.SetEDNS0(size, dnsmessage.RCodeSuccess, true),
			b.OPTResource(h, dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 65001, Data: []byte("hello")}}}))
	}
	m, err2 := b.Finish()
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return m
}

// answerTo is a server's answer with records of so many octets.
func answerTo(query []byte, records int) []byte {
	a := append([]byte(nil), query...)
	a[2], a[3] = a[2]|0x80, a[3]|0x80
	if records > 0 {
		a = a[:12+len(questionOf(query))]
		binary.BigEndian.PutUint16(a[6:], 1)  // one answer
		binary.BigEndian.PutUint16(a[10:], 0) // and no more
		a = append(a, 0xc0, 12, 0xff, 1, 0, 1, 0, 0, 0, 60)
		a = binary.BigEndian.AppendUint16(a, uint16(records))
		a = append(a, bytes.Repeat([]byte{0xab}, records)...)
	}
	return a
}

// questionOf returns the octets of the first question, read without the parser
// under test; nil if there is none to be found.
func questionOf(m []byte) []byte {
	for at := 12; at < len(m); at += int(m[at]) + 1 {
		if m[at] == 0 {
			if at+5 > len(m) {
				return nil
			}
			return m[12 : at+5]
		}
		if m[at] > 63 {
			return nil
		}
	}
	return nil
}

func rcode(a []byte) dnsmessage.RCode { return dnsmessage.RCode(a[3] & 0xf) }

// A world is the servers that a Forwarder dials, in memory. Each gets a question
// and returns its answer; nil is silence.
type world struct {
	servers map[netip.AddrPort]func(query []byte) []byte

	mu    sync.Mutex
	asked []string // who was asked what, in order
	sent  [][]byte
	wg    sync.WaitGroup
}

func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	server := w.servers[netip.MustParseAddrPort(address)]
	if server == nil {
		return nil, errors.New("no such server")
	}
	ours, theirs := net.Pipe()
	w.wg.Go(func() {
		defer theirs.Close()
		var query []byte
		if network == "tcp" {
			query, _ = readMessage(theirs)
		} else {
			b := make([]byte, 1<<16)
			n, _ := theirs.Read(b)
			query = b[:n]
		}
		w.mu.Lock()
		w.asked = append(w.asked, network+" "+address)
		w.sent = append(w.sent, query)
		w.mu.Unlock()
		a := server(query)
		switch {
		case a == nil:
			theirs.Read(make([]byte, 1)) // until the asker gives up
		case network == "tcp":
			theirs.Write(withLength(a))
		default:
			theirs.Write(a)
		}
	})
	return ours, nil
}

func (w *world) forwarder(t testing.TB, c Config) *Forwarder {
	t.Helper()
	c.Dial = w.dial
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func silence([]byte) []byte        { return nil }
func good(q []byte) []byte         { return answerTo(q, 4) }
func refusesAll(q []byte) []byte   { a := answerTo(q, 0); a[3] |= 5; return a }
func doesNotExist(q []byte) []byte { a := answerTo(q, 0); a[3] |= 3; return a }

func TestFailures(t *testing.T) {
	type servers = map[netip.AddrPort]func([]byte) []byte
	for _, c := range []struct {
		name    string
		servers servers
		network string
		code    dnsmessage.RCode
		after   time.Duration
		asked   string
	}{
		{"good", servers{far1: good, far2: good, public: good}, "udp", 0, 0, "udp 10.0.2.3:53"},
		{"no such name", servers{far1: doesNotExist, far2: good, public: good}, "udp", 3, 0, "udp 10.0.2.3:53"},
		{"the first is silent", servers{far1: silence, far2: good, public: good}, "udp", 0, time.Second, "udp 10.0.2.3:53,udp 10.0.2.4:53"},
		{"the first refuses", servers{far1: refusesAll, far2: good, public: good}, "udp", 0, 0, "udp 10.0.2.3:53,udp 10.0.2.4:53"},
		{"the first is not there", servers{far2: good, public: good}, "udp", 0, 0, "udp 10.0.2.4:53"},
		{"both refuse", servers{far1: refusesAll, far2: refusesAll, public: good}, "udp", 5, 0, "udp 10.0.2.3:53,udp 10.0.2.4:53"},
		{"both are silent", servers{far1: silence, far2: silence, public: good}, "udp", 2, patience, "udp 10.0.2.3:53,udp 10.0.2.4:53,udp 10.0.2.3:53"},
		{"both are not there", servers{public: good}, "udp", 2, 0, ""},
		{"one refuses, one is silent", servers{far1: refusesAll, far2: silence, public: good}, "udp", 5, patience, "udp 10.0.2.3:53,udp 10.0.2.4:53"},
		{"TCP, the first is silent", servers{far1: silence, far2: good, public: good}, "tcp", 0, time.Second, "tcp 10.0.2.3:53,tcp 10.0.2.4:53"},
		{"TCP, both are silent", servers{far1: silence, far2: silence, public: good}, "tcp", 2, patience, "tcp 10.0.2.3:53,tcp 10.0.2.4:53"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{servers: c.servers}
				f := w.forwarder(t, config())
				query := message(t, "db.corp.example.", dnsmessage.TypeAAAA, 1232)
				began := time.Now()
				a := f.answer(t.Context(), c.network, query)
				if took := time.Since(began); took != c.after {
					t.Errorf("took %v, want %v", took, c.after)
				}
				if len(a) < 12 || !bytes.Equal(a[:2], query[:2]) || rcode(a) != c.code {
					t.Errorf("answer %x, want code %v", a, c.code)
				}
				w.wg.Wait()
				if asked := strings.Join(w.asked, ","); asked != c.asked {
					t.Errorf("asked %s, want %s", asked, c.asked)
				}
			})
		})
	}
}

// A question and its answer pass as they are, but for the id, which is another
// each time.
func TestUntouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answer []byte
		w := &world{servers: map[netip.AddrPort]func([]byte) []byte{far1: func(q []byte) []byte {
			answer = answerTo(q, 400)
			return answer
		}, public: doesNotExist}}
		f := w.forwarder(t, config())
		ids := make(map[uint16]bool)
		for range 64 {
			query := message(t, "svc.corp.example.", 65, 1232) // HTTPS, RFC 9460
			a := f.answer(t.Context(), "udp", query)
			sent := w.sent[len(w.sent)-1]
			if !bytes.Equal(sent[2:], query[2:]) {
				t.Fatalf("sent %x, got %x", sent, query)
			}
			if !bytes.Equal(a[2:], answer[2:]) || !bytes.Equal(a[:2], query[:2]) {
				t.Fatalf("answered %x, the server said %x", a, answer)
			}
			ids[binary.BigEndian.Uint16(sent)] = true
		}
		if len(ids) < 60 {
			t.Errorf("%d ids of 64 questions", len(ids))
		}
		w.wg.Wait()
	})
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		name          string
		edns, records int
		network       string
		whole         bool
	}{
		{"fits without EDNS", 0, 400, "udp", true},
		{"does not fit without EDNS", 0, 600, "udp", false},
		{"fits the size offered", 1232, 1100, "udp", true},
		{"does not fit the size offered", 1232, 1300, "udp", false},
		{"a size below 512 is 512", 100, 400, "udp", true},
		{"larger than what is taken", 65535, maxAnswer, "udp", false},
		{"TCP has room", 0, 60000, "tcp", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{servers: map[netip.AddrPort]func([]byte) []byte{far1: func(q []byte) []byte { return answerTo(q, c.records) }}}
				f := w.forwarder(t, config())
				query := message(t, "big.corp.example.", dnsmessage.TypeTXT, c.edns)
				a := f.answer(t.Context(), c.network, query)
				w.wg.Wait()
				var p dnsmessage.Parser
				h, err := p.Start(a)
				if err != nil || h.ID != 0x1234 || h.Truncated == c.whole || len(a) > c.records != c.whole {
					t.Errorf("%v, %v, %d octets", err, h, len(a))
				}
				if q, err := p.Question(); err != nil || q.Name.String() != "big.corp.example." {
					t.Errorf("question %v, %v", q, err)
				}
			})
		})
	}
}

// A server's TC goes to the asker, who then comes by TCP.
func TestTruncatedThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{servers: map[netip.AddrPort]func([]byte) []byte{far1: func(q []byte) []byte {
			a := answerTo(q, 0)
			a[2] |= 2
			return a
		}}}
		a := w.forwarder(t, config()).answer(t.Context(), "udp", message(t, "corp.example.", dnsmessage.TypeTXT, 0))
		if a[2]&2 == 0 {
			t.Errorf("TC is lost: %x", a)
		}
		w.wg.Wait()
	})
}

// What does not answer the question asked is passed over.
func TestForgedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := New(Config{Others: []netip.AddrPort{public}, Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				defer theirs.Close()
				b := make([]byte, 1500)
				n, _ := theirs.Read(b)
				q := b[:n]
				spoil := func(harm func(a []byte)) {
					a := answerTo(q, 4)
					harm(a)
					theirs.Write(a)
				}
				spoil(func(a []byte) { a[0]++ })                               // another id
				spoil(func(a []byte) { a[13] = 'x' })                          // another name
				spoil(func(a []byte) { a[len(questionOf(q))+12-3] ^= 1 })      // another type
				spoil(func(a []byte) { a[2] &^= 0x80 })                        // a question itself
				spoil(func(a []byte) { binary.BigEndian.PutUint16(a[4:], 0) }) // no question
				theirs.Write(q[:5])
				spoil(func(a []byte) { a[13] = 'W'; a[len(a)-1] = 7 }) // the one; case is nothing
			}()
			return ours, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		a := f.answer(t.Context(), "udp", message(t, "www.example.", dnsmessage.TypeA, 0))
		if rcode(a) != 0 || a[len(a)-1] != 7 {
			t.Errorf("answer: %x", a)
		}
	})
}

func TestRefusedQuestions(t *testing.T) {
	w := &world{}
	f := w.forwarder(t, config())
	two := message(t, "www.example.", dnsmessage.TypeA, 0)
	two[5] = 2
	two = append(two, questionOf(two)...)
	update := message(t, "www.example.", dnsmessage.TypeA, 0)
	update[2] |= 5 << 3 // RFC 2136
	cut := message(t, "www.example.", dnsmessage.TypeA, 1232)
	cut = cut[:len(cut)-3]
	for _, c := range []struct {
		name  string
		query []byte
		code  int
	}{
		{"two questions", two, 1},
		{"cut off", cut, 1},
		{"an update", update, 4},
		{"a zone transfer", message(t, "corp.example.", typeAXFR, 0), 5},
		{"an answer", answerTo(two, 0), -1},
		{"nothing", nil, -1},
		{"a header's half", two[:6], -1},
	} {
		a := f.answer(t.Context(), "udp", c.query)
		if c.code < 0 != (a == nil) || a != nil && (int(rcode(a)) != c.code || a[2]&0x80 == 0 || !bytes.Equal(a[:2], c.query[:2])) {
			t.Errorf("%s: %x, want code %d", c.name, a, c.code)
		}
	}
	if len(w.asked) != 0 {
		t.Errorf("asked: %v", w.asked)
	}
}

// More questions than maxQueries do not wait, and do not harm those before them.
func TestTooManyQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{servers: map[netip.AddrPort]func([]byte) []byte{far1: silence, far2: silence}}
		f := w.forwarder(t, config())
		query := message(t, "corp.example.", dnsmessage.TypeA, 0)
		var wg sync.WaitGroup
		for range maxQueries {
			wg.Go(func() { f.answer(t.Context(), "udp", query) })
		}
		synctest.Wait()
		began := time.Now()
		if a := f.answer(t.Context(), "udp", query); rcode(a) != dnsmessage.RCodeServerFailure || time.Since(began) != 0 {
			t.Errorf("one more: %x after %v", a, time.Since(began))
		}
		wg.Wait()
		w.wg.Wait()
	})
}
