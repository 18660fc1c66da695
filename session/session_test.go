package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
	"github.com/bodkin-net/bodkin/carrier/tcp"
)

// begin makes a Session on two ends of a connection.
func begin(t testing.TB, near, far carrier.Stream, terms Terms, o Options) (client, server *Session) {
	t.Helper()
	var both sync.WaitGroup
	both.Go(func() {
		c, err := Greet(t.Context(), far)
		if err != nil {
			t.Error(err)
			return
		}
		if server, err = c.Accept(t.Context(), terms, o); err != nil {
			t.Error(err)
		}
	})
	client, got, err := Open(t.Context(), near, o)
	if err != nil {
		t.Fatal(err)
	}
	both.Wait()
	if got != terms {
		t.Errorf("terms: %+v, want %+v", got, terms)
	}
	return client, server
}

// again attaches both to the ends of a new connection.
func again(ctx context.Context, client, server *Session, near, far carrier.Stream) (near_, far_ error) {
	var both sync.WaitGroup
	both.Go(func() {
		c, err := Greet(ctx, far)
		if err != nil {
			far_ = err
			return
		}
		far_ = server.Resume(ctx, c)
	})
	near_ = client.Attach(ctx, near)
	both.Wait()
	return near_, far_
}

// ends closes both.
func ends(sessions ...*Session) {
	for _, s := range sessions {
		s.Close()
	}
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

var tenMinutes = Options{Grace: 10 * time.Minute}

func TestCarrier(t *testing.T) {
	carriertest.Test(t, func(t *testing.T) carrier.Stream {
		near, far := tcpPair(t)
		client, server := begin(t, near, far, Terms{Grace: 10 * time.Minute, Note: "hello"}, tenMinutes)
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

func TestAttachGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []error
		o := tenMinutes
		o.Lost = func(cause error) { mu.Lock(); told = append(told, cause); mu.Unlock() }
		w, near, far := newWay(1<<16, -1, -1)
		client, server := begin(t, near, far, Terms{Grace: 10 * time.Minute}, o)
		defer ends(client, server)
		client.Write([]byte("one "))
		got := make([]byte, 4)
		io.ReadFull(server, got)
		client.Write([]byte("two "))
		w.cut()
		go server.Read(make([]byte, 1)) // finds it
		synctest.Wait()
		client.Write([]byte("three"))
		_, near, far = newWay(1<<16, -1, -1)
		_ = bytes.Equal
		_ = net.ErrClosed
		_ = errors.Is
		if err, far := again(t.Context(), client, server, near, far); err != nil || far != nil {
			t.Fatal(err, far)
		}
		synctest.Wait()
	})
}
