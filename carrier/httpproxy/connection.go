package httpproxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	// answerTime is how long the proxy may take for an answer, if Config does not
	// say: to resolve a name, to connect, to ask its own server for passwords.
	answerTime = 30 * time.Second

	// octetTime is what each octet adds to that. A line of 300 bit/s carries 30 a
	// second.
	octetTime = time.Second / 15

	// readSize is how much is read at once, in octets.
	readSize = 4096

	// lastOctets is how much of what came is kept for an error.
	lastOctets = 60
)

// errSilent is why a wait ended.
var errSilent = errors.New("no answer in time")

// A connection is one connection to the proxy, on which requests and answers take
// turns.
type connection struct {
	proxy   string        // "host:port", for errors
	timeout time.Duration // for an answer
	s       carrier.Stream
	r       *bufio.Reader // of the connection itself
	answers int           // that came
	patient *patience     // of the exchange that goes on

	// Of the last exchange:
	count int    // octets that came
	last  []byte // the last of them, at most lastOctets
}

func newConnection(proxy string, timeout time.Duration, s carrier.Stream) *connection {
	c := &connection{proxy: proxy, timeout: timeout, s: s}
	c.r = bufio.NewReaderSize(c, readSize)
	return c
}

// Read reads from the Stream for c.r.
func (c *connection) Read(b []byte) (int, error) {
	n, err := c.s.Read(b)
	c.patient.more(n)
	c.count += n
	c.last = append(c.last, b[max(0, n-lastOctets):n]...)
	c.last = c.last[max(0, len(c.last)-lastOctets):]
	return n, err
}

// ask sends a request and returns the answer to it, or an error of Dial's. It closes
// the Stream once ctx or the patience ends.
func (c *connection) ask(ctx context.Context, request []byte) (reply, error) {
	c.count, c.last = 0, nil
	c.patient = wait(ctx, c.s, c.timeout)
	c.patient.more(len(request))
	_, writing := c.s.Write(request)
	r, err := readReply(c.r) // also what was answered before all was written
	if ended := c.patient.end(); ended != nil {
		return reply{}, c.unanswered(ended)
	}
	var malformed malformedError
	switch {
	case errors.As(err, &malformed):
		return reply{}, c.unintelligible(malformed)
	case err != nil && writing != nil:
		return reply{}, c.hungUp(writing)
	case err != nil:
		return reply{}, c.hungUp(err)
	}
	c.answers++
	return r, nil
}

// skipBody reads the body of the answer r and reports whether the connection can
// take another request.
func (c *connection) skipBody(ctx context.Context, r reply) bool {
	if !r.persists() {
		return false
	}
	c.patient = wait(ctx, c.s, c.timeout)
	skipped := r.discardBody(c.r)
	return c.patient.end() == nil && skipped
}

// rest returns the Stream as it is after the last answer.
func (c *connection) rest() carrier.Stream {
	ahead, _ := c.r.Peek(c.r.Buffered())
	return carrier.Unread(c.s.Relayed(), ahead)
}

// patience closes a Stream once a context ends, or the time for an answer.
type patience struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	since  time.Time
	until  time.Time
	timer  *time.Timer
	unbind func() bool
	closed chan struct{}
}

// wait starts the time. The caller calls end.
func wait(ctx context.Context, s io.Closer, timeout time.Duration) *patience {
	now := time.Now()
	p := &patience{since: now, until: now.Add(timeout), closed: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	p.timer = time.AfterFunc(timeout, func() { p.cancel(errSilent) })
	p.unbind = context.AfterFunc(p.ctx, func() {
		defer close(p.closed)
		s.Close()
	})
	return p
}

// more gives time for n octets. Only one goroutine may call it and end.
func (p *patience) more(n int) {
	p.until = p.until.Add(time.Duration(n) * octetTime)
	p.timer.Reset(time.Until(p.until))
}

// end ends the wait. It returns why the Stream was closed, or nil if it was not.
func (p *patience) end() error {
	p.timer.Stop()
	defer p.cancel(nil)
	if p.unbind() {
		return nil
	}
	<-p.closed
	return context.Cause(p.ctx)
}
