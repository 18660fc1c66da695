package session

import (
	"errors"
	"io"
	"net"
	"sync"

	"github.com/bodkin-net/bodkin/carrier"
)

// errCut is what both ends of a way get that was cut.
var errCut = errors.New("the way was cut")

// A way is a connection in memory. Each direction holds some octets, which are lost
// when it is cut.
type way struct {
	mu   sync.Mutex
	cond *sync.Cond
	err  error // cut
	dirs [2]direction
}

type direction struct {
	octets []byte
	most   int             // octets it holds
	budget int             // octets it still takes before the way is cut; negative: no end
	ended  bool            // by its writer's Close
	mute   bool            // swallows everything, as a firewall does that has forgotten
	pieces func(n int) int // how many of n octets one Read returns; nil: all
	flip   int             // the octet that is changed on the way, counted from 1; 0: none
	seen   []byte          // what was written, with keeps
	keeps  bool
}

// newWay returns a connection and its ends; budget is as in direction.
func newWay(most, there, back int) (*way, carrier.Stream, carrier.Stream) {
	w := &way{dirs: [2]direction{{most: most, budget: there}, {most: most, budget: back}}}
	w.cond = sync.NewCond(&w.mu)
	return w, carrier.Stream{ReadWriteCloser: &wayEnd{w: w, out: 0}}, carrier.Stream{ReadWriteCloser: &wayEnd{w: w, out: 1}}
}

// cut ends both directions at once.
func (w *way) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errCut
	w.cond.Broadcast()
}

// silence makes both directions swallow what is written.
func (w *way) silence(yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.dirs {
		w.dirs[i].mute = yes
	}
}

type wayEnd struct {
	w      *way
	out    int
	closed bool
}

func (e *wayEnd) Read(p []byte) (int, error) {
	w := e.w
	w.mu.Lock()
	defer w.mu.Unlock()
	in := &w.dirs[1-e.out]
	for {
		switch {
		case e.closed:
			return 0, net.ErrClosed
		case w.err != nil:
			return 0, w.err
		case len(in.octets) > 0:
			n := min(len(p), len(in.octets))
			if in.pieces != nil {
				n = in.pieces(n)
			}
			n = copy(p[:n], in.octets)
			if in.octets = in.octets[n:]; len(in.octets) == 0 {
				in.octets = nil // no memory of its own, for who measures
			}
			w.cond.Broadcast()
			return n, nil
		case in.ended:
			return 0, io.EOF
		}
		w.cond.Wait()
	}
}

func (e *wayEnd) Write(p []byte) (n int, err error) {
	w := e.w
	w.mu.Lock()
	defer w.mu.Unlock()
	out := &w.dirs[e.out]
	for {
		switch {
		case e.closed:
			return n, net.ErrClosed
		case w.err != nil:
			return n, w.err
		case w.dirs[1-e.out].ended:
			return n, io.ErrClosedPipe
		case len(p) == 0:
			return n, nil
		}
		k := min(len(p), out.most-len(out.octets))
		if out.mute {
			k = len(p)
		}
		if out.budget >= 0 && k > out.budget {
			k = out.budget
		}
		if !out.mute {
			out.octets = append(out.octets, p[:k]...)
			if out.flip > 0 && out.flip <= k {
				out.octets[len(out.octets)-k+out.flip-1] ^= 0x10
			}
			out.flip -= k
		}
		if out.keeps {
			out.seen = append(out.seen, p[:k]...)
		}
		p, n = p[k:], n+k
		if out.budget >= 0 {
			if out.budget -= k; out.budget == 0 {
				w.err = errCut
			}
		}
		if k > 0 {
			w.cond.Broadcast()
		} else {
			w.cond.Wait()
		}
	}
}

func (e *wayEnd) Close() error {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.closed = true
	e.w.dirs[e.out].ended = true
	e.w.cond.Broadcast()
	return nil
}
