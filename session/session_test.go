package session

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
	"github.com/bodkin-net/bodkin/carrier/tcp"
)

var tenMinutes = Options{Grace: 10 * time.Minute}

// begin makes a Session on two ends of a connection.
func begin(t testing.TB, near, far carrier.Stream, o Options) (client, server *Session) {
	t.Helper()
	return beginWith(t, near, far, o, o)
}

func beginWith(t testing.TB, near, far carrier.Stream, ours, theirs Options) (client, server *Session) {
	t.Helper()
	var both sync.WaitGroup
	both.Go(func() {
		c, err := Greet(t.Context(), far)
		if err != nil {
			t.Error(err)
			return
		}
		if server, err = c.Accept(t.Context(), Terms{Grace: time.Hour, Note: "hi"}, theirs); err != nil {
			t.Error(err)
		}
	})
	client, terms, err := Open(t.Context(), near, ours)
	if err != nil {
		t.Fatal(err)
	}
	both.Wait()
	if want := (Terms{Grace: ours.Grace, Note: "hi"}); terms != want {
		t.Errorf("terms: %+v, want %+v", terms, want)
	}
	return client, server
}

// again attaches both to the ends of a new connection.
func again(ctx context.Context, client, server *Session, near, far carrier.Stream) (here, there error) {
	var both sync.WaitGroup
	both.Go(func() {
		c, err := Greet(ctx, far)
		if err != nil {
			there = err
			return
		}
		there = server.Resume(ctx, c)
	})
	here = client.Attach(ctx, near)
	both.Wait()
	return here, there
}

// attached attaches both to a new way.
func attached(t *testing.T, client, server *Session) *way {
	t.Helper()
	w, near, far := newWay(1<<16, -1, -1)
	if here, there := again(t.Context(), client, server, near, far); here != nil || there != nil {
		t.Fatalf("attaching: %v; %v", here, there)
	}
	return w
}

// pass wants what from writes to arrive at to.
func pass(t *testing.T, from, to *Session, text string) {
	t.Helper()
	wrote := make(chan error, 1)
	go func() { _, err := from.Write([]byte(text)); wrote <- err }()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != text {
		t.Fatalf("%q, %v arrived, want %q", got, err, text)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

// flows wants octets to pass both ways.
func flows(t *testing.T, client, server *Session) {
	t.Helper()
	pass(t, client, server, "from the client, ")
	pass(t, server, client, "and back")
}

// tcpPair returns the two ends of a connection on loopback.
func tcpPair(t testing.TB) (near, far carrier.Stream) {
	t.Helper()
	l, err := tcp.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err = tcp.Dial(t.Context(), l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func TestCarrier(t *testing.T) {
	carriertest.Test(t, func(t *testing.T) carrier.Stream {
		near, far := tcpPair(t)
		o := tenMinutes
		o.Lost = func(cause error) {
			if t.Context().Err() == nil && !carrier.IsClosed(cause) {
				t.Errorf("the connection is lost: %v", cause)
			}
		}
		client, server := begin(t, near, far, o)
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan struct{})
		go func() {
			defer close(served)
			carriertest.Serve(ctx, server.Stream())
			server.Close()
		}()
		t.Cleanup(func() {
			cancel()
			<-served
			client.Close()
		})
		return client.Stream()
	})
}

// The new Stream takes over whether the old one is dead, half-open or well, and nothing
// is lost or comes twice.
func TestAttach(t *testing.T) {
	for name, harm := range map[string]func(*way){
		"dead":      (*way).cut,
		"half-open": func(w *way) { w.silence(true) },
		"well":      func(*way) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, near, far := newWay(1<<16, -1, -1)
				client, server := begin(t, near, far, tenMinutes)
				defer server.Close()
				defer client.Close()
				flows(t, client, server)
				for range 3 {
					harm(w)
					client.Write([]byte("written before"))
					before := w
					w = attached(t, client, server)
					synctest.Wait()
					for i := range before.dirs {
						if !before.dirs[i].ended {
							t.Errorf("end %d of the old connection is open", i)
						}
					}
					got := make([]byte, 14)
					if _, err := io.ReadFull(server, got); err != nil || string(got) != "written before" {
						t.Fatalf("%q, %v", got, err)
					}
					flows(t, client, server)
				}
				if st := client.Stats(); st.Streams != 4 || !st.Attached {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// A Write that blocks in a connection that takes nothing does not hold up the next.
func TestAttachWakesWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near, far := newWay(100, -1, -1)
		client, server := begin(t, near, far, tenMinutes)
		defer server.Close()
		defer client.Close()
		wrote := make(chan error, 1)
		go func() { _, err := client.Write(make([]byte, 1000)); wrote <- err }()
		synctest.Wait()
		attached(t, client, server)
		if _, err := io.ReadFull(server, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		if r := client.Stats().Replayed; r == 0 || r > 1000 {
			t.Errorf("%d octets sent again", r)
		}
	})
}

func TestAwayHoldsSoMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, near, far := newWay(1<<16, -1, -1)
		client, server := begin(t, near, far, tenMinutes)
		defer server.Close()
		defer client.Close()
		w.cut()
		server.Drop(errCut)
		client.Drop(errCut)
		taken := 0
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			for range 300 {
				n, err := client.Write(make([]byte, 10_000))
				if err != nil {
					t.Error(err)
				}
				taken += n
			}
		}()
		synctest.Wait()
		if taken > mostAway || taken < mostAway-10_000 {
			t.Errorf("took %d octets without a connection, want nearly %d", taken, mostAway)
		}
		if room, _ := client.Room(); room != 0 {
			t.Errorf("room for %d more", room)
		}
		attached(t, client, server)
		if _, err := io.ReadFull(server, make([]byte, 3_000_000)); err != nil {
			t.Fatal(err)
		}
		<-wrote
		synctest.Wait()
		time.Sleep(time.Second)
		client.mu.Lock()
		defer client.mu.Unlock()
		if client.replay.room != 0 || client.replay.base != client.replay.end {
			t.Errorf("all is acknowledged, and memory is held: %d to %d, room to %d", client.replay.base, client.replay.end, client.replay.room)
		}
	})
}

