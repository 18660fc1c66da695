package front

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync"
	"time"
)

// certificateCheck is how often files are looked at, when somebody asks.
const certificateCheck = time.Second

// SelfSigned returns a certificate for these names and addresses, signed by its own key,
// for Config.Certificate. Its key is made from the machine's, and so the same after each
// start; it is of ECDSA, since no browser takes one of Ed25519. What it proves nobody
// can check: who has to know whom he speaks with asks inside.
func SelfSigned(machine ed25519.PrivateKey, names ...string) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	key, err := webKey(machine)
	if err != nil {
		return nil, fmt.Errorf("front: the web's certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("front: the web's certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "bodkin"},
		NotBefore:    time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // never (RFC 5280, section 4.1.2.5)
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("front: the web's certificate: %w", err)
	}
	certificate := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate, nil }, nil
}

// webKey makes a key of its own from the machine's, which does not give that one away
// (RFC 5869).
func webKey(machine ed25519.PrivateKey) (crypto.Signer, error) {
	if len(machine) != ed25519.PrivateKeySize {
		return nil, errors.New("the machine's key is no Ed25519 key")
	}
	for i := range 8 { // of 2^32, one is no number of P-256's
		octets, err := hkdf.Key(sha256.New, machine.Seed(), nil, fmt.Sprintf("bodkin web certificate %d", i), 32)
		if err != nil {
			return nil, err
		}
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), octets); err == nil {
			return key, nil
		}
	}
	return nil, errors.New("no key comes of the machine's")
}

// Files returns what the two files hold, in PEM, for Config.Certificate: the chain, and
// its key. They are read again when they have changed; if that does not work, what they
// held before goes on to be used, and log, which may be nil, is told once. The first
// time it is an error.
func Files(chain, key string, log func(error)) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	f := &files{chain: chain, key: key, log: log}
	var err error
	f.seen = f.stamps()
	if f.certificate, err = f.load(); err != nil {
		return nil, err
	}
	f.checked = time.Now()
	return f.get, nil
}

// A stamp is by what a file's change is seen.
type stamp struct {
	size     int64
	modified time.Time
}

type files struct {
	chain, key string
	log        func(error)

	mu          sync.Mutex
	certificate *tls.Certificate
	seen        [2]stamp
	checked     time.Time
}

func (f *files) load() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(f.chain, f.key)
	if err != nil {
		return nil, fmt.Errorf("front: the web's certificate: %w", err)
	}
	return &c, nil
}

func (f *files) stamps() (s [2]stamp) {
	for i, name := range [...]string{f.chain, f.key} {
		if info, err := os.Stat(name); err == nil {
			s[i] = stamp{info.Size(), info.ModTime()}
		}
	}
	return s
}

func (f *files) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Sub(f.checked) < certificateCheck {
		return f.certificate, nil
	}
	f.checked = now
	if s := f.stamps(); s != f.seen {
		f.seen = s
		if c, err := f.load(); err == nil {
			f.certificate = c
		} else if f.log != nil {
			f.log(err)
		}
	}
	return f.certificate, nil
}
