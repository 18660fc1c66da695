package server

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// A Session is what a client has here, from its first connection to its end. Connections
// carry it, as a rule one at a time; between two of them it is away, and has all that it
// had: its place, its flows, its share of the rate. Its fields do not change.
type Session struct {
	ID     uint64 // from 1
	Client Client
	Since  time.Time

	server *Server
	ctx    context.Context
	end    context.CancelCauseFunc
	limits *limits

	mu      sync.Mutex
	tunnel  Tunnel
	about   string
	open    []*Connection // that carry it; two while the newer takes over
	last    *Connection   // the newest that ever did
	streams int           // so many so far
	away    time.Time     // since when none does; zero: one does
}

// End ends the session, and has the client told why if it is there. It does not wait.
func (s *Session) End(why Why, text string) { s.end(&EndedError{why, text}) }

// Ended reports whether the session has been ended: nobody can continue it any more.
func (s *Session) Ended() bool { return s.ctx.Err() != nil }

// come says that c carries the session from now on, until it is closed.
func (s *Session) come(c *Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return // before it was known to have come
	}
	c.carries = s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, c)
	s.last, s.away = c, time.Time{}
	s.streams++
}

// leave is called when c, which carried the session, is closed.
func (s *Session) leave(c *Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = slices.DeleteFunc(s.open, func(o *Connection) bool { return o == c })
	if len(s.open) == 0 {
		s.away = s.server.now()
	}
}

// Lost says that a session which is held has lost the connection that carried it, and why.
// Where too many are away, one that is so for longer ends.
func (s *Session) Lost(cause error) {
	s.server.log.Info("session waits", append(s.attributes(), slog.String("why", plain(cause.Error())))...)
	s.server.crowded(s)
}

// Resumed says that it goes on with another.
func (s *Session) Resumed(c *Connection) {
	before, _ := s.Last()
	s.come(c)
	before.cut()
	_, streams := s.Last()
	s.server.log.Info("session goes on", append(s.attributes(), slog.Int("streams", streams))...)
}

// Away returns since when no connection carries the session; zero: one does.
func (s *Session) Away() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away
}

// Last returns the connection that carries the session or, while it is away, the one that
// did, and how many have so far.
func (s *Session) Last() (c *Connection, streams int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.streams
}

// Silent returns how long nothing was heard of the client.
func (s *Session) Silent() time.Duration {
	c, _ := s.Last()
	return time.Since(began) - time.Duration(c.heard.Load())
}

// Counts says what was carried so far.
func (s *Session) Counts() Counts {
	s.mu.Lock()
	t := s.tunnel
	s.mu.Unlock()
	if t == nil {
		return Counts{}
	}
	return t.Counts()
}

// About says something of the session for the list: the client's software. It is kept
// as text that may be shown.
func (s *Session) About(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.about = plain(text)
}

// Said returns what About was told.
func (s *Session) Said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.about
}

func (s *Session) stand(t Tunnel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tunnel = t
}

// attributes are what tells the session in the log.
func (s *Session) attributes() []any {
	c, _ := s.Last()
	return []any{
		slog.Uint64("session", s.ID), slog.String("client", plain(s.Client.Name)), slog.String("key", plain(s.Client.Key)),
		slog.String("by", plain(c.By)), slog.String("from", plain(c.From)),
	}
}
