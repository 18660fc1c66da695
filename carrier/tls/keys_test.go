package tls

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	cryptotls "crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/bodkin-net/bodkin/carrier"
)

// testKey returns a key that is the same in every run; each n has its own.
func testKey(n byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed)
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

var (
	clientKey, serverKey, otherKey = testKey(1), testKey(2), testKey(3)

	errStranger = errors.New("a stranger's \x1b[31mkey")
)

// only is a Verify that takes this key alone.
func only(key ed25519.PrivateKey) func(ed25519.PublicKey) error {
	return func(peer ed25519.PublicKey) error {
		if !bytes.Equal(peer, public(key)) {
			return errStranger
		}
		return nil
	}
}

func clientConfig() Config { return Config{Key: clientKey, Verify: only(serverKey)} }
func serverConfig() Config { return Config{Key: serverKey, Verify: only(clientKey)} }

// An end is what became of one end of a connection.
type end struct {
	s    carrier.Stream
	peer Peer
	err  error
}

// streams returns both ends of a connection in memory that holds nothing.
func streams() (a, b carrier.Stream) {
	x, y := net.Pipe()
	return carrier.Stream{ReadWriteCloser: x}, carrier.Stream{ReadWriteCloser: y}
}

// connect opens a connection over a and b.
func connect(t testing.TB, a, b carrier.Stream, client, server Config) (c, s end) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan end)
	go func() {
		var s end
		s.s, s.peer, s.err = Server(ctx, b, server)
		done <- s
	}()
	c.s, c.peer, c.err = Client(ctx, a, client)
	return c, <-done
}

func TestMutual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := clientConfig(), serverConfig()
		client.ServerName, client.NextProtos, server.NextProtos = "gw.example.org", []string{"x", "bodkin/1"}, []string{"bodkin/1"}
		a, b := streams()
		a.Unsafe.Add(17)
		c, s := connect(t, a, b, client, server)
		if c.err != nil || s.err != nil {
			t.Fatal(c.err, s.err)
		}
		const suite = ", X25519MLKEM768"
		for _, e := range []struct {
			end
			key ed25519.PrivateKey
		}{{c, serverKey}, {s, clientKey}} {
			if !bytes.Equal(e.peer.Key, public(e.key)) || e.peer.Version != "TLS 1.3" || !strings.HasSuffix(e.peer.Suite, suite) || e.peer.Proto != "bodkin/1" {
				t.Errorf("peer %+v", e.peer)
			}
			if !e.s.Unsafe.Empty() {
				t.Error("what is inside TLS is not clean")
			}
		}
		go c.s.Write([]byte("hello"))
		got := make([]byte, 5)
		if _, err := io.ReadFull(s.s, got); err != nil || string(got) != "hello" {
			t.Errorf("%q, %v", got, err)
		}
		closeBoth(c.s, s.s)
	})
}

// closeBoth closes two ends of a connection that holds nothing.
func closeBoth(a, b carrier.Stream) {
	done := make(chan struct{})
	go func() {
		a.Close()
		close(done)
	}()
	b.Close()
	<-done
}

func TestAnonymous(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := streams()
		c, s := connect(t, a, b, Config{Anonymous: true}, Config{Anonymous: true})
		if c.err != nil || s.err != nil {
			t.Fatal(c.err, s.err)
		}
		if bytes.Equal(c.peer.Key, s.peer.Key) || len(c.peer.Key) != ed25519.PublicKeySize {
			t.Errorf("keys made for one connection: %x, %x", c.peer.Key, s.peer.Key)
		}
		closeBoth(c.s, s.s)
	})
}

// TestConfig: whoever forgets to say how the peer is known gets nothing.
func TestConfig(t *testing.T) {
	for name, c := range map[string]Config{
		"neither":         {Key: clientKey},
		"both":            {Key: clientKey, Verify: only(serverKey), Anonymous: true},
		"half of our key": {Key: clientKey[:32], Verify: only(serverKey)},
	} {
		for _, open := range []func(context.Context, carrier.Stream, Config) (carrier.Stream, Peer, error){Client, Server} {
			a, b := streams()
			if _, _, err := open(t.Context(), a, c); err == nil || !strings.HasPrefix(err.Error(), "tls: ") {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := b.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%s: the Stream is open: %v", name, err)
			}
		}
	}
}

