// Package carrier holds the seam of the main problem: a continuous two-way
// connection through whatever the firewall lets out.
//
// A carrier is a way to such a connection (an ssh login, a TCP port, a command
// that carries octets). Each lives in a directory of its own below this one and
// ends in a Stream. What travels on a Stream, and for whom, is not known here.
package carrier

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"time"
)

// A Stream is one open connection to the peer: octets in order, both ways.
//
// Read and Write may be called at the same time, each by one goroutine. Close
// wakes both, and what they return then is net.ErrClosed or wraps it. A Read
// that meets the end of the connection says why it ended where the carrier
// knows (the ssh program's last words, an exit status); io.EOF means an orderly
// end and nothing more to say.
type Stream struct {
	io.ReadWriteCloser

	// Unsafe holds the octets that the way here may eat or change. It is empty
	// for ssh and TCP, and not for a tty.
	Unsafe ByteSet

	// Rate is what the way here carries, in octets per second, where it was found to
	// be so slow that whoever waits for an answer must wait longer; else 0.
	Rate float64

	// Lasting says that silence here is no sign of death: what is below watches over
	// the connection itself, and brings it back. Reads and writes wait meanwhile.
	Lasting bool

	// Socket, if not nil, tells what the kernel knows of the connection below. It is
	// there only where the socket is this process's and its other end is the peer's:
	// a hop by way of a third party hides it (Relayed).
	Socket Socket
}

// Relayed returns s for whoever goes on by way of the third party that it leads to: what
// the kernel knows of the connection below is not true of the whole way then.
func (s Stream) Relayed() Stream {
	s.Socket = Hide(s.Socket)
	return s
}

// A Socket tells what the kernel knows of it. To be asked may be of use to the socket
// itself, whose owner fits it to the way by what it finds.
type Socket interface{ Path() Path }

// Hide returns a Socket that is asked whenever it is, and tells nothing of the way; nil
// for nil.
func Hide(s Socket) Socket {
	if _, hidden := s.(hiddenSocket); s == nil || hidden {
		return s
	}
	return hiddenSocket{s}
}

type hiddenSocket struct{ Socket }

func (h hiddenSocket) Path() Path { return Path{Local: h.Socket.Path().Local} }

// A Path is what the kernel knows of a TCP connection that carries a Stream (RFC 9293).
// Its round trips are not lengthened by the wait for a lost segment, as those are that
// are measured above it.
type Path struct {
	RoundTrip      time.Duration // smoothed (RFC 6298); 0: not known
	LeastRoundTrip time.Duration // in the last minutes; 0: not known
	Unsent         int           // octets written and not yet sent
	Lost           uint64        // segments sent again so far
	Paced          bool          // its congestion control paces, and fills no queue on purpose (BBR)
	Local          netip.Addr    // its address on this machine; not valid: not known
}

// queueSize is what may lie in front of an answer, in octets: what TCP keeps unsent
// and what is under way.
const queueSize = 128 << 10

// Patience is how much longer than usual an answer may take here, for what lies in
// front of it on a slow way.
func (s Stream) Patience() time.Duration {
	if s.Rate <= 0 {
		return 0
	}
	return time.Duration(min(queueSize/s.Rate, 1e6) * float64(time.Second))
}

// A Hop goes one step further: it takes a Stream that reaches one place and
// returns the Stream that reaches the next. No octet read ahead is lost.
type Hop func(ctx context.Context, s Stream) (Stream, error)

// A BuffersWriter is what a Stream's ReadWriteCloser may be besides: one that
// takes many buffers in one system call.
type BuffersWriter interface {
	// WriteBuffers writes the buffers in their order, all of them or fails. It
	// keeps no reference to them, and may change the slice of slices.
	WriteBuffers(buffers net.Buffers) error
}

// WriteBuffers writes the buffers in their order, all of them or fails: in one
// system call where the carrier can, else gathered into one Write. It may change
// the slice of slices; the octets stay the caller's.
func (s Stream) WriteBuffers(buffers net.Buffers) error {
	if w, ok := s.ReadWriteCloser.(BuffersWriter); ok {
		return w.WriteBuffers(buffers)
	}
	n := 0
	for _, b := range buffers {
		n += len(b)
	}
	gathered := make([]byte, 0, n)
	for _, b := range buffers {
		gathered = append(gathered, b...)
	}
	_, err := s.Write(gathered)
	return err
}

