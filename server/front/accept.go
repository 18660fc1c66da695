package front

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

const (
	// firstPause and maxPause are how long a listener rests after an error, which
	// doubles from one to the next.
	firstPause = 5 * time.Millisecond
	maxPause   = time.Second
)

// accept takes connections of l until ctx ends. An error of accept(2) is one of the moment,
// such as no files being left: it makes the oldest silent connection give way, and rests.
func (s *Server) accept(ctx context.Context, l net.Listener) error {
	name := listenerName(l)
	pause := time.Duration(0)
	for {
		raw, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				raw.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err != nil {
			s.stats.AcceptErrors.Add(1)
			if pause == 0 {
				s.log.Warn("accepting connections", "on", name, "error", err)
			}
			if victim := s.waiting.shed(); victim != nil {
				s.giveWay(victim)
			}
			pause = min(max(2*pause, firstPause), maxPause)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			continue
		}
		pause = 0
		s.take(ctx, raw, name)
	}
}

// take begins with a connection.
func (s *Server) take(ctx context.Context, raw net.Conn, listener string) {
	c := &Conn{Conn: raw, Listener: listener, server: s, source: sourceOf(raw.RemoteAddr())}
	s.stats.Accepted.Add(1)
	s.mu.Lock()
	s.open[c] = struct{}{}
	s.mu.Unlock()
	s.stats.Open.Add(1)
	c.timer = time.AfterFunc(s.Patience, c.late)
	if victim := s.waiting.add(c); victim != nil {
		s.giveWay(victim)
	}
	s.running.Go(func() { s.serve(ctx, c) })
}

func (s *Server) giveWay(c *Conn) {
	s.stats.GaveWay.Add(1)
	if s.waiting.sayFull(time.Now()) {
		s.log.Warn("too many connections that do not say who they are: the oldest are closed", "waiting", s.stats.Waiting.Load(), "like", c.RemoteAddr().String())
	}
	c.drop()
}

// serve finds out what c is, and hands it on.
func (s *Server) serve(ctx context.Context, c *Conn) {
	kind := s.know(c)
	if c.closed.Load() { // it was late, or has given way, and is counted as that
		return
	}
	switch s.handled(kind) {
	case kindSSH:
		s.run(ctx, c, &s.stats.SSH, s.SSH)
	case kindTLS:
		s.run(ctx, c, &s.stats.TLS, s.TLS)
	case kindLine:
		s.run(ctx, c, &s.stats.Line, s.Line)
	case kindHTTP:
		s.stats.HTTP.Add(1)
		s.web.hand(c, c)
	case kindHTTPS:
		s.stats.HTTPS.Add(1)
		s.web.hand(c, s.web.encrypted(c))
	case kindMore:
		s.stats.Left.Add(1)
		c.Close()
	case kindNone:
		s.stats.Unknown.Add(1)
		c.Close()
	}
}

// handled returns the kind, or kindNone if nobody is there for it.
func (s *Server) handled(k kind) kind {
	switch {
	case k == kindSSH && s.SSH == nil,
		k == kindTLS && s.TLS == nil,
		k == kindLine && s.Line == nil,
		k == kindHTTP && s.Web == nil,
		k == kindHTTPS && (s.Web == nil || s.Certificate == nil):
		return kindNone
	}
	return k
}

// run gives c to a handler.
func (s *Server) run(ctx context.Context, c *Conn, count *atomic.Uint64, handler func(context.Context, *Conn)) {
	defer c.Close()
	count.Add(1)
	handler(ctx, c)
}
