package standin

import (
	"net/netip"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/link/ppp"
)

// pppEvents keeps what a link tells until somebody hears it. It is states and a few
// texts: a peer that lets things happen faster than they are heard fills nothing.
type pppEvents struct {
	changed chan struct{} // room for one

	mu  sync.Mutex
	now pppState
}

// A pppState is what is known of a link.
type pppState struct {
	four, four4 netip.Addr // IPv4: ours and the peer's
	down4       bool       // it was up, and is not
	six         netip.Addr // IPv6: ours
	peer        string     // the name that it proved
	notes       []string   // for people, at most maxNotes
}

// maxNotes is how many texts wait to be heard; more are dropped.
const maxNotes = 16

// note is the link's Notify.
func (e *pppEvents) note(event ppp.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &e.now
	switch event.Kind {
	case ppp.Authenticated:
		s.peer = event.Peer
	case ppp.IPv4Up:
		s.four, s.four4, s.down4 = event.Local, event.Remote, false
	case ppp.IPv4Down:
		s.down4 = true
	case ppp.IPv6Up:
		s.six = event.Local
	case ppp.Note:
		if len(s.notes) < maxNotes {
			s.notes = append(s.notes, event.Text)
		}
	}
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// snapshot returns the state.
func (e *pppEvents) snapshot() pppState {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now
}

// texts returns what was not heard yet.
func (e *pppEvents) texts() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	texts := e.now.notes
	e.now.notes = nil
	return texts
}

// forgetSix forgets that IPv6 came up.
func (e *pppEvents) forgetSix() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now.six = netip.Addr{}
}

// An idleness finds out that no packet has passed for some time. It looks four times
// in it, so that it is late by a quarter at most.
type idleness struct {
	limit  time.Duration
	count  func() uint64
	ticker *time.Ticker
	last   uint64
	since  time.Time
}

// newIdleness begins to watch a count. With a limit of 0 it never finds anything.
func newIdleness(limit time.Duration, count func() uint64) *idleness {
	i := &idleness{limit: limit, count: count, since: time.Now(), last: count()}
	if limit > 0 {
		i.ticker = time.NewTicker(limit / 4)
	}
	return i
}

func (i *idleness) tick() <-chan time.Time {
	if i.ticker == nil {
		return nil
	}
	return i.ticker.C
}

func (i *idleness) expired() bool {
	if now := i.count(); now != i.last {
		i.last, i.since = now, time.Now()
		return false
	}
	return time.Since(i.since) >= i.limit
}

func (i *idleness) stop() {
	if i.ticker != nil {
		i.ticker.Stop()
	}
}
