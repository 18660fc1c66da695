package trust

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"time"
)

const (
	// pollEvery is how often the file is read even if the system tells of no change: a
	// lost event, a network file system and a directory that took another's place all
	// show within a second. It is also how late a key may end by the clock.
	pollEvery = 400 * time.Millisecond

	// settleTime is for how long a changed file must stay as it is to count: one that
	// is cut off to be written anew, or away to be replaced, is not believed to be empty.
	settleTime = 100 * time.Millisecond

	// settleMost is how long readings may differ before the last one counts all the
	// same: who writes without end keeps nobody in.
	settleMost = 400 * time.Millisecond
)

// A Watcher knows an authorized_clients file as it is now. Its methods may be called
// from several goroutines.
type Watcher struct {
	file string
	say  func(error)
	done chan struct{} // closed when the loop has ended

	mu      sync.Mutex
	clients *AuthorizedClients
	changed chan struct{} // closed when clients are others, or one has expired
}

// Watch reads the file, and anew when it changes, until ctx ends. A file that is not
// there lets nobody in. One that cannot be used (somebody else could have written it, it
// is too large) is an error at the beginning; later the last one that could be used
// stands. say, if not nil, is told of that, and of each line that lets nobody in, once
// each time the file changes; never twice at the same time.
func Watch(ctx context.Context, file string, say func(error)) (*Watcher, error) {
	if say == nil {
		say = func(error) {}
	}
	now := readWhole(file)
	if now.err != nil {
		return nil, now.err
	}
	w := &Watcher{file: file, say: say, done: make(chan struct{})}
	w.take(now)
	events, stop := notify(filepath.Dir(file), filepath.Base(file))
	go func() {
		defer close(w.done)
		defer stop()
		w.follow(ctx, now, events)
	}()
	return w, nil
}

// Wait returns when ctx has ended and nothing is watched any more.
func (w *Watcher) Wait() { <-w.done }

// Now returns who is let in, and a channel that is closed when that is not true any
// more: the file is another one, or a key has expired. Who holds a session asks anew
// then whether it may go on.
func (w *Watcher) Now() (*AuthorizedClients, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clients, w.changed
}

// Check is CheckFrom of the clients as they are now.
func (w *Watcher) Check(key ed25519.PublicKey, from netip.Addr) (Client, error) {
	clients, _ := w.Now()
	return clients.CheckFrom(key, from, time.Now())
}

// follow takes each file that comes after the reading now.
func (w *Watcher) follow(ctx context.Context, now reading, events <-chan struct{}) {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	settle := time.NewTimer(time.Hour)
	settle.Stop()
	last := time.Now().Round(0) // by the wall's clock, which may be set
	var next reading            // another than now, not believed yet
	var since time.Time         // when the file was found to be another; zero: it is not
	for {
		polled := false
		select {
		case <-ctx.Done():
			return
		case <-events:
		case <-poll.C:
			polled = true
		case <-settle.C:
		}
		got := readWhole(w.file)
		if got.same(now) {
			since = time.Time{}
		} else {
			if since.IsZero() || !got.same(next) {
				next = got
				settle.Reset(settleTime)
			}
			if since.IsZero() {
				since = got.at
			}
			if got.at.Sub(next.at) >= settleTime || got.at.Sub(since) >= settleMost {
				now, since = got, time.Time{}
				w.take(got)
			}
		}
		if polled {
			at := time.Now().Round(0)
			w.expire(last, at)
			last = at
		}
	}
}

// take makes what was read count.
func (w *Watcher) take(got reading) {
	if got.err != nil {
		w.say(fmt.Errorf("%w; who was let in before still is", got.err))
		return
	}
	clients := ParseAuthorizedClients(w.file, got.text)
	w.tell(clients)
	for _, p := range clients.Problems() {
		w.say(p.Err)
	}
}

// tell replaces the clients, unless they are nil, and wakes who waits.
func (w *Watcher) tell(clients *AuthorizedClients) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed != nil {
		close(w.changed)
	}
	w.changed = make(chan struct{})
	if clients != nil {
		w.clients = clients
	}
}

// expire wakes who waits if a key has expired between two moments, or, with a clock that
// was set back, has not any more.
func (w *Watcher) expire(last, now time.Time) {
	clients, _ := w.Now()
	for _, c := range clients.at {
		if c.Expired(last) != c.Expired(now) {
			w.tell(nil)
			return
		}
	}
}

// A reading is what the file was at a moment.
type reading struct {
	text []byte
	err  error
	at   time.Time
}

func readWhole(file string) reading {
	text, err := loadOptional(file)
	return reading{text, err, time.Now()}
}

func (r reading) same(other reading) bool {
	if r.err != nil || other.err != nil {
		return r.err != nil && other.err != nil && r.err.Error() == other.err.Error()
	}
	return bytes.Equal(r.text, other.text)
}