// TestRefused: each end that is not known learns of it before it believes in the
// connection, and what is above gets no Stream.
func TestRefused(t *testing.T) {
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(public(clientKey))))))
	print := ssh.FingerprintSHA256(must(ssh.NewPublicKey(public(clientKey))))
	for _, c := range []struct {
		about          string
		client, server Config
		refuser        bool   // it is the server
		reason, hint   string // what the other one is told
	}{
		{"a client that is not known", clientConfig(), Config{Key: serverKey, Verify: only(otherKey)}, true, "the far side does not know our key " + print, "`" + line + "`"},
		{"a client without a key of its own", Config{Verify: only(serverKey)}, serverConfig(), true, "does not know our key", "for this connection alone"},
		{"another server", clientConfig(), Config{Key: otherKey, Verify: only(clientKey)}, false, "does not know our key", "known_servers"},
		{"a server without a key of its own", clientConfig(), Config{Verify: only(clientKey)}, false, "does not know our key", "for this connection alone"},
		{"the client's own key at the server", clientConfig(), Config{Key: clientKey, Verify: only(clientKey)}, false, "does not know our key", "known_servers"},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := streams()
			start := time.Now()
			seen := 0
			verify := c.server.Verify
			c.server.Verify = func(k ed25519.PublicKey) error { seen++; return verify(k) }
			client, server := connect(t, a, b, c.client, c.server)
			if !c.refuser && seen > 0 {
				t.Errorf("%s: a server that is not known was shown the client's key", c.about)
			}
			refuser, refused := client, server
			if c.refuser {
				refuser, refused = server, client
			}
			var e *carrier.RefusedError
			if !errors.As(refuser.err, &e) || e.Layer != "key" || !errors.Is(e, errStranger) || e.Reason != "a stranger's ?[31mkey" {
				t.Errorf("%s: who refused has %v", c.about, refuser.err)
			}
			if !errors.As(refused.err, &e) || e.Layer != "key" || !strings.Contains(e.Reason, c.reason) || !strings.Contains(e.Hint, c.hint) {
				t.Errorf("%s: who was refused has %#v", c.about, refused.err)
			}
			if client.s.ReadWriteCloser != nil || server.s.ReadWriteCloser != nil {
				t.Errorf("%s: there is a Stream", c.about)
			}
			for _, s := range []carrier.Stream{a, b} {
				if _, err := s.Read(make([]byte, 1)); !carrier.IsClosed(err) {
					t.Errorf("%s: below is open: %v", c.about, err)
				}
			}
			if took := time.Since(start); took > closeTime {
				t.Errorf("%s: it took %v", c.about, took)
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A thief shows a key and signs with another.
type thief struct{ shows, has ed25519.PrivateKey }

func (k thief) Public() crypto.PublicKey { return k.shows.Public() }
func (k thief) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.has.Sign(r, digest, opts)
}

// stolen returns the certificate of shows without its key.
func stolen(shows, has ed25519.PrivateKey) cryptotls.Certificate {
	c, _, err := ownCertificate(shows)
	if err != nil {
		panic(err)
	}
	c.PrivateKey = thief{shows, has}
	return c
}

// certified returns a certificate for another kind of key.
func certified(key crypto.Signer) cryptotls.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return cryptotls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

var (
	rsaKey   = must(rsa.GenerateKey(rand.Reader, 2048))
	ecdsaKey = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
)

// TestForeignServer is every server that the client must not believe.
func TestForeignServer(t *testing.T) {
	for _, c := range []struct {
		about  string
		config *cryptotls.Config
		want   string
	}{
		{"somebody else's certificate", &cryptotls.Config{Certificates: []cryptotls.Certificate{stolen(serverKey, otherKey)}}, "invalid signature"},
		{"a certificate beside the right one", &cryptotls.Config{Certificates: []cryptotls.Certificate{func() cryptotls.Certificate {
			c := stolen(otherKey, otherKey)
			c.Certificate = append(c.Certificate, stolen(serverKey, serverKey).Certificate...)
			return c
		}()}}, "stranger"},
		{"RSA", &cryptotls.Config{Certificates: []cryptotls.Certificate{certified(rsaKey)}}, "type RSA"},
		{"ECDSA", &cryptotls.Config{Certificates: []cryptotls.Certificate{certified(ecdsaKey)}}, "type ECDSA"},
		{"TLS 1.2", &cryptotls.Config{Certificates: []cryptotls.Certificate{stolen(serverKey, serverKey)}, MaxVersion: cryptotls.VersionTLS12}, "protocol version"},
		{"no answer to our key", &cryptotls.Config{Certificates: []cryptotls.Certificate{stolen(serverKey, serverKey)}}, "not ended the TLS handshake in time"},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := streams()
			foreign := cryptotls.Server(b.ReadWriteCloser.(net.Conn), c.config)
			done := make(chan struct{})
			go func() {
				defer close(done)
				foreign.Handshake()
				foreign.Read(make([]byte, 1))
				foreign.Close()
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s, _, err := Client(ctx, a, clientConfig())
			if err == nil || !strings.Contains(err.Error(), c.want) || s.ReadWriteCloser != nil {
				t.Errorf("%s: %v; want %q", c.about, err, c.want)
			}
			<-done
		})
	}
}

