package tls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	cryptotls "crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// An authority signs certificates of the web's kind.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(name string) authority {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	template.Subject.CommonName = name
	cert := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))))
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return authority{cert, key, pool}
}

func (a authority) sign(notAfter time.Time, host string, addresses ...net.IP) cryptotls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: notAfter, DNSNames: []string{host}, IPAddresses: addresses}
	der := must(x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key))
	return cryptotls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestVerified is the web's TLS: the name and the authority count.
func TestVerified(t *testing.T) {
	ours, theirs := newAuthority("ours"), newAuthority("th\x1beirs")
	soon, past := time.Now().AddDate(0, 0, 1), time.Now().AddDate(0, 0, -1)
	for _, c := range []struct {
		about, name string
		pool        *x509.CertPool
		certificate cryptotls.Certificate
		version     uint16
		refused     string // empty: it works
	}{
		{"TLS 1.3", "proxy.example.org", ours.pool, ours.sign(soon, "proxy.example.org"), cryptotls.VersionTLS13, ""},
		{"TLS 1.2", "proxy.example.org", ours.pool, ours.sign(soon, "proxy.example.org"), cryptotls.VersionTLS12, ""},
		{"an address", "192.0.2.1", ours.pool, ours.sign(soon, "x", net.IPv4(192, 0, 2, 1)), cryptotls.VersionTLS13, ""},
		{"another name", "proxy.example.org", ours.pool, ours.sign(soon, "evil.example.org"), cryptotls.VersionTLS13, "evil.example.org"},
		{"another address", "192.0.2.1", ours.pool, ours.sign(soon, "192.0.2.1", net.IPv4(192, 0, 2, 2)), cryptotls.VersionTLS13, "192.0.2.2"},
		{"another authority", "proxy.example.org", ours.pool, theirs.sign(soon, "proxy.example.org"), cryptotls.VersionTLS13, "authority"},
		{"this machine's authorities", "proxy.example.org", nil, ours.sign(soon, "proxy.example.org"), cryptotls.VersionTLS13, "authority"},
		{"an old one", "proxy.example.org", ours.pool, ours.sign(past, "proxy.example.org"), cryptotls.VersionTLS13, "expired"},
		{"TLS 1.1", "proxy.example.org", ours.pool, ours.sign(soon, "proxy.example.org"), cryptotls.VersionTLS11, "protocol version"},
		{"no name", "", ours.pool, ours.sign(soon, "proxy.example.org"), cryptotls.VersionTLS13, "ServerName"},
	} {
		a, b := tcpStreams(t)
		served := make(chan struct{})
		go func() {
			defer close(served)
			defer b.Close() // without a goodbye
			s := cryptotls.Server(newWire(b), &cryptotls.Config{Certificates: []cryptotls.Certificate{c.certificate}, MinVersion: cryptotls.VersionTLS10, MaxVersion: c.version})
			line := make([]byte, 5)
			if _, err := io.ReadFull(s, line); err == nil {
				s.Write(line)
			}
		}()
		hop := VerifiedBy(c.name, c.pool)
		if c.pool == nil {
			hop = Verified(c.name)
		}
		s, err := hop(t.Context(), a)
		if c.refused != "" {
			var e *carrier.RefusedError
			if !errors.As(err, &e) || e.Layer != "key" || !strings.Contains(e.Reason, c.refused) || strings.Contains(e.Reason, "\x1b") || s.ReadWriteCloser != nil {
				t.Errorf("%s: %v; want %q", c.about, err, c.refused)
			}
			if _, err := a.Write([]byte{0}); !carrier.IsClosed(err) {
				t.Errorf("%s: below is open", c.about)
			}
		} else if err != nil {
			t.Errorf("%s: %v", c.about, err)
		} else {
			io.WriteString(s, "hello")
			if got, err := io.ReadAll(s); string(got) != "hello" || err != nil {
				t.Errorf("%s: %q, %v", c.about, got, err)
			}
			s.Close()
		}
		<-served
	}
}

func TestVerifiedSilence(t *testing.T) {
	a, b := streams()
	defer b.Close()
	go io.Copy(io.Discard, b)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var silence *carrier.SilenceError
	if _, err := Verified("proxy.example.org")(ctx, a); !errors.As(err, &silence) {
		t.Error(err)
	}
}
