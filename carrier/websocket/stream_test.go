package websocket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	library "github.com/coder/websocket"

	"github.com/bodkin-net/bodkin/carrier"
)

// pipes returns both ends of a connection over below, which is in memory.
func pipes(t *testing.T, near, far net.Conn) (client, server carrier.Stream) {
	t.Helper()
	accepted := make(chan carrier.Stream, 1)
	l := &oneListener{c: far, closed: make(chan struct{})}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := Accept(w, r)
		if err != nil {
			t.Error(err)
		}
		accepted <- s
	})}
	var served sync.WaitGroup
	served.Go(func() { web.Serve(l) })
	client, err := Hop("web.example", "/", nil)(t.Context(), carrier.Stream{ReadWriteCloser: near})
	if err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	web.Close()
	served.Wait()
	return client, server
}

// A oneListener accepts one connection.
type oneListener struct {
	c      net.Conn
	given  atomic.Bool
	once   sync.Once
	closed chan struct{}
}

func (l *oneListener) Accept() (net.Conn, error) {
	if !l.given.Swap(true) {
		return l.c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}
func (l *oneListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *oneListener) Addr() net.Addr { return address{} }

// A counted connection counts the Writes, and can be shut.
type counted struct {
	net.Conn
	writes, octets atomic.Int64
	shut           chan struct{} // while not nil and open, Writes wait
}

func (c *counted) Write(b []byte) (int, error) {
	if c.shut != nil {
		<-c.shut
	}
	c.writes.Add(1)
	c.octets.Add(int64(len(b)))
	return c.Conn.Write(b)
}

// TestOneWriteBelow has one Write below for one of ours, of one buffer or of many.
func TestOneWriteBelow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		near, far := &counted{Conn: a}, &counted{Conn: b}
		client, server := pipes(t, near, far)
		var drains sync.WaitGroup
		for _, end := range []struct {
			s    carrier.Stream
			peer carrier.Stream
			c    *counted
		}{{client, server, near}, {server, client, far}} {
			drains.Go(func() { io.Copy(io.Discard, end.peer) })
			for _, write := range []func() error{
				func() error { _, err := end.s.Write(make([]byte, maxMessage)); return err },
				func() error { return end.s.WriteBuffers(make40(1500)) },
				func() error { return end.s.WriteBuffers(net.Buffers{nil, make([]byte, maxMessage), {}}) },
			} {
				before := end.c.writes.Load()
				if err := write(); err != nil {
					t.Fatal(err)
				}
				if n := end.c.writes.Load() - before; n != 1 {
					t.Errorf("%d Writes below for one", n)
				}
			}
		}
		client.Close()
		server.Close()
		drains.Wait()
	})
}

func make40(size int) (buffers net.Buffers) {
	for range 40 {
		buffers = append(buffers, make([]byte, size))
	}
	return buffers
}

// TestKeepAlive has a quiet hour: each end writes every 30 seconds or so, and both live.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		near, far := &counted{Conn: a}, &counted{Conn: b}
		client, server := pipes(t, near, far)
		var readers sync.WaitGroup
		readers.Go(func() { io.Copy(io.Discard, client) })
		readers.Go(func() { io.Copy(server, server) })
		writes := near.writes.Load()
		const quiet = time.Hour
		time.Sleep(quiet)
		synctest.Wait()
		if n := near.writes.Load() - writes; n < int64(quiet/idleTime) || n > 3*int64(quiet/idleTime) {
			t.Errorf("%d Writes in a quiet hour", n)
		}
		if _, err := client.Write([]byte("still there")); err != nil {
			t.Error(err)
		}
		client.Close()
		server.Close()
		readers.Wait()
	})
}

// TestPongBehindStuckWrite has a peer that pings while our message is stuck below for
// minutes: the library alone would end the connection after five seconds.
func TestPongBehindStuckWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		near := &counted{Conn: a}
		client, server := pipes(t, near, b)
		near.shut = make(chan struct{})
		sent := bytes.Repeat([]byte("stuck"), 10000)
		wrote := make(chan error, 1)
		go func() {
			_, err := client.Write(sent)
			wrote <- err
		}()
		synctest.Wait()
		var readers sync.WaitGroup
		var came bytes.Buffer
		readers.Go(func() { io.Copy(&came, client) })
		time.Sleep(10 * idleTime) // the server pings
		if _, err := server.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if came.String() != "hello" {
			t.Errorf("%q came while our own message was stuck", came.String())
		}
		close(near.shut)
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(server, got); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("what was stuck: %v", err)
		}
		readers.Go(func() { io.Copy(io.Discard, server) }) // the pipe holds nothing, and Pongs come
		if err := <-wrote; err != nil {
			t.Error(err)
		}
		client.Close()
		server.Close()
		readers.Wait()
	})
}

