package tunnel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ErrGiveUp is wrapped by the errors of a Keeper's open after which opening
// again would end the same way: the far side refused us, a secret is wrong.
var ErrGiveUp = errors.New("giving up")

// How long a Keeper waits before it opens again. The first attempt is made at
// once, since most ends are those of an idle connection that a middlebox forgot.
const (
	keepFirst = time.Second      // before the second attempt: what a server takes to start again
	keepMost  = 30 * time.Second // doubling ends here: a network that came back is used within half a minute

	// keepLasted is how long a Port must have lived for the next attempt to be
	// made at once again. One that opens and dies sooner is waited for like one
	// that does not open, so that a peer that closes at once is not stormed.
	keepLasted = keepMost
)

// A KeepEvent is a change of a Keeper.
type KeepEvent struct {
	Up    bool          // a Port is there again; otherwise there is none
	Cause error         // not Up: why the last Port, or the last attempt, failed
	Wait  time.Duration // not Up: until the next attempt
}

// KeepOptions are the options of Keep.
type KeepOptions struct {
	// Notify, if not nil, is told of every change after the start, in order,
	// from the Keeper's goroutine. It must not block, nor close the Keeper.
	Notify func(KeepEvent)

	// Waits says that open waits for the other side to come, and so need not be
	// waited with, but after an error of its own.
	Waits bool
}

// A Keeper is a Port that outlives the Ports it is made of. Make one with Keep.
//
// While there is none, ReadPackets blocks and what is written is dropped and
// counted: whoever sent it sends it again, and in the mean time would rather
// know that nothing gets through.
type Keeper struct {
	caps Caps
	open func(context.Context) (Port, error)
	o    KeepOptions

	ctx     context.Context
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when run has ended
	dropped atomic.Uint64

	mu      sync.Mutex
	now     *kept         // nil while there is none
	changed chan struct{} // closed when now is set anew, or ended
	ended   error         // what ReadPackets and WritePackets return from now on
	source  Source        // where packets come from; nil: that is not known
}

// A kept is one of the Ports that a Keeper is made of.
type kept struct {
	Port
	failed chan error // why it failed, the first cause alone: room for one
}

var _ Queuer = (*Keeper)(nil)

// Keep returns a Port that is first, and when that fails what open returns, and
// so on: again and again, the first time at once and then after waits that
// double from one second to thirty, until ctx ends, the Keeper is closed, or open
// returns an error that wraps ErrGiveUp. What ended it is what ReadPackets and
// WritePackets return then.
//
// The Ports are the Keeper's to close, first too, and it has closed one before
// it opens the next. open must return soon after its context ends. The Keeper's
// Caps are those of first; a later Port that takes less ends it, since what is
// at its other side has been told those.
func Keep(ctx context.Context, first Port, open func(context.Context) (Port, error), o KeepOptions) *Keeper {
	now := &kept{first, make(chan error, 1)}
	k := &Keeper{
		caps: first.Caps(), open: open, o: o,
		now: now, changed: make(chan struct{}), done: make(chan struct{}),
	}
	k.ctx, k.cancel = context.WithCancelCause(ctx)
	go k.run(now)
	return k
}

// run owns the Ports: it alone opens and closes them.
func (k *Keeper) run(port *kept) {
	defer close(k.done)
	defer k.cancel(nil)
	var wait time.Duration
	for {
		since := time.Now()
		cause := k.await(port)
		port.Close() // wakes whoever is in it
		if k.o.Waits || time.Since(since) >= keepLasted {
			wait = 0
		}
		next, after, err := k.reopen(cause, wait)
		if err != nil {
			k.end(err)
			return
		}
		port, wait = &kept{next, make(chan error, 1)}, after
		k.use(port)
		k.notify(KeepEvent{Up: true})
	}
}

