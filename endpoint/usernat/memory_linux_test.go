package usernat

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"
)

// Readers inside that take nothing while the far side sends: the buffers reach
// the limit, new connections are refused, the oldest that stand still are reset,
// and those that end give back what they were charged with.
func TestMemoryLimit(t *testing.T) {
	const limit = 8 * sendBuffer
	b := newBench(t, Config{Limits: Limits{Buffered: limit}})
	addr := serve(t, worldSpace, "198.51.100.10:0", pour)
	var slow []net.Conn
	refused := false
	for range 64 {
		c, err := b.dial("tcp", addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			refused = true
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		slow = append(slow, c)
		at := len(slow)
		eventually(t, "the connection to stand still", func() bool {
			return b.nat.conns.charged.Load() >= int64(at)*sendBuffer
		}, func() string { return fmt.Sprintf("%d connections, %+v", at, b.nat.Stats()) })
	}
	if s := b.nat.Stats(); !refused || s.Buffered > limit+2*maxBuffer || s.RefusedMemory == 0 {
		t.Fatalf("%d slow readers, refused %v: %+v", len(slow), refused, s)
	}
	if c := b.nat.conns.oldest(time.Now()); c != nil {
		t.Error("a connection is to be reset at once")
	}
	if c := b.nat.conns.oldest(time.Now().Add(stallPatience)); c == nil {
		t.Error("no connection is to be reset after ten seconds")
	}
	for _, c := range slow {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	eventually(t, "the charges to be given back", func() bool { return b.nat.Stats().Buffered == 0 },
		func() string { return fmt.Sprintf("%+v", b.nat.Stats()) })
	b.mustDial("tcp", addr)
}

// A buffer that grew is cut back when its connection has been quiet, and the
// connection goes on.
func TestBufferCutBack(t *testing.T) {
	b := newBench(t, Config{})
	c := b.mustDial("tcp", serve(t, worldSpace, "198.51.100.10:0", pour))
	buf := make([]byte, 64<<10)
	read := func(n int) {
		t.Helper()
		for n > 0 {
			k, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			n -= k
		}
	}
	size := func() int64 {
		b.nat.conns.mu.Lock()
		defer b.nat.conns.mu.Unlock()
		for c := range b.nat.conns.m {
			return c.ep.SocketOptions().GetSendBufferSize()
		}
		return 0
	}
	for range 50 {
		read(4 << 20)
		if size() > sendBuffer {
			break
		}
	}
	if size() <= sendBuffer {
		t.Fatalf("the buffer has not grown: %d octets", size())
	}
	// It moves, and is quiet as far as a clock of the future can tell.
	cut := size()
	for end := time.Now().Add(5 * time.Second); cut > sendBuffer && time.Now().Before(end); cut = size() {
		read(1 << 20)
		b.nat.conns.cutBack(time.Now().Add(2 * quietFor))
	}
	if cut > sendBuffer { // it grows again at once
		t.Errorf("the buffer is not cut back: %d octets", cut)
	}
	read(8 << 20)
}
