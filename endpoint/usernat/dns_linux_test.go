package usernat

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// answerDNS answers a query for any name with an A record of addr, or with rcode.
func answerDNS(query []byte, addr [4]byte, rcode dnsmessage.RCode) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil {
		return nil
	}
	m.Response, m.RecursionAvailable, m.RCode, m.Additionals = true, true, rcode, nil
	if rcode == 0 {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.AResource{A: addr},
		}}
	}
	b, _ := m.Pack()
	return b
}

// A resolver answers over UDP and TCP in the world.
func resolver(t *testing.T, addr [4]byte, rcode dnsmessage.RCode) netip.AddrPort {
	udp := listenUDP(t, worldSpace, "198.51.100.10:0", func(c *net.UDPConn, q []byte, from *net.UDPAddr) {
		// A forger's answers first: wrong id, wrong question.
		forged := answerDNS(q, [4]byte{6, 6, 6, 6}, 0)
		if forged == nil {
			return
		}
		forged[0] ^= 1
		c.WriteToUDP(forged, from)
		forged[0] ^= 1
		forged[13] ^= 1 // the first letter of the name
		c.WriteToUDP(forged, from)
		c.WriteToUDP(answerDNS(q, addr, rcode), from)
	})
	serve(t, worldSpace, udp, func(c *net.TCPConn) {
		defer c.Close()
		for {
			var n [2]byte
			if _, err := io.ReadFull(c, n[:]); err != nil {
				return
			}
			q := make([]byte, binary.BigEndian.Uint16(n[:]))
			if _, err := io.ReadFull(c, q); err != nil {
				return
			}
			a := answerDNS(q, addr, rcode)
			binary.BigEndian.PutUint16(n[:], uint16(len(a)))
			c.Write(append(n[:], a...))
		}
	})
	return netip.MustParseAddrPort(udp)
}

// lookup asks at dns over network, with Go's own resolver inside.
func (b *bench) lookup(network string, dns netip.Addr) ([]string, error) {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return b.dial(network, netip.AddrPortFrom(dns, dnsPort).String())
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	ips, err := r.LookupIP(ctx, "ip4", "www.example.org.")
	var s []string
	for _, ip := range ips {
		s = append(s, ip.String())
	}
	return s, err
}

func TestDNS(t *testing.T) {
	good := resolver(t, [4]byte{192, 0, 2, 80}, 0)
	refusing := resolver(t, [4]byte{}, dnsmessage.RCodeRefused)
	silent := netip.AddrPortFrom(hole4, 53)
	closed := netip.MustParseAddrPort("198.51.100.10:9")
	for _, c := range []struct {
		name      string
		resolvers []netip.AddrPort
		atMost    time.Duration
	}{
		{"one", []netip.AddrPort{good}, time.Second},
		{"closed, then one", []netip.AddrPort{closed, good}, time.Second},
		{"refusing, then one", []netip.AddrPort{refusing, good}, time.Second},
		{"silent, then one", []netip.AddrPort{silent, good}, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, Config{Resolvers: func() []netip.AddrPort { return c.resolvers }})
			for _, network := range []string{"udp", "tcp"} {
				for _, dns := range []netip.Addr{dns4, dns6} {
					if network == "tcp" && c.name == "refusing, then one" {
						continue // over TCP the first that takes the connection has it
					}
					start := time.Now()
					got, err := b.lookup(network, dns)
					if err != nil || !reflect.DeepEqual(got, []string{"192.0.2.80"}) {
						t.Errorf("%s at %v: %v, %v", network, dns, got, err)
					}
					if d := time.Since(start); d > c.atMost {
						t.Errorf("%s at %v took %v", network, dns, d)
					}
				}
			}
		})
	}
	for _, none := range [][]netip.AddrPort{nil, {closed}, {closed, closed, closed}} {
		b := newBench(t, Config{Resolvers: func() []netip.AddrPort { return none }})
		start := time.Now()
		_, err := b.lookup("udp", dns4)
		if err == nil || !strings.Contains(err.Error(), "server misbehaving") {
			t.Errorf("with resolvers %v: %v, want SERVFAIL", none, err)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("with resolvers %v: SERVFAIL took %v", none, d)
		}
	}
}

func TestParseResolvConf(t *testing.T) {
	for _, c := range []struct {
		text string
		want string
	}{
		{"nameserver 192.0.2.1\n", "[192.0.2.1:53]"},
		{"# nameserver 1.1.1.1\n; x\nsearch example.org\nnameserver\t127.0.0.53\nnameserver ::1\noptions edns0", "[127.0.0.53:53 [::1]:53]"},
		{"nameserver fe80::1%eth0\n", "[[fe80::1%eth0]:53]"},
		{"nameserver not-an-address\nnameserver ::ffff:192.0.2.9\n", "[192.0.2.9:53]"},
		{"", "[127.0.0.1:53]"},
	} {
		if got := fmt.Sprint(parseResolvConf([]byte(c.text))); got != c.want {
			t.Errorf("%q: %s, want %s", c.text, got, c.want)
		}
	}
}

func TestResolvConfChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	r := &resolvConf{path: path}
	for i, text := range []string{"nameserver 192.0.2.1", "nameserver 192.0.2.22"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.looked = time.Time{}
		if got := fmt.Sprint(r.resolvers()); got != "["+strings.Fields(text)[1]+":53]" {
			t.Errorf("reading %d: %s", i, got)
		}
	}
	os.Remove(path)
	r.looked = time.Time{}
	if got := fmt.Sprint(r.resolvers()); got != "[192.0.2.22:53]" {
		t.Errorf("without the file: %s", got)
	}
}

// FuzzQuery: a query that is forwarded gets a SERVFAIL that answers it, and an
// answer to another question is none.
func FuzzQuery(f *testing.F) {
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("www.example.org."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	q, _ := m.Pack()
	f.Add(q)
	f.Add(q[:12])
	f.Fuzz(func(t *testing.T, query []byte) {
		q, ok := parseQuery(query)
		if !ok {
			return
		}
		a := servfail(query, q)
		if !answers(a, query, q) {
			t.Fatalf("SERVFAIL %x does not answer %x", a, query)
		}
		other := q
		other.Type++
		if answers(a, query, other) {
			t.Fatalf("SERVFAIL %x answers another question", a)
		}
		a[0] ^= 1
		if answers(a, query, q) {
			t.Fatalf("SERVFAIL %x answers another id", a)
		}
	})
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 192.0.2.1\nnameserver ::1\n"))
	f.Add([]byte("nameserver fe80::1%eth0 # x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		addrs := parseResolvConf(b)
		if len(addrs) == 0 {
			t.Fatal("no resolver")
		}
		var again strings.Builder
		for _, a := range addrs {
			if !a.IsValid() || a.Port() != dnsPort {
				t.Fatalf("%v", a)
			}
			if !strings.ContainsAny(a.Addr().Zone(), " \t\n\v\f\r\u0085\u00a0") {
				fmt.Fprintf(&again, "nameserver %v\n", a.Addr())
			}
		}
		if got := parseResolvConf([]byte(again.String())); again.Len() > 0 && strings.Count(again.String(), "\n") == len(addrs) && !reflect.DeepEqual(got, addrs) {
			t.Fatalf("%v became %v", addrs, got)
		}
	})
}
