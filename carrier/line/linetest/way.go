// Package linetest makes ways in memory that eat and change octets: what telnet,
// terminals and relays do, for tests of what has to get through.
package linetest

import (
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// queueSize bounds what is on its way in one direction, in octets: as much as a pipe
// holds. A Write waits while there is more.
const queueSize = 64 << 10

// Faults are what one direction does to octets, in the order of the fields.
type Faults struct {
	SevenBit     bool            // takes bit 7 off
	Eat          carrier.ByteSet // is lost
	CRNL         bool            // CR becomes LF, LF becomes CR LF
	NVT          bool            // telnet: 0xff 0xff becomes one, 0xff and another nothing; CR becomes CR NUL
	Change       func(b byte) []byte
	InsertEvery  int  // after as many octets comes a line end that nobody sent
	MaxLine      int  // what a line holds; the rest is lost
	LineBuffered bool // nothing comes before the line has ended
	Echo         int  // as many octets come back to the sender; -1: all

	Banner   []byte // comes before everything
	OneOctet bool   // a Read returns one
	Rate     int    // octets per second; 0: no bound
	Delay    time.Duration
	Late     func() time.Duration // what is added to Delay, for each Write
	HangUpAt int                  // the connection ends when as many octets have been sent; 0: never
	Lose     int                  // the octet of that number is lost, counted from 1; 0: none
}

// A Link is two ends with a way between.
type Link struct {
	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, at each change
	ways    [2]way
	closed  [2]bool // by each end
}

// A way is one direction. Link.mu guards it.
type way struct {
	faults  Faults
	queue   []octets
	size    int       // octets in queue
	free    time.Time // when the last of them is over the wire
	ended   bool      // by CloseWrite
	sent    int       // octets written
	line    int       // octets in the line
	held    []byte    // by LineBuffered
	run     int       // octets since InsertEvery put one in
	command bool      // NVT: 0xff came
}

// octets are as many that become readable one by one from at on.
type octets struct {
	data []byte
	at   time.Time
	each time.Duration
}

// Pipe returns the two ends of a way whose directions have such faults. It starts no
// goroutine.
func Pipe(aToB, bToA Faults) (a, b carrier.Stream) {
	l := &Link{changed: make(chan struct{})}
	l.ways[0].faults, l.ways[1].faults = aToB, bToA
	for i := range l.ways {
		l.put(i, l.ways[i].faults.Banner)
	}
	return carrier.Stream{ReadWriteCloser: &end{l, 0}}, carrier.Stream{ReadWriteCloser: &end{l, 1}}
}

// end is one end of a Link, and writes to the way of its number.
type end struct {
	*Link
	n int
}

// change wakes who waits. The caller holds mu.
func (l *Link) change() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// wait waits for a change, or for d if that is not 0. The caller holds mu.
func (l *Link) wait(d time.Duration) {
	changed := l.changed
	l.mu.Unlock()
	defer l.mu.Lock()
	if d <= 0 {
		<-changed
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

func (e *end) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := &e.ways[e.n]
	for {
		switch {
		case e.closed[e.n] || w.ended:
			return 0, net.ErrClosed
		case e.closed[1-e.n]:
			return 0, io.ErrClosedPipe
		}
		if w.size < queueSize {
			break
		}
		e.wait(0)
	}
	n := len(b)
	if cut := w.faults.HangUpAt; cut > 0 && w.sent+n >= cut {
		b = b[:cut-w.sent]
	}
	if at := w.faults.Lose - 1 - w.sent; at >= 0 && at < len(b) {
		b = slices.Concat(b[:at], b[at+1:])
	}
	w.sent += n
	e.put(e.n, w.pass(b))
	if echo := w.faults.Echo; echo != 0 {
		if echo > 0 {
			b = b[:min(len(b), echo)]
			w.faults.Echo -= len(b)
		}
		e.put(1-e.n, append([]byte(nil), b...))
	}
	if cut := w.faults.HangUpAt; cut > 0 && w.sent >= cut {
		e.ways[0].ended, e.ways[1].ended = true, true
	}
	e.change()
	return n, nil
}

// put puts data on the way. The caller holds mu.
func (l *Link) put(n int, data []byte) {
	w := &l.ways[n]
	if len(data) == 0 {
		return
	}
	at := time.Now().Add(w.faults.Delay)
	if w.faults.Late != nil {
		at = at.Add(w.faults.Late())
	}
	if w.free.After(at) { // nothing overtakes
		at = w.free
	}
	w.free = at
	var each time.Duration
	if w.faults.Rate > 0 {
		each = time.Second / time.Duration(w.faults.Rate)
		at = at.Add(each) // of the first
		w.free = at.Add(each * time.Duration(len(data)-1))
	}
	w.queue = append(w.queue, octets{append([]byte(nil), data...), at, each})
	w.size += len(data)
}

func (e *end) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	w := &e.ways[1-e.n]
	for {
		if e.closed[e.n] {
			return 0, net.ErrClosed
		}
		if len(w.queue) == 0 {
			if e.closed[1-e.n] || w.ended {
				return 0, io.EOF
			}
			e.wait(0)
			continue
		}
		first := &w.queue[0]
		if wait := time.Until(first.at); wait > 0 {
			e.wait(wait)
			continue
		}
		ready := len(first.data)
		if first.each > 0 {
			ready = min(ready, 1+int(time.Since(first.at)/first.each))
		}
		if w.faults.OneOctet {
			ready = 1
		}
		n := copy(b, first.data[:ready])
		first.data = first.data[n:]
		first.at = first.at.Add(first.each * time.Duration(n))
		if w.size -= n; len(first.data) == 0 {
			w.queue = w.queue[1:]
		}
		e.change()
		return n, nil
	}
}

// Close ends both directions. What was written is still read.
func (e *end) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed[e.n] = true
	e.change()
	return nil
}

// CloseWrite ends this end's direction.
func (e *end) CloseWrite() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ways[e.n].ended = true
	e.change()
	return nil
}

// pass does to octets what the way does. The caller holds mu.
func (w *way) pass(b []byte) (out []byte) {
	f := &w.faults
	if !f.SevenBit && f.Eat.Empty() && !f.CRNL && !f.NVT && f.Change == nil && f.InsertEvery == 0 && f.MaxLine == 0 && !f.LineBuffered {
		return b
	}
	for _, o := range b {
		if f.SevenBit {
			o &= 0x7f
		}
		if f.Eat.Has(o) {
			continue
		}
		one := []byte{o}
		switch {
		case f.CRNL && o == '\r':
			one = []byte("\n")
		case f.CRNL && o == '\n':
			one = []byte("\r\n")
		case f.NVT && w.command:
			w.command = false
			if o != 0xff {
				one = nil
			}
		case f.NVT && o == 0xff:
			w.command = true
			one = nil
		case f.NVT && o == '\r':
			one = []byte("\r\x00")
		}
		if f.Change != nil {
			var changed []byte
			for _, o := range one {
				changed = append(changed, f.Change(o)...)
			}
			one = changed
		}
		if w.run++; f.InsertEvery > 0 && w.run >= f.InsertEvery {
			w.run = 0
			one = append(one, '\r', '\n')
		}
		for _, o := range one {
			if o == '\n' {
				w.line = 0
			} else if w.line++; f.MaxLine > 0 && w.line > f.MaxLine {
				continue
			}
			if !f.LineBuffered {
				out = append(out, o)
				continue
			}
			if w.held = append(w.held, o); o == '\n' {
				out = append(out, w.held...)
				w.held = w.held[:0]
			}
		}
	}
	return out
}
