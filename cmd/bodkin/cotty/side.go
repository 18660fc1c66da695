package cotty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/carrier/tcp"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/pty"
)

// A side is one of the two that cotty joins, open.
type side struct {
	name    string // for people: "ssh", "tcp:gw:4000"
	stream  carrier.Stream
	process *command.Process          // of a command, or nil
	tty     *command.Terminal         // this terminal, or nil: its window size counts
	resize  func(like *os.File) error // passes a window size on, or nil
	end     func() error              // what is left to do after the Stream's Close, or nil
}

// A sideError says that a side could not be opened, or broke.
type sideError struct {
	err    error
	status int
}

func (e *sideError) Error() string   { return e.err.Error() }
func (e *sideError) Unwrap() error   { return e.err }
func (e *sideError) ExitStatus() int { return e.status }

// Exit statuses of cotty's own, as env(1) and nohup(1) have them.
const (
	statusSide     = 125 // a side failed that is no command
	statusNoRun    = 126 // a command was found, and does not run
	statusNotFound = 127
	statusSignal   = 128 // and the number of the signal that ended a command
)

// openSide opens a side. Its standard error goes to stderr, or to the stream if that
// is nil. What somebody must be told to open is printed to out.
func openSide(ctx context.Context, words []string, stderr, out io.Writer) (s *side, err error) {
	s = &side{name: carrier.Printable(words[0])}
	kind, rest := kindOf(words)
	switch kind {
	case "":
		s.name = carrier.Printable(filepath.Base(words[0]))
		return s, s.startCommand(words, stderr)
	case sideTTY:
		err = s.openTTY()
	case sideStdio:
		s.name = "standard input and output"
		s.stream, err = command.Stdio()
	case sideDevice:
		var device *command.Terminal
		if device, err = command.OpenTerminal(rest); err == nil {
			s.stream, s.end = device.Stream(), device.Close
		}
	case sideTCP:
		s.stream, err = tcp.Dial(ctx, rest, nil)
	case sideUnix:
		var d net.Dialer
		var conn net.Conn
		if conn, err = d.DialContext(ctx, "unix", rest); err == nil {
			s.stream.ReadWriteCloser = conn
		}
	case sidePTY:
		err = s.offer(rest, out)
	}
	if err != nil {
		return nil, &sideError{err, statusSide}
	}
	return s, nil
}

func (s *side) startCommand(words []string, stderr io.Writer) error {
	p, err := command.Start(command.Config{Args: words, Stderr: stderr, TTY: true})
	switch {
	case err == nil:
		s.process, s.stream, s.resize = p, p.Stream(), p.Resize
		return nil
	case !errors.Is(err, exec.ErrNotFound) && !errors.Is(err, os.ErrNotExist):
		return &sideError{err, statusNoRun}
	case strings.ContainsAny(words[0], " \t\n|;&$'\""):
		err = report.WithHint(err, "no shell is used: give each word by itself, or say sh -c '...'")
	}
	return &sideError{err, statusNotFound}
}

// openTTY takes over the terminal that we were started on, which must be lent to us:
// in the background it is somebody else's.
func (s *side) openTTY() error {
	s.name = "this terminal"
	look, err := os.Open(controllingTTY)
	if err != nil {
		return fmt.Errorf("no terminal to be side \"tty\": %w", err)
	}
	mine := pty.Foreground(look)
	look.Close()
	if !mine {
		return errors.New("this terminal is in use by another job: side \"tty\" needs the foreground")
	}
	s.tty, err = command.OpenTerminal(controllingTTY)
	if err == nil {
		s.stream, s.end = s.tty.Stream(), s.tty.Close
	}
	return err
}

const controllingTTY = "/dev/tty"

// offer makes a terminal for a program that somebody starts by hand, and says where.
func (s *side) offer(link string, out io.Writer) error {
	o, err := command.NewOffer()
	if err != nil {
		return err
	}
	s.stream, s.resize = o.Stream(), o.Resize
	path := o.Path()
	if link != "" {
		if link, err = filepath.Abs(link); err == nil {
			s.end, err = makeLink(path, link)
		}
		if err != nil {
			o.Close()
			return err
		}
		path = link
	}
	s.name = path
	_, err = fmt.Fprintln(out, path)
	return err
}

// makeLink makes a symbolic link to a terminal, in place of one that a killed cotty has
// left, and returns what removes it.
func makeLink(terminal, link string) (remove func() error, err error) {
	if old, err := os.Readlink(link); err == nil && strings.HasPrefix(old, "/dev/pts/") {
		os.Remove(link)
	}
	if err := os.Symlink(terminal, link); err != nil {
		return nil, err
	}
	return func() error {
		if now, err := os.Readlink(link); err != nil || now != terminal {
			return nil // it is somebody else's by now
		}
		return os.Remove(link)
	}, nil
}

// close closes the side, and says what could not be put back as it was.
func (s *side) close() error {
	s.stream.Close()
	if s.end == nil {
		return nil
	}
	return s.end()
}