// await waits until port has failed and is out of use, or the Keeper's context
// has ended. It returns why.
func (k *Keeper) await(port *kept) (cause error) {
	select {
	case cause = <-port.failed:
	case <-k.ctx.Done():
		cause = context.Cause(k.ctx)
		k.end(cause)
	}
	return cause
}

// reopen opens until that works, waiting for wait first. It returns the Port and
// how long to wait before the next attempt, should the Port not last.
func (k *Keeper) reopen(cause error, wait time.Duration) (Port, time.Duration, error) {
	for k.ctx.Err() == nil {
		delay := jitter(wait)
		k.notify(KeepEvent{Cause: cause, Wait: delay})
		if !k.sleep(delay) {
			break
		}
		wait = min(max(2*wait, keepFirst), keepMost)
		port, err := k.open(k.ctx)
		switch {
		case errors.Is(err, ErrGiveUp):
			return nil, 0, err
		case err != nil:
			cause = err
			continue
		}
		if c := port.Caps(); c.MTU < k.caps.MTU || !c.Offloads.Has(k.caps.Offloads) {
			port.Close()
			return nil, 0, fmt.Errorf("tunnel: opened again with an MTU of %d and offloads %04b, at first %d and %04b: %w",
				c.MTU, c.Offloads, k.caps.MTU, k.caps.Offloads, ErrGiveUp)
		}
		return port, wait, nil
	}
	return nil, 0, context.Cause(k.ctx)
}

// jitter takes up to half of d away, so that many who lost the same server do
// not come back at the same moment.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d/2)+1))
}

// sleep waits for d, and reports false if the Keeper has ended before.
func (k *Keeper) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return k.ctx.Err() == nil
	case <-k.ctx.Done():
		return false
	}
}

func (k *Keeper) notify(e KeepEvent) {
	if k.o.Notify != nil {
		k.o.Notify(e)
	}
}

// use puts port into use.
func (k *Keeper) use(port *kept) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now = port
	if k.source != nil {
		introduce(port.Port, k.source)
	}
	close(k.changed)
	k.changed = make(chan struct{})
}

// end has every call return err from now on. The first one counts.
func (k *Keeper) end(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended == nil {
		k.ended = err
		close(k.changed)
	}
}

// current returns the Port in use, or none and what is closed when that changes.
func (k *Keeper) current() (port *kept, changed chan struct{}, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now, k.changed, k.ended
}

// fail takes port out of use, because of err. It may be out of use already.
func (k *Keeper) fail(port *kept, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now == port {
		k.now = nil
		port.failed <- err
	}
}

// ReadPackets implements Port. It blocks while there is no Port beneath.
func (k *Keeper) ReadPackets(p []Packet) (int, error) {
	for {
		port, changed, err := k.current()
		switch {
		case err != nil:
			return 0, err
		case port == nil:
			<-changed
			continue
		}
		n, err := port.ReadPackets(p)
		if err == nil {
			return n, nil
		}
		k.fail(port, err)
	}
}

// WritePackets implements Port. It drops p while there is no Port beneath.
func (k *Keeper) WritePackets(p []Packet) error {
	port, _, err := k.current()
	if err != nil {
		return err
	}
	if port != nil {
		if err = port.WritePackets(p); err == nil {
			return nil
		}
		k.fail(port, err)
	}
	k.dropped.Add(uint64(len(p)))
	return nil
}

// SetSource implements Queuer, for the Port beneath and those to come.
func (k *Keeper) SetSource(s Source) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.source = s
	if k.now != nil {
		introduce(k.now.Port, s)
	}
}

// Caps implements Port.
func (k *Keeper) Caps() Caps { return k.caps }

// Dropped returns how many packets were dropped because there was no Port
// beneath, or because it failed while it had them.
func (k *Keeper) Dropped() uint64 { return k.dropped.Load() }

// Close implements Port: it ends an attempt to open, closes the Port beneath,
// and waits for both.
func (k *Keeper) Close() error {
	k.cancel(net.ErrClosed)
	<-k.done
	return nil
}
