package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Defaults of Config.
const (
	// defaultSessions is how many sessions a Server holds: at some 200 KiB each when
	// idle, what a small machine has.
	defaultSessions = 1000

	// defaultPerClient is how many of them one key may have: a few devices, or a
	// device and the ghosts of its last connections.
	defaultPerClient = 4
)

// Bounds of the sessions that wait for their clients. Each has flows open, and may have
// as many octets in buffers as it was given, for nobody.
const (
	// awayMost is how many there are in all: when a way to the server breaks, all who
	// came by it are away at once, and of a thousand none is to be lost.
	awayMost = 1000

	// awayPerClient is how many there are of one key, whatever it may have at a time:
	// some devices asleep, or what is left of one that is killed and starts anew, again
	// and again.
	awayPerClient = 8
)

// admit enters a new session, which c carries.
func (s *Server) admit(ctx context.Context, client Client, c *Connection) (*Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, ErrStopping
	}
	most := client.Sessions
	if most <= 0 {
		most = s.c.PerClient
	}
	if own := s.present(client.Key); len(own) >= most {
		first(own).end(&EndedError{WhyReplaced, fmt.Sprintf("the same key has begun another session, and may have %d", most)})
	} else if all := s.present(""); len(all) >= s.c.Sessions {
		// Who is here goes before who may come back.
		victim := first(all)
		if victim.Away().IsZero() {
			return nil, &FullError{s.c.Sessions}
		}
		victim.end(&EndedError{WhyCrowded, "the server is full, and somebody else came meanwhile"})
	}
	s.last++
	session := &Session{ID: s.last, Client: client, Since: s.now(), server: s}
	session.ctx, session.end = context.WithCancelCause(ctx)
	l := s.buckets[client.Key]
	if l == nil {
		l = &limits{in: NewBucket(client.Rate), out: NewBucket(client.Rate)}
		s.buckets[client.Key] = l
	}
	l.sessions++
	l.set(client.Rate)
	session.limits = l
	session.come(c)
	s.sessions[session.ID] = session
	s.ended.Add(1)
	return session, nil
}

// present returns the sessions of a key, or all if that is empty, that have not been
// ended. Its caller holds s.mu.
func (s *Server) present(key string) (list []*Session) {
	for _, session := range s.sessions {
		if (key == "" || session.Client.Key == key) && !session.Ended() {
			list = append(list, session)
		}
	}
	return list
}

// first is the one of the sessions that goes first: of those that are away the one that is
// so for longest, else the one that was silent for longest.
func first(list []*Session) *Session { return slices.MinFunc(list, before) }

// before compares two sessions by who goes first.
func before(a, b *Session) int {
	awayA, awayB := a.Away(), b.Away()
	switch {
	case awayA.IsZero() && awayB.IsZero():
		return cmp.Compare(b.Silent(), a.Silent())
	case awayA.IsZero():
		return 1
	case awayB.IsZero():
		return -1
	}
	return awayA.Compare(awayB)
}

// crowded ends sessions that are away, the one that is so for longest first, while there
// are too many of them: of the key of one that has just been left, and of all.
func (s *Server) crowded(left *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, bound := range []struct {
		key  string
		most int
	}{{left.Client.Key, awayPerClient}, {"", awayMost}} {
		away := slices.DeleteFunc(s.present(bound.key), func(o *Session) bool { return o != left && o.Away().IsZero() })
		for n := len(away); n > bound.most; n-- {
			victim := first(away)
			victim.end(&EndedError{WhyCrowded, fmt.Sprintf("it waited for its client, and no more than %d do", bound.most)})
			away = slices.DeleteFunc(away, func(o *Session) bool { return o == victim })
		}
	}
}