func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, near, far := newWay(1<<16, -1, -1)
		client, server := begin(t, near, far, Options{Grace: time.Minute})
		defer client.Close()
		defer server.Close()
		for range 3 {
			w.cut()
			client.Drop(errCut)
			server.Drop(errCut)
			time.Sleep(59 * time.Second)
			w = attached(t, client, server)
			time.Sleep(time.Hour)
			flows(t, client, server)
		}
		w.cut()
		client.Drop(errCut)
		server.Drop(errCut)
		start := time.Now()
		if _, err := server.Read(make([]byte, 1)); err != ErrExpired {
			t.Errorf("Read: %v", err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("held for %v", d)
		}
		<-server.Done()
		if server.Err() != ErrExpired {
			t.Errorf("Err: %v", server.Err())
		}
		if _, err := server.Write([]byte{1}); err != ErrExpired {
			t.Errorf("Write: %v", err)
		}
		_, near, far = newWay(1<<16, -1, -1)
		if here, there := again(t.Context(), client, server, near, far); !errors.Is(here, ErrUnknown) || !errors.Is(there, ErrUnknown) {
			t.Errorf("attaching to the expired: %v; %v", here, there)
		}
		select {
		case <-client.Done():
			t.Error("the side that dialled gave up by itself")
		default:
		}
	})
}

func TestNoGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []error
		o := Options{Lost: func(cause error) { told = append(told, cause) }}
		w, near, far := newWay(1<<16, -1, -1)
		client, server := beginWith(t, near, far, o, Options{})
		w.cut()
		for _, s := range []*Session{client, server} {
			if _, err := s.Read(make([]byte, 1)); err != errCut {
				t.Errorf("Read: %v, want the connection's own error", err)
			}
			if <-s.Done(); s.Err() != errCut {
				t.Errorf("Err: %v", s.Err())
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if len(told) != 1 || told[0] != errCut {
			t.Errorf("told of %v", told)
		}
	})
}

