package session

import (
	"fmt"
	"io"
	"net"
)

const (
	// mostHeld is how many octets are kept for sending again at most: what a way of
	// 1 Gbit/s and 130 ms holds. The flight's bound lets out what the way holds, no more.
	mostHeld = 16 << 20

	// mostAway is how many there may be while there is no Stream, unless there were more
	// when it went: inner connections go on for a moment, and memory is not used up by
	// who may never come back.
	mostAway = 1 << 20

	// mostData is the longest DATA frame sent: what is owed meanwhile waits for it.
	mostData = 1 << 20
)

// Write takes octets for the peer, as many at a time as may be under way.
func (s *Session) Write(p []byte) (int, error) {
	one := [1][]byte{p}
	return s.write(one[:])
}

// WriteBuffers is Write for many buffers.
func (s *Session) WriteBuffers(buffers net.Buffers) error {
	_, err := s.write(buffers)
	return err
}

func (s *Session) write(buffers net.Buffers) (taken int, err error) {
	left := 0
	for _, b := range buffers {
		left += len(b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.over(); err != nil {
		return 0, unwritable(err)
	}
	off := 0 // into buffers[0]
	for left > 0 {
		n, err := s.admission(min(left, mostData))
		if err != nil {
			return taken, unwritable(err)
		}
		s.begins()
		s.replay.reserve(n)
		at := s.replay.end
		s.mu.Unlock()
		for rest := n; rest > 0; {
			k := min(rest, len(buffers[0])-off)
			s.replay.fill(at, buffers[0][off:off+k])
			at += uint64(k)
			rest -= k
			if off += k; off == len(buffers[0]) {
				buffers, off = buffers[1:], 0
			}
		}
		s.mu.Lock()
		s.replay.end = at
		taken += n
		left -= n
		if s.now != nil && s.err == nil {
			s.flush(s.now)
		}
		s.ends()
	}
	return taken, nil
}

// unwritable is what Write says of a Session that has ended.
func unwritable(err error) error {
	if err == io.EOF {
		return fmt.Errorf("session: the far side has ended it: %w", io.ErrClosedPipe)
	}
	return err
}

// admission waits until some of want octets may be taken, and returns how many. So that
// a large Write does not become many small frames it waits for room for a burst.
func (s *Session) admission(want int) (int, error) {
	defer func() { s.blocked = false }()
	for {
		if err := s.over(); err != nil {
			return 0, err
		}
		if !s.sending {
			room, least := s.room()
			if room < min(want, least) {
				s.await()
				room, least = s.room()
			}
			if room >= min(want, least) {
				return min(want, room), nil
			}
		}
		s.blocked = true
		s.writable.Wait()
	}
}

// room returns how many octets may be taken, and how many are worth taking.
func (s *Session) room() (room, least int) {
	held := s.replay.end - s.acked
	if s.now == nil {
		return max(0, int(s.away)-int(held)), 1
	}
	limit := s.now.bound.Limit()
	return max(0, limit-int(held)), max(1, min(limit/4, s.now.bound.Burst()))
}

// await sees to it that the bound is asked again when room may have come by itself.
func (s *Session) await() {
	if s.now != nil {
		s.roomTimer.Reset(s.now.bound.Overdue(s.clock()))
	}
}

// Room returns how many octets a Write takes now without waiting, and a burst, as a
// carrier.Meter does.
func (s *Session) Room() (octets, burst int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	octets, _ = s.room()
	if s.now == nil {
		return octets, int(s.away)
	}
	return octets, s.now.bound.Burst()
}

// begins makes the caller the only one who sends.
func (s *Session) begins() {
	s.sending = true
	s.pinned = s.replay.end
}

// ends lets others send.
func (s *Session) ends() {
	s.sending = false
	if s.err != nil {
		s.replay.drop(s.replay.end)
		s.replay.shrink()
	} else {
		s.trim()
	}
	if s.now != nil && s.owes(s.now) {
		s.nudge()
	}
	s.writable.Broadcast()
}

// nudge wakes keep.
func (s *Session) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// keep sends what is owed when no Write takes it along, and what is sent again. It runs
// until the end.
func (s *Session) keep() {
	for {
		late, room := false, false
		select {
		case <-s.done:
			s.ackTimer.Stop()
			s.roomTimer.Stop()
			return
		case <-s.wake:
		case <-s.roomTimer.C:
			room = true
		case <-s.ackTimer.C:
			late = true
		}
		s.mu.Lock()
		if room {
			s.writable.Broadcast()
		}
		if late && s.now != nil && s.now.pending > 0 {
			s.now.ackDue = true
		}
		for s.now != nil && !s.sending && s.owes(s.now) {
			s.begins()
			s.flush(s.now)
			s.ends()
		}
		if a := s.now; a != nil && !s.sending && (s.blocked || a.next < s.replay.end) {
			s.await()
			if s.unheard() {
				s.tasks.Go(s.readEarly)
			}
		}
		s.mu.Unlock()
	}
}

// owes reports whether something is to be sent on a, and may be.
func (s *Session) owes(a *attachment) bool {
	if a.ended {
		return false
	}
	return a.ackDue || a.pong || a.watch.asks || a.end || s.ready(a) > 0
}

// ready returns how many octets not sent on a there are that may be now.
func (s *Session) ready(a *attachment) int {
	unsent := int(s.replay.end - a.next)
	if unsent == 0 || s.closing {
		return unsent
	}
	return max(0, min(unsent, a.bound.Limit()-int(a.next-s.acked)))
}

// flush sends on a what is owed and what may be sent, in one call of the Stream's. Its
// caller has begun, and ends; mu is free while the Stream writes.
func (s *Session) flush(a *attachment) {
	head, n := s.head[:0], min(s.ready(a), mostData)
	if a.pending > 0 || a.ackDue {
		head = appendNumber(head, frameAck, s.owed(a))
		a.pending, a.ackDue = 0, false
		if a.ackSet {
			a.ackSet = false
			s.ackTimer.Stop()
		}
	}
	if a.pong {
		head = appendNumber(head, framePong, a.pongs)
		a.pong = false
	}
	if a.watch.asks {
		head = appendNumber(head, framePing, a.watch.ask(s.clock()))
	}
	v := s.vectors[:0]
	if n > 0 {
		head = appendHeader(head, frameData, n)
		v = append(v, head)
		v = s.replay.appendSlices(v, a.next, n)
		s.pinned = a.next
		a.bound.Sent(s.clock(), n)
		a.next += uint64(n)
		if a.next > s.sent {
			s.replayed += uint64(n) - (a.next - max(s.sent, a.next-uint64(n)))
			s.sent = a.next
		} else {
			s.replayed += uint64(n)
		}
	} else if len(head) > 0 {
		v = append(v, head)
	}
	if a.end && a.next == s.replay.end {
		s.tail = appendNumber(s.tail[:0], frameEnd, s.replay.end)
		v = append(v, s.tail)
		a.end, a.ended = false, true
	}
	s.head, s.vectors = head, v
	if len(v) == 0 {
		return
	}
	s.mu.Unlock()
	err := a.stream.WriteBuffers(v)
	s.mu.Lock()
	clear(s.vectors) // they would hold chunks that nobody needs any more
	if err != nil {
		s.lose(a, err)
	}
}
