package tls

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
	"github.com/bodkin-net/bodkin/carrier/tcp"
)

// A narrow way gives a few octets to each Read.
type narrow struct {
	io.ReadWriteCloser
	r *bufio.Reader
}

func (n narrow) Read(b []byte) (int, error) { return n.r.Read(b[:min(len(b), 7)]) }

func narrowed(s carrier.Stream) carrier.Stream {
	return carrier.Stream{ReadWriteCloser: narrow{s.ReadWriteCloser, bufio.NewReader(s.ReadWriteCloser)}}
}

// TestCarrier runs the suite over TCP, and over a way that carries it in crumbs.
func TestCarrier(t *testing.T) {
	for _, way := range []struct {
		name  string
		below func(t *testing.T) (a, b carrier.Stream)
	}{
		{"tcp", tcpStreams},
		{"narrow", func(t *testing.T) (a, b carrier.Stream) {
			a, b = tcpStreams(t)
			return narrowed(a), narrowed(b)
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			carriertest.Test(t, func(t *testing.T) carrier.Stream {
				a, b := way.below(t)
				ctx, cancel := context.WithCancel(t.Context())
				served := make(chan struct{})
				go func() {
					defer close(served)
					s, _, err := Server(ctx, b, serverConfig())
					if ctx.Err() != nil {
						return // the client has come and gone
					}
					if err != nil {
						t.Error(err)
						return
					}
					carriertest.Serve(ctx, s)
					s.Close()
				}()
				t.Cleanup(func() {
					cancel()
					<-served
				})
				s, _, err := Client(ctx, a, clientConfig())
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

// tcpStreams returns both ends of a TCP connection.
func tcpStreams(t *testing.T) (a, b carrier.Stream) {
	t.Helper()
	l, err := tcp.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = tcp.Dial(t.Context(), l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// TestSocket: what the kernel knows of the way below is known above, at both ends.
func TestSocket(t *testing.T) {
	a, b := tcpStreams(t)
	client, server := pair(t, a, b)
	if client.Socket != a.Socket || server.Socket != b.Socket {
		t.Errorf("sockets %v and %v, want %v and %v", client.Socket, server.Socket, a.Socket, b.Socket)
	}
	server.Close()
	client.Close()
}

// pair opens a connection over a and b that must succeed.
func pair(t testing.TB, a, b carrier.Stream) (client, server carrier.Stream) {
	t.Helper()
	c, s := connect(t, a, b, clientConfig(), serverConfig())
	if c.err != nil || s.err != nil {
		t.Fatal(c.err, s.err)
	}
	return c.s, s.s
}

// A hose is a way below that counts its Writes, and can be shut.
type hose struct {
	io.ReadWriteCloser
	writes, octets atomic.Int64
}

func (h *hose) Write(b []byte) (int, error) {
	h.writes.Add(1)
	h.octets.Add(int64(len(b)))
	return h.ReadWriteCloser.Write(b)
}

// A hosed connection counts what goes down, and ends in nothing.
func hosed(t *testing.T) (client carrier.Stream, counted *hose) {
	a, b := tcpStreams(t)
	counted = &hose{ReadWriteCloser: a.ReadWriteCloser}
	client, _ = pair(t, carrier.Stream{ReadWriteCloser: counted}, b)
	var drained sync.WaitGroup
	drained.Go(func() { io.Copy(io.Discard, b) }) // as it is: reading TLS allocates
	t.Cleanup(func() {
		client.Close()
		drained.Wait()
		b.Close()
	})
	return client, counted
}

// writer returns what writes buffers of these sizes at once: one by Write, more by
// WriteBuffers.
func writer(t *testing.T, client carrier.Stream, sizes []int) (write func(), total int) {
	buffers := make(net.Buffers, len(sizes))
	for i, n := range sizes {
		buffers[i] = make([]byte, n)
		total += n
	}
	scratch := make(net.Buffers, len(sizes))
	return func() {
		if len(buffers) == 1 {
			if n, err := client.Write(buffers[0]); n != total || err != nil {
				t.Errorf("%d octets: %d, %v", total, n, err)
			}
			return
		}
		copy(scratch, buffers)
		if err := client.WriteBuffers(scratch); err != nil {
			t.Error(err)
		}
	}, total
}

// TestGathers: what is written at once goes down at once.
func TestGathers(t *testing.T) {
	client, counted := hosed(t)
	const overhead = 5 + 1 + 16 // of each record: header, its real type, tag
	for _, c := range []struct {
		about           string
		sizes           []int // of the buffers; one: Write
		writes, records int64
	}{
		{"a word", []int{5}, 1, 1},
		{"a record", []int{maxRecord}, 1, 1},
		{"four records", []int{64 << 10}, 1, 4},
		{"four and one", []int{64<<10 + 1}, 2, 5},
		{"sixteen records", []int{256 << 10}, 4, 16},
		{"nothing", []int{0}, 0, 0},
		{"ten small buffers", []int{1500, 1500, 1500, 1500, 1500, 1500, 1500, 1500, 1500, 0}, 1, 1},
		{"forty frames", repeat(1500, 40), 1, 4},
		{"headers and large packets", []int{4, 40000, 4, 20000}, 1, 4},
		{"records and rests", []int{maxRecord + 1, maxRecord - 1, maxRecord}, 1, 3},
		{"two hundred frames", repeat(1500, 200), 5, 19},
	} {
		write, total := writer(t, client, c.sizes)
		writes, octets := counted.writes.Load(), counted.octets.Load()
		write()
		writes, octets = counted.writes.Load()-writes, counted.octets.Load()-octets
		if want := int64(total) + c.records*overhead; writes != c.writes || octets != want {
			t.Errorf("%s: %d octets in %d writes below, want %d in %d", c.about, octets, writes, want, c.writes)
		}
	}
}

func repeat(n, times int) []int {
	list := make([]int, times)
	for i := range list {
		list[i] = n
	}
	return list
}

// TestGoodbye: an orderly end is told from a way that was cut, and the other direction
// goes on after it.
func TestGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := streams()
		client, server := pair(t, a, b)
		go func() {
			client.Write([]byte("last"))
			client.ReadWriteCloser.(carrier.CloseWriter).CloseWrite()
		}()
		if got, err := io.ReadAll(server); string(got) != "last" || err != nil {
			t.Errorf("%q, %v; want an orderly end", got, err)
		}
		if _, err := client.Write([]byte("more")); err == nil || carrier.IsClosed(err) {
			t.Errorf("Write after CloseWrite: %v", err)
		}
		go func() {
			server.Write([]byte("still here"))
			server.Close()
		}()
		if got, err := io.ReadAll(client); string(got) != "still here" || err != nil {
			t.Errorf("the other way: %q, %v", got, err)
		}
		client.Close()

		for _, after := range []int{0, 1, 5, 20} { // octets of the next record
			a, b := streams()
			client, server := pair(t, a, b)
			go func() {
				client.Write([]byte("last"))
				a.Write([]byte("\x17\x03\x03\x00\x40 and some more than these")[:after])
				a.Close()
			}()
			got, err := io.ReadAll(server)
			if string(got) != "last" || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || carrier.IsClosed(err) {
				t.Errorf("cut after %d octets of a record: %q, %v; want io.ErrUnexpectedEOF", after, got, err)
			}
			closeBoth(client, server)
		}
	})
}

// errWords is what a way below says of its own end.
var errWords = errors.New("ssh: Connection reset by peer, exit status 255")

type ending struct{ io.ReadWriteCloser }

func (e ending) Read(b []byte) (int, error) {
	n, err := e.ReadWriteCloser.Read(b)
	if err == io.EOF {
		err = errWords
	}
	return n, err
}

// TestWordsOfTheWay: why the way ended is not hidden.
func TestWordsOfTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := streams()
		client, server := pair(t, a, carrier.Stream{ReadWriteCloser: ending{b}})
		go a.Close()
		if _, err := server.Read(make([]byte, 1)); err != errWords {
			t.Errorf("%v, want what the way said", err)
		}
		closeBoth(client, server)
	})
}

// TestOwnClose: what the way says when we close it is not news.
func TestOwnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := streams()
		client, server := pair(t, carrier.Stream{ReadWriteCloser: moaning{a}}, b)
		ended := make(chan error)
		go func() { _, err := client.Read(make([]byte, 1)); ended <- err }()
		closeBoth(client, server)
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read, woken by Close: %v", err)
		}
	})
}

