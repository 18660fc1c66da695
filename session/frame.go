package session

import (
	"encoding/binary"
	"fmt"
)

// Frame types (spec.md, section 2). The first octet of a stream is one of frameNew and
// frameResume; nativeHello is that of a native link without a session.
const (
	nativeHello = 0x01

	frameNew       = 0x11
	frameResume    = 0x12
	frameWelcome   = 0x13
	frameChallenge = 0x14
	frameProof     = 0x15
	frameAccept    = 0x16
	frameRefuse    = 0x17

	frameData = 0x21
	frameAck  = 0x22
	framePing = 0x23
	framePong = 0x24
	frameEnd  = 0x25

	frameIgnorable = 0x80 // this and above may be skipped
)

// Lengths in octets (spec.md, section 2).
const (
	headerLen    = 4 // type and length
	numberLen    = 8 // the payload of ACK, PING, PONG and END
	dataMax      = 1<<24 - 1
	ignorableMax = 4096
)

// appendHeader appends a frame's header to dst.
//
//	  1      3
//	+------+--------+
//	| type | length |  spec.md, section 2
//	+------+--------+
func appendHeader(dst []byte, frame byte, length int) []byte {
	return append(dst, frame, byte(length>>16), byte(length>>8), byte(length))
}

// appendNumber appends a frame whose payload is one number.
func appendNumber(dst []byte, frame byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(appendHeader(dst, frame, numberLen), n)
}

// A cutter takes the frames off what was read from a Stream, in pieces of any size. It
// does no I/O.
type cutter struct {
	head  [headerLen + numberLen]byte // what came of a header, or of a frame with a number
	have  int                         // octets of it
	left  int                         // octets to come of the payload under way
	skips bool                        // and nobody wants them
	acked uint64                      // the last ACK's number; ACKs do not go back
	ended bool                        // END came: nothing may follow
}

// signs are what frames other than DATA said.
type signs struct {
	acked      bool
	ack        uint64
	ping, pong bool
	pinged     uint64 // the last PING's number
	ponged     uint64 // the last PONG's
	end        bool
	total      uint64 // END's number
}

// want returns how many octets to read at most into a buffer of size octets. After much
// DATA it is no more than that and the next header, so that what follows is read to
// where it belongs, and need not be moved.
func (c *cutter) want(size int) int {
	if !c.skips && c.left >= longData {
		return min(size, c.left+headerLen)
	}
	return size
}

// longData is how much DATA is worth a read of its own.
const longData = 32 << 10

// cut takes what was read, and moves the octets of DATA to its front: n of them. On an
// error they are good up to n, and the Stream is good for nothing more.
func (c *cutter) cut(p []byte) (n int, s signs, err error) {
	for i := 0; i < len(p); {
		switch {
		case c.left > 0:
			run := min(c.left, len(p)-i)
			if !c.skips {
				if n != i {
					copy(p[n:], p[i:i+run])
				}
				n += run
			}
			c.left -= run
			i += run
		case c.have < headerLen:
			k := copy(c.head[c.have:headerLen], p[i:])
			c.have += k
			i += k
			if c.have == headerLen {
				err = c.begin()
			}
		default:
			k := copy(c.head[c.have:], p[i:])
			c.have += k
			i += k
			if c.have == len(c.head) {
				c.have = 0
				err = s.take(c)
			}
		}
		if err != nil {
			return n, s, err
		}
	}
	return n, s, nil
}

// begin looks at a header that is whole.
func (c *cutter) begin() error {
	frame := c.head[0]
	length := int(c.head[1])<<16 | int(c.head[2])<<8 | int(c.head[3])
	switch {
	case c.ended:
		return fmt.Errorf("session: a frame of type 0x%02x after the end", frame)
	case frame == frameData && length > 0, frame >= frameIgnorable && length <= ignorableMax:
		c.left, c.skips, c.have = length, frame != frameData, 0
	case frame >= frameAck && frame <= frameEnd && length == numberLen:
	case frame >= frameData && frame <= frameEnd, frame >= frameIgnorable:
		return fmt.Errorf("session: frame of type 0x%02x with %d octets", frame, length)
	default:
		return fmt.Errorf("session: frame of unknown type 0x%02x", frame)
	}
	return nil
}

// take notes what the frame with a number says that c holds.
func (s *signs) take(c *cutter) error {
	number := binary.BigEndian.Uint64(c.head[headerLen:])
	switch c.head[0] {
	case frameAck:
		if number < c.acked {
			return fmt.Errorf("session: the far side acknowledges %d octets, after %d", number, c.acked)
		}
		c.acked = number
		s.acked, s.ack = true, number
	case framePing:
		s.ping, s.pinged = true, number
	case framePong:
		s.pong, s.ponged = true, number
	case frameEnd:
		c.ended = true
		s.end, s.total = true, number
	}
	return nil
}
