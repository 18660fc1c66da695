package telnet

import (
	"bytes"
	"net"
	"sync"
)

// writeBuffer is how many octets one write to the Stream below has, where data has
// to be changed on its way out.
const writeBuffer = 64 << 10

// writing is the half of a Conn that whoever sends uses.
type writing struct {
	turn sync.Mutex
	out  []byte // encoded, not yet written; at most writeBuffer octets
}

// Write sends b, with what telnet has to say first.
//
// An octet has one meaning at every moment. We offer BINARY, and until that is
// answered the server may read us either way, so what is the same in both goes out
// as it is: all but CR. With the first CR the offer is withdrawn, and what follows
// is not BINARY, whatever the server says to either. A dialogue that waits for a
// prompt before it writes, or calls Settle, has its answer before.
func (c *Conn) Write(b []byte) (int, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	hasCR := bytes.IndexByte(b, cr) >= 0
	binary, err := c.begin(hasCR)
	if err != nil {
		return 0, err
	}
	if len(c.out) == 0 && (binary || !hasCR) && bytes.IndexByte(b, iac) < 0 {
		return c.below.Write(b)
	}
	sent, err := c.put(b, binary)
	if err == nil {
		err = c.writeOut()
	}
	if err != nil {
		return sent, err
	}
	return len(b), nil
}

// WriteBuffers sends the buffers in their order, in one system call where the
// Stream below can and nothing in them has to be changed.
func (c *Conn) WriteBuffers(buffers net.Buffers) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	hasCR, hasIAC := false, false
	for _, b := range buffers {
		hasCR = hasCR || bytes.IndexByte(b, cr) >= 0
		hasIAC = hasIAC || bytes.IndexByte(b, iac) >= 0
	}
	binary, err := c.begin(hasCR)
	if err != nil {
		return err
	}
	if !hasIAC && (binary || !hasCR) {
		if err := c.writeOut(); err != nil {
			return err
		}
		return c.below.WriteBuffers(buffers)
	}
	for _, b := range buffers {
		if _, err := c.put(b, binary); err != nil {
			return err
		}
	}
	return c.writeOut()
}

// Break sends IAC BRK, which telnetd makes the interrupt character of.
func (c *Conn) Break() error {
	c.mu.Lock()
	c.outbox = append(c.outbox, iac, brk)
	c.unlock()
	return c.flush()
}

// begin begins a write: what telnet has to say is first in out. It returns how data
// is to be encoded after that. The caller has the turn.
func (c *Conn) begin(hasCR bool) (binary bool, err error) {
	c.mu.Lock()
	defer c.unlock()
	if c.closed {
		return false, net.ErrClosed
	}
	if hasCR && c.options.us.options[optBinary] == wantYes {
		c.outbox = c.options.withdraw(c.outbox, optBinary)
	}
	if c.out == nil {
		c.out = make([]byte, 0, writeBuffer)
	}
	c.out = append(c.out[:0], c.outbox...)
	c.outbox = c.outbox[:0]
	return c.options.us.options[optBinary] == yes, nil
}

// put encodes b into out, and writes out each time it is full. It returns how many
// octets of b were written so. The caller has the turn.
func (c *Conn) put(b []byte, binary bool) (sent int, err error) {
	for took := 0; ; {
		var n int
		c.out, n = encode(c.out, b[took:], binary)
		if took += n; took == len(b) {
			return sent, nil
		}
		if err := c.writeOut(); err != nil {
			return sent, err
		}
		sent = took
	}
}

// writeOut writes out. The caller has the turn.
func (c *Conn) writeOut() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.below.Write(c.out)
	c.out = c.out[:0]
	return err
}

// flush sends the outbox, after the Write that is going on.
func (c *Conn) flush() error {
	c.turn.Lock()
	defer c.turn.Unlock()
	if _, err := c.begin(false); err != nil {
		return err
	}
	return c.writeOut()
}

// sendOutbox has the outbox sent in the background: a Read that waited for a peer to
// take our answers, while that waits for us to read, would never end. The caller
// holds mu.
func (c *Conn) sendOutbox() {
	if len(c.outbox) == 0 || c.flushing || c.closed {
		return
	}
	c.flushing = true
	c.running.Go(func() {
		for c.flush() == nil && c.more() {
		}
	})
}

// more reports whether the outbox was added to while it was sent.
func (c *Conn) more() bool {
	c.mu.Lock()
	defer c.unlock()
	c.flushing = len(c.outbox) > 0
	return c.flushing
}
