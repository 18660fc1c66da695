package tls

import (
	"context"
	cryptotls "crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/bodkin-net/bodkin/carrier"
)

// Verified is the Hop into ordinary web TLS, 1.2 or later, to a server that shows a
// certificate for serverName (a host name or an address) which this machine's own list
// of authorities trusts. It is for https:// proxies; nothing of bodkin is asked.
//
// The way's end without a goodbye is io.EOF here: many proxies end so, and what travels
// inside has an end of its own.
func Verified(serverName string) carrier.Hop { return VerifiedBy(serverName, nil) }

// VerifiedBy is Verified with other authorities than this machine's; nil: this
// machine's.
func VerifiedBy(serverName string, authorities *x509.CertPool) carrier.Hop {
	return web(serverName, &cryptotls.Config{RootCAs: authorities})
}

// Wrapped is Verified without the authorities: whoever answers is taken, whatever
// certificate it shows. It is the web's TLS around what has proofs and secrets of its own
// inside, which a server with a certificate that it made itself, or a web proxy
// that looks into what passes, does not harm.
func Wrapped(serverName string) carrier.Hop {
	return web(serverName, &cryptotls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
}

// web is the Hop into ordinary web TLS with the settings of c.
func web(serverName string, c *cryptotls.Config) carrier.Hop {
	c.ServerName, c.MinVersion, c.DynamicRecordSizingDisabled = serverName, cryptotls.VersionTLS12, true
	return func(ctx context.Context, s carrier.Stream) (carrier.Stream, error) {
		h := &handshake{client: true, wire: newWire(s)}
		h.tls = cryptotls.Client(h.wire, c)
		stop := context.AfterFunc(ctx, func() { s.Close() })
		err := h.tls.Handshake()
		if err != nil {
			err = h.webFailure(serverName, err)
		}
		if !stop() {
			err = h.late(ctx)
		}
		if err != nil {
			s.Close()
			return carrier.Stream{}, err
		}
		return newConn(h.tls, h.wire, false), nil
	}
}

// webFailure says in words what crypto/tls returned in a handshake of the web's.
func (h *handshake) webFailure(serverName string, err error) error {
	var untrusted *cryptotls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return &carrier.RefusedError{
			Layer:  layer,
			Reason: carrier.Printable("the certificate of " + serverName + " is not trusted: " + untrusted.Err.Error()),
			Hint:   "if it is your network's own, have its authority's certificate trusted on this machine",
			Err:    err,
		}
	}
	return h.failure(err)
}
