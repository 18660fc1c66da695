package session

import (
	"net"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/session/flight"
)

// A Session is one connection to the peer's Session, on one Stream after another. It is
// the ReadWriteCloser of a Stream: Read and Write may be called at the same time, each
// by one goroutine. Acknowledgements and signs of life are heard by who reads; while
// nobody does, the Session reads for itself as far as it must. Close waits for all
// goroutines of the Session's.
type Session struct {
	id    ID
	grace time.Duration // how long the side that waits holds it; 0: it ends with its Stream
	beat  time.Duration
	lost  func(error)
	waits bool // we are the side that waited: the grace is ours to count
	epoch time.Time
	done  chan struct{}
	wake  chan struct{} // to keep: something is owed, or may go
	tasks sync.WaitGroup

	ackTimer  *time.Timer // keep's: what came is to be acknowledged
	roomTimer *time.Timer // keep's: room may have come by itself

	mu       sync.Mutex
	now      *attachment // the present Stream; nil: there is none
	present  *sync.Cond  // now, closing or err changed: a reader may go on
	writable *sync.Cond  // the same, or there is room, or sending ended: a writer may go on
	closing  bool        // Close was called
	err      error       // how it ended
	expiry   *time.Timer // of the grace, while there is no Stream
	since    time.Time   // since when now is what it is
	streams  uint64

	secret     secret
	former     secret // the side that waits: the one before, until the peer is seen to have the newer
	hasFormer  bool
	generation uint64 // how many secrets there were before
	attempts   uint64 // to attach, numbered as they prove themselves
	attached   uint64 // the side that dialled: the last that succeeded

	// Sending. Octets are numbered from 0 on, for the life of the Session.
	sending  bool        // somebody writes to a Stream, or is about to
	replay   replay      // what may be sent again
	acked    uint64      // the peer has those before
	sent     uint64      // those before were sent at least once
	pinned   uint64      // while sending: octets from here on are being read from replay
	away     uint64      // while there is no Stream: how many may be held
	head     []byte      // of what is being sent: the frames before DATA's octets
	tail     []byte      // and after
	vectors  net.Buffers // of what is being sent
	blocked  bool        // a Write waits for room
	replayed uint64

	// Receiving.
	received uint64        // so many octets came
	reading  bool          // somebody reads from a Stream
	rested   time.Duration // since when nobody does
	wanted   bool          // a Read waits for that, or for a Stream
	early    []byte        // what came while no Read was there for it
}

// An attachment is a Session's life on one Stream. The Session's mu guards it, but for
// what is the reader's.
type attachment struct {
	stream carrier.Stream
	cutter cutter // the reader's
	bound  *flight.Bound
	start  uint64 // number of the first octet that was sent here
	next   uint64 // number of the next to send

	from     uint64 // number of the first octet that comes here
	again    uint64 // so many octets to come have come before
	pending  int    // octets that were taken and are not acknowledged
	ackSet   bool   // ackTimer runs for them
	ackDue   bool   // they are to be acknowledged now
	confirms bool   // whatever comes shows that the peer has the newer secret
	pong     bool   // a PING is to be answered
	pongs    uint64 // with this number
	end      bool   // END is to be sent
	ended    bool   // and was
	watch    watch
}

func newSession(id ID, first secret, grace time.Duration, o Options) *Session {
	s := &Session{
		id: id, secret: first, grace: grace, beat: o.Beat, lost: o.Lost,
		epoch: time.Now(), since: time.Now(),
		done: make(chan struct{}), wake: make(chan struct{}, 1),
		ackTimer: time.NewTimer(time.Hour), roomTimer: time.NewTimer(time.Hour),
	}
	if s.beat <= 0 {
		s.beat = DefaultBeat
	}
	s.present, s.writable = sync.NewCond(&s.mu), sync.NewCond(&s.mu)
	s.ackTimer.Stop()
	s.roomTimer.Stop()
	return s
}

// clock is the time since the Session began, by the monotonic clock.
func (s *Session) clock() time.Duration { return time.Since(s.epoch) }