// A moaning way says something of its own at every end.
type moaning struct{ io.ReadWriteCloser }

func (m moaning) Read(b []byte) (int, error) {
	n, err := m.ReadWriteCloser.Read(b)
	if err != nil {
		err = errWords
	}
	return n, err
}

// TestCloseIsShort: a peer that reads nothing holds Close up for a second, and not at
// all if a Write is stuck already.
func TestCloseIsShort(t *testing.T) {
	for _, c := range []struct {
		about   string
		writing bool
		shut    bool
		want    time.Duration
	}{
		{"idle", false, false, closeTime},
		{"in a Write", true, false, 0},
		{"after CloseWrite", false, true, closeTime},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := streams()
			client, server := pair(t, a, b)
			wrote := make(chan error, 1)
			if c.writing {
				go func() { _, err := client.Write(make([]byte, 100)); wrote <- err }()
			}
			if c.shut {
				if err := client.ReadWriteCloser.(carrier.CloseWriter).CloseWrite(); err != nil {
					t.Error(err)
				}
				if n, err := client.Write([]byte("more")); n != 0 || err == nil {
					t.Errorf("%s: Write: %d, %v", c.about, n, err)
				}
			}
			synctest.Wait()
			start := time.Now()
			if err := client.Close(); err != nil {
				t.Errorf("%s: %v", c.about, err)
			}
			if took := time.Since(start); took != c.want {
				t.Errorf("%s: Close took %v, want %v", c.about, took, c.want)
			}
			if c.writing {
				if err := <-wrote; !carrier.IsClosed(err) {
					t.Errorf("%s: Write, woken: %v", c.about, err)
				}
			}
			server.Close()
		})
	}
}

