package serve

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/server"
	"github.com/bodkin-net/bodkin/session"
	"github.com/bodkin-net/bodkin/trust"
)

// This file has the sessions that outlive their connections. What is held is two things
// that know nothing of each other: a session.Session, whose octets wait for the next
// connection, and a server.Session, by which its client is limited, listed and sent away.

// A holding is a session that its client may go on with.
type holding struct {
	octets  *session.Session
	account *server.Session
	grace   time.Duration // for how long after a loss
}

// holdings are the sessions of all clients, by their IDs. There are as many as the Server
// holds.
type holdings struct {
	mu sync.Mutex
	of map[session.ID]holding
}

func (h *holdings) add(one holding) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = make(map[session.ID]holding)
	}
	h.of[one.octets.ID()] = one
}

func (h *holdings) remove(id session.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.of, id)
}

// find returns the session of an ID that the holder of a key began, if it has not been
// ended. What it does is the same for an ID that nobody has and for somebody else's.
func (h *holdings) find(id session.ID, key string) (one holding, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	one, ok = h.of[id]
	return one, ok && one.account.Client.Key == key && !one.account.Ended()
}

// byAccount returns them all by what they are held as.
func (h *holdings) byAccount() map[*server.Session]holding {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make(map[*server.Session]holding, len(h.of))
	for _, one := range h.of {
		all[one.account] = one
	}
	return all
}

// resume goes on with a session that a client began before, by the same way or another.
// The client has proved its key anew; the session's own secret is proved here.
func (s *service) resume(ctx context.Context, id session.ID, caller *session.Caller, c *server.Connection, client trust.Client) {
	key := trust.Fingerprint(client.Key)
	held, ok := s.held.find(id, key)
	if !ok {
		s.server.Resume(c, key, server.ResumeUnknown, session.ErrUnknown)
		caller.Refuse(session.ErrUnknown)
		return
	}
	if err := held.octets.Resume(ctx, caller); err != nil {
		result := server.ResumeFailed
		if errors.Is(err, session.ErrForged) {
			result = server.ResumeForged
		}
		s.server.Resume(c, key, result, err)
		return
	}
	held.account.Resumed(c)
	s.server.Resume(c, key, server.ResumeDone, nil)
	// A change of the file was judged by where the client had been before.
	clients, _ := s.clients.Now()
	if _, ended := judge(clients, held.account.Client.Grant.(trust.Client), c.Addr); ended != nil {
		held.account.End(ended.Why, ended.Text)
	}
}

// judge says what a client may have now that was let in by a line of authorized_clients and
// is at an address, or why it may not go on with what it has.
func judge(clients *trust.AuthorizedClients, had trust.Client, from netip.Addr) (now trust.Client, ended *server.EndedError) {
	now, err := clients.CheckFrom(had.Key, from, time.Now())
	switch {
	case err != nil:
		return now, &server.EndedError{Why: server.WhyRevoked, Text: "your key is not taken here any more"}
	case !sameGrant(had, now):
		return now, &server.EndedError{Why: server.WhyChanged, Text: "what you may have here has changed: connect again"}
	}
	return now, nil
}

// sameGrant reports whether two lines give a session the same, but for what can be
// changed while it lasts.
func sameGrant(a, b trust.Client) bool {
	for _, c := range []*trust.Client{&a, &b} {
		c.Rate, c.Expires, c.From, c.Name = 0, time.Time{}, nil, c.Called
	}
	return a.Options() == b.Options()
}
