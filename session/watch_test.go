package session

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// reads takes what comes until s ends.
func reads(s *Session) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 1000); ; {
			if _, err := s.Read(b); err != nil {
				return
			}
		}
	}()
	return done
}

// losses counts what Lost is told, with the time.
type loss struct {
	at    time.Time
	cause error
}

func losing(o Options, to chan loss) Options {
	o.Lost = func(cause error) { to <- loss{time.Now(), cause} }
	return o
}

// A connection that dies in silence is found after three beats, by either side, and
// whether somebody reads or not; one that lives is not, for a day.
func TestSilence(t *testing.T) {
	for _, reading := range []bool{true, false} {
		for _, beat := range []time.Duration{0, time.Second} {
			synctest.Test(t, func(t *testing.T) {
				lost := make(chan loss, 10)
				o := losing(Options{Grace: time.Hour, Beat: beat}, lost)
				w, near, far := newWay(1<<16, -1, -1)
				client, server := begin(t, near, far, o)
				if reading {
					defer func(a, b chan struct{}) { <-a; <-b }(reads(client), reads(server))
				}
				defer client.Close()
				defer server.Close()
				time.Sleep(24*time.Hour + time.Second/3)
				if len(lost) > 0 {
					t.Fatalf("a connection that lives was given up: %v", (<-lost).cause)
				}
				w.silence(true)
				start := time.Now()
				beat := client.beat
				for range 2 {
					if d := (<-lost).at.Sub(start); d < 2*beat || d > 3*beat+restTime {
						t.Errorf("found after %v, with a beat of %v", d, beat)
					}
				}
			})
		}
	}
}

// On a way that is known to be slow an answer may take longer; where something below
// watches, silence is no sign at all.
func TestPatience(t *testing.T) {
	for name, c := range map[string]struct {
		with func(*carrier.Stream)
		want time.Duration
	}{
		"slow":    {func(s *carrier.Stream) { s.Rate = 1 << 10 }, deadBeats*DefaultBeat + 128*time.Second},
		"lasting": {func(s *carrier.Stream) { s.Lasting = true }, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			lost := make(chan loss, 1)
			w, near, far := newWay(1<<16, -1, -1)
			c.with(&near)
			far.Lasting = true
			client, server := beginWith(t, near, far, losing(tenMinutes, lost), tenMinutes)
			done := reads(client)
			defer func() { <-done }()
			defer client.Close()
			defer server.Close()
			w.silence(true)
			start := time.Now()
			if c.want == 0 {
				if time.Sleep(time.Hour); len(lost) > 0 {
					t.Errorf("%s: given up: %v", name, (<-lost).cause)
				}
			} else if d := (<-lost).at.Sub(start); d != c.want {
				t.Errorf("%s: found after %v, want %v", name, d, c.want)
			}
		})
	}
}

func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := make(chan loss, 1)
		w, near, far := newWay(1<<16, -1, -1)
		client, server := beginWith(t, near, far, losing(tenMinutes, lost), tenMinutes)
		done, far_ := reads(client), reads(server)
		defer func() { <-done; <-far_ }()
		defer client.Close()
		defer server.Close()
		client.Probe(2 * time.Second)
		client.Probe(time.Second)
		client.Probe(3 * time.Second)
		time.Sleep(time.Minute)
		if len(lost) > 0 {
			t.Fatalf("a connection that answers was given up: %v", (<-lost).cause)
		}
		if client.Stats().RoundTrip == 0 {
			t.Error("an answer, and no round trip")
		}
		w.silence(true)
		start := time.Now()
		client.Probe(3 * time.Second)
		client.Probe(time.Second)
		if d := (<-lost).at.Sub(start); d != time.Second {
			t.Errorf("found after %v", d)
		}
		client.Probe(time.Second) // of nothing
	})
}

// A process that stood still for a minute asks before it gives the connection up.
func TestStoodStill(t *testing.T) {
	for _, alive := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			lost := make(chan loss, 1)
			w, near, far := newWay(1<<16, -1, -1)
			client, server := beginWith(t, near, far, losing(tenMinutes, lost), tenMinutes)
			done, there := reads(client), reads(server)
			defer func() { <-done; <-there }()
			defer client.Close()
			defer server.Close()
			a := client.now
			a.watch.timer.Stop()
			server.now.watch.timer.Stop()
			time.Sleep(time.Minute)
			w.silence(!alive)
			client.look(a) // late
			start := time.Now()
			time.Sleep(client.beat - 1)
			if len(lost) > 0 {
				t.Fatal("given up without a question")
			}
			time.Sleep(2 * time.Nanosecond)
			synctest.Wait()
			if alive != (len(lost) == 0) {
				t.Errorf("alive %v, and %d losses after %v", alive, len(lost), time.Since(start))
			}
		})
	}
}

func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := make(chan loss, 1)
		_, near, far := newWay(1<<16, -1, -1)
		client, server := beginWith(t, near, far, losing(tenMinutes, lost), tenMinutes)
		client.Drop(errCut)
		if l := <-lost; l.cause != errCut || client.Stats().Attached {
			t.Errorf("%v, %+v", l.cause, client.Stats())
		}
		client.Drop(errCut) // nothing
		if _, err := server.now.stream.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection is open: %v", err)
		}
		attached(t, client, server)
		flows(t, client, server)
		client.Close()
		server.Close()
	})
}