// TestDamageIsSeenWhileWriting: damage ends Read at once, also when the peer takes
// nothing of what is being written: both may find it at the same time.
func TestDamageIsSeenWhileWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := streams()
		client, server := pair(t, a, b)
		wrote := make(chan error, 1)
		go func() { _, err := client.Write(make([]byte, 1<<20)); wrote <- err }()
		synctest.Wait() // it is stuck
		go b.Write([]byte("\x17\x03\x03\x00\x20this was never the other side's."))
		start := time.Now()
		n, err := client.Read(make([]byte, 100))
		if n != 0 || !errors.Is(err, ErrDamaged) || time.Since(start) != 0 {
			t.Errorf("%d, %v after %v", n, err, time.Since(start))
		}
		if _, again := client.Read(make([]byte, 100)); !errors.Is(again, ErrDamaged) {
			t.Errorf("and then: %v", again)
		}
		// Once the peer reads again it gets what was on its way, and is told.
		got, err := io.ReadAll(server)
		if len(got) == 0 || len(got) > 64<<10 || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "the far side met") {
			t.Errorf("the peer was told after %d octets: %v", len(got), err)
		}
		if err := <-wrote; !errors.Is(err, ErrDamaged) {
			t.Errorf("Write: %v", err)
		}
		closeBoth(client, server)
	})
}

// TestDamageIsTold: the peer learns that what it sent came damaged.
func TestDamageIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := streams()
		client, server := pair(t, a, b)
		go b.Write([]byte("\x17\x03\x03\x00\x20this was never the other side's."))
		told := make(chan error)
		go func() { _, err := server.Read(make([]byte, 1)); told <- err }()
		if _, err := client.Read(make([]byte, 100)); !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
		if err := <-told; !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "the far side met bad record MAC") {
			t.Errorf("the peer was told: %v", err)
		}
		if _, err := client.Write([]byte("x")); !errors.Is(err, ErrDamaged) {
			t.Errorf("Write after damage: %v", err)
		}
		closeBoth(client, server)
	})
}

