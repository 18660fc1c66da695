package way

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

// Explain returns why err came about, if that is known better here: whoever speaks
// beyond a program on the way, a jump host's ssh or one of the user's own, sees only that
// the connection ended when that program fails.
func (w *Way) Explain(err error) error {
	w.mu.Lock()
	broken := w.broken
	w.mu.Unlock()
	var hangUp *carrier.HangUpError
	var refused *carrier.RefusedError
	var silence *carrier.SilenceError
	answered := !errors.As(err, &hangUp) && (errors.As(err, &refused) || errors.As(err, &silence))
	if broken == nil || err == nil || answered {
		return err
	}
	return broken
}

// begin forgets what there was of an earlier way.
func (w *Way) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pids, w.broken = nil, nil
}

// watched is a Stream of a program's, whose failure is remembered.
type watched struct {
	carrier.Stream
	way  *Way
	why  func(err error) error // what the failure is to the user; nil: itself
	came func()                // is called with the first octet; may be nil
	once sync.Once
}

func (s *watched) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b)
	if n > 0 && s.came != nil {
		s.once.Do(s.came)
	}
	return n, s.note(err)
}

func (s *watched) Write(b []byte) (int, error) {
	n, err := s.Stream.Write(b)
	return n, s.note(err)
}

func (s *watched) WriteBuffers(buffers net.Buffers) error {
	return s.note(s.Stream.WriteBuffers(buffers))
}

func (s *watched) note(err error) error {
	if err == nil || carrier.IsClosed(err) {
		return err
	}
	if s.why != nil {
		err = s.why(err)
	}
	s.way.mu.Lock()
	defer s.way.mu.Unlock()
	if s.way.broken == nil {
		s.way.broken = err
	}
	return err
}

// itsWords makes a program's end an error with its last words.
func itsWords(name string, words *carrier.Words) func(error) error {
	return func(err error) error {
		var exit *command.ExitError
		if !errors.As(err, &exit) {
			return err
		}
		err = fmt.Errorf("%s ended with %s", name, exit.How)
		if last := words.Last(); last != "" {
			err = fmt.Errorf("%w; it said: %q", err, last)
		}
		return report.At(report.Reach, err, "see whether the command works in a shell")
	}
}
