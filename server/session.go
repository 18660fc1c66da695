package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Session is one connection of a client's. Its fields do not change.
type Session struct {
	ID     uint64 // from 1
	Client Client
	By     string // the way: "tls", "ssh"
	From   string // the address it comes from, as far as that is known
	Since  time.Time

	server *Server
	ctx    context.Context
	end    context.CancelCauseFunc
	meter  *meter

	mu     sync.Mutex
	tunnel Tunnel
	about  string
}

// End ends the session, and has the client told why. It does not wait.
func (s *Session) End(why Why, text string) { s.end(&EndedError{why, text}) }

// Counts says what was carried so far.
func (s *Session) Counts() Counts {
	s.mu.Lock()
	t := s.tunnel
	s.mu.Unlock()
	if t == nil {
		return Counts{}
	}
	return t.Counts()
}

// Silent returns how long nothing was heard of the client.
func (s *Session) Silent() time.Duration {
	return time.Since(began) - time.Duration(s.meter.heard.Load())
}

// About says something of the session for the list: the client's software. It is kept
// as text that may be shown.
func (s *Session) About(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.about = plain(text)
}

// Said returns what About was told.
func (s *Session) Said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.about
}

func (s *Session) stand(t Tunnel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tunnel = t
}

// attributes are what tells the session in the log.
func (s *Session) attributes() []any {
	return []any{
		slog.Uint64("session", s.ID), slog.String("client", plain(s.Client.Name)), slog.String("key", plain(s.Client.Key)),
		slog.String("by", plain(s.By)), slog.String("from", plain(s.From)),
	}
}

// began is when this process did: times are kept as nanoseconds since.
var began = time.Now()

// A meter holds a session's octets to its client's rate, each way, and knows when
// something came last.
type meter struct {
	limits *limits
	heard  atomic.Int64 // nanoseconds since began
}

func newMeter(l *limits) *meter {
	m := &meter{limits: l}
	m.heard.Store(int64(time.Since(began)))
	return m
}

// Meter returns the connection with the session's meter on it: what is read and
// written is held to the client's rate. Reads are held back, so that the client's own
// TCP is; no packet is dropped. Closing it closes c, and wakes both.
func (s *Session) Meter(c io.ReadWriteCloser) io.ReadWriteCloser {
	m := &metered{ReadWriteCloser: c, meter: s.meter, closed: make(chan struct{})}
	m.in.timer, m.out.timer = time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	m.in.timer.Stop()
	m.out.timer.Stop()
	return m
}

type metered struct {
	io.ReadWriteCloser
	meter   *meter
	closed  chan struct{}
	once    sync.Once
	in, out waiter
}

func (m *metered) Read(b []byte) (int, error) {
	bucket := m.meter.limits.in
	if most := bucket.Burst(); most > 0 && len(b) > most {
		b = b[:most]
	}
	n, err := m.ReadWriteCloser.Read(b)
	if n > 0 {
		m.meter.heard.Store(int64(time.Since(began)))
		if !m.in.wait(bucket, n, m.closed) {
			return 0, net.ErrClosed
		}
	}
	return n, err
}

func (m *metered) Write(b []byte) (int, error) {
	if !m.out.wait(m.meter.limits.out, len(b), m.closed) {
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
	if !m.out.wait(m.meter.limits.out, n, m.closed) {
		return net.ErrClosed
	}
	if w, ok := m.ReadWriteCloser.(interface{ WriteBuffers(net.Buffers) error }); ok {
		return w.WriteBuffers(buffers)
	}
	gathered := make([]byte, 0, n)
	for _, b := range buffers {
		gathered = append(gathered, b...)
	}
	_, err := m.ReadWriteCloser.Write(gathered)
	return err
}

func (m *metered) Close() error {
	m.once.Do(func() { close(m.closed) })
	return m.ReadWriteCloser.Close()
}
