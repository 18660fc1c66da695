package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/alert"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/session"
)

// This file has what happens when the connection below a tunnel is lost: it is made
// again, and the session goes on where it was.

const (
	// fastBeat finds a connection that died in silence within three seconds.
	fastBeat = 800 * time.Millisecond

	// proofPatience is how long a connection may take to answer once the network has
	// changed, or the machine was asleep: more than the longest round trip, and little
	// enough to be on the way again within three seconds.
	proofPatience = 1500 * time.Millisecond

	// The waits before dialling again, from the second time on: they double, up to
	// what one does not mind waiting for once the network is back.
	comebackFirst = 500 * time.Millisecond
	comebackMost  = 15 * time.Second

	// attemptTimeout is how long one attempt may take: a login with all its hops. On a
	// slow way it takes longer.
	attemptTimeout = 30 * time.Second
)

// A comeback brings the connection below a session back, each time it is lost.
type comeback struct {
	n       *near
	session *session.Session
	grace   time.Duration // how long the far side holds the session; 0: it ends with its connection
	lost    chan error    // why the connection is gone; room for one
	now     chan struct{} // the user wants another connection; room for one
	ended   chan struct{} // closed when run has
	stop    context.CancelFunc

	mu      sync.Mutex
	refused error // why no other connection is to be made
}

// openSession begins a session on the connection that there is.
func (n *near) openSession(ctx context.Context) (*comeback, error) {
	c := &comeback{n: n, lost: make(chan error, 1), now: make(chan struct{}, 1), ended: make(chan struct{})}
	grace := n.config.Grace
	if n.config.Once || n.config.Target.Scheme == config.Served { // which is on this machine
		grace = 0
	}
	o := session.Options{Grace: grace, Lost: func(cause error) {
		select {
		case c.lost <- cause:
		default: // the one before is still to be dealt with
		}
	}}
	if n.config.Fast {
		o.Beat = fastBeat
	}
	s, terms, err := session.Open(ctx, n.stream, o)
	if err != nil {
		return nil, err
	}
	c.session, c.grace = s, terms.Grace
	if terms.Grace == 0 && o.Grace > 0 && !n.redialling {
		reason := ""
		if terms.Note != "" {
			reason = ": " + terms.Note
		}
		n.warn("the far side does not hold the tunnel when the connection is lost, and what is connected through it ends then%s", reason)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	go func() {
		defer close(c.ended)
		c.run(run)
	}()
	return c, nil
}

// close ends the session, which tells the far side, and any attempt to bring its
// connection back.
func (c *comeback) close() {
	c.session.Close()
	c.stop()
	<-c.ended
}

// why returns why no other connection is to be made, if that is so.
func (c *comeback) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused
}

// run watches over the connection until the session ends.
func (c *comeback) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.session.Done():
			return
		case <-c.now:
			c.session.Drop(errAsked)
		case text := <-c.n.changed:
			if local := c.n.local(); local.IsValid() && !alert.HasAddress(local) {
				c.session.Drop(fmt.Errorf("%s, and %v, where it began, is gone", text, local))
				continue
			}
			c.n.voice.detail("%s: is the connection still there?", text)
			c.session.Probe(proofPatience + c.session.Stream().Patience())
		case cause := <-c.lost:
			if c.grace == 0 || !c.bring(ctx, cause) {
				return
			}
		}
	}
}

// errAsked is why a connection was given up that the user wanted anew.
var errAsked = errors.New("told so by `bodkin reconnect`")

// bring makes the connection again, until that works. It reports false if there is
// nothing to go on with.
func (c *comeback) bring(ctx context.Context, cause error) bool {
	n, since := c.n, time.Now()
	var wait time.Duration
	said := ""
	for {
		pause := jitter(wait)
		n.set(func(s *Status) { s.State, s.Lost = "reconnecting", carrier.Printable(cause.Error()) })
		switch text := cause.Error(); {
		case text == said:
			n.voice.detail("dialling again in %.1f s", pause.Seconds())
		case said == "":
			n.voice.note("the connection is lost: %v; dialling again", cause)
		default:
			n.voice.note("%v; dialling again in %.1f s", cause, pause.Seconds())
		}
		said = cause.Error()
		if !c.sleep(ctx, pause) {
			return false
		}
		began := time.Now()
		err := c.attempt(ctx)
		var refused *carrier.RefusedError
		switch {
		case err == nil:
			n.noteEnds()
			n.set(func(s *Status) { s.State, s.Lost, s.Carrier = "up", "", n.course.text })
			n.voice.note("connected again after %.1f s; nothing is lost", time.Since(since).Seconds())
			return true
		case ctx.Err() != nil:
			return false
		case errors.Is(err, session.ErrUnknown), errors.Is(err, session.ErrForged), errors.As(err, &refused):
			c.mu.Lock()
			if c.refused = err; refused == nil {
				c.refused = nil // another session may begin
				n.voice.note("%v: what was connected through it has ended", err)
			}
			c.mu.Unlock()
			c.session.Close()
			return false
		case errors.Is(err, errHurry):
			wait = 0
			continue
		}
		cause = err
		wait = min(max(2*wait, comebackFirst), comebackMost)
		if time.Since(began) > wait { // it took its time already
			wait = comebackFirst
		}
	}
}

