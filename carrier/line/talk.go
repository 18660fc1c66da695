package line

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	// silence is how long nothing new may be heard.
	silence = time.Minute

	// wordsKept is how much of what came is quoted in an error, in octets.
	wordsKept = 200

	// maxHeard bounds what is kept while a pattern comes, in octets: three times the
	// longest, a ruler and all, for a way that puts much between.
	maxHeard = 16 << 10

	// talkSize is what one Read asks for, in octets. A pattern is less.
	talkSize = 4096

	// echoTrail is how many octets may follow the echo of a message and belong to it:
	// a line end as some terminal shows it.
	echoTrail = 8
)

// A talk is one half's measuring: one goroutine that reads, one that writes, and
// the caller's between them, which alone touches what is in here.
//
// The reader asks before each Read but the first. So once the caller has found the
// last message and asks no more, nothing is read that is not in pending, where the
// data begin.
type talk struct {
	stream  carrier.Stream
	side    side
	options Options
	never   carrier.ByteSet // what is not sent: our Stream's, then the peer's too

	dialler, accepter nonce // the two halves'; zero until told

	more   chan struct{} // caller to reader: read on; closed at the end
	chunks chan chunk    // reader to caller
	out    chan []byte   // caller to writer; closed at the end
	wrote  chan error    // writer to caller, for each
	ended  sync.WaitGroup

	asked   bool   // the reader is at it
	pending []byte // heard and not looked at yet
	failed  error  // what the last Read returned besides
	queued  []byte // to be written next; a later answer takes an earlier one's place
	writing bool
	sent    time.Time // when the last Write was done

	parser  parser
	count   int       // octets heard
	news    time.Time // when something came that is no echo of ours
	last    []byte    // the last octets heard, at most wordsKept
	echoed  bool      // a message of ours came back
	echoes  bool      // one that the peer has heard already: the way will not do
	trail   int       // octets that may still belong to an echo
	heading message   // the last head
	headed  time.Time // when it came
	hearing bool      // its tail is to come
	between []byte    // what came since, at most maxHeard octets
	gauge   gauge
}

// A chunk is what one Read returned.
type chunk struct {
	octets []byte
	err    error
}

func startTalk(s carrier.Stream, side side, o Options) (*talk, error) {
	if without(own, s.Unsafe) != own {
		return nil, refuse("the way carries not even letters and digits")
	}
	t := &talk{
		stream: s, side: side, options: o, never: never(s.Unsafe, carrier.ByteSet{}),
		more: make(chan struct{}), chunks: make(chan chunk), out: make(chan []byte), wrote: make(chan error, 1),
		asked: true, news: time.Now(),
	}
	if side == dialling {
		rand.Read(t.dialler[:])
	} else {
		rand.Read(t.accepter[:])
	}
	t.ended.Go(t.read)
	t.ended.Go(t.write)
	return t, nil
}

// read is the reader. What it hands over is its own again when asked for more.
func (t *talk) read() {
	buf := make([]byte, talkSize)
	for {
		n, err := t.stream.Read(buf)
		t.chunks <- chunk{buf[:n], err}
		if _, on := <-t.more; !on {
			return
		}
	}
}

// write is the writer, so that a way that takes nothing stops no clock.
func (t *talk) write() {
	for octets := range t.out {
		_, err := t.stream.Write(octets)
		t.wrote <- err
	}
}

// stop ends both goroutines and returns what was read too far. On a Stream that is
// not closed it comes after the last message was heard, and the last one written.
func (t *talk) stop() (data []byte) {
	close(t.out)
	close(t.more)
	if t.asked {
		<-t.chunks // of the Read that Close has woken
	}
	t.ended.Wait()
	return t.pending
}

// lines reports whether line ends may be sent.
func (t *talk) lines() bool { return !t.never.Has(lf) }

// text returns m as it is sent.
func (t *talk) text(m message) []byte {
	text := t.endLine(nil, m.ends)
	return t.endLine(m.appendText(text, t.side, t.dialler, t.accepter), m.ends)
}

// test returns a head, m, with a pattern, its tail, and before it a ruler of m.ruler
// octets.
func (t *talk) test(m message, ruler int, p *pattern) []byte {
	m.kind = head
	text := t.text(m)
	for range ruler {
		text = append(text, rulerOctet)
	}
	text = t.endLine(text, m.ends)
	text = p.appendText(text, m.ends)
	return append(text, t.text(message{kind: tail, attempt: m.attempt, ends: m.ends, ask: m.ask, nonce: m.nonce})...)
}

func (t *talk) endLine(text []byte, is bool) []byte {
	if is {
		text = append(text, lf)
	}
	return text
}

