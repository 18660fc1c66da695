package cotty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

// lateTime is how long the last words of a command that has ended may take to be
// delivered to one that does not read: up to 88 KiB, a joinBuffer of package carrier and
// what Linux keeps for two terminals, over a modem.
const lateTime = 30 * time.Second

// run opens both sides, joins them, and says how that ended. ready is called when both
// are started.
func (c *session) run(ctx context.Context, out, errw io.Writer, ready func()) (err error) {
	if c.logFile != "" {
		log, err := c.openLog()
		if err != nil {
			return &sideError{err, statusSide}
		}
		defer log.Close()
		errw = &logger{w: log, dated: true}
	} else if _, ok := errw.(*os.File); !ok {
		errw = &logger{w: errw} // which two commands may write to
	}
	first, second, err := c.open(ctx, out, errw)
	if err != nil {
		return c.logged(errw, err)
	}
	if c.pidFile != "" {
		remove, err := keepPID(c.pidFile)
		if err != nil {
			return c.logged(errw, errors.Join(&sideError{err, statusSide}, first.close(), second.close()))
		}
		defer remove()
	}
	ready()
	err = c.join(ctx, first, second)
	if left := errors.Join(first.close(), second.close()); left != nil {
		c.say(errw, "cotty: %s", carrier.Printable(left.Error()))
	}
	return c.logged(errw, c.verdict(errw, err, first, second))
}

// open opens both sides, or none.
func (c *session) open(ctx context.Context, out, errw io.Writer) (first, second *side, err error) {
	sides := [2]*side{}
	for i, words := range c.sides {
		sides[i], err = openSide(ctx, words, c.stderrFor(words, errw), out)
		if err != nil {
			if i > 0 {
				err = errors.Join(err, sides[0].close())
			}
			return nil, nil, err
		}
	}
	return sides[0], sides[1], nil
}

// stderrFor returns what takes the standard error of a command, nil for its terminal.
func (c *session) stderrFor(words []string, errw io.Writer) io.Writer {
	switch {
	case c.stderr != stderrPass:
		return nil
	case c.logFile == "" && c.detach:
		return io.Discard
	case c.logFile == "":
		return errw // as it would be without us
	}
	name := carrier.Printable(filepath.Base(words[0]))
	return &carrier.Words{Line: func(line string) { fmt.Fprintf(errw, "%s: %s\n", name, line) }}
}

// join carries octets, and window sizes, until a side ends.
func (c *session) join(ctx context.Context, first, second *side) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	for i, s := range []*side{first, second} {
		if s.process != nil {
			watching.Go(func() { c.watchExit(ctx, s.process, i == 1, cancel) })
		}
	}
	for _, pair := range [][2]*side{{first, second}, {second, first}} {
		if from, to := pair[0], pair[1]; from.tty != nil && to.resize != nil {
			watching.Go(func() { passSize(ctx, from.tty.File(), to.resize) })
		}
	}
	return carrier.Join(ctx, first.stream, second.stream)
}

// watchExit ends the session some time after a command ended and nobody has its
// terminal any more, if its last words cannot be delivered for so long.
func (c *session) watchExit(ctx context.Context, p *command.Process, second bool, cancel context.CancelCauseFunc) {
	select {
	case <-ctx.Done():
		return
	case <-p.Exited():
	}
	late := time.NewTimer(c.patience)
	defer late.Stop()
	select {
	case <-ctx.Done():
	case <-late.C:
		if !p.Held() {
			end := &carrier.EndError{Second: second, Err: p.Exit()}
			if end.Err == nil {
				end.Err = io.EOF
			}
			cancel(end)
		}
	}
}

// verdict says which side ended and how, and returns the error that has the exit
// status.
func (c *session) verdict(errw io.Writer, err error, first, second *side) error {
	var end *carrier.EndError
	if !errors.As(err, &end) {
		c.say(errw, "cotty ended: %s", carrier.Printable(err.Error())) // told so
		return nil
	}
	s := first
	if end.Second {
		s = second
	}
	var exit *command.ExitError
	switch {
	case errors.As(end.Err, &exit):
		c.say(errw, "%s ended first: %s", s.name, exit.How)
		status := exit.Status
		if exit.Signal > 0 {
			status = statusSignal + exit.Signal
		}
		return report.Silent(&sideError{end.Err, status})
	case carrier.IsClosed(end.Err):
		c.say(errw, "%s ended first", s.name)
		return nil
	}
	return &sideError{fmt.Errorf("%s: %w", s.name, end.Err), statusSide}
}

// logged puts an error into the log too, if there is one.
func (c *session) logged(errw io.Writer, err error) error {
	if log, ok := errw.(*logger); ok && log.dated && err != nil && !report.Said(err) {
		report.Say(log, err)
	}
	return err
}

// A logger takes what several goroutines say. It may put the time before each line.
type logger struct {
	mu    sync.Mutex
	w     io.Writer
	dated bool
}

func (l *logger) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dated {
		return l.w.Write(text)
	}
	now := time.Now().Format(time.RFC3339)
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Fprintf(l.w, "%s %s", now, line); err != nil {
			return 0, err
		}
	}
	return len(text), nil
}

// keepPID writes our process id to a file, at once and whole, and returns what
// removes it, unless it is somebody else's by then.
func keepPID(path string) (remove func(), err error) {
	own := strconv.Itoa(os.Getpid()) + "\n"
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return nil, err
	}
	_, err = file.WriteString(own)
	err = errors.Join(err, file.Chmod(0o644), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name())
		return nil, err
	}
	return func() {
		if now, err := os.ReadFile(path); err == nil && string(now) == own {
			os.Remove(path)
		}
	}, nil
}
