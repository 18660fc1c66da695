package netstack

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// peekSize is how much of the outer socket's receive queue is asked about at
// once: a few super-packets, so that one peek serves several writes.
const peekSize = 256 << 10

// chunkSize is how much is put into one segment inwards: what the stack makes a
// super-packet of at most, given its own allowance for headers, and within the
// largest pooled buffer of 64 KiB.
const chunkSize = gsoMaxSize - 160 - 1

// lastPatience ends a connection that both sides have closed and whose inner
// side takes nothing of what is left for so long.
const lastPatience = 10 * time.Minute

// Keepalive inside ends the flows of machines that vanished. It is slow to judge,
// since the tunnel may be away for a while and come back.
const innerIdle, innerInterval, innerCount = 10 * time.Minute, 5 * time.Minute, 12

// A Conn is one TCP connection: an endpoint of the Stack inside, a socket of the
// host outside, and two pumps that move what one has into the other without holding
// it in between. Reads and writes of the socket are made inside the runtime's
// poller's callbacks and never wait, so no lock of the stack is held over a wait.
type Conn struct {
	s     *Stack
	outer *net.TCPConn
	raw   syscall.RawConn
	ep    tcpip.Endpoint
	WQ    waiter.Queue // of the endpoint: it must be made with this

	endOnce sync.Once     // of reset
	dead    chan struct{} // closed by reset
	upEnd   chan struct{} // closed when the inner side's end is passed on
	downEnd chan struct{} // closed when the outer side's end is passed on
	inner   chan struct{} // has a token when the endpoint has something new

	up, down stall
	quench   quench
}

// NewConn returns the Conn of the socket outer, which is then its own. Run comes next.
func (s *Stack) NewConn(outer *net.TCPConn) *Conn {
	return &Conn{s: s, outer: outer, dead: make(chan struct{}), upEnd: make(chan struct{}), downEnd: make(chan struct{})}
}

// Run carries the connection between outer and ep, an endpoint of TCP that is
// connected and was made with c.WQ, until it has ended both ways: an end is passed on
// as an end and a reset as a reset. Then both are closed. After the Stack's Reset it
// resets both at once.
func (c *Conn) Run(ep tcpip.Endpoint) {
	c.ep = ep
	raw, err := c.outer.SyscallConn()
	if err != nil || !c.s.conns.add(c) {
		c.reset()
		return
	}
	defer c.s.conns.remove(c)
	name := c.name()
	c.s.conns.names.add(name, c)
	defer c.s.conns.names.remove(name, c)
	c.raw = raw
	// Urgent data is plain data here. Without this a read would stop at its mark.
	raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) })
	// Its size is ours to set (grow); the stack's own tuning ends with that.
	ep.SocketOptions().SetSendBufferSize(sendBuffer, true)
	ep.SocketOptions().SetKeepAlive(true)
	idle, interval := tcpip.KeepaliveIdleOption(innerIdle), tcpip.KeepaliveIntervalOption(innerInterval)
	ep.SetSockOpt(&idle)
	ep.SetSockOpt(&interval)
	ep.SetSockOptInt(tcpip.KeepaliveCountOption, innerCount)

	entry, inner := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	c.WQ.EventRegister(&entry)
	defer c.WQ.EventUnregister(&entry)
	c.inner = inner

	var down sync.WaitGroup
	down.Go(c.pumpDown)
	c.pumpUp()
	down.Wait()
	c.outer.Close()
	c.drain()
	ep.Close()
}

// reset ends the connection at once, with a RST on both sides. Both pumps wake.
func (c *Conn) reset() {
	c.endOnce.Do(func() {
		close(c.dead)
		c.ep.Abort()
		c.outer.SetLinger(0)
		c.outer.Close()
	})
}

