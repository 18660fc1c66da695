package line

import (
	"context"
	"time"
)

// answer is Accept's part. It remembers little and has no clock but that of silence:
// each question is answered as it comes, and the last of several that came at once.
// Who asks has the nonce of this half; before that many may say hello, copies from
// old logs among them.
func (t *talk) answer(ctx context.Context) (Measured, error) {
	known := false // whose hello was answered has asked on
	var said said
	for {
		m, ok, err := t.hear(ctx, time.Time{}, said.patience(&t.gauge))
		if err != nil {
			return Measured{}, err
		}
		if !ok || known && m.nonce != t.dialler {
			continue
		}
		t.dialler, known = m.nonce, known || m.kind != hello
		if m.kind != tail {
			said.follows(&t.gauge)
		}
		reply := message{kind: m.kind, attempt: m.attempt, ends: m.ask && t.lines(), ask: m.ask}
		switch m.kind {
		case hello:
			reply.version, reply.nonce = version, t.accepter
			reply.wish, reply.set = t.options.Coding, t.stream.Unsafe
			t.queued = t.text(reply)
			said.now(t.queued, true)
		case head:
			t.never = never(t.never, m.set)
		case tail:
			if text := t.judge(reply); text != nil {
				t.queued = text
				said.now(text, false)
			}
		case begin:
			t.queued = t.text(reply)
			return t.begin(ctx, m)
		}
	}
}

// said is what was answered last, for what it tells of the way that something follows.
type said struct {
	at     time.Time // zero: nothing, or something has followed
	length int       // in octets; 0: a hello
	sum    int       // of all answers, in octets
}

func (s *said) now(text []byte, hello bool) {
	s.sum += len(text)
	if s.at = time.Now(); hello {
		s.length = 0
		return
	}
	s.length = len(text)
}

// mostPatience bounds how long answers may be on their way.
const mostPatience = 10 * time.Minute

// patience is how long the answers may take for the way back: a slow way, asked too
// often, holds several, and the other half asks on only when it has the last.
func (s *said) patience(g *gauge) time.Duration {
	rate := g.rate()
	if rate == 0 {
		return 0
	}
	return min(mostPatience, time.Duration(float64(s.sum)/rate*float64(time.Second)))
}

// follows notes that the next question came.
func (s *said) follows(g *gauge) {
	switch {
	case s.at.IsZero():
	case s.length == 0:
		g.short(time.Since(s.at))
	default:
		g.went(s.length, time.Since(s.at))
	}
	s.at = time.Time{}
}

// judge answers the pattern that has just ended; not, if it is to come in lines.
func (t *talk) judge(reply message) []byte {
	m := t.heading
	theirs := tried(t.never, m.parts&outRest != 0, m.parts&outHigh != 0)
	ours := tried(t.never, m.parts&inRest != 0, m.parts&inHigh != 0)
	pattern := newPattern(dialling, theirs)
	if t.lines() && !m.ends && pattern.cut(t.between) {
		return nil
	}
	reply.set = pattern.unsafe(t.between)
	reply.ruler = uint16(min(rulerIn(t.between), longRuler))
	return t.test(reply, min(int(m.ruler), longRuler), newPattern(accepting, ours))
}

// begin takes what the asking half has chosen. It waits until its own begin is on its
// way: data follow.
func (t *talk) begin(ctx context.Context, m message) (measured Measured, err error) {
	measured.Rate = t.gauge.rate()
	if measured.In, err = m.out.way(never(t.heading.set, t.heading.set), t.options.Coding); err != nil {
		return Measured{}, err
	}
	if measured.Out, err = m.in.way(t.never, t.options.Coding); err != nil {
		return Measured{}, err
	}
	return measured, t.flush(ctx)
}