// TestForeignClient is every client that the server must not believe. What it sends at
// once, before it could have read the answer, goes nowhere.
func TestForeignClient(t *testing.T) {
	for _, c := range []struct {
		about    string
		config   *cryptotls.Config
		want     string
		verified int // how often Verify was asked: for keys that were proved, never else
	}{
		{"somebody else's certificate", &cryptotls.Config{Certificates: []cryptotls.Certificate{stolen(clientKey, otherKey)}}, "invalid signature", 0},
		{"a certificate beside the right one", &cryptotls.Config{Certificates: []cryptotls.Certificate{func() cryptotls.Certificate {
			c := stolen(otherKey, otherKey)
			c.Certificate = append(c.Certificate, stolen(clientKey, clientKey).Certificate...)
			return c
		}()}}, "stranger", 1},
		{"no certificate", &cryptotls.Config{}, "didn't provide a certificate", 0},
		{"RSA", &cryptotls.Config{Certificates: []cryptotls.Certificate{certified(rsaKey)}}, "type RSA", 0},
		{"ECDSA", &cryptotls.Config{Certificates: []cryptotls.Certificate{certified(ecdsaKey)}}, "type ECDSA", 0},
		{"TLS 1.2", &cryptotls.Config{Certificates: []cryptotls.Certificate{stolen(clientKey, clientKey)}, MaxVersion: cryptotls.VersionTLS12}, "only unsupported versions", 0},
		{"old key exchange", &cryptotls.Config{Certificates: []cryptotls.Certificate{stolen(clientKey, clientKey)}, CurvePreferences: []cryptotls.CurveID{cryptotls.CurveP256}}, "no key exchanges supported", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := streams()
			c.config.InsecureSkipVerify = true
			foreign := cryptotls.Client(a.ReadWriteCloser.(net.Conn), c.config)
			done := make(chan []byte)
			go func() {
				defer a.Close()
				if foreign.Handshake() != nil {
					done <- nil
					return
				}
				go foreign.Write([]byte("early"))
				got, _ := io.ReadAll(foreign)
				done <- got
			}()
			verified := 0
			config := serverConfig()
			verify := config.Verify
			config.Verify = func(k ed25519.PublicKey) error { verified++; return verify(k) }
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s, _, err := Server(ctx, b, config)
			if err == nil || !strings.Contains(err.Error(), c.want) || s.ReadWriteCloser != nil {
				t.Errorf("%s: %v; want %q", c.about, err, c.want)
			}
			if verified != c.verified {
				t.Errorf("%s: Verify was asked %d times", c.about, verified)
			}
			if got := <-done; bytes.Contains(got, []byte{answerWelcome}) {
				t.Errorf("%s: was welcomed: %q", c.about, got)
			}
		})
	}
}

// A purse counts the tickets it was given.
type purse struct {
	cryptotls.ClientSessionCache
	tickets int
}

func (p *purse) Put(key string, s *cryptotls.ClientSessionState) {
	if s != nil {
		p.tickets++
	}
	p.ClientSessionCache.Put(key, s)
}

