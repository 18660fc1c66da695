package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/link/ppp"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A link carries packets to the far side: native to another bodkin, PPP to
// whatever program is there.
type link interface {
	tunnel.Port
	count(s *Status)     // fills in what was carried
	farewell(asked bool) // tells the far side that this is the end, and closes
}

// A nativeLink is the link to our own far half.
type nativeLink struct {
	*native.Link
	peer     native.Hello
	comeback *comeback // keeps the session below connected
}

func (l nativeLink) count(s *Status) {
	c := l.Stats()
	s.PacketsIn, s.PacketsOut, s.OctetsIn, s.OctetsOut, s.Dropped = c.PacketsIn, c.PacketsOut, c.OctetsIn, c.OctetsOut, c.Dropped
	s.Queue = &QueueStatus{Packets: c.QueuedPackets, Octets: c.QueuedOctets, Dropped: c.DroppedQueue, Marked: c.Marked, Told: c.Quenched}
	s.Session = l.comeback.status()
	s.RoundTripMS = s.Session.RoundTripMS
}

func (l nativeLink) farewell(asked bool) {
	if asked {
		l.CloseWith(native.CloseUser, "the user asked")
	} else {
		l.CloseWith(native.CloseEnding, "")
	}
	l.comeback.close()
}

// Close implements tunnel.Port.
func (l nativeLink) Close() error {
	err := l.Link.Close()
	l.comeback.close()
	return err
}

// A pppLink is the link to a foreign program.
type pppLink struct{ *ppp.Link }

func (l pppLink) count(s *Status) {
	c := l.Stats()
	s.PacketsIn, s.PacketsOut, s.OctetsIn, s.OctetsOut, s.Dropped = c.PacketsIn, c.PacketsOut, c.OctetsIn, c.OctetsOut, c.Dropped
	s.RoundTripMS = float64(c.RoundTrip.Microseconds()) / 1000
}

func (l pppLink) farewell(asked bool) {
	reason := "the tunnel ends"
	if asked {
		reason = "the user asked"
	}
	l.Terminate(reason)
}

// A keptLink is one link after another to the same far side, as often as the way there
// breaks.
type keptLink struct {
	tunnel.Port // of the present link, or of a Keeper of them

	mu      sync.Mutex
	now     link
	stream  carrier.Stream // below now
	leaving bool           // no further link is wanted
	cause   error          // why the last link died
}

// errLeaving is why no further link is opened.
var errLeaving = fmt.Errorf("the tunnel is being taken down: %w", tunnel.ErrGiveUp)

// SetSource implements tunnel.Queuer. It comes after keep.
func (l *keptLink) SetSource(s tunnel.Source) {
	if q, ok := l.Port.(tunnel.Queuer); ok {
		q.SetSource(s)
	}
}

// use makes p the present link, over s. It reports false, and ends p, when none
// is wanted any more.
func (l *keptLink) use(p link, s carrier.Stream) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leaving {
		p.Close()
		return false
	}
	l.now, l.stream = p, s
	return true
}

func (l *keptLink) count(s *Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now.count(s)
}

func (l *keptLink) farewell(asked bool) {
	l.mu.Lock()
	l.leaving = true
	now := l.now
	l.mu.Unlock()
	now.farewell(asked)
	l.Close()
}

// A redial opens another link to the far side, and says what was agreed upon.
type redial func(ctx context.Context) (link, carrier.Stream, tunnel.Agreed, error)

// keep has the link dialled again when it dies. What the far side gave must be the same again:
// the machine, and the connections inside, have those addresses.
func (n *near) keep(ctx context.Context, l *keptLink, dial redial) {
	n.redialling = true
	agreed := n.agreed
	died := time.Time{}
	l.Port = tunnel.Keep(context.WithoutCancel(ctx), l.now, func(ctx context.Context) (tunnel.Port, error) {
		l.mu.Lock()
		old, now, leaving, cause := l.stream, l.now, l.leaving, l.cause
		l.mu.Unlock()
		if leaving {
			return nil, errLeaving
		}
		if lasting, ok := now.(nativeLink); ok {
			if err := lasting.comeback.why(); err != nil {
				return nil, &finalError{err}
			}
		}
		if isFinal(cause) && !n.config.Stand {
			return nil, &finalError{cause}
		}
		old.Close() // whatever is left of the way there
		ctx, cancel := context.WithTimeout(ctx, redialTimeout)
		defer cancel()
		p, s, a, err := dial(ctx)
		if err != nil {
			var refused *carrier.RefusedError
			if errors.As(err, &refused) {
				err = &finalError{err}
			}
			return nil, err
		}
		if !slices.Equal(a.Local, agreed.Local) {
			p.farewell(false)
			s.Close()
			return nil, fmt.Errorf("the far side gives the address %s now, and gave %s before: %w", joinText(a.Local), joinText(agreed.Local), tunnel.ErrGiveUp)
		}
		if !l.use(p, s) {
			return nil, errLeaving
		}
		return p, nil
	}, tunnel.KeepOptions{Notify: func(e tunnel.KeepEvent) {
		switch {
		case e.Up:
			n.set(func(s *Status) { s.State, s.Lost = "up", "" })
			n.voice.note("up again, %.1f s after the link died", time.Since(died).Seconds())
			died = time.Time{}
		default:
			if died.IsZero() {
				died = time.Now()
			}
			l.mu.Lock()
			l.cause = e.Cause
			leaving := l.leaving
			l.mu.Unlock()
			if leaving || isFinal(e.Cause) && !n.config.Stand {
				return
			}
			n.set(func(s *Status) { s.State, s.Lost = "reconnecting", carrier.Printable(e.Cause.Error()) })
			n.voice.note("the link died: %v; dialling again in %.0f s", e.Cause, e.Wait.Seconds())
		}
	}})
}

// A finalError is one after which no other link is opened. It says no more than what it
// holds.
type finalError struct{ error }

func (e *finalError) Unwrap() []error { return []error{e.error, tunnel.ErrGiveUp} }

// redialTimeout is how long dialling again may take: a login over a slow way, and
// an emulator that is slow to start.
const redialTimeout = 60 * time.Second
