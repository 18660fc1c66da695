// Package server holds the sessions of many clients: who may have one, how many at a
// time and how fast, what each has carried, and how they all end.
//
//	server.go      a Server: what it is made of, how it holds and ends sessions
//	admission.go   who has to go when there are too many
//	session.go     a Session: what a client has here, from beginning to end
//	connection.go  a Connection: what carries it at a time
//	meter.go       its octets, held to a rate
//	rate.go        octets per second
//	log.go         what is written down, and how often
//	metrics.go     the same in numbers, for Prometheus
//
// A Session is an account: it counts, is listed, limited and ended, whether a connection
// carries it now or it waits for its client to come back. How octets survive between two
// connections is not known here, nor are carriers and packets. Whoever has proved a client's key calls Hold,
// and hands in the function that opens the tunnel; the first octets of connections are
// the affair of package front below this one, and keys that of whoever calls.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// A Config says what a Server does. It is not changed after New.
type Config struct {
	Sessions  int          // the most sessions at a time; 0: 1,000
	PerClient int          // the most of one key, where Client.Sessions says nothing; 0: 4
	Log       *slog.Logger // nil: nothing is logged
	Now       func() time.Time
}

// A Client is whoever has proved that it holds a key, and what it may have.
type Client struct {
	Key      string // tells clients apart: the key's fingerprint
	Name     string // for people: in logs, metrics and the list
	Sessions int    // at a time; 0: Config.PerClient
	Rate     int64  // octets per second each way, of all its sessions together; 0: no limit
	Grant    any    // what the caller keeps with it
}

// A Tunnel is what a session carries packets with.
type Tunnel interface {
	// Run carries packets until ctx ends, or the tunnel does. Of the first, the
	// cause, an *EndedError as a rule, is told to the client. Nothing of the tunnel
	// is left when Run returns. It returns nil when the client ended in good order.
	Run(ctx context.Context) error

	// Counts says what was carried so far. It may be called at any time, after Run
	// too.
	Counts() Counts
}

// Counts are what a tunnel has carried and turned away since it began, seen from the
// server: In came from the client.
type Counts struct {
	PacketsIn, PacketsOut uint64
	OctetsIn, OctetsOut   uint64        // of IP
	Flows                 int           // open now
	RoundTrip             time.Duration // of the last echo; 0: none yet

	// Refused are the packets and connections that were turned away, by reason. The
	// reasons are a few fixed words.
	Refused map[string]uint64
}

// Why says why this side ended a session.
type Why uint8

// The reasons.
const (
	WhyStopping Why = iota // the server ends
	WhyKicked              // somebody at the server ended it
	WhyRevoked             // the key is not taken any more
	WhyChanged             // what the client may have has changed: it may connect again
	WhyReplaced            // the client has too many, and began another
	WhyCrowded             // it waited for its client, as did too many others, or its place was wanted
)

var whyWords = [...]string{"stopping", "kicked", "revoked", "changed", "replaced", "crowded"}

// String returns the reason in a word.
func (w Why) String() string {
	if int(w) < len(whyWords) {
		return whyWords[w]
	}
	return "unknown"
}

// An EndedError is why this side ended a session.
type EndedError struct {
	Why  Why
	Text string // for the client
}

func (e *EndedError) Error() string { return "server: " + e.Text }

// A FullError says why a client got no session though its key is good.
type FullError struct{ Sessions int }

func (e *FullError) Error() string {
	return fmt.Sprintf("server: all of its %d sessions are taken", e.Sessions)
}

// ErrStopping is returned by Hold once the Server is being stopped.
var ErrStopping = errors.New("server: it is being stopped")

// A Server holds sessions. Make one with New.
type Server struct {
	c        Config
	log      *slog.Logger
	now      func() time.Time
	refusals refusals

	mu       sync.Mutex
	stopping bool
	last     uint64 // the number of the last session
	sessions map[uint64]*Session
	totals   totals               // of those that have ended
	buckets  map[string]*limits   // by key, while there are sessions of it
	resumes  map[[2]string]uint64 // by way and result
	ended    sync.WaitGroup       // counts sessions
}

// New makes a Server.
func New(c Config) *Server {
	if c.Sessions <= 0 {
		c.Sessions = defaultSessions
	}
	if c.PerClient <= 0 {
		c.PerClient = defaultPerClient
	}
	s := &Server{c: c, log: c.Log, now: c.Now, sessions: make(map[uint64]*Session), totals: make(totals), buckets: make(map[string]*limits), resumes: make(map[[2]string]uint64)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.refusals.said = make(map[said]time.Time)
	return s
}

// Hold gives client a session that c carries at first: it calls open, and carries what
// that returns until it ends. It returns what Run did, or why there was no session: what
// open returned, a *FullError or ErrStopping.
//
// The context that open gets ends with the session. A client with too many sessions
// loses the one that was away for longest or, if all have a connection, silent for
// longest: a client that comes back after its network changed is not kept out by what is
// left of its last connection.
func (s *Server) Hold(ctx context.Context, client Client, c *Connection, open func(context.Context, *Session) (Tunnel, error)) error {
	session, err := s.admit(ctx, client, c)
	if err != nil {
		return err
	}
	defer s.ended.Done()
	t, err := open(session.ctx, session)
	if err == nil {
		session.stand(t)
		s.log.Info("session begins", session.attributes()...)
		err = t.Run(session.ctx)
	}
	var ended *EndedError
	if errors.As(context.Cause(session.ctx), &ended) {
		err = ended
	}
	session.end(nil) // for its context's sake
	counts := session.Counts()
	s.remove(session, counts)
	if t == nil {
		return err
	}
	s.log.Info("session ends", append(session.attributes(), ending(counts, s.now().Sub(session.Since), err)...)...)
	return err
}

// remove takes an ended session off the list, and keeps what it has carried.
func (s *Server) remove(session *Session, c Counts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, session.ID)
	s.totals.add(session.Client.Name, c)
	l := s.buckets[session.Client.Key]
	if l.sessions--; l.sessions == 0 {
		delete(s.buckets, session.Client.Key)
	}
}

// Sessions returns the sessions there are, the oldest first.
func (s *Server) Sessions() []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list()
}

// list is Sessions for who holds s.mu.
func (s *Server) list() []*Session {
	list := make([]*Session, 0, len(s.sessions))
	for _, session := range s.sessions {
		list = append(list, session)
	}
	slices.SortFunc(list, func(a, b *Session) int { return int(a.ID) - int(b.ID) })
	return list
}

// SetRate changes how many octets per second each way the sessions of a key may have
// together, at once; 0: as many as there are.
func (s *Server) SetRate(key string, rate int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.buckets[key]; l != nil {
		l.set(rate)
	}
}

// Stop ends all sessions, and admits no other. It waits until they have ended, or ctx
// has; then it returns how many have not.
func (s *Server) Stop(ctx context.Context) (left int) {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	for _, session := range s.Sessions() {
		session.End(WhyStopping, "the server ends")
	}
	all := make(chan struct{})
	go func() {
		s.ended.Wait()
		close(all)
	}()
	select {
	case <-all:
		return 0
	case <-ctx.Done():
		return len(s.Sessions())
	}
}