// TestNoResumption: a peer that would go on with an earlier connection has to prove its
// key again.
func TestNoResumption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		verified := 0
		count := func(ed25519.PublicKey) error { verified++; return nil }

		cache := &purse{ClientSessionCache: cryptotls.NewLRUClientSessionCache(8)}
		for range 2 {
			a, b := streams()
			foreign := cryptotls.Client(a.ReadWriteCloser.(net.Conn), &cryptotls.Config{Certificates: []cryptotls.Certificate{stolen(clientKey, clientKey)}, InsecureSkipVerify: true, ClientSessionCache: cache, ServerName: "x"})
			done := make(chan struct{})
			go func() {
				defer close(done)
				foreign.Read(make([]byte, 1))
				if foreign.ConnectionState().DidResume {
					t.Error("the server let a client resume")
				}
				a.Close()
			}()
			s, _, err := Server(t.Context(), b, Config{Key: serverKey, Verify: count})
			if err != nil {
				t.Fatal(err)
			}
			<-done
			s.Close()
		}

		tickets := &cryptotls.Config{Certificates: []cryptotls.Certificate{stolen(serverKey, serverKey)}, ClientAuth: cryptotls.RequireAnyClientCert}
		for range 2 {
			a, b := streams()
			foreign := cryptotls.Server(b.ReadWriteCloser.(net.Conn), tickets)
			done := make(chan struct{})
			go func() {
				defer close(done)
				foreign.Write([]byte{answerWelcome})
				if foreign.ConnectionState().DidResume {
					t.Error("the client resumed")
				}
				b.Close()
			}()
			s, _, err := Client(t.Context(), a, Config{Key: clientKey, Verify: count})
			if err != nil {
				t.Fatal(err)
			}
			<-done
			s.Close()
		}
		if cache.tickets != 0 {
			t.Errorf("the server gave %d tickets", cache.tickets)
		}
		if verified != 4 {
			t.Errorf("of 4 handshakes %d asked Verify", verified)
		}
	})
}

// TestPeerKey: what crypto/tls should never have let through does not count either.
func TestPeerKey(t *testing.T) {
	whole := func() cryptotls.ConnectionState {
		leaf := must(x509.ParseCertificate(stolen(clientKey, clientKey).Certificate[0]))
		return cryptotls.ConnectionState{Version: cryptotls.VersionTLS13, PeerCertificates: []*x509.Certificate{leaf}}
	}
	if key, err := peerKey(whole()); err != nil || !bytes.Equal(key, public(clientKey)) {
		t.Errorf("%x, %v", key, err)
	}
	for want, change := range map[string]func(*cryptotls.ConnectionState){
		"speaks TLS 1.2":             func(s *cryptotls.ConnectionState) { s.Version = cryptotls.VersionTLS12 },
		"goes on with an earlier":    func(s *cryptotls.ConnectionState) { s.DidResume = true },
		"shows no key":               func(s *cryptotls.ConnectionState) { s.PeerCertificates = nil },
		"only Ed25519 counts":        func(s *cryptotls.ConnectionState) { s.PeerCertificates[0].PublicKey = &rsaKey.PublicKey },
		"type Ed25519, and only Ed2": func(s *cryptotls.ConnectionState) { s.PeerCertificates[0].PublicKey = public(clientKey)[:31] },
	} {
		state := whole()
		change(&state)
		if key, err := peerKey(state); key != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%x, %v; want %q", key, err, want)
		}
	}
}

// TestRefusedWhoReadsNothing: telling a stranger that it is one takes a second at most.
func TestRefusedWhoReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := streams()
		foreign := cryptotls.Client(a.ReadWriteCloser.(net.Conn), &cryptotls.Config{Certificates: []cryptotls.Certificate{stolen(otherKey, otherKey)}, InsecureSkipVerify: true})
		go foreign.Handshake() // and nothing after it
		start := time.Now()
		if _, _, err := Server(t.Context(), b, serverConfig()); !errors.Is(err, errStranger) {
			t.Error(err)
		}
		if took := time.Since(start); took != closeTime {
			t.Errorf("it took %v", took)
		}
	})
}
