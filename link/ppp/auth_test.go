package ppp

import (
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/link/ppp/auth"
)

// secrets knows two, one for each direction.
func secrets(client, server string) ([]byte, bool) {
	switch client + " at " + server {
	case "ann at bob":
		return []byte("ann's secret"), true
	case "bob at ann":
		return []byte("bob's secret"), true
	}
	return nil, false
}

// authPair returns what two ends want, of which the first proves itself by one
// protocol and the other by the other; 0 is not at all.
func authPair(first, second auth.Protocol) (a, b Auth) {
	a = Auth{Name: "ann", RemoteName: "bob", Secret: secrets}
	b = Auth{Name: "bob", RemoteName: "ann", Secret: secrets}
	if first != 0 {
		a.Permit, b.Require = []auth.Protocol{first}, []auth.Protocol{first}
	}
	if second != 0 {
		b.Permit, a.Require = []auth.Protocol{second}, []auth.Protocol{second}
	}
	return a, b
}

func TestAuth(t *testing.T) {
	wrong := func(string, string) ([]byte, bool) { return []byte("wrong"), true }
	all := []auth.Protocol{auth.MSCHAPv2, auth.CHAP, auth.PAP}
	type test struct {
		name         string
		a, b         Auth
		kindA, kindB ErrorKind // 0: it comes up
	}
	var tests []test
	for _, first := range append(all, 0) {
		for _, second := range append(all, 0) {
			a, b := authPair(first, second)
			tests = append(tests, test{first.String() + " and " + second.String(), a, b, 0, 0})
		}
	}
	for _, p := range all {
		a, b := authPair(p, 0)
		a.Secret = wrong
		tests = append(tests, test{p.String() + " with another secret", a, b, OurSecret, PeerRefused})
		a, b = authPair(p, 0)
		b.Secret = func(string, string) ([]byte, bool) { return nil, false }
		tests = append(tests, test{p.String() + " of a stranger", a, b, OurSecret, PeerRefused})
		a, b = authPair(p, 0)
		a.Permit = nil
		tests = append(tests, test{p.String() + " refused", a, b, OurSecret, PeerRefused})
		a, b = authPair(p, 0)
		a.Permit = slices.DeleteFunc(slices.Clone(all), func(q auth.Protocol) bool { return p == q })
		tests = append(tests, test{p.String() + " not in common", a, b, OurSecret, PeerRefused})
	}
	a, b := authPair(auth.PAP, 0)
	b.Require = all
	tests = append(tests, test{"the peer names another that we take too", a, b, 0, 0})

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, da, db := openBoth(t, Config{Auth: tt.a}, Config{Auth: tt.b, IPv4: serverIPv4})
				for _, end := range []struct {
					result
					kind ErrorKind
					name string
				}{{a, tt.kindA, "ann"}, {b, tt.kindB, "bob"}} {
					if end.kind == 0 {
						if end.err != nil {
							t.Errorf("%s: %v", end.name, end.err)
						} else {
							defer end.link.Close()
						}
						continue
					}
					var e *Error
					if !errors.As(end.err, &e) || e.Kind != end.kind {
						t.Errorf("%s: %v, want kind %d", end.name, end.err, end.kind)
					}
					t.Log(end.err)
				}
				if tt.kindA != 0 {
					for _, d := range []*diary{da, db} {
						if d.has("AuthReq") || d.has("Challenge") { // else one of them does not know
							if d.has("IPCP") {
								t.Error("a network protocol began before both had proved themselves")
							}
						}
						if d.has("secret\"") {
							t.Error("a secret in the log")
						}
					}
					return
				}
				if proved := slices.Contains(db.kinds(), Authenticated); proved != (len(tt.b.Require) > 0) {
					t.Errorf("bob was told that ann proved herself: %v", proved)
				}
				exchange(t, a.link, b.link, packet4(40))
			})
		})
	}
}

// A challenge on an open link does not stop the traffic; who fails it is out.
func TestChapRechecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := authPair(auth.CHAP, 0)
		var lost atomic.Bool
		a.Secret = func(client, server string) ([]byte, bool) {
			if lost.Load() {
				return []byte("another"), true
			}
			return secrets(client, server)
		}
		b.ChapRechecks = time.Minute
		ra, rb, _, db := openBoth(t, Config{Auth: a}, Config{Auth: b, IPv4: serverIPv4})
		if ra.err != nil || rb.err != nil {
			t.Fatal(ra.err, rb.err)
		}
		for range 10 {
			time.Sleep(time.Minute)
			exchange(t, ra.link, rb.link, packet4(40))
		}
		if n := db.count("sent [CHAP Challenge"); n < 10 {
			t.Errorf("%d challenges in ten minutes", n)
		}
		go drain(rb.link)
		lost.Store(true)
		time.Sleep(2 * time.Minute)
		failed(t, rb.link.Err(), PeerRefused, "")
		failed(t, ra.link.Err(), OurSecret, "")
	})
}

// Who proves a name may use its addresses only.
func TestAllow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := authPair(auth.CHAP, 0)
		b.Allow = func(peer string, addr netip.Addr) bool { return peer == "ann" && addr == clientAddr }
		ra, rb, _, _ := openBoth(t,
			Config{Auth: a, IPv4: IPv4{Local: netip.MustParseAddr("10.0.2.99"), AcceptLocal: true}, IPv6: IPv6{Off: true}},
			Config{Auth: b, IPv4: IPv4{Local: serverAddr, Remote: clientAddr, AcceptRemote: true}})
		if ra.err != nil || rb.err != nil {
			t.Fatal(ra.err, rb.err)
		}
		if got := ra.link.Agreed().Local[0].Addr(); got != clientAddr {
			t.Errorf("ann has %s", got)
		}
		ra.link.Close()
		<-rb.link.Done()
	})
	synctest.Test(t, func(t *testing.T) {
		deny := Auth{Allow: func(string, netip.Addr) bool { return false }}
		ra, rb, _, _ := openBoth(t,
			Config{IPv4: IPv4{Local: clientAddr}, IPv6: IPv6{Off: true}},
			Config{Auth: deny, IPv4: IPv4{Local: serverAddr}})
		if ra.err == nil || rb.err == nil {
			t.Error("it came up")
		}
		t.Log(ra.err, rb.err)
	})
}
