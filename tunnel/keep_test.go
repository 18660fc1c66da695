package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/tunnel"
)

var keepCaps = tunnel.Caps{MTU: 1500, Offloads: tunnel.OffloadChecksum}

// A line is the way to a far side that a Keeper dials again and again.
type line struct {
	mu    sync.Mutex
	start time.Time
	dials []time.Duration // when open was called
	far   tunnel.Port     // the far end of the last Port
	open  func(dial int) (tunnel.Port, error)

	events []tunnel.KeepEvent
}

func newLine() (*line, tunnel.Port) {
	l := &line{start: time.Now()}
	first, far := tunnel.Pipe(keepCaps)
	l.far = far
	return l, first
}

// Open is what a Keeper opens with: by default it works.
func (l *line) Open(context.Context) (tunnel.Port, error) {
	l.mu.Lock()
	l.dials = append(l.dials, time.Since(l.start))
	dial, open := len(l.dials), l.open
	l.mu.Unlock()
	if open != nil {
		if p, err := open(dial); p != nil || err != nil {
			return p, err
		}
	}
	near, far := tunnel.Pipe(keepCaps)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.far = far
	return near, nil
}

func (l *line) notify(e tunnel.KeepEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// seen returns when open was called, and what was told.
func (l *line) seen() (dials []time.Duration, events []tunnel.KeepEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.dials), slices.Clone(l.events)
}

func (l *line) options() tunnel.KeepOptions { return tunnel.KeepOptions{Notify: l.notify} }

// crash ends the present Port from the far side.
func (l *line) crash() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.far.Close()
}

func (l *line) send(t *testing.T, text string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.far.WritePackets([]tunnel.Packet{{Data: []byte(text)}}); err != nil {
		t.Fatal(err)
	}
}

// reader reads from a Keeper until it ends, and gives what it reads and why it
// ended.
func reader(k *tunnel.Keeper) (texts chan string, ended chan error) {
	texts, ended = make(chan string, 100), make(chan error, 1)
	go func() {
		p := make([]tunnel.Packet, tunnel.BatchSize)
		for {
			n, err := k.ReadPackets(p)
			if err != nil {
				ended <- err
				return
			}
			for _, packet := range p[:n] {
				texts <- string(packet.Data)
			}
		}
	}()
	return texts, ended
}

func write(t *testing.T, k *tunnel.Keeper) {
	t.Helper()
	if err := k.WritePackets([]tunnel.Packet{{Data: []byte("packet")}}); err != nil {
		t.Fatalf("WritePackets: %v", err)
	}
}

// within reports whether d is want with the jitter taken away.
func within(d, want time.Duration) bool { return d >= want/2 && d <= want }

func TestKeepOpensAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, first := newLine()
		l.open = func(dial int) (tunnel.Port, error) {
			if dial < 4 {
				return nil, fmt.Errorf("attempt %d", dial)
			}
			return nil, nil
		}
		k := tunnel.Keep(t.Context(), first, l.Open, l.options())
		defer k.Close()
		texts, _ := reader(k)
		l.send(t, "before")
		if got := <-texts; got != "before" {
			t.Errorf("read %q", got)
		}
		write(t, k)
		l.crash()
		synctest.Wait()
		if dials, _ := l.seen(); len(dials) != 1 || dials[0] != 0 {
			t.Fatalf("the first attempt was not made at once: %v", dials)
		}
		for range 3 {
			write(t, k) // there is no Port
		}
		if got := k.Dropped(); got != 3 {
			t.Errorf("%d dropped, want 3", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		dials, events := l.seen()
		if len(dials) != 4 || !within(dials[1], time.Second) || !within(dials[2]-dials[1], 2*time.Second) {
			t.Errorf("attempts at %v", dials)
		}
		l.send(t, "after")
		if got := <-texts; got != "after" {
			t.Errorf("read %q", got)
		}
		write(t, k)
		if got := k.Dropped(); got != 3 {
			t.Errorf("%d dropped, want 3", got)
		}
		var said []string
		for i, e := range events {
			said = append(said, fmt.Sprint(e.Up, " ", e.Cause))
			if i == 1 && !within(e.Wait, time.Second) {
				t.Errorf("the second wait was said to be %v", e.Wait)
			}
		}
		want := fmt.Sprint([]string{"false " + net.ErrClosed.Error(), "false attempt 1", "false attempt 2", "false attempt 3", "true <nil>"})
		if got := fmt.Sprint(said); got != want {
			t.Errorf("told\n%s, want\n%s", got, want)
		}
	})
}

func TestKeepBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, first := newLine()
		l.open = func(int) (tunnel.Port, error) { return nil, errors.New("nobody there") }
		k := tunnel.Keep(t.Context(), first, l.Open, tunnel.KeepOptions{})
		reader(k)
		l.crash()
		time.Sleep(10 * time.Minute)
		k.Close()
		dials, _ := l.seen()
		want := time.Second
		for i := 1; i < len(dials); i++ {
			if d := dials[i] - dials[i-1]; !within(d, want) {
				t.Errorf("attempt %d after %v, want at most %v and at least half of it", i+1, d, want)
			}
			want = min(2*want, 30*time.Second)
		}
		if n := len(dials); n < 20 || n > 45 {
			t.Errorf("%d attempts in ten minutes", n)
		}
	})
}

// A peer that takes the connection and closes it is not stormed; one that was
// there for a while is dialled at once.
func TestKeepFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, first := newLine()
		l.open = func(int) (tunnel.Port, error) {
			near, far := tunnel.Pipe(keepCaps)
			far.Close()
			return near, nil
		}
		k := tunnel.Keep(t.Context(), first, l.Open, tunnel.KeepOptions{})
		defer k.Close()
		reader(k)
		l.crash()
		time.Sleep(time.Minute)
		synctest.Wait()
		if dials, _ := l.seen(); len(dials) < 5 || len(dials) > 9 {
			t.Errorf("%d attempts in the first minute", len(dials))
		}
		l.mu.Lock()
		l.open = nil
		l.mu.Unlock()
		time.Sleep(2 * time.Minute) // it stands, and for long
		synctest.Wait()
		before, _ := l.seen()
		n := len(before)
		at := time.Since(l.start)
		l.crash()
		synctest.Wait()
		if dials, _ := l.seen(); len(dials) != n+1 || dials[n] != at {
			t.Errorf("after a Port that lasted: attempts %v, want one at %v", dials[n:], at)
		}
	})
}

// How a Keeper ends of itself: what its callers are told, and that the Port it
// had is closed.
func TestKeepGivesUp(t *testing.T) {
	refused := fmt.Errorf("the far side said no: %w", tunnel.ErrGiveUp)
	for _, c := range []struct {
		name string
		port tunnel.Caps
		err  error
		want string
	}{
		{"told to", tunnel.Caps{}, refused, refused.Error()},
		{"a smaller MTU", tunnel.Caps{MTU: 1400, Offloads: tunnel.OffloadChecksum}, nil,
			"tunnel: opened again with an MTU of 1400 and offloads 0001, at first 1500 and 0001: giving up"},
		{"fewer offloads", tunnel.Caps{MTU: 1500}, nil,
			"tunnel: opened again with an MTU of 1500 and offloads 0000, at first 1500 and 0001: giving up"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, first := newLine()
				near, far := tunnel.Pipe(c.port)
				l.open = func(int) (tunnel.Port, error) {
					if c.err != nil {
						return nil, c.err
					}
					return near, nil
				}
				k := tunnel.Keep(t.Context(), first, l.Open, tunnel.KeepOptions{})
				_, ended := reader(k)
				l.crash()
				if err := <-ended; err.Error() != c.want || !errors.Is(err, tunnel.ErrGiveUp) {
					t.Errorf("ReadPackets: %v, want %v", err, c.want)
				}
				if err := k.WritePackets([]tunnel.Packet{{Data: []byte("x")}}); err == nil || err.Error() != c.want {
					t.Errorf("WritePackets: %v", err)
				}
				if c.err == nil {
					if _, err := far.ReadPackets(make([]tunnel.Packet, 1)); err == nil {
						t.Error("the Port that was refused is open")
					}
				}
				k.Close()
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // more than before is well
		l, first := newLine()
		near, _ := tunnel.Pipe(tunnel.Caps{MTU: 9000, Offloads: 0xf})
		l.open = func(int) (tunnel.Port, error) { return near, nil }
		k := tunnel.Keep(t.Context(), first, l.Open, l.options())
		defer k.Close()
		reader(k)
		l.crash()
		synctest.Wait()
		if _, events := l.seen(); k.Caps() != keepCaps || len(events) != 2 || !events[1].Up {
			t.Errorf("caps %+v, events %+v", k.Caps(), events)
		}
	})
}

