package tls

import (
	"crypto/ed25519"
	"crypto/rand"
	cryptotls "crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/ssh"
)

// ownCertificate wraps a key into a certificate signed by itself, which says nothing
// but the key. If key is nil it makes one.
func ownCertificate(key ed25519.PrivateKey) (c cryptotls.Certificate, own ed25519.PublicKey, err error) {
	if key == nil {
		if _, key, err = ed25519.GenerateKey(rand.Reader); err != nil {
			return c, nil, fmt.Errorf("tls: %w", err)
		}
	}
	if len(key) != ed25519.PrivateKeySize {
		return c, nil, errors.New("tls: our own key is no Ed25519 key")
	}
	own = key.Public().(ed25519.PublicKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // never (RFC 5280, section 4.1.2.5)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, own, key)
	if err != nil {
		return c, nil, fmt.Errorf("tls: %w", err)
	}
	return cryptotls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, own, nil
}

// peerKey returns the key that the peer shows, if the connection is one of those that
// alone count.
func peerKey(state cryptotls.ConnectionState) (ed25519.PublicKey, error) {
	switch {
	case state.Version != cryptotls.VersionTLS13:
		return nil, fmt.Errorf("the far side speaks %s", cryptotls.VersionName(state.Version))
	case state.DidResume:
		return nil, errors.New("the far side goes on with an earlier connection")
	case len(state.PeerCertificates) == 0:
		return nil, errors.New("the far side shows no key")
	}
	key, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("the far side shows a key of type %s, and only Ed25519 counts", state.PeerCertificates[0].PublicKeyAlgorithm)
	}
	return key, nil
}

// inWords returns the key as a line of authorized_clients, and its fingerprint.
func inWords(key ed25519.PublicKey) (line, fingerprint string) {
	public, err := ssh.NewPublicKey(key)
	if err != nil {
		return "", "of no kind"
	}
	return string(ssh.MarshalAuthorizedKey(public)), ssh.FingerprintSHA256(public)
}
