package server

import (
	"io"
	"math"
	"net"
	"sync"
	"time"
)

const (
	// momentTime is how much of a rate passes at once where others wait behind it.
	momentTime = 2 * time.Millisecond

	// momentMin is the least that passes at once, in octets: a full Ethernet frame's.
	momentMin = 1514
)

// Meter returns what carries the session's octets with its client's rate on it: what is
// read and written is held to that, over all of its connections if c outlives them. Reads
// are held back, so that the client's own TCP is; no packet is dropped. Closing it closes
// c, and wakes both.
func (s *Session) Meter(c io.ReadWriteCloser) io.ReadWriteCloser {
	m := &metered{ReadWriteCloser: c, limits: s.limits, closed: make(chan struct{})}
	m.in.timer, m.out.timer = time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	m.in.timer.Stop()
	m.out.timer.Stop()
	return m
}

type metered struct {
	io.ReadWriteCloser
	limits  *limits
	closed  chan struct{}
	once    sync.Once
	in, out waiter
}

func (m *metered) Read(b []byte) (int, error) {
	bucket := m.limits.in
	if most := bucket.Piece(); most > 0 && len(b) > most {
		b = b[:most]
	}
	n, err := m.ReadWriteCloser.Read(b)
	if n > 0 && !m.in.wait(bucket, n, m.closed) {
		return 0, net.ErrClosed
	}
	return n, err
}

func (m *metered) Write(b []byte) (int, error) {
	if !m.out.wait(m.limits.out, len(b), m.closed) {
		return 0, net.ErrClosed
	}
	return m.ReadWriteCloser.Write(b)
}

// WriteBuffers writes many buffers at once where the connection below can.
func (m *metered) WriteBuffers(buffers net.Buffers) error {
	n := 0
	for _, b := range buffers {
		n += len(b)
	}
	if !m.out.wait(m.limits.out, n, m.closed) {
		return net.ErrClosed
	}
	return writeBuffers(m.ReadWriteCloser, buffers)
}

// Room returns how many octets a Write takes now without waiting, and how many pass in so
// short a time that nobody minds waiting for them: what is below may say less than the
// rate does. So whoever writes has what is urgent overtake the rest.
func (m *metered) Room() (octets, burst int) {
	octets, burst = math.MaxInt, math.MaxInt
	if b, ok := m.ReadWriteCloser.(interface{ Room() (octets, burst int) }); ok {
		octets, burst = b.Room()
	}
	if room, moment := m.limits.out.Room(time.Now()); moment > 0 {
		octets, burst = min(octets, room), min(burst, moment)
	}
	return octets, burst
}

func (m *metered) Close() error {
	m.once.Do(func() { close(m.closed) })
	return m.ReadWriteCloser.Close()
}
