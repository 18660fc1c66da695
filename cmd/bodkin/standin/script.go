package standin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/pty"
)

// A switchboard lets commands speak on a line before PPP does, and after it: chat,
// for example. It alone reads the line, so that no octet is lost between one
// speaker and the next: what a command has not read is there for whoever follows.
//
// One speaks at a time: a command, by run, or PPP, by end.
type switchboard struct {
	line    carrier.Stream
	in      chan []byte   // what was read; closed at the end
	err     error         // why the reading ended; valid once in is closed
	rest    []byte        // what was taken from in, or given back by a command
	stop    chan struct{} // closed by close
	done    chan struct{} // closed when nothing is read any more
	closing sync.Once
}

// scriptPatience is how long a command may take from SIGTERM on, before SIGKILL.
const scriptPatience = 2 * time.Second

// switchBuffer is how much is read from the line at once, in octets: what a pipe
// holds.
const switchBuffer = 64 << 10

func newSwitchboard(line carrier.Stream) *switchboard {
	s := &switchboard{line: line, in: make(chan []byte), stop: make(chan struct{}), done: make(chan struct{})}
	go s.read()
	return s
}

func (s *switchboard) read() {
	defer close(s.done)
	defer close(s.in)
	// Two buffers do: one is taken only when the other has been used up.
	var buffers [2][switchBuffer]byte
	for i := 0; ; i ^= 1 {
		b := buffers[i][:]
		n, err := s.line.Read(b)
		if n > 0 {
			select {
			case s.in <- b[:n]:
			case <-s.stop:
				return
			}
		}
		if err != nil {
			s.err = err
			return
		}
	}
}

// close closes the line.
func (s *switchboard) close() {
	s.closing.Do(func() {
		close(s.stop)
		s.line.Close()
	})
	<-s.done
}

// alive reports whether the line has not ended.
func (s *switchboard) alive() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// run runs a command for sh with a terminal of its own as standard input and
// output, joined to the line, since chat wants one; what it says aside goes to words.
// It ends when the command does, and ends the command when ctx does.
func (s *switchboard) run(ctx context.Context, script string, words io.Writer) error {
	near, far, err := pty.Open()
	if err != nil {
		return err
	}
	defer near.Close()
	defer far.Close()
	running, kill := context.WithCancel(ctx)
	defer kill()
	cmd := exec.CommandContext(running, "sh", "-c", script)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = scriptPatience
	cmd.Stdin, cmd.Stdout, cmd.Stderr = far, far, words
	if err := cmd.Start(); err != nil {
		return err
	}
	var moving sync.WaitGroup
	ended := make(chan struct{})
	moving.Go(func() {
		if !s.feed(near, ended) {
			late := time.AfterFunc(scriptPatience, kill) // the line is gone: time for the last words
			<-ended
			late.Stop()
		}
	})
	moving.Go(func() { io.Copy(s.line, near) })
	err = cmd.Wait()
	close(ended)
	near.SetWriteDeadline(time.Unix(1, 0))
	near.SetReadDeadline(time.Now().Add(lastWords))
	moving.Wait()
	s.rest = append(unread(far), s.rest...)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// lastWords is how long what a command wrote before it ended may take to the line.
// It is on this machine already, in a terminal's buffer; but somebody whom the
// command left behind may have the terminal open, so that no end of it is seen.
const lastWords = 100 * time.Millisecond

// feed gives a command what comes in, until it has ended, or reports false if the
// line has. What was not taken stays in rest.
func (s *switchboard) feed(to io.Writer, ended <-chan struct{}) bool {
	for {
		if len(s.rest) > 0 {
			n, err := to.Write(s.rest)
			if s.rest = s.rest[n:]; err != nil {
				return true
			}
			continue
		}
		select {
		case b, ok := <-s.in:
			if !ok {
				return false
			}
			s.rest = b
		case <-ended:
			return true
		}
	}
}

// end is the line for one who speaks after the commands. Closing it leaves the line
// open.
func (s *switchboard) end() io.ReadWriteCloser {
	e := &switchedEnd{s: s, closed: make(chan struct{}), writing: make(chan struct{}, 1)}
	e.writing <- struct{}{}
	return e
}

// A switchedEnd is a turn to speak.
type switchedEnd struct {
	s       *switchboard
	closed  chan struct{}
	closing sync.Once
	writing chan struct{} // holds one token while nobody writes
}

func (e *switchedEnd) Read(b []byte) (int, error) {
	select {
	case <-e.closed:
		return 0, net.ErrClosed
	default:
	}
	if len(e.s.rest) == 0 {
		select {
		case more, ok := <-e.s.in:
			if !ok {
				return 0, e.s.err
			}
			e.s.rest = more
		case <-e.closed:
			return 0, net.ErrClosed
		}
	}
	n := copy(b, e.s.rest)
	e.s.rest = e.s.rest[n:]
	return n, nil
}

func (e *switchedEnd) Write(b []byte) (int, error) {
	select {
	case <-e.writing:
		defer func() { e.writing <- struct{}{} }()
	case <-e.closed:
		return 0, net.ErrClosed
	}
	return e.s.line.Write(b)
}

// Close ends the turn. A Write that still waits then has a second; after that the
// line is closed, as nothing else wakes it.
func (e *switchedEnd) Close() error {
	e.closing.Do(func() {
		close(e.closed)
		late := time.NewTimer(time.Second)
		defer late.Stop()
		select {
		case <-e.writing:
			e.writing <- struct{}{}
		case <-late.C:
			e.s.line.Close()
		}
	})
	return nil
}

// runOn runs one of the line's commands and gives its failure an exit status.
func (l *line) runOn(ctx context.Context, name, script string, status int) error {
	if script == "" {
		return nil
	}
	err := l.switched.run(ctx, script, &l.words)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case context.Cause(ctx) != nil:
		return endedAs(statusUserRequest, context.Cause(ctx).Error())
	case errors.As(err, &exit):
		return failedAs(status, "", withWords(fmt.Errorf("the %s command failed: %s", name, exit.ProcessState), l.words.Last()))
	}
	return failedAs(status, "", fmt.Errorf("the %s command: %w", name, err))
}
