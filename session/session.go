// Package session makes one Stream of many: a Session outlives the Streams that carry
// it. Octets are numbered both ways, acknowledged, and kept until they are; a new Stream
// to the same peer takes the place of one that died, what was under way is sent again,
// and whoever reads and writes the Session notices a pause. spec.md is the protocol.
//
// The side that dialled calls Open, and Attach with each further Stream. The side that
// waited calls Greet with every Stream that comes, and, by what its caller wants, Accept
// or Resume.
//
// The Streams must protect what they carry: each is a login or a TLS connection of its
// own. What the Session adds is that nobody but the peer of its first Stream continues
// it, whoever else may log in.
package session

import (
	"encoding/hex"
	"errors"
	"time"
)

// An ID names a Session. It is no secret.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Options are the options of either side.
type Options struct {
	// Beat is how often a Stream on which nothing comes is asked for a sign of life; it
	// is dead when nothing at all came for three of them. 0 means DefaultBeat. The
	// Stream's Patience is added.
	Beat time.Duration

	// Grace is how long the side that dialled wants the other to hold the Session while
	// there is no Stream; that side's Terms decide. 0: not at all.
	Grace time.Duration

	// Lost, if not nil, is told that the present Stream is gone, and why, from a
	// goroutine of the Session's. It must not block, nor call the Session.
	Lost func(cause error)
}

// DefaultBeat finds a Stream that died in silence within ten seconds.
const DefaultBeat = 2500 * time.Millisecond

// Terms are what the side that waited says of a Session that begins.
type Terms struct {
	Grace time.Duration // how long it holds the Session while there is no Stream; 0: it does not
	Note  string        // printable: why not, or what else people should know; may be empty
}

var (
	// ErrUnknown is returned by Attach when the peer holds no such Session: it waited
	// too long, or has started anew.
	ErrUnknown = errors.New("session: the far side does not hold it any more")

	// ErrForged is returned by Attach and Resume when the other side does not prove that
	// it is the Session's peer. The Session goes on as if nothing had come.
	ErrForged = errors.New("session: the other side does not prove that it is the same")

	// ErrExpired ends a Session that had no Stream for its grace time.
	ErrExpired = errors.New("session: nobody came back in time")
)

// Stats are a Session's counts and measures.
type Stats struct {
	Attached  bool          // there is a Stream
	Since     time.Time     // since when that is so
	Streams   uint64        // so many so far
	RoundTrip time.Duration // of the last answer on this Stream; 0: none yet
	Rate      float64       // octets per second that the way was seen to carry; 0: not known
	InFlight  int           // octets sent and not yet acknowledged
	Bound     int           // most of them, as things are
	Replayed  uint64        // octets sent again so far
}