// A Meter is what a Stream's ReadWriteCloser may be besides: one that bounds what is
// under way to what the way carries.
type Meter interface {
	// Room returns how many octets a Write takes as things are without waiting, which
	// may be 0, and a burst: how many pass in so short a time that nobody minds waiting
	// for them, at least a full Ethernet frame's.
	Room() (octets, burst int)
}

// Room returns what the Stream's Meter says; without one there is always room.
func (s Stream) Room() (octets, burst int) {
	if m, ok := s.ReadWriteCloser.(Meter); ok {
		return m.Room()
	}
	return math.MaxInt, math.MaxInt
}

// A Breaker is what a Stream's ReadWriteCloser may be besides: one that can send a
// break, which is no octet (telnet's BRK, that of a serial line).
type Breaker interface {
	Break() error
}

// Break sends a break, or fails with errors.ErrUnsupported.
func (s Stream) Break() error {
	if b, ok := s.ReadWriteCloser.(Breaker); ok {
		return b.Break()
	}
	return errors.ErrUnsupported
}

// An Aborter is what a Stream's ReadWriteCloser may be besides: one whose Close says
// goodbye to the peer, and waits for its.
type Aborter interface {
	// Abort is Close without any of that. It wakes who reads or writes at once.
	Abort() error
}

// GiveUp closes a Stream that is dead or not wanted any more, with no word to the peer
// where the carrier is an Aborter.
//
// It is not called Abort: whatever holds a Stream as an embedded field would be an Aborter
// then, and its own Close be passed by.
func (s Stream) GiveUp() error {
	if a, ok := s.ReadWriteCloser.(Aborter); ok {
		return a.Abort()
	}
	return s.Close()
}

// A ByteSet is a set of octet values.
type ByteSet [4]uint64

// Add puts octet b into the set.
func (s *ByteSet) Add(b byte) { s[b>>6] |= 1 << (b & 63) }

// Has reports whether octet b is in the set.
func (s *ByteSet) Has(b byte) bool { return s[b>>6]&(1<<(b&63)) != 0 }

// Empty reports whether the set holds nothing: the way is clean.
func (s *ByteSet) Empty() bool { return *s == ByteSet{} }

// A RefusedError says that the far side, or the user's own settings, turned us
// away for good: dialling again would end the same way.
type RefusedError struct {
	Layer  string // "ssh", "far half": what said no
	Reason string // printable, one line
	Hint   string // the next thing to try; may be empty
	Err    error  // the cause below; may be nil
}

func (e *RefusedError) Error() string { return e.Layer + ": " + e.Reason }
func (e *RefusedError) Unwrap() error { return e.Err }

// A HangUpError says that the peer ended the connection in the middle of a dialogue
// on the way: with a proxy, with a login. Dialling again may help.
type HangUpError struct {
	Layer  string // "proxy", "login": whose dialogue it was
	Reason string // printable, one line: what was waited for, how much came, its end
	Hint   string // the next thing to try; may be empty
	Err    error  // what Read or Write returned
}

func (e *HangUpError) Error() string { return e.Layer + ": " + e.Reason }
func (e *HangUpError) Unwrap() error { return e.Err }

// A SilenceError says that what a dialogue waited for did not come in time.
type SilenceError struct {
	Layer  string // "proxy", "login": whose dialogue it was
	Reason string // printable, one line: what was waited for, for how long, what came
	Hint   string // the next thing to try; may be empty
}

func (e *SilenceError) Error() string { return e.Layer + ": " + e.Reason }

// An UnreachedError says that a proxy could not reach what it was asked for, and did
// not refuse to. Dialling again may help.
type UnreachedError struct {
	Layer  string // "proxy": who could not
	Reason string // printable, one line: what it was asked for, and its own words
	Hint   string // the next thing to try; may be empty
}

func (e *UnreachedError) Error() string { return e.Layer + ": " + e.Reason }

// IsClosed reports whether err is what a Stream's methods return after Close,
// or at an orderly end.
func IsClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe)
}