// Close and the end of the context, at each moment of a Keeper's life.
func TestKeepEnds(t *testing.T) {
	moments := map[string]func(t *testing.T, l *line, k *tunnel.Keeper){
		"at rest": func(*testing.T, *line, *tunnel.Keeper) {},
		"while it waits": func(t *testing.T, l *line, k *tunnel.Keeper) {
			l.open = func(int) (tunnel.Port, error) { return nil, errors.New("nobody there") }
			l.crash()
		},
		"while a write is blocked": func(t *testing.T, l *line, k *tunnel.Keeper) {
			go func() {
				for k.WritePackets([]tunnel.Packet{{Data: []byte("x")}}) == nil {
				}
			}()
		},
		"at the moment it fails": func(t *testing.T, l *line, k *tunnel.Keeper) {
			go l.crash()
		},
	}
	for name, moment := range moments {
		for _, how := range []string{"Close", "context"} {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l, first := newLine()
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					want := errors.New("the user is tired of it")
					k := tunnel.Keep(ctx, first, l.Open, tunnel.KeepOptions{})
					_, ended := reader(k)
					moment(t, l, k)
					if name != "at the moment it fails" {
						synctest.Wait()
					}
					if how == "Close" {
						want = net.ErrClosed
						k.Close()
					} else {
						cancel(want)
					}
					if err := <-ended; err != want {
						t.Errorf("ReadPackets: %v, want %v", err, want)
					}
					k.Close()
					if err := k.WritePackets([]tunnel.Packet{{Data: []byte("x")}}); err != want {
						t.Errorf("WritePackets: %v, want %v", err, want)
					}
					l.mu.Lock()
					far := l.far
					l.mu.Unlock()
					for { // what was written may still be there
						if _, err := far.ReadPackets(make([]tunnel.Packet, 9)); err != nil {
							break
						}
					}
				})
			})
		}
	}
	t.Run("while it opens", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l, first := newLine()
			late, far := tunnel.Pipe(keepCaps)
			k := tunnel.Keep(t.Context(), first, func(ctx context.Context) (tunnel.Port, error) {
				<-ctx.Done()
				return late, nil // it works all the same
			}, tunnel.KeepOptions{})
			_, ended := reader(k)
			l.crash()
			synctest.Wait()
			k.Close()
			if err := <-ended; err != net.ErrClosed {
				t.Errorf("ReadPackets: %v", err)
			}
			if _, err := far.ReadPackets(make([]tunnel.Packet, 1)); err == nil {
				t.Error("the Port that came too late is open")
			}
		})
	})
}

// A failing Port is closed once it has failed, and before the next is opened;
// the first cause is the one that is told.
func TestKeepOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newLine()
		first := &brokenPort{closed: make(chan struct{})}
		var closedBefore bool
		l.open = func(int) (tunnel.Port, error) {
			select {
			case <-first.closed:
				closedBefore = true
			default:
			}
			return nil, nil
		}
		k := tunnel.Keep(t.Context(), first, l.Open, l.options())
		defer k.Close()
		reader(k) // fails only once first is closed
		write(t, k)
		synctest.Wait()
		if !closedBefore {
			t.Error("the next Port was opened before the last was closed")
		}
		if _, events := l.seen(); len(events) != 2 || events[0].Cause != errWrite || k.Dropped() != 1 {
			t.Errorf("events %+v, %d dropped", events, k.Dropped())
		}
	})
}

var errWrite = errors.New("the write failed")

// A brokenPort fails to write.
type brokenPort struct{ closed chan struct{} }

func (b *brokenPort) ReadPackets([]tunnel.Packet) (int, error) {
	<-b.closed
	return 0, errors.New("the read failed because of Close")
}
func (b *brokenPort) WritePackets([]tunnel.Packet) error { return errWrite }
func (b *brokenPort) Caps() tunnel.Caps                  { return keepCaps }
func (b *brokenPort) Close() error                       { close(b.closed); return nil }

// Both directions at once over a line that breaks all the time, for the race
// detector; nothing but what was dropped is lost before the end.
func TestKeepUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, first := newLine()
		k := tunnel.Keep(t.Context(), first, l.Open, tunnel.KeepOptions{})
		_, ended := reader(k)
		var writers sync.WaitGroup
		writers.Go(func() {
			for k.WritePackets([]tunnel.Packet{{Data: []byte("x")}}) == nil {
				time.Sleep(time.Millisecond)
			}
		})
		writers.Go(func() {
			for range 500 {
				time.Sleep(37 * time.Second)
				l.crash()
			}
			k.Close()
		})
		writers.Wait()
		if err := <-ended; err != net.ErrClosed {
			t.Errorf("ended with %v", err)
		}
		if dials, _ := l.seen(); len(dials) < 400 {
			t.Errorf("opened %d times", len(dials))
		}
	})
}