// hear returns the peer's next message, or reports false when until has come; zero
// is never. patience is how long nothing may come, beyond a minute.
func (t *talk) hear(ctx context.Context, until time.Time, patience time.Duration) (m message, ok bool, err error) {
	for {
		for len(t.pending) > 0 {
			b := t.pending[0]
			t.pending = t.pending[1:]
			if m, ok = t.octet(b); ok {
				return m, true, nil
			}
			if t.echoes {
				return message{}, false, refuse("the far side's terminal echoes what it gets, and so changes what comes back")
			}
		}
		if t.failed != nil {
			return message{}, false, t.hangUp(t.failed)
		}
		if !t.asked {
			t.more <- struct{}{}
			t.asked = true
		}
		end := t.news.Add(silence + patience)
		wake := end
		if !until.IsZero() && until.Before(end) {
			wake = until
		}
		if err := t.wait(ctx, wake); err != nil {
			return message{}, false, err
		}
		switch now := time.Now(); {
		case len(t.pending) > 0 || t.failed != nil || now.Before(wake):
		case wake == end:
			return message{}, false, t.silent()
		default:
			return message{}, false, nil
		}
	}
}

// wait waits for one thing to happen, or until.
func (t *talk) wait(ctx context.Context, until time.Time) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	out := t.out
	if t.queued == nil || t.writing {
		out = nil
	}
	select {
	case c := <-t.chunks:
		t.asked = false
		t.pending, t.failed = c.octets, c.err
	case out <- t.queued:
		t.queued, t.writing = nil, true
	case err := <-t.wrote:
		t.writing, t.sent = false, time.Now()
		if err != nil {
			return t.hangUp(err)
		}
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// flush waits until all is written that was said. It is called between the peer's
// last message and the data, and so reads nothing.
func (t *talk) flush(ctx context.Context) error {
	end := time.Now().Add(silence)
	for t.queued != nil || t.writing {
		if err := t.wait(ctx, end); err != nil {
			return err
		}
		if !time.Now().Before(end) {
			return t.silent()
		}
	}
	return nil
}

// octet takes the next octet heard, and returns the message that it ends, if any.
func (t *talk) octet(b byte) (m message, ok bool) {
	t.count++
	if t.last = append(t.last, b); len(t.last) >= 2*wordsKept {
		t.last = append(t.last[:0], t.last[wordsKept:]...)
	}
	if t.hearing && len(t.between) < maxHeard {
		t.between = append(t.between, b)
	}
	text, whole := t.parser.push(b)
	switch {
	case whole:
		if m, ok = parseText(text, t.side.other(), t.dialler, t.accepter); ok {
			t.news = time.Now()
			return m, t.follows(m)
		}
		m, ok = parseText(text, t.side, t.dialler, t.accepter)
		if ok && (t.side == accepting || m.nonce == t.dialler) {
			t.echoed, t.trail = true, echoTrail
			t.echoes = t.echoes || m.kind == tail
			return message{}, false
		}
		t.news = time.Now()
	case t.parser.open: // a message, or an echo, who knows
	case t.hearing:
		t.news = time.Now()
	case b&0x7f <= ' ' || b&0x7f == 0x7f:
	case t.trail > 0:
		t.trail--
	default:
		t.news = time.Now()
	}
	return message{}, false
}

// follows notes where a pattern begins and ends, and reports whether m comes in the
// order of a talk: a tail is that of the last head.
func (t *talk) follows(m message) bool {
	switch m.kind {
	case head:
		t.heading, t.headed, t.hearing, t.between = m, time.Now(), true, t.between[:0]
	case tail:
		is := t.hearing && t.heading.attempt == m.attempt
		if is {
			t.gauge.came(len(t.between), time.Since(t.headed))
		}
		t.hearing = false
		return is
	}
	return true
}

func (t *talk) hangUp(err error) error {
	return &carrier.HangUpError{
		Layer:  "line",
		Reason: fmt.Sprintf("the way ended while it was measured, after %d octets%s: %v", t.count, t.words(), err),
		Err:    err,
	}
}

func (t *talk) silent() error {
	e := &carrier.SilenceError{
		Layer:  "line",
		Reason: fmt.Sprintf("nothing new for %v from the far half; in all %d octets%s", silence, t.count, t.words()),
	}
	switch {
	case t.echoed:
		e.Reason = "the far side's terminal echoes what it gets, and nothing answers"
		e.Hint = "see that the far half runs there"
	case !t.lines():
		e.Hint = "no line end was sent, for a terminal is on the way: see that it is raw"
	}
	return e
}

// words quotes what was heard last.
func (t *talk) words() string {
	last := carrier.Printable(string(t.last[max(0, len(t.last)-wordsKept):]))
	if last == "" {
		return ""
	}
	return fmt.Sprintf(", the last %q", last)
}