// TestSlowWay has a message whose first part is delivered before its last is there.
func TestSlowWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		slow := &trickle{Conn: b}
		client, server := pipes(t, a, slow)
		slow.each.Store(100)
		var writer sync.WaitGroup
		writer.Go(func() { client.Write(make([]byte, 50000)) })
		buf := make([]byte, 64<<10)
		began := time.Now()
		for got := 0; got < 50000; {
			n, err := server.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got += n
			// 1000 octets a second come; 512 of them may wait for the rest of a read.
			if late := time.Since(began) - time.Duration(got)*time.Millisecond; late > time.Second {
				t.Fatalf("%d octets came %v late", got, late)
			}
		}
		writer.Wait()
		slow.each.Store(0)
		writer.Go(func() { client.Close() })
		server.Close()
		writer.Wait()
	})
}

// A trickle reads a few octets at a time, ten times a second.
type trickle struct {
	net.Conn
	each atomic.Int64
}

func (s *trickle) Read(b []byte) (int, error) {
	n := int(s.each.Load())
	if n == 0 {
		return s.Conn.Read(b)
	}
	time.Sleep(100 * time.Millisecond)
	return s.Conn.Read(b[:min(n, len(b))])
}

// TestMutePeer has a peer that answers no Close: a second, and it is over.
func TestMutePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		client, server := pipes(t, a, b)
		began := time.Now()
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 2*closeTime {
			t.Errorf("Close took %v", took)
		}
		server.Close()
	})
}

// TestEnds has the ways in which a peer's connection may end.
func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(ws *library.Conn, below net.Conn)
		want func(error) bool
	}{
		{"goodbye", func(ws *library.Conn, _ net.Conn) { ws.Close(library.StatusNormalClosure, "") }, func(err error) bool { return err == io.EOF }},
		{"going away", func(ws *library.Conn, _ net.Conn) { ws.Close(library.StatusGoingAway, "") }, func(err error) bool { return err == io.EOF }},
		{"a reason", func(ws *library.Conn, _ net.Conn) { ws.Close(library.StatusPolicyViolation, "bad\x1b[0m") }, func(err error) bool {
			return strings.Contains(err.Error(), `1008 "bad?[0m"`)
		}},
		{"cut", func(_ *library.Conn, below net.Conn) { below.Close() }, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		{"text", func(ws *library.Conn, _ net.Conn) {
			ws.Write(context.Background(), library.MessageText, []byte("text"))
		}, func(err error) bool {
			return strings.Contains(err.Error(), "text")
		}},
		{"no frame", func(_ *library.Conn, below net.Conn) { below.Write(bytes.Repeat([]byte{0xff}, 100)) }, func(err error) bool { return !carrier.IsClosed(err) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := net.Pipe()
			client, server := pipes(t, a, b)
			var ender sync.WaitGroup
			ender.Go(func() { io.Copy(io.Discard, b) })
			ender.Go(func() { c.end(server.ReadWriteCloser.(*conn).ws, b) })
			_, err := client.Read(make([]byte, 1))
			if err == nil || !c.want(err) {
				t.Errorf("%v", err)
			}
			client.Close()
			b.Close()
			server.Close()
			ender.Wait()
		})
	}
}

// TestPingFlood has a peer that pings all the time and reads no Pong: bounded.
func TestPingFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		client, server := pipes(t, a, b)
		var flood sync.WaitGroup
		frame := append([]byte{0x89, 125}, make([]byte, 125)...) // a Ping of the server's (RFC 6455, section 5.5.2)
		flood.Go(func() {
			for {
				if _, err := b.Write(frame); err != nil {
					return
				}
			}
		})
		_, err := client.Read(make([]byte, 1))
		if !errors.Is(err, errStranded) {
			t.Errorf("%v", err)
		}
		client.Close()
		server.Close()
		flood.Wait()
	})
}

// FuzzRead gives the client's end what a server should never send: it ends in order, and
// every octet delivered was one of a binary message's.
func FuzzRead(f *testing.F) {
	f.Add([]byte{0x82, 3, 'a', 'b', 'c'})
	f.Add([]byte{0x02, 1, 'a', 0x89, 0, 0x80, 1, 'b', 0x88, 2, 3, 232})
	f.Add([]byte{0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{0x81, 1, 'a'})
	f.Add([]byte{0xc2, 1, 'a'})
	f.Fuzz(func(t *testing.T, octets []byte) {
		a, b := net.Pipe()
		client, server := pipes(t, a, b)
		var peer sync.WaitGroup
		peer.Go(func() {
			b.Write(octets)
			b.Close()
		})
		peer.Go(func() { io.Copy(io.Discard, b) })
		got, err := io.ReadAll(client)
		if len(got) > len(octets) {
			t.Errorf("%d octets came of %d", len(got), len(octets))
		}
		if err != nil && carrier.IsClosed(err) {
			t.Errorf("an end of the peer's is said to be ours: %v", err)
		}
		client.Close()
		peer.Wait()
		server.Close()
	})
}
