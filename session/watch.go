package session

import (
	"fmt"
	"time"
)

// deadBeats is how many beats of silence make a Stream a dead one.
const deadBeats = 3

// A watch notes the signs of life of a Stream. Times are the Session's clock.
//
// Silence counts only while somebody reads: what nobody takes off the Stream is not the
// peer's fault. While nobody does the peer is sent a PING every beat, since that is all
// it hears of us.
type watch struct {
	listening bool
	from      time.Duration // since when a Read waits, and nothing came

	asks    bool          // a PING is to be sent
	asked   uint64        // the last PING's number
	askedAt time.Duration // and its time
	reply   uint64        // the last PONG's number
	trip    time.Duration // and how long it took; 0: none came

	due   time.Duration // when timer is to fire
	timer *time.Timer   // looks every beat; nil: silence is no sign here

	proof   uint64        // with a probe: the number of the first PING that is to be answered
	proofBy time.Duration // and until when
	prober  *time.Timer
}

func (w *watch) listens(now time.Duration) { w.listening, w.from = true, now }
func (w *watch) rests()                    { w.listening = false }

// ask returns the number of the PING that is sent now.
func (w *watch) ask(now time.Duration) uint64 {
	w.asks = false
	w.asked++
	w.askedAt = now
	return w.asked
}

// answered notes a PONG.
func (w *watch) answered(now time.Duration, number uint64) {
	if number > w.asked || number <= w.reply {
		return // the peer's own invention, or an old one
	}
	w.reply = number
	if number == w.asked {
		w.trip = max(1, now-w.askedAt)
	}
}

// silence returns for how long somebody has waited in vain.
func (w *watch) silence(now time.Duration) time.Duration {
	if !w.listening {
		return 0
	}
	return now - w.from
}

func (w *watch) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.prober != nil {
		w.prober.Stop()
	}
}

// guard begins to watch over a.
func (s *Session) guard(a *attachment) {
	if a.stream.Lasting {
		return
	}
	a.watch.due = s.clock() + s.beat
	a.watch.timer = time.AfterFunc(s.beat, func() { s.look(a) })
}

// look looks whether a lives.
func (s *Session) look(a *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != a {
		return
	}
	w, now := &a.watch, s.clock()
	dead := deadBeats*s.beat + a.stream.Patience()
	if now-w.due > s.beat {
		// This process stood still: what the peer said meanwhile may wait to be read.
		w.from = max(w.from, now-dead+s.beat)
	}
	silence := w.silence(now)
	if silence >= dead {
		s.lose(a, fmt.Errorf("session: nothing heard from the far side for %v", silence.Round(time.Second/10)))
		return
	}
	wait := s.beat
	if w.listening && silence < s.beat {
		wait -= silence
	} else {
		w.asks = true
		s.nudge()
	}
	if s.unheard() {
		s.tasks.Go(s.readEarly)
	}
	if w.listening {
		wait = min(wait, dead-silence)
	}
	w.due = now + wait
	w.timer.Reset(wait)
}

// Probe asks the peer for a sign of life now. If its answer does not come within
// patience, and what the Stream itself needs beyond that, the Stream is given up.
func (s *Session) Probe(patience time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.now
	if a == nil || a.stream.Lasting {
		return
	}
	w, now := &a.watch, s.clock()
	patience += a.stream.Patience()
	if w.proof > w.reply && w.proofBy <= now+patience {
		return // a stricter one is under way
	}
	w.asks = true
	s.nudge()
	w.proof, w.proofBy = w.asked+1, now+patience
	if w.prober == nil {
		w.prober = time.AfterFunc(patience, func() { s.judge(a) })
	} else {
		w.prober.Reset(patience)
	}
}

// judge looks whether a probe was answered.
func (s *Session) judge(a *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &a.watch
	if s.now != a || w.reply >= w.proof {
		return
	}
	now := s.clock()
	if late := now - w.proofBy; late > s.beat || !w.listening {
		// This process stood still, or nobody reads: the answer may be there.
		w.proofBy = now + s.beat
		w.prober.Reset(s.beat)
		return
	}
	s.lose(a, fmt.Errorf("session: no answer from the far side when it was asked for a sign of life"))
}
