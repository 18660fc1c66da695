package session

import (
	"fmt"
	"io"
	"net"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/session/flight"
)

// over returns why nothing may be read or written any more; nil if it may.
func (s *Session) over() error {
	if s.closing {
		return net.ErrClosed
	}
	return s.err
}

// join makes stream the one that carries, from what the peer has on. The peer begins with
// that many octets that are here already.
func (s *Session) join(stream carrier.Stream, again uint64) *attachment {
	a := &attachment{
		stream: stream, start: s.acked, next: s.acked, from: s.received - again, again: again,
		bound: flight.New(flight.Options{Rate: stream.Rate, Socket: stream.Socket, Most: mostHeld}),
	}
	a.cutter.acked = s.acked
	s.trim()
	s.now, s.since = a, time.Now()
	s.streams++
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.guard(a)
	s.present.Broadcast()
	s.writable.Broadcast()
	s.nudge()
	return a
}

// leave gives the present Stream up, if there is one, and tells why if cause is not nil.
// Closing may take a while (an ssh program is let finish), and is a goroutine's.
func (s *Session) leave(cause error) {
	a := s.now
	if a == nil {
		return
	}
	s.now, s.since = nil, time.Now()
	a.watch.stop()
	s.away = max(mostAway, s.replay.end-s.acked)
	if cause != nil {
		s.tell(cause)
	}
	end := a.stream.GiveUp // its reader is wanted on the next Stream
	if s.closing {
		end = a.stream.Close
	}
	s.tasks.Go(func() { end() })
	if s.waits && s.grace > 0 {
		if s.expiry == nil {
			s.expiry = time.AfterFunc(s.grace, s.expire)
		} else {
			s.expiry.Reset(s.grace)
		}
	}
	s.present.Broadcast()
	s.writable.Broadcast()
}

// tell tells Lost that there is no Stream any more.
func (s *Session) tell(cause error) {
	if s.lost != nil && s.over() == nil {
		s.tasks.Go(func() { s.lost(cause) })
	}
}

// lose gives a up if it is still the present Stream; without a grace it ends the
// Session.
func (s *Session) lose(a *attachment, cause error) {
	if s.now != a {
		return
	}
	if s.grace == 0 {
		s.tell(cause)
		if cause == io.EOF {
			cause = fmt.Errorf("session: the connection ended without a goodbye: %w", cause)
		}
		s.finish(cause)
		return
	}
	s.leave(cause)
}

// expire ends the Session if there is still no Stream.
func (s *Session) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil && time.Since(s.since) >= s.grace {
		s.finish(ErrExpired)
	}
}

// finish ends the Session, if it has not ended before.
func (s *Session) finish(err error) {
	if s.err != nil {
		return
	}
	s.leave(nil)
	if s.expiry != nil {
		s.expiry.Stop()
	}
	if s.closing {
		err = net.ErrClosed
	}
	s.err = err
	if !s.sending {
		s.replay.drop(s.replay.end)
		s.replay.shrink()
	}
	close(s.done)
	s.present.Broadcast()
	s.writable.Broadcast()
}

// Close ends the Session. What Write took is sent, and the peer is told and waited for,
// if there is a Stream and this takes no longer than a second.
func (s *Session) Close() error {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		s.present.Broadcast()
		s.writable.Broadcast()
		s.farewell()
		s.finish(net.ErrClosed)
	}
	s.mu.Unlock()
	s.tasks.Wait()
	return nil
}

// farewell sends all that there is, and END.
func (s *Session) farewell() {
	a := s.now
	if a == nil {
		return
	}
	late := time.AfterFunc(farewellTime, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.now == a {
			s.leave(nil)
		}
	})
	defer late.Stop()
	for s.now == a && s.sending {
		s.writable.Wait()
	}
	a.end = true
	for s.now == a && a.end {
		s.begins()
		s.flush(a)
		s.ends()
	}
	// The peer closes when it has read the end. If we did before, with octets of its own
	// unread, TCP would reset the connection, and the end might be lost.
	s.tasks.Go(func() { s.drain(a) })
	for s.now == a {
		s.writable.Wait()
	}
}

// drain reads from a until that ends.
func (s *Session) drain(a *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := make([]byte, earlyRead)
	for s.now == a {
		if s.reading {
			s.present.Wait()
			continue
		}
		s.reading = true
		s.mu.Unlock()
		n, err := a.stream.Read(b)
		n, signs, err := a.cut(b[:n], err)
		s.mu.Lock()
		s.take(a, b[:n], true, signs, err)
	}
}

// Drop gives the present Stream up at once, for cause.
func (s *Session) Drop(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil {
		s.lose(s.now, cause)
	}
}

// Done is closed when the Session has ended: by Close, by the peer, or because nobody
// came back.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns how it ended: net.ErrClosed, io.EOF if the peer ended it, ErrExpired, or
// what its only Stream failed with; nil if it has not.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// ID returns the Session's name.
func (s *Session) ID() ID { return s.id }

// Stream returns the Session as a Stream.
func (s *Session) Stream() carrier.Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	stream := carrier.Stream{ReadWriteCloser: s, Lasting: true}
	if s.now != nil {
		stream.Rate = s.now.stream.Rate
	}
	return stream
}

// Stats returns the Session's counts and measures.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Attached: s.now != nil, Since: s.since, Streams: s.streams,
		InFlight: int(s.sent - min(s.sent, s.acked)), Replayed: s.replayed,
	}
	if a := s.now; a != nil {
		st.InFlight = int(a.next - s.acked)
		st.Bound, st.Rate = a.bound.Limit(), a.bound.Rate()
		if st.RoundTrip, _ = a.bound.RoundTrip(); st.RoundTrip == 0 {
			st.RoundTrip = a.watch.trip
		}
	}
	return st
}

var _ interface {
	io.ReadWriteCloser
	carrier.BuffersWriter
	carrier.Meter
} = (*Session)(nil)