func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near, far := newWay(1<<16, -1, -1)
		client, server := begin(t, near, far, tenMinutes)
		go func() {
			client.Write(make([]byte, 200_000))
			client.Close()
		}()
		n, err := io.Copy(io.Discard, struct{ io.Reader }{server})
		if n != 200_000 || err != nil {
			t.Errorf("%d octets, %v", n, err)
		}
		if <-server.Done(); server.Err() != io.EOF {
			t.Errorf("Err: %v", server.Err())
		}
		if _, err := server.Write([]byte{1}); !carrier.IsClosed(err) || err == io.EOF {
			t.Errorf("Write after the peer's end: %v", err)
		}
		server.Close()
		if _, err := server.Read(make([]byte, 1)); err != net.ErrClosed {
			t.Errorf("Read after Close: %v", err)
		}
	})
}

// What was written while there was no connection goes out before the end.
func TestEndAfterReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, near, far := newWay(1<<16, -1, -1)
		client, server := begin(t, near, far, tenMinutes)
		w.cut()
		client.Drop(errCut)
		server.Drop(errCut)
		client.Write(make([]byte, 300_000))
		attached(t, client, server)
		go client.Close()
		n, err := io.Copy(io.Discard, struct{ io.Reader }{server})
		if n != 300_000 || err != nil {
			t.Errorf("%d octets, %v", n, err)
		}
		server.Close()
		client.Close()
	})
}

// Close ends within a second though nothing moves.
func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near, far := newWay(100, -1, -1)
		client, server := begin(t, near, far, tenMinutes)
		wrote := make(chan error, 1)
		go func() {
			_, err := client.Write(make([]byte, 1<<20))
			wrote <- err
		}()
		synctest.Wait()
		start := time.Now()
		client.Close()
		if d := time.Since(start); d > farewellTime {
			t.Errorf("Close took %v", d)
		}
		if err := <-wrote; err != net.ErrClosed {
			t.Errorf("Write: %v", err)
		}
		server.Close()
	})
}

// A peer that does not read while it writes, as a plain echo does, stops nobody.
func TestEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near, far := newWay(1<<16, -1, -1)
		client, server := begin(t, near, far, tenMinutes)
		echoed := make(chan struct{})
		go func() {
			defer close(echoed)
			io.CopyBuffer(struct{ io.Writer }{server}, struct{ io.Reader }{server}, make([]byte, 4000))
		}()
		const total = 20 << 20
		wrote := make(chan struct{})
		go func() { defer close(wrote); client.Write(make([]byte, total)) }()
		if _, err := io.CopyN(io.Discard, struct{ io.Reader }{client}, total); err != nil {
			t.Error(err)
		}
		<-wrote
		client.Close()
		<-echoed
		server.Close()
		if server.early != nil {
			t.Errorf("%d octets of memory are kept", cap(server.early))
		}
	})
}

// A server holds a thousand: one that is idle costs a few KiB, after much has passed too.
func TestIdleMemory(t *testing.T) {
	// Octets for each Session, with its goroutine and a reader's, its half of the way, and
	// its part of what the pool still has.
	const pairs, most = 200, 32 << 10
	var sessions []*Session
	var reading []chan struct{}
	use := func() (heap, stacks uint64) {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // the first leaves a pool's memory in its reserve
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, m.StackInuse
	}
	heap, stacks := use()
	for range pairs {
		_, near, far := newWay(1<<16, -1, -1)
		client, server := begin(t, near, far, Options{Grace: time.Hour, Beat: time.Hour})
		sessions = append(sessions, client, server)
		wrote := make(chan struct{})
		go func() { defer close(wrote); client.Write(make([]byte, 1<<20)) }()
		io.ReadFull(server, make([]byte, 1<<20))
		<-wrote
		pass(t, server, client, "all of it")
		reading = append(reading, reads(client), reads(server))
	}
	time.Sleep(10 * ackDelay)
	for i, s := range sessions {
		s.mu.Lock()
		if s.replay.base != s.replay.end || s.replay.room != 0 {
			t.Errorf("session %d holds octets %d to %d, and room to %d", i, s.replay.base, s.replay.end, s.replay.room)
		}
		s.mu.Unlock()
	}
	h, s := use()
	h, s = (h-heap)/(2*pairs), (s-stacks)/(2*pairs)
	t.Logf("%d octets each, and %d of stacks", h, s)
	if h+s > most {
		t.Errorf("an idle Session holds %d octets, and %d of stacks, want at most %d", h, s, most)
	}
	var closing sync.WaitGroup
	for _, s := range sessions {
		closing.Go(func() { s.Close() })
	}
	closing.Wait()
	for _, r := range reading {
		<-r
	}
}

func TestThousandAttaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near, far := newWay(1<<16, -1, -1)
		client, server := begin(t, near, far, tenMinutes)
		attached(t, client, server)
		flows(t, client, server)
		synctest.Wait()
		before := runtime.NumGoroutine()
		for range 1000 {
			attached(t, client, server)
			flows(t, client, server)
		}
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines, %d before", n, before)
		}
		client.Close()
		server.Close()
	})
}

// A plain native link is handed on as it came, and so is a greeting.
func TestGreetReadsNoMore(t *testing.T) {
	hello := append([]byte{nativeHello, 0, 0, 20}, "bodkin and what follows"...)
	resume := append(newMessage(frameResume, versions, make([]byte, 16+nonceLen)), "what follows"...)
	fresh := append(newMessage(frameNew, versions, milliseconds(time.Minute), make([]byte, keyLen)), "what follows"...)
	for _, octets := range [][]byte{hello, resume, fresh} {
		_, near, far := newWay(1<<16, -1, -1)
		near.Write(octets)
		near.Close()
		c, err := Greet(t.Context(), far)
		if err != nil {
			t.Fatal(err)
		}
		if c.Plain() != (octets[0] == nativeHello) {
			t.Errorf("%q is plain: %v", octets, c.Plain())
		}
		if _, ok := c.Resumes(); ok != (octets[0] == frameResume) {
			t.Errorf("%q resumes: %v", octets, ok)
		}
		if want := map[bool]time.Duration{true: time.Minute}[octets[0] == frameNew]; c.Wants() != want {
			t.Errorf("%q wants %v", octets, c.Wants())
		}
		got, err := io.ReadAll(c.Stream())
		if err != nil || string(got) != string(octets) {
			t.Errorf("%q, %v is left of %q", got, err, octets)
		}
	}
}

func TestRefusals(t *testing.T) {
	refused := func(t *testing.T, reason error) error {
		_, near, far := newWay(1<<16, -1, -1)
		served := make(chan struct{})
		go func() {
			defer close(served)
			if c, err := Greet(t.Context(), far); err == nil {
				c.Refuse(reason)
			} else {
				t.Error(err)
			}
		}()
		_, _, err := Open(t.Context(), near, tenMinutes)
		<-served
		return err
	}
	synctest.Test(t, func(t *testing.T) {
		if err := refused(t, ErrUnknown); !errors.Is(err, ErrUnknown) {
			t.Errorf("%v", err)
		}
		var r *carrier.RefusedError
		if err := refused(t, errors.New("no room\x1b[2J here")); !errors.As(err, &r) || r.Reason != "the other side refused: no room?[2J here" {
			t.Errorf("%v", err)
		}
	})
}

// Someone who says nothing, or nonsense, or hangs up is not waited for for long.
func TestStrangers(t *testing.T) {
	for name, says := range map[string]string{"nothing": "", "little": "\x11\x00", "nonsense": "GET / HTTP/1.1\r\n\r\n", "too much": "\x11\x00\xff\xff", "a later message": "\x17\x00\x00\x01\x01"} {
		synctest.Test(t, func(t *testing.T) {
			_, near, far := newWay(1<<16, -1, -1)
			near.Write([]byte(says))
			start := time.Now()
			if _, err := Greet(t.Context(), far); err == nil {
				t.Errorf("%s: greeted", name)
			}
			if d := time.Since(start); d > greetTime {
				t.Errorf("%s: took %v", name, d)
			}
			if _, err := far.Read(make([]byte, 1)); err != net.ErrClosed {
				t.Errorf("%s: the connection is open: %v", name, err)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			_, near, far := newWay(1<<16, -1, -1)
			far.Write([]byte(says))
			if _, _, err := Open(t.Context(), near, tenMinutes); err == nil {
				t.Errorf("%s: opened", name)
			}
		})
	}
}
