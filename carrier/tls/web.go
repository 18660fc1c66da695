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
	return func(ctx context.Context, s carrier.Stream) (carrier.Stream, error) {
		h := &handshake{client: true, wire: newWire(s)}
		h.tls = cryptotls.Client(h.wire, &cryptotls.Config{
			ServerName:                  serverName,
			RootCAs:                     authorities,
			MinVersion:                  cryptotls.VersionTLS12,
			DynamicRecordSizingDisabled: true,
		})
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
