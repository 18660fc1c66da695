package line

import (
	"fmt"
	"io"
	"net"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	// writeSize is what one Write below holds at most: as much as a pipe does.
	writeSize = 64 << 10

	// readSize is what one Read below asks for.
	readSize = 32 << 10
)

// An encoder turns what is written into what the way carries.
type encoder interface {
	encode(dst, src []byte) (written, read int) // room for 4 octets is enough for a step
	end(dst []byte) (written int)               // so that all of it can be decoded; 4 octets at most
}

// A decoder is the way back. It writes an octet for each that it reads, at most.
type decoder interface {
	decode(dst, src []byte) (written, read int, ok bool)
	whole() bool // nothing is half decoded
}

// code returns the Stream that carries all octets over below.
func code(below carrier.Stream, out, in Way) carrier.Stream {
	below.Unsafe = carrier.ByteSet{}
	if out.Coding == Clean && in.Coding == Clean {
		return below
	}
	c := &coded{below: below, line: out.MaxLine, ends: out.ends}
	switch out.Coding {
	case Escape:
		c.encoder = newEscaper(out.Unsafe)
	case Armour:
		c.encoder = new(armourer)
	}
	switch in.Coding {
	case Escape:
		c.decoder = newUnescaper(in.Unsafe)
	case Armour:
		c.decoder = new(disarmourer)
	}
	if c.encoder != nil {
		c.out = make([]byte, 0, writeSize)
	}
	if c.decoder != nil {
		c.space = make([]byte, readSize)
	}
	if w, ok := below.ReadWriteCloser.(carrier.CloseWriter); ok {
		return carrier.Stream{ReadWriteCloser: &codedHalves{c, w}}
	}
	return carrier.Stream{ReadWriteCloser: c}
}

// coded is the ReadWriteCloser of a way with a coding.
type coded struct {
	below carrier.Stream

	// Write's
	encoder encoder // nil: clean
	line    int     // octets in a line; 0: no line ends
	ends    bool    // each Write ends with one
	column  int     // octets in the line so far
	out     []byte  // encoded, to be written

	// Read's
	decoder decoder // nil: clean
	space   []byte
	came    []byte // in space, not decoded yet
	count   int64  // octets decoded so far
	failed  error  // what Read returns once came is used up
}

func (c *coded) Read(b []byte) (int, error) {
	if c.decoder == nil || len(b) == 0 {
		return c.below.Read(b)
	}
	for {
		written, read, ok := c.decoder.decode(b, c.came)
		c.count += int64(read)
		if !ok {
			c.failed = &DamageError{c.count, c.came[read]}
			read = len(c.came)
		}
		c.came = c.came[read:]
		if written > 0 {
			return written, nil
		}
		if c.failed == io.EOF && !c.decoder.whole() {
			c.failed = fmt.Errorf("line: the way ended inside of a code: %w", io.ErrUnexpectedEOF)
		}
		if c.failed != nil {
			return 0, c.failed
		}
		n, err := c.below.Read(c.space)
		c.came, c.failed = c.space[:n], err
	}
}

func (c *coded) Write(b []byte) (int, error) {
	if c.encoder == nil {
		return c.below.Write(b)
	}
	if err := c.add(b); err != nil {
		return 0, err
	}
	if err := c.end(); err != nil {
		return 0, err
	}
	return len(b), nil
}

// WriteBuffers encodes the buffers one after another and writes them in pieces of
// writeSize.
func (c *coded) WriteBuffers(buffers net.Buffers) error {
	if c.encoder == nil {
		return c.below.WriteBuffers(buffers)
	}
	for _, b := range buffers {
		if err := c.add(b); err != nil {
			return err
		}
	}
	return c.end()
}

// add encodes b, and writes what there is no room for.
func (c *coded) add(b []byte) error {
	for len(b) > 0 {
		room, err := c.room()
		if err != nil {
			return err
		}
		written, read := c.encoder.encode(room, b)
		c.wrote(written)
		b = b[read:]
	}
	return nil
}

// end ends a Write: all of it can be decoded, and is on its way.
func (c *coded) end() error {
	room, err := c.room()
	if err != nil {
		return err
	}
	c.wrote(c.encoder.end(room))
	if c.ends && c.column > 0 {
		c.endLine()
	}
	return c.flush()
}

// room returns where to put what comes next in the line, 4 octets at least.
func (c *coded) room() ([]byte, error) {
	const least = 4
	if cap(c.out)-len(c.out) < least+2 {
		if err := c.flush(); err != nil {
			return nil, err
		}
	}
	room := c.out[len(c.out) : cap(c.out)-2] // but for two line ends
	if c.line > 0 {
		if c.line-c.column < least {
			c.endLine()
			room = room[1:]
		}
		room = room[:min(len(room), c.line-c.column)]
	}
	return room, nil
}

func (c *coded) wrote(n int) {
	c.out = c.out[:len(c.out)+n]
	c.column += n
}

func (c *coded) endLine() {
	c.out = append(c.out, lf)
	c.column = 0
}

func (c *coded) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.below.Write(c.out)
	c.out = c.out[:0]
	return err
}

// Break passes on a break condition where the Stream below has one.
func (c *coded) Break() error { return c.below.Break() }

func (c *coded) Close() error { return c.below.Close() }

// codedHalves is coded for a Stream whose ways end one by one.
type codedHalves struct {
	*coded
	halves carrier.CloseWriter
}

func (c *codedHalves) CloseWrite() error { return c.halves.CloseWrite() }
