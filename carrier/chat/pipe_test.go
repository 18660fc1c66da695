package chat

import (
	"io"
	"net"
	"sync"
)

// pipe returns both ends of a connection that buffers what is written, as a socket
// does and net.Pipe does not. A Read gives at most piece octets.
func pipe(piece int) (near, far *end) {
	a, b := newQueue(piece), newQueue(piece)
	return &end{in: a, out: b}, &end{in: b, out: a}
}

type end struct{ in, out *queue }

func (e *end) Read(b []byte) (int, error)  { return e.in.read(b) }
func (e *end) Write(b []byte) (int, error) { return e.out.write(b) }

func (e *end) Close() error {
	e.in.end(net.ErrClosed)
	e.out.end(io.EOF)
	return nil
}

// A queue is one way of a pipe.
type queue struct {
	mu     sync.Mutex
	change sync.Cond
	piece  int
	octets []byte
	err    error // what Read returns once the octets are read
}

func newQueue(piece int) *queue {
	q := &queue{piece: piece}
	q.change.L = &q.mu
	return q
}

func (q *queue) read(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.octets) == 0 && q.err == nil {
		q.change.Wait()
	}
	if q.err == net.ErrClosed || len(q.octets) == 0 {
		return 0, q.err
	}
	n := copy(b[:min(len(b), q.piece)], q.octets)
	q.octets = q.octets[n:]
	return n, nil
}

func (q *queue) write(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return 0, io.ErrClosedPipe
	}
	q.octets = append(q.octets, b...)
	q.change.Broadcast()
	return len(b), nil
}

func (q *queue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
	q.change.Broadcast()
}
