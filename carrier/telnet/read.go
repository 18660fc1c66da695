package telnet

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	// readBuffer is how many octets are read ahead of a caller that reads less.
	readBuffer = 16 << 10

	// maxKept is how much data Settle keeps for Read: a long banner. It returns
	// once so much has come.
	maxKept = 64 << 10
)

// reading is the half of a Conn that one goroutine at a time uses.
type reading struct {
	decoder decoder
	kept    []byte // data decoded by Settle, for Read
	buf     []byte // readBuffer octets
	raw     []byte // in buf: read and not decoded
	quiet   int    // octets of commands since the last data
	data    int64  // octets of data since the start
	err     error  // what the Stream below ended with, or why we gave up
	filling chan filled
}

// filled is what a Read into buf returned, in Settle's goroutine.
type filled struct {
	n   int
	err error
}

// Read decodes until b is full, and no further: what comes after stays as it is for
// Reset and Detach. Commands on the way are obeyed, and answered in the background.
//
// A server that sends negotiation without end is given up on with a
// *carrier.RefusedError.
func (c *Conn) Read(b []byte) (int, error) {
	if err := c.kick(); err != nil {
		return 0, err
	}
	if len(c.kept) > 0 {
		n := copy(b, c.kept)
		c.kept = c.kept[n:]
		return n, nil
	}
	for len(b) > 0 {
		if n := c.decodeRaw(b); n > 0 {
			return n, nil
		}
		if c.err != nil {
			return 0, c.err
		}
		// Data is never longer than it was raw: if buf has nothing to add, it is
		// read and decoded where it will stay.
		if len(b) < readBuffer || c.filling != nil {
			c.fill(context.Background())
			continue
		}
		n, err := c.below.Read(b)
		c.err = err
		if n, _ = c.decode(b, b[:n]); n > 0 {
			return n, nil
		}
	}
	return 0, nil
}

// Ready reports whether a Read of one octet would surely return at once. If not, it may
// wait, or meet commands first.
func (c *Conn) Ready() bool {
	if len(c.kept) > 0 {
		return true
	}
	return len(c.raw) > 0 && c.decoder.at == inData && c.raw[0] != iac && !(c.decoder.afterCR && c.raw[0] == nul)
}

// Settle reads until all that we offered is answered, or ctx ends: what is not
// answered then counts as refused, until it is. What data comes meanwhile is kept
// for Read, up to 64 KiB, after which it does not wait on.
//
// It is no error that ctx's deadline passes: there are servers that never answer
// (busybox'). A ctx that was cancelled is.
//
// Nobody needs it to be understood: what Write sends always has one meaning. It is
// for those who want BINARY before they write.
func (c *Conn) Settle(ctx context.Context) error {
	for {
		if err := c.kick(); err != nil {
			return err
		}
		if !c.waiting() || len(c.kept) == maxKept {
			return nil
		}
		if len(c.raw) > 0 {
			room := min(len(c.raw), maxKept-len(c.kept))
			c.kept = slices.Grow(c.kept, room)
			n := c.decodeRaw(c.kept[len(c.kept):][:room])
			c.kept = c.kept[:len(c.kept)+n]
			continue
		}
		if c.err != nil {
			return c.err
		}
		if !c.fill(ctx) {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil
			}
			return context.Cause(ctx)
		}
	}
}

// waiting reports whether an answer to one of our offers is due.
func (c *Conn) waiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.options.us.waiting() || c.options.him.waiting()
}

// fill reads into buf, all of which was decoded. It reports whether it did before
// ctx ended. If not, the next fill goes on with the same read.
func (c *Conn) fill(ctx context.Context) bool {
	if c.buf == nil {
		c.buf = make([]byte, readBuffer)
	}
	var f filled
	if ctx.Done() == nil && c.filling == nil {
		f.n, f.err = c.below.Read(c.buf)
	} else {
		if c.filling == nil {
			filling := make(chan filled, 1)
			if c.err = c.start(func() {
				n, err := c.below.Read(c.buf)
				filling <- filled{n, err}
			}); c.err != nil {
				return true
			}
			c.filling = filling
		}
		select {
		case f = <-c.filling:
			c.filling = nil
		case <-ctx.Done():
			return false
		}
	}
	c.raw, c.err = c.buf[:f.n], f.err
	return true
}

// decodeRaw decodes what is in buf until dst is full, and returns how many octets of
// data that is.
func (c *Conn) decodeRaw(dst []byte) int {
	n, took := c.decode(dst, c.raw)
	c.raw = c.raw[took:]
	return n
}

// decode decodes raw until dst is full, and obeys the commands in it.
func (c *Conn) decode(dst, raw []byte) (wrote, took int) {
	for wrote < len(dst) && took < len(raw) {
		w, t, command := c.decoder.decode(dst[wrote:], raw[took:])
		wrote, took = wrote+w, took+t
		c.data += int64(w)
		if w > 0 {
			c.quiet = 0
		}
		c.quiet += t - w
		var err error
		if command.verb != 0 {
			err = c.obey(command)
		}
		if c.quiet > maxQuiet {
			err = refused("%d octets of commands came, and no data", c.quiet)
		}
		if err != nil {
			c.err = err
			return wrote, len(raw)
		}
	}
	return wrote, took
}

// obey does what a command of the peer's asks for. What is answered goes into the
// outbox.
func (c *Conn) obey(command command) error {
	c.mu.Lock()
	defer c.unlock()
	owed := len(c.outbox)
	if command.verb == sb {
		c.outbox = c.options.hearSub(c.outbox, command.option, command.sub)
	} else {
		c.outbox = c.options.hear(c.outbox, command.verb, command.option)
		c.decoder.setBinary(c.options.him.options[optBinary] == yes)
	}
	if allowed := maxAnswers + c.data/dataPerAnswer; int64(c.options.said) > allowed {
		c.outbox = c.outbox[:owed]
		return refused("more than %d answers were asked for", allowed)
	}
	if len(c.outbox) > maxOutbox {
		c.outbox = c.outbox[:owed]
		return refused("%d octets of answers were asked for, and not taken", owed)
	}
	c.sendOutbox()
	return nil
}

// refused returns the error of a Conn that gives up on a server.
func refused(format string, a ...any) error {
	return &carrier.RefusedError{
		Layer:  "telnet",
		Reason: fmt.Sprintf(format, a...) + ": no server in order does so",
		Hint:   "another port, or another way: what answers there is no telnet server, or wants to keep us busy",
	}
}

// restart has the decoder begin anew, with what is not decoded yet.
func (r *reading) restart() {
	r.decoder = decoder{}
	r.quiet, r.data = 0, 0
}

// unread returns the Stream below, beginning with what Read has not returned.
func (c *Conn) unread() carrier.Stream {
	below := c.below
	if c.filling != nil {
		below.ReadWriteCloser = &stillReading{c.below, c}
	}
	return carrier.Unread(below, append(c.kept, c.raw...))
}

// stillReading is the Stream below while the read of a Settle whose time was up
// still waits there.
type stillReading struct {
	carrier.Stream
	c *Conn
}

func (s *stillReading) Read(b []byte) (int, error) {
	c := s.c
	if c.filling != nil {
		f := <-c.filling
		c.raw, c.err, c.filling = c.buf[:f.n], f.err, nil
	}
	if len(c.raw) > 0 {
		n := copy(b, c.raw)
		c.raw = c.raw[n:]
		return n, nil
	}
	if c.err != nil {
		return 0, c.err
	}
	return s.Stream.Read(b)
}

func (s *stillReading) Close() error {
	err := s.Stream.Close()
	s.c.running.Wait()
	return err
}
