package session

import (
	"fmt"
	"io"
	"slices"
	"time"
)

const (
	// ackEvery is how many octets are acknowledged at once, when much comes in, and
	// ackDelay how long the first of less waits for company: of its own kind, or a Write
	// that takes the acknowledgement with it.
	ackEvery = 64 << 10
	ackDelay = 2 * time.Millisecond

	// mostEarly is how many octets the Session reads while nobody else does, so as not to
	// miss the signs of life between them. For a Write that waits for an acknowledgement
	// it reads on, to mostHeld: the peer sends no more than that without one of ours, and
	// it gets none for what nobody has taken yet.
	mostEarly = 64 << 10

	// earlyRead is the least that such a read has room for, in octets, and restTime how
	// long nobody must have read before.
	earlyRead = 16 << 10
	restTime  = time.Millisecond
)

// Read reads what the peer wrote. Without a Stream it waits for one. It returns io.EOF
// after the peer's end.
//
//  1. The Stream's Read puts octets where the caller wants them.
//  2. The cutter takes the frames' headers out from between, mostly at the end.
//  3. take counts what came, if the Stream is still the present one.
func (s *Session) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		a, n, err := s.listen(p)
		if a == nil {
			return n, err
		}
		n, err = a.stream.Read(p[:a.cutter.want(len(p))])
		n, signs, err := a.cut(p[:n], err)
		s.mu.Lock()
		n = s.take(a, p[:n], false, signs, err)
		s.mu.Unlock()
		if n > 0 {
			return n, nil
		}
	}
}

// cut is the cutter's; err is what the Stream's Read returned.
func (a *attachment) cut(p []byte, err error) (int, signs, error) {
	n, signs, broken := a.cutter.cut(p)
	if broken != nil {
		err = broken
	}
	return n, signs, err
}

// listen waits for a Stream to read from, which nobody else reads then, or for octets
// that came early, of which it copies n to p.
func (s *Session) listen(p []byte) (a *attachment, n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.wanted = false }()
	for {
		switch {
		case len(s.early) > 0 && !s.closing:
			n = copy(p, s.early)
			if s.early = s.early[n:]; len(s.early) == 0 && !s.reading {
				s.early = nil
			}
			if s.now != nil {
				s.owe(s.now, n)
				if !s.sending && s.now.ackDue {
					s.nudge()
				}
			}
			return nil, n, nil
		case s.over() != nil:
			return nil, 0, s.over()
		case s.now != nil && !s.reading:
			s.reading = true
			s.now.watch.listens(s.clock())
			return s.now, 0, nil
		}
		s.wanted = true
		s.present.Wait()
	}
}

// unheard reports whether nobody has read for a while, and somebody should.
func (s *Session) unheard() bool { return s.needsReader() && s.clock()-s.rested >= restTime }

func (s *Session) needsReader() bool {
	most := mostEarly
	if s.blocked {
		most = mostHeld
	}
	return s.over() == nil && s.now != nil && !s.reading && !s.wanted && len(s.early) < most
}

// readEarly reads until somebody else wants to, or it has read enough.
func (s *Session) readEarly() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.needsReader() {
		a := s.now
		s.reading = true
		a.watch.listens(s.clock())
		s.early = slices.Grow(s.early, earlyRead)
		b := s.early[len(s.early):cap(s.early)]
		s.mu.Unlock()
		n, err := a.stream.Read(b)
		n, signs, err := a.cut(b[:n], err)
		s.mu.Lock()
		n = s.take(a, b[:n], true, signs, err)
		if len(s.early) == 0 {
			s.early = b[:n] // all that lay before it was taken meanwhile
		} else {
			s.early = s.early[:len(s.early)+n]
		}
	}
	if len(s.early) == 0 && !s.reading {
		s.early = nil
	}
}

// take notes what came on a: octets, signs, and what is wrong. It returns how many of
// the octets are new; they begin at p's first. What is early nobody has taken yet.
func (s *Session) take(a *attachment, p []byte, early bool, got signs, broken error) int {
	s.reading, s.rested = false, s.clock()
	s.present.Broadcast()
	if s.now != a { // it is sent again on the Stream that has come instead
		return 0
	}
	a.watch.rests()
	if a.confirms && (len(p) > 0 || got != signs{}) {
		a.confirms, s.hasFormer = false, false
	}
	n := len(p)
	if a.again > 0 {
		known := int(min(a.again, uint64(n)))
		a.again -= uint64(known)
		n = copy(p, p[known:])
	}
	s.received += uint64(n)
	if !early {
		s.owe(a, len(p))
	}
	if got.acked {
		if err := s.heard(a, got.ack); err != nil {
			broken = err
		}
	}
	if got.ping {
		a.pong, a.pongs = true, got.pinged
	}
	if got.pong {
		a.watch.answered(s.clock(), got.ponged)
	}
	if !s.sending && s.owes(a) {
		s.nudge()
	}
	switch {
	case got.end && got.total != s.received-a.again:
		s.finish(fmt.Errorf("session: the far side ended it after %d octets, of which %d came", got.total, s.received))
	case got.end:
		s.finish(io.EOF)
	case broken != nil:
		s.lose(a, broken)
	}
	return n
}

// owed returns how many octets an ACK on a speaks of: those that were taken.
func (s *Session) owed(a *attachment) uint64 {
	return max(a.from, s.received-a.again-uint64(len(s.early)))
}

// owe notes that n octets that came on a were taken.
func (s *Session) owe(a *attachment, n int) {
	if n == 0 {
		return
	}
	a.pending += n
	switch {
	case a.pending >= ackEvery:
		a.ackDue = true
	case !a.ackSet:
		a.ackSet = true
		s.ackTimer.Reset(ackDelay)
	}
}

// heard notes that the peer has the octets before n.
func (s *Session) heard(a *attachment, n uint64) error {
	if n > a.next {
		return fmt.Errorf("session: the far side acknowledges %d octets, and we sent %d", n, a.next)
	}
	if n > s.acked {
		s.acked = n
		a.bound.Acked(s.clock(), n-a.start)
		s.trim()
		s.writable.Broadcast()
	}
	return nil
}

// trim forgets what the peer has.
func (s *Session) trim() {
	if s.sending {
		s.replay.drop(min(s.acked, s.pinned))
		return
	}
	s.replay.drop(s.acked)
	s.replay.shrink()
}
