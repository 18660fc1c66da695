package serve

import (
	"context"
	"crypto/ed25519"
	cryptotls "crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/farhalf"
	"github.com/bodkin-net/bodkin/carrier/line"
	"github.com/bodkin-net/bodkin/carrier/tls"
	"github.com/bodkin-net/bodkin/carrier/websocket"
	"github.com/bodkin-net/bodkin/cmd/bodkin/farside"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/server"
	"github.com/bodkin-net/bodkin/server/front"
	"github.com/bodkin-net/bodkin/server/sshd"
	"github.com/bodkin-net/bodkin/trust"
)

// This file has the ways in: each ends in a Stream whose client has proved its key.

// patience is how long a client may take to prove its key: sshd's own users have a
// passphrase to type, or a key to touch.
const patience = 60 * time.Second

// The ways, as logs and metrics call them.
const (
	byTLS       = "tls"
	bySSH       = "ssh"
	byWebSocket = "websocket"
	byLine      = "line"
)

// A visitor is who is at the other end of a connection, as far as that can be seen.
type visitor struct {
	by     string
	from   string      // for people
	addr   netip.Addr  // invalid: not known, as with a Unix socket
	proved func() bool // called once the key is proved
	hangUp func()      // ends the connection at once
}

func visitorOf(c *front.Conn, by string) visitor {
	return visitor{by: by, from: nameOf(c.RemoteAddr(), c.Listener), addr: addressOf(c.RemoteAddr()), proved: c.Authenticated, hangUp: func() { c.Close() }}
}

// nameOf is what a connection's other end is called.
func nameOf(a net.Addr, listener string) string {
	if a == nil || a.Network() == "unix" {
		return listener
	}
	return a.String()
}

// comeByTLS has bodkin's own TLS right on the connection.
func (s *service) comeByTLS(ctx context.Context, c *front.Conn) {
	stream := streamOf(c)
	stream.Socket = socketOf(c)
	s.prove(ctx, stream, visitorOf(c, byTLS))
}

// comeByLine has a line that is measured first, and TLS on what carries all octets then.
func (s *service) comeByLine(ctx context.Context, c *front.Conn) {
	v := visitorOf(c, byLine)
	measuring, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stream, err := farside.Measure(measuring, streamOf(c))
	if err != nil {
		s.refuse(v, nil, err)
		return
	}
	s.prove(ctx, stream, v)
}

// prove has a client prove its key by TLS on the stream, and lets it in.
func (s *service) prove(ctx context.Context, stream carrier.Stream, v visitor) {
	shaking, cancel := context.WithTimeout(ctx, patience+stream.Patience())
	defer cancel()
	var shown ed25519.PublicKey
	var client trust.Client
	inside, _, err := tls.Server(shaking, stream, tls.Config{
		Key: s.key, NextProtos: []string{tls.Protocol},
		Verify: func(key ed25519.PublicKey) (err error) {
			shown = key
			client, err = s.clients.Check(key, v.addr)
			return err
		},
	})
	if err != nil {
		s.refuse(v, shown, err)
		return
	}
	defer inside.Close()
	inside.Rate = stream.Rate
	s.welcomed(v)
	if v.proved() {
		s.enter(ctx, inside, v, client)
	}
}

// comeBySSH has an SSH client, whose command says that it wants a far half: we are that.
func (s *service) comeBySSH(_ context.Context, c *front.Conn) {
	v := visitorOf(c, bySSH)
	refused := false
	// With ctx the doors are closed, and those inside still to be told.
	err := sshd.Serve(s.life, c, &sshd.Config{
		Key: s.key, Grace: patience,
		Check: func(_ string, key ed25519.PublicKey, from net.Addr) (any, error) {
			return s.clients.Check(key, addressOf(from))
		},
		LoggedIn: func(sshd.Login) {
			v.proved()
			s.welcomed(v)
		},
		Refused: func(r sshd.Refusal) {
			refused = true
			s.server.Handshake(v.by, v.from, r.Fingerprint, resultOf(r.Reason), r.Reason)
		},
		Handle: func(ctx context.Context, session *sshd.Session) int {
			nonce, ok := farhalf.NonceIn(session.Command)
			if !ok {
				session.Stderr().Write([]byte(sshd.TunnelsOnly + "\n"))
				return 1
			}
			if farhalf.Announce(session, nonce) != nil {
				return 1
			}
			stream := carrier.Stream{ReadWriteCloser: session, Socket: socketOf(c)}
			defer stream.Close()
			s.enter(ctx, stream, v, session.Who.(trust.Client))
			return 0
		},
	})
	if errors.Is(err, sshd.ErrNoLogin) && !refused {
		s.refuse(v, nil, err)
	}
}

