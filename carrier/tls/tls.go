// Package tls carries a Stream inside TLS 1.3 (RFC 8446) over any other Stream: what the
// way between can read or change then no longer matters.
//
//	tls.go           both ends: who is who, and the server's answer
//	certificate.go   an Ed25519 key as a certificate, and the peer's key out of one
//	wire.go          the Stream below, as crypto/tls wants it
//	conn.go          the Stream above: records gathered, the end, Close
//	failure.go       what went wrong, in words
//	web.go           ordinary web TLS, for https:// proxies
//
// Client and Server prove to each other that they hold the Ed25519 keys which they show.
// Whether these are the right keys is the caller's Verify to say; names, dates and
// signers of certificates mean nothing. There is no other version, no resumption and no
// early data, so no connection goes around Verify.
//
// The whole handshake is 1.8 KB to the server and 1.7 KB back, most of it the post-quantum
// key exchange. TLS_AES_*_GCM should see new keys after some 380 GB each way
// (RFC 8446, section 5.5), which crypto/tls does not offer; beyond that its proof of
// security weakens, slowly.
package tls

import (
	"context"
	"crypto/ed25519"
	cryptotls "crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// A Config is what one end of a connection is and wants.
type Config struct {
	// Key is our own. nil: one made for this connection alone.
	Key ed25519.PrivateKey

	// Verify says whether the peer's key is the right one. It is called once in each
	// handshake. A client's is called before the client shows its own key, and before
	// the server has proved that it holds the one it shows: it judges, and must not
	// act. A server's is called after its peer's proof.
	Verify func(peer ed25519.PublicKey) error

	// Anonymous takes any peer, and is said in place of Verify: there is encryption,
	// and nobody knows with whom.
	Anonymous bool

	ServerName string   // which the client asks for, in clear (RFC 6066, section 3); may be empty
	NextProtos []string // in order of liking (RFC 7301); both ends that have some must share one
}

// A Peer is what is known of the other end.
type Peer struct {
	Key     ed25519.PublicKey // its holder is at the other end
	Version string            // "TLS 1.3"
	Suite   string            // "TLS_AES_128_GCM_SHA256, X25519MLKEM768": cipher and key exchange
	Proto   string            // of NextProtos; may be empty
}

// The server's answer is its first octet inside the encryption, and ours, not TLS's: a
// client of TLS 1.3 has ended its handshake before the server has seen its key.
const (
	answerWelcome = 1
	answerRefused = 2
)

// layer is whose dialogue errors speak of.
const layer = "key"

// Client opens a connection to a Server over s, and owns s from then on. When it returns
// without error the server has taken our key and Verify has taken the server's. ctx
// bounds the call, not the Stream.
//
// On failure s is closed. The error is a *carrier.RefusedError of layer "key" if either
// side does not take the other's key (it wraps what Verify returned) or offers nothing
// that the other knows; a *carrier.HangUpError or a *carrier.SilenceError if the way
// ended, or ctx's time did; and wraps ErrDamaged if what came is not what was sent.
//
// What is above is clean of s.Unsafe, since it is not what s carries; what s eats of the
// encrypted octets ends the connection.
func Client(ctx context.Context, s carrier.Stream, c Config) (carrier.Stream, Peer, error) {
	return open(ctx, s, c, true)
}

// Protocol is the name of what we speak inside (RFC 7301), for a server that speaks
// other things at the same port.
const Protocol = "bodkin/1"

// Server accepts a connection of a Client over s, and owns s from then on. When it
// returns without error Verify has taken the client's key, and the client is told so.
// ctx bounds the call, not the Stream. On failure it has told the client, and s is
// closed; errors are as for Client.
func Server(ctx context.Context, s carrier.Stream, c Config) (carrier.Stream, Peer, error) {
	return open(ctx, s, c, false)
}

func open(ctx context.Context, s carrier.Stream, c Config, client bool) (carrier.Stream, Peer, error) {
	h, err := newHandshake(s, c, client)
	if err != nil {
		s.Close()
		return carrier.Stream{}, Peer{}, err
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	peer, err := h.run()
	if !stop() && h.refused == nil {
		err = h.late(ctx)
	}
	if h.lastWords != nil {
		h.lastWords.Stop()
	}
	if err != nil {
		s.Close()
		return carrier.Stream{}, Peer{}, err
	}
	return newConn(h.tls, h.wire, true), peer, nil
}

// A handshake is one end's, from the first octet to the server's answer.
type handshake struct {
	c      Config
	client bool
	own    ed25519.PublicKey
	wire   *wire
	tls    *cryptotls.Conn

	refused   error       // what we have against the peer's key
	lastWords *time.Timer // how long we may still write to the peer about it
}

func newHandshake(s carrier.Stream, c Config, client bool) (*handshake, error) {
	if (c.Verify == nil) != c.Anonymous {
		return nil, errors.New("tls: a Config has either Verify or Anonymous")
	}
	certificate, own, err := ownCertificate(c.Key)
	if err != nil {
		return nil, err
	}
	h := &handshake{c: c, client: client, own: own, wire: newWire(s)}
	config := &cryptotls.Config{
		Certificates:                []cryptotls.Certificate{certificate},
		MinVersion:                  cryptotls.VersionTLS13,
		CurvePreferences:            []cryptotls.CurveID{cryptotls.X25519MLKEM768, cryptotls.X25519},
		NextProtos:                  c.NextProtos,
		ServerName:                  c.ServerName,
		DynamicRecordSizingDisabled: true,
		SessionTicketsDisabled:      true, // and a client without ClientSessionCache resumes nothing
	}
	if client {
		config.InsecureSkipVerify = true // chains and names; VerifyConnection stands in their place
		config.VerifyConnection = h.judge
		h.tls = cryptotls.Client(h.wire, config)
	} else {
		config.ClientAuth = cryptotls.RequireAnyClientCert
		h.tls = cryptotls.Server(h.wire, config)
	}
	return h, nil
}

// judge says whether the peer's key is the right one.
func (h *handshake) judge(state cryptotls.ConnectionState) error {
	key, err := peerKey(state)
	if err == nil && !h.c.Anonymous {
		err = h.c.Verify(key)
	}
	if err != nil {
		h.refused = err
		h.lastWords = time.AfterFunc(closeTime, func() { h.wire.below.Close() })
	}
	return err
}

// run makes both sides sure of each other, or returns why not.
func (h *handshake) run() (Peer, error) {
	if err := h.tls.Handshake(); err != nil {
		return Peer{}, h.failure(err)
	}
	state := h.tls.ConnectionState()
	if h.client {
		if err := h.readAnswer(); err != nil {
			return Peer{}, err
		}
	} else if err := h.answer(state); err != nil {
		return Peer{}, err
	}
	key, err := peerKey(state)
	if err != nil {
		return Peer{}, fmt.Errorf("tls: %w", err)
	}
	return Peer{
		Key:     key,
		Version: cryptotls.VersionName(state.Version),
		Suite:   cryptotls.CipherSuiteName(state.CipherSuite) + ", " + state.CurveID.String(),
		Proto:   state.NegotiatedProtocol,
	}, nil
}

// answer judges the client, whose handshake is proved by now, and tells it.
func (h *handshake) answer(state cryptotls.ConnectionState) error {
	octet := []byte{answerWelcome}
	verdict := h.judge(state)
	if verdict != nil {
		octet[0] = answerRefused
	}
	_, err := h.tls.Write(octet)
	switch {
	case verdict != nil:
		h.tls.CloseWrite() // it has been told either way
		return h.failure(verdict)
	case err != nil:
		return h.failure(err)
	}
	return nil
}

// readAnswer waits for what the server says to our key.
func (h *handshake) readAnswer() error {
	octet := make([]byte, 1)
	if _, err := io.ReadFull(h.tls, octet); err != nil {
		return h.failure(err)
	}
	switch octet[0] {
	case answerWelcome:
		return nil
	case answerRefused:
		return h.unwelcome("")
	}
	return &carrier.RefusedError{Layer: layer, Reason: fmt.Sprintf("the far side answers our key with %d, which is no answer", octet[0]), Hint: "is it bodkin that answers there?"}
}
