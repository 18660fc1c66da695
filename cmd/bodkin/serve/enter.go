package serve

import (
	"context"
	"errors"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/server"
	"github.com/bodkin-net/bodkin/session"
	"github.com/bodkin-net/bodkin/trust"
)

// greetTime is how long a client that has proved its key may take to say whether it begins
// a session or goes on with one, and to prove that it is that one's.
const greetTime = 20 * time.Second

// enter takes in a client that has proved its key: it begins a session, or goes on with one
// that it began before. It returns when the connection is closed, which need not end the
// session.
func (s *service) enter(ctx context.Context, stream carrier.Stream, v visitor, client trust.Client) {
	// A session ends by the server's will, which tells the client so, not with ctx.
	ctx = context.WithoutCancel(ctx)
	c := server.NewConnection(stream.ReadWriteCloser, v.by, v.from, v.addr)
	c.HangUp = v.hangUp
	defer c.Close()
	stream.ReadWriteCloser = c
	greeting, cancel := context.WithTimeout(ctx, greetTime+stream.Patience())
	defer cancel()
	caller, err := session.Greet(greeting, stream)
	if err != nil {
		return
	}
	if id, resumes := caller.Resumes(); resumes {
		s.resume(greeting, id, caller, c, client)
	} else {
		s.inside.Go(func() { s.begin(ctx, caller, c, client) })
	}
	<-c.Gone()
}

// begin gives a client a session, until it ends.
func (s *service) begin(ctx context.Context, caller *session.Caller, c *server.Connection, client trust.Client) {
	defer c.Close()
	key := trust.Fingerprint(client.Key)
	who := server.Client{Key: key, Name: client.Called, Rate: client.Rate, Grant: client}
	if who.Name == "" {
		who.Name = key
	}
	var octets *session.Session
	err := s.server.Hold(ctx, who, c, func(ctx context.Context, account *server.Session) (server.Tunnel, error) {
		clients, _ := s.clients.Now() // from here on a change of the file ends the session; this is for one before
		if _, ended := judge(clients, client, c.Addr); ended != nil {
			turnAway(ctx, caller, ended.Text)
			return nil, ended
		}
		terms := s.terms(caller)
		var o session.Options
		if terms.Grace > 0 {
			o.Lost = account.Lost
		}
		var stream carrier.Stream
		var err error
		if stream, octets, err = answer(ctx, caller, terms, o); err != nil {
			return nil, err
		}
		if octets != nil {
			s.held.add(holding{octets, account, terms.Grace})
		}
		return s.openTunnel(ctx, account, stream, octets, client)
	})
	if octets != nil {
		s.held.remove(octets.ID())
	}
	var full *server.FullError
	switch {
	case errors.As(err, &full):
		s.server.Handshake(c.By, c.From, key, server.ResultFull, err)
		turnAway(ctx, caller, "the server is full: try again later")
	case errors.Is(err, server.ErrStopping):
		turnAway(ctx, caller, "the server ends")
	}
}

// terms are those on which a session begins.
func (s *service) terms(caller *session.Caller) session.Terms {
	if s.o.hold == 0 {
		return session.Terms{Note: "the server holds no session for who loses the connection (--hold 0)"}
	}
	return session.Terms{Grace: min(caller.Wants(), s.o.hold)}
}

// answer answers a client that begins: the Stream is that of its octets, whether a session
// is around them or, with a client that knows of none, nothing is.
func answer(ctx context.Context, caller *session.Caller, t session.Terms, o session.Options) (carrier.Stream, *session.Session, error) {
	if caller.Plain() {
		return caller.Stream(), nil, nil
	}
	octets, err := caller.Accept(ctx, t, o)
	if err != nil {
		return carrier.Stream{}, nil, err
	}
	return octets.Stream(), octets, nil
}

// turnAway tells a client whose key is good why it gets no tunnel all the same.
func turnAway(ctx context.Context, caller *session.Caller, why string) {
	if stream, _, err := answer(ctx, caller, session.Terms{}, session.Options{}); err == nil {
		native.Accept(ctx, stream, func(native.Hello) (native.Hello, error) { return native.Hello{}, errors.New(why) })
	}
}