// welcomed counts a client that has proved its key.
func (s *service) welcomed(v visitor) {
	s.server.Handshake(v.by, v.from, "", server.ResultWelcome, nil)
}

// refuse counts a client that has not, and logs why.
func (s *service) refuse(v visitor, key ed25519.PublicKey, err error) {
	fingerprint := ""
	if len(key) > 0 {
		fingerprint = trust.Fingerprint(key)
	}
	s.server.Handshake(v.by, v.from, fingerprint, resultOf(err), err)
}

// resultOf is the word for why a client was not let in.
func resultOf(err error) string {
	var stranger *trust.StrangerError
	var expired *trust.ExpiredError
	var elsewhere *trust.ElsewhereError
	switch {
	case errors.As(err, &stranger):
		return server.ResultStranger
	case errors.As(err, &expired):
		return server.ResultExpired
	case errors.As(err, &elsewhere):
		return server.ResultElsewhere
	}
	return server.ResultFailed
}

// comeByWeb has an HTTP request for a WebSocket, and TLS inside that.
func (s *service) comeByWeb(w http.ResponseWriter, r *http.Request) {
	c := front.From(r.Context())
	if c == nil {
		return
	}
	stream, err := websocket.Accept(w, r)
	if err != nil {
		return // it has been answered
	}
	defer stream.Close()
	if !websocket.Relayed(r.Header) {
		stream.Socket = socketOf(c)
	}
	s.prove(r.Context(), stream, visitorOf(c, byWebSocket))
}

// doors are where clients come in.
type doors struct {
	front     *front.Server
	listeners []net.Listener
	ctx       context.Context
	close     context.CancelFunc // takes nobody in any more
}

// openDoors listens.
func (s *service) openDoors(ctx context.Context) (*doors, error) {
	certificate, err := s.certificate()
	if err != nil {
		return nil, report.At(report.Key, err, "without --web-cert the server makes one of its own")
	}
	f, err := front.New(front.Config{
		Handlers: front.Handlers{
			TLS: s.comeByTLS, SSH: s.comeBySSH, Line: s.comeByLine,
			Web: front.Site(s.o.wsPath, http.HandlerFunc(s.comeByWeb)),
		},
		LineOctet: line.FirstOctet, Proto: tls.Protocol, Certificate: certificate,
		Patience: patience, Waiting: s.share.silent, Grace: stopTime + time.Second,
		Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	d := &doors{front: f}
	if d.listeners, err = listen(ctx, s.o.listen); err != nil {
		return nil, err
	}
	for _, l := range d.listeners {
		s.listening = append(s.listening, l.(*front.Listener).Name)
	}
	d.ctx, d.close = context.WithCancel(context.WithoutCancel(ctx))
	return d, nil
}

// certificate is the one for browsers.
func (s *service) certificate() (func(*cryptotls.ClientHelloInfo) (*cryptotls.Certificate, error), error) {
	if s.o.webCert != "" {
		return front.Files(s.o.webCert, s.o.webKey, func(err error) { s.log.Error("the certificate for browsers", "problem", err.Error()) })
	}
	var names []string
	if host, err := os.Hostname(); err == nil {
		names = []string{host}
	}
	return front.SelfSigned(s.key, names...)
}

// abandon stops listening, where serve was not called.
func (d *doors) abandon() {
	for _, l := range d.listeners {
		l.Close()
	}
	d.close()
}

// serve lets clients in until close. It returns when all have left.
func (d *doors) serve() error { return d.front.Serve(d.ctx, d.listeners...) }