// TestNobodyThere is what is there in the place of TLS: nothing, an end, text.
func TestNobodyThere(t *testing.T) {
	silence, hangup := new(*carrier.SilenceError), new(*carrier.HangUpError)
	for _, c := range []struct {
		about, sends string
		ends         bool
		want         any // nil: ErrDamaged
		says         string
	}{
		{"silence", "", false, silence, "0 octets"},
		{"the beginning of something", "\x16\x03", false, silence, "2 octets"},
		{"an end", "", true, hangup, "after 0 octets"},
		{"a short word and an end", "no\n", true, hangup, `after 3 octets, "no"`},
		{"a record that ends", "\x16\x03\x03\x00\x80\x02", true, hangup, "after 6 octets"},
		{"a shell", "sh: 1: bodkin: not found\r\n\x1b]0;owned\a$ ", false, nil, `no TLS, but begins "sh: 1: bodkin: not found  ?]0;owned?$"`},
		{"much text", strings.Repeat("login: ", 20000), false, nil, `begins "login: login:`},
		{"an old protocol", "\x80\x2e\x01\x00\x02", false, nil, "no TLS"},
		{"an empty record", "\x16\x03\x03\x00\x00", false, nil, "unexpected message"},
		{"a record too long", "\x16\x03\x03\xff\xff", false, nil, "oversized"},
		{"an alert", "\x15\x03\x03\x00\x02\x02\x28", false, new(*carrier.RefusedError), "handshake failure"},
	} {
		for _, open := range []func(context.Context, carrier.Stream, Config) (carrier.Stream, Peer, error){Client, Server} {
			synctest.Test(t, func(t *testing.T) {
				a, b := streams()
				go io.Copy(io.Discard, b)
				go func() {
					io.WriteString(b, c.sends)
					if c.ends {
						b.Close()
					}
				}()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				s, _, err := open(ctx, a, clientConfig())
				if err == nil || s.ReadWriteCloser != nil || !strings.Contains(err.Error(), c.says) || strings.ContainsAny(err.Error(), "\x1b\n\r\a") {
					t.Errorf("%s: %v; want %q", c.about, err, c.says)
				}
				if c.want == nil && !errors.Is(err, ErrDamaged) || c.want != nil && !errors.As(err, c.want) {
					t.Errorf("%s: %T %v", c.about, err, err)
				}
				if _, err := a.Write([]byte{0}); !carrier.IsClosed(err) {
					t.Errorf("%s: below is open: %v", c.about, err)
				}
			})
		}
	}
}

func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := streams()
		go io.Copy(io.Discard, b)
		reason := errors.New("Ctrl-C")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(reason) })
		if _, _, err := Client(ctx, a, clientConfig()); err != reason {
			t.Errorf("%v, want the cause", err)
		}
	})
}

// A Stream that is given up wakes its reader at once, though the peer says nothing.
func TestGiveUp(t *testing.T) {
	a, b := tcpStreams(t)
	client, server := pair(t, a, b)
	defer server.Close()
	woke := make(chan error, 1)
	go func() {
		_, err := client.Read(make([]byte, 1))
		woke <- err
	}()
	began := time.Now()
	if err := client.GiveUp(); err != nil {
		t.Error(err)
	}
	if err := <-woke; !carrier.IsClosed(err) {
		t.Errorf("the reader is woken by %v", err)
	}
	if took := time.Since(began); took > closeTime/2 {
		t.Errorf("giving up took %v", took)
	}
	if _, err := client.Write([]byte("x")); !carrier.IsClosed(err) {
		t.Errorf("writing afterwards: %v", err)
	}
	if err := client.Close(); err != nil {
		t.Errorf("closing afterwards: %v", err)
	}
}