// pumpUp moves from the endpoint to the socket until either ends, then passes
// the end on and watches the endpoint until the other direction is done.
func (c *Conn) pumpUp() {
	defer c.up.release(c)
	w := socketWriter{}
	ep := c.ep.(*tcp.Endpoint) // what else would a TCP stack make
	var inner tcpip.Error
	move := func(fd uintptr) bool {
		w.fd = int(fd)
		for {
			w.err = nil
			res, err := ep.Read(&w, tcpip.ReadOptions{})
			if res.Count > 0 {
				c.up.end(c)
				ep.ModerateRecvBuf(res.Count)
			}
			if w.err == unix.EAGAIN {
				c.up.begin(c, c.ep.SocketOptions().GetReceiveBufferSize())
				return false
			}
			if w.err != nil {
				return true
			}
			if err != nil {
				inner = err
				return true
			}
		}
	}
	for {
		inner = nil
		if err := c.raw.Write(move); err != nil || w.err != nil {
			c.reset()
			return
		}
		switch inner.(type) {
		case *tcpip.ErrWouldBlock:
			<-c.inner
			continue
		case *tcpip.ErrClosedForReceive:
			close(c.upEnd)
			if c.outer.CloseWrite() != nil {
				c.reset()
				return
			}
			c.outer.SetReadDeadline(time.Unix(1, 0)) // wakes a pumpDown that only watches; one that moves ignores it
		default:
			c.reset()
			return
		}
		break
	}
	for { // a RST may still come from inside
		select {
		case <-c.dead:
			return
		case <-c.downEnd:
			return
		case <-c.inner:
			if c.over() {
				c.reset()
				return
			}
		}
	}
}

// over reports whether the endpoint has ended. As long as its own end was not
// asked for, that is a reset.
func (c *Conn) over() bool {
	switch tcp.EndpointState(c.ep.State()) {
	case tcp.StateClose, tcp.StateError:
		return true
	}
	return false
}

// pumpDown moves from the socket to the endpoint until either ends, then passes
// the end on and watches the socket until the other direction is done.
func (c *Conn) pumpDown() {
	defer c.down.release(c)
	entry, writable := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	c.WQ.EventRegister(&entry)
	defer c.WQ.EventUnregister(&entry)
	r := socketReader{}
	var outer error
	var inner tcpip.Error
	move := func(fd uintptr) bool {
		r.fd = int(fd)
		for {
			if r.left == 0 {
				n, err := peek(r.fd)
				if err == unix.EAGAIN {
					return false
				}
				if err != nil || n == 0 {
					outer = err
					if err == nil {
						outer = io.EOF
					}
					return true
				}
				r.left = n
			}
			if c.quench.asked.Load() != 0 {
				c.slower()
			}
			// Atomic: else a buffer that shrinks meanwhile would lose octets read.
			n, err := c.ep.Write(&r, tcpip.WriteOptions{Atomic: true})
			if err != nil {
				inner = err
				return true
			}
			if n > 0 {
				c.down.end(c)
			}
		}
	}
	for {
		outer, inner = nil, nil
		err := c.raw.Read(move)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.outer.SetReadDeadline(time.Time{}) // meant for the watch below
			continue
		}
		if err != nil || (outer != nil && outer != io.EOF) {
			c.reset()
			return
		}
		if outer == io.EOF {
			close(c.downEnd)
			if c.ep.Shutdown(tcpip.ShutdownWrite) != nil {
				c.reset()
				return
			}
			break
		}
		if _, full := inner.(*tcpip.ErrWouldBlock); !full {
			c.reset()
			return
		}
		if !c.grow() {
			<-writable
		}
	}
	// A RST may still come from outside.
	err := c.raw.Read(func(fd uintptr) bool {
		select {
		case <-c.upEnd:
			return true
		default:
		}
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		outer = err
		if err == nil && errno != 0 {
			outer = syscall.Errno(errno)
		}
		return outer != nil
	})
	if err == nil && outer != nil && outer != io.EOF {
		c.reset()
	}
}

// drain waits until the inner side has taken what is left for it.
func (c *Conn) drain() {
	t := time.NewTimer(lastPatience)
	defer t.Stop()
	for {
		if c.over() || tcp.EndpointState(c.ep.State()) == tcp.StateTimeWait {
			return
		}
		select {
		case <-c.dead:
			return
		case <-c.inner:
		case <-t.C:
			c.ep.Abort()
			return
		}
	}
}

// A socketWriter writes to a socket as far as it goes without waiting.
type socketWriter struct {
	fd  int
	err error // EAGAIN: it took no more
}

func (w *socketWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := write(w.fd, p[done:])
		if err != nil {
			w.err = err
			return done, err
		}
		done += n
	}
	return done, nil
}

// A socketReader gives the endpoint what is known to wait at a socket.
type socketReader struct {
	fd   int
	left int // octets that wait, at least
}

// Len implements tcpip.Payloader.
func (r *socketReader) Len() int { return min(r.left, chunkSize) }

// Read implements io.Reader. The stack asks for Len octets at most and must get
// them all; since they wait, it does.
func (r *socketReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := read(r.fd, p)
	if err == nil && n < len(p) {
		err = io.ErrUnexpectedEOF
	}
	n = max(n, 0)
	r.left -= n
	return n, err
}
