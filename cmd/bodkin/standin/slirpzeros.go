package standin

import (
	"io"
	"time"
)

// How five zeros are typed: one a second. Pasted, or in a file that is sent by
// mistake, they mean nothing.
const (
	zerosWanted = 5
	zerosApart  = 500 * time.Millisecond // at least
	zerosWithin = 3 * time.Second        // at most
)

// zeros looks for five zeros in what comes in while the link is down: the way out
// of a raw terminal at which nobody speaks PPP.
type zeros struct {
	count int
	last  time.Time
}

// see takes what came in at once and reports whether the fifth zero was in it.
func (z *zeros) see(b []byte, now time.Time) bool {
	if len(b) != 1 || b[0] != '0' {
		z.count = 0
		return false
	}
	if apart := now.Sub(z.last); z.count > 0 && (apart < zerosApart || apart > zerosWithin) {
		z.count = 0
	}
	z.count++
	z.last = now
	return z.count >= zerosWanted
}

// A watchedLine is a line on which zeros are looked for while the link is down.
type watchedLine struct {
	io.ReadWriteCloser
	run   *slirpRun
	zeros zeros
}

func (w *watchedLine) Read(b []byte) (int, error) {
	n, err := w.ReadWriteCloser.Read(b)
	if w.run.up.Load() {
		w.zeros.count = 0
	} else if n > 0 && w.zeros.see(b[:n], time.Now()) {
		w.run.cancel(errZeros)
	}
	return n, err
}