// jitter takes up to half of d away, so that many who lost the same server do not come
// back at the same moment.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d/2)+1))
}

// sleep waits for d, or until the network has changed. It reports false if there is
// nothing to wait for any more.
func (c *comeback) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.n.changed:
	case <-c.now:
	case <-c.session.Done():
		return false
	case <-ctx.Done():
		return false
	}
	return ctx.Err() == nil
}

// errHurry ends an attempt that began before the network changed.
var errHurry = errors.New("the network has changed")

// attempt makes one other connection and gives it to the session. It is given up when
// the network changes, since nobody will answer where it went.
func (c *comeback) attempt(ctx context.Context) error {
	n := c.n
	patience := attemptTimeout + max(n.config.Silence, 0) + 4*c.session.Stream().Patience()
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no connection in %.0f seconds", patience.Seconds()))
	defer cancel()
	trying, hurry := context.WithCancelCause(ctx)
	defer hurry(nil)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-n.changed:
			hurry(errHurry)
		case <-c.now:
			hurry(errHurry)
		case <-c.session.Done():
			hurry(session.ErrExpired)
		case <-trying.Done():
		}
	})
	err := n.connect(trying)
	if err == nil {
		err = c.session.Attach(trying, n.stream)
	}
	if cause := context.Cause(trying); err != nil && cause != nil {
		err = cause
	}
	hurry(nil)
	watching.Wait()
	return err
}

// reconnect drops the connection below the tunnel and makes another at once.
func (n *near) reconnect() error {
	n.mu.Lock()
	l, _ := n.link.(*keptLink)
	n.mu.Unlock()
	if l == nil {
		return report.WithHint(errors.New("the tunnel is not up yet"), "see `bodkin status`")
	}
	l.mu.Lock()
	now, stream := l.now, l.stream
	l.mu.Unlock()
	if native, ok := now.(nativeLink); ok {
		select {
		case native.comeback.now <- struct{}{}:
		default: // somebody else wants it already
		}
		return nil
	}
	return stream.Close()
}

// A SessionStatus is what `bodkin status` says of the session below a tunnel.
type SessionStatus struct {
	ID           string    `json:"id"`
	Streams      uint64    `json:"streams"`  // connections so far
	Since        time.Time `json:"since"`    // the present one, or its loss
	Replayed     uint64    `json:"replayed"` // octets sent again so far
	GraceSeconds float64   `json:"graceSeconds"`
	RoundTripMS  float64   `json:"roundTripMs,omitempty"`
	Rate         float64   `json:"rate,omitempty"` // octets per second that the way was seen to carry
	InFlight     int       `json:"inFlight"`       // octets
	Bound        int       `json:"bound"`          // most of them
}

func (c *comeback) status() *SessionStatus {
	s := c.session.Stats()
	return &SessionStatus{
		ID: c.session.ID().String(), Streams: s.Streams, Since: s.Since, Replayed: s.Replayed, GraceSeconds: c.grace.Seconds(),
		RoundTripMS: float64(s.RoundTrip.Microseconds()) / 1000, Rate: s.Rate, InFlight: s.InFlight, Bound: s.Bound,
	}
}

// isFinal reports whether a link ended because the far side wanted it to.
func isFinal(err error) bool {
	var closed *native.ClosedError
	var broken *native.ProtocolError
	return errors.As(err, &closed) || errors.As(err, &broken) && broken.Remote
}

// watchNetwork watches for what may have ended the connection, until ctx does.
func (n *near) watchNetwork(ctx context.Context) {
	o := alert.Options{Toward: n.ends}
	if n.privileged != nil {
		o.Mark = n.privileged.Mark()
	}
	events, err := alert.Watch(ctx, o)
	if err != nil {
		n.voice.detail("the network's changes are not seen: %v", err)
		return
	}
	n.changed = make(chan string, 1)
	n.watching.Go(func() {
		for e := range events {
			select {
			case n.changed <- e.Detail:
			default: // the one before is still to be dealt with
			}
		}
	})
}

// local is the present connection's address on this machine, as far as it is known. It is
// the comeback's.
func (n *near) local() netip.Addr {
	if n.stream.Socket == nil {
		return netip.Addr{}
	}
	local := n.stream.Socket.Path().Local
	if local.IsLinkLocalUnicast() { // of which device?
		return netip.Addr{}
	}
	return local
}

// ends are where the connection's packets go, as far as they are known.
func (n *near) ends() []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.toward
}

// noteEnds keeps where the present connection goes.
func (n *near) noteEnds() {
	var list []netip.Addr
	for _, a := range n.course.marked {
		list = append(list, a.Addr())
	}
	for _, p := range n.course.pins {
		list = append(list, p.Addr.Addr())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.toward = list
}
