// Package command makes a carrier's Stream of a program: what we write is its
// standard input, what we read is its standard output. It also makes a Stream of
// our own standard input and output, for the half that is such a program.
//
// The program is on a pair of pipes, the clean way; or, if it insists on a terminal,
// on one of its own that carries all octets as they are. Terminals that exist
// already, or that somebody else will open, become Streams here as well.
//
// No shell is involved. What the program does with the octets, and what its
// standard error means, is its caller's affair.
package command

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	// leaveTime is how long a program may take to leave by itself once its
	// standard input has ended: long enough for ssh to send what it holds and
	// hear the far half's exit over a path of half a second's round trip.
	leaveTime = time.Second

	// termTime is how long it may take from SIGTERM on, before SIGKILL.
	termTime = 2 * time.Second

	// stderrTime is how long a descendant that kept the standard error open may
	// hold up the end of a program that has exited.
	stderrTime = 500 * time.Millisecond

	// statusTime is how long a Read that met the end of the output waits for the
	// exit status that explains it.
	statusTime = 2 * time.Second
)

// Config says what to run.
type Config struct {
	Args   []string  // the program, looked up in PATH if it has no slash, and its arguments
	Dir    string    // working directory; empty: ours
	Env    []string  // "KEY=value"; nil: ours
	Stderr io.Writer // takes the standard error, from a goroutine of this package; nil: discarded
	User   *User     // whom to run as; nil: as we are

	// TTY puts the program on a raw terminal of its own (package pty), which is its
	// standard input, standard output and, unless Stderr takes it, standard error, and
	// the controlling terminal of a session of its own. It inherits no other
	// descriptor, and no blocked signal. The terminal is raw before the program runs.
	//
	// A terminal has no half-close. The Stream ends when nobody has the terminal open
	// any more: a program that leaves a child on it, as pppd's updetach does, goes on.
	TTY bool
}

// A User is whom a program runs as. Only a process with the privilege to change
// its user may ask for one.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary groups
}

// A Process is a running program, and the ReadWriteCloser of its Stream.
type Process struct {
	name string // base name of the program, for errors
	proc *os.Process
	*duplex

	master *os.File    // of the program's terminal, also in duplex; nil: on pipes
	left   atomic.Bool // nobody has that terminal open any more
	group  group       // what the program leads when it has a terminal

	exited  chan struct{} // closed once the program has been reaped
	exit    error         // its end, nil for status 0; valid after exited
	closing sync.Once
}

// Start runs the program, and returns once it runs for sure. Without TTY it stays in
// our session and process group, so that it may use our terminal for prompts. On
// Linux it gets SIGTERM when we die, however we die. The caller must Close the
// Process, also after an error from Read.
func Start(c Config) (*Process, error) {
	if len(c.Args) == 0 {
		return nil, errors.New("command: no program named")
	}
	name := filepath.Base(c.Args[0])
	var near *duplex
	var in, out *os.File
	var err error
	if c.TTY {
		near, in, err = terminalPair(c.User)
		out = in
	} else {
		near, in, out, err = pair()
	}
	if err != nil {
		return nil, fmt.Errorf("command: %s: %w", name, err)
	}
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stderr = c.Dir, c.Env, c.Stderr
	cmd.Stdin, cmd.Stdout = in, out
	cmd.WaitDelay = stderrTime
	cmd.SysProcAttr, err = attributes(c)

	p := &Process{name: name, duplex: near, exited: make(chan struct{})}
	if c.TTY {
		p.master = near.in
		if c.Stderr == nil {
			cmd.Stderr = out
		}
	}
	if err == nil {
		started := make(chan error)
		go p.run(cmd, started)
		err = <-started
	}
	in.Close()
	out.Close()
	if err != nil {
		near.close()
		return nil, fmt.Errorf("command: %s: %w", name, err)
	}
	return p, nil
}

// run starts the program and waits for it, on one and the same thread: the kernel
// sends the parent-death signal when the thread that started a child ends.
func (p *Process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start, wait := cmd.Start, cmd.Wait
	if p.master != nil {
		start = func() error { return startClean(cmd) }
		wait = func() error { return p.group.wait(cmd) }
	}
	if err := start(); err != nil {
		started <- err
		return
	}
	p.proc = cmd.Process
	started <- nil
	p.exit = exitError(p.name, wait())
	close(p.exited)
}

// Stream returns the Stream of the program's standard input and output.
func (p *Process) Stream() carrier.Stream { return carrier.Stream{ReadWriteCloser: p} }

// Exited returns what is closed once the program has ended and been reaped. On a
// terminal that may be before its last octets are read, and before the Stream ends.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Exit returns how the program ended: nil for status 0, or an *ExitError. It is valid
// after Exited.
func (p *Process) Exit() error { return p.exit }

// PID returns the program's process id. It names the program only until it ends.
func (p *Process) PID() int { return p.proc.Pid }

// Read reads from the program's standard output. At its end it returns an
// *ExitError if the program failed, io.EOF if it ended with status 0 or closed
// its output and runs on, and net.ErrClosed after Close.
func (p *Process) Read(b []byte) (int, error) {
	n, err := p.duplex.Read(b)
	if err != nil {
		if p.master != nil && errors.Is(err, syscall.EIO) {
			err = p.nobody()
		}
		err = p.ended(err)
	}
	return n, err
}

// Write writes to the program's standard input.
func (p *Process) Write(b []byte) (int, error) {
	n, err := p.duplex.Write(b)
	if err != nil {
		err = p.ended(err)
	}
	return n, err
}

// WriteBuffers writes the buffers in as few system calls as can be.
func (p *Process) WriteBuffers(buffers net.Buffers) error {
	err := p.duplex.WriteBuffers(buffers)
	if err != nil {
		err = p.ended(err)
	}
	return err
}

// nobody notes that all is read and nobody has the terminal open any more. The system
// would go on taking what is written there, until its buffers are full, and then keep
// a Write waiting for ever.
func (p *Process) nobody() error {
	p.left.Store(true)
	p.duplex.stopWrites()
	return io.EOF
}

// ended says why the program took or gave no more, given what the system said.
func (p *Process) ended(err error) error {
	gone := p.left.Load() || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
	switch {
	case errors.Is(err, net.ErrClosed):
		return err
	case gone || errors.Is(err, io.EOF):
		if p.wait(statusTime) && p.exit != nil {
			return p.exit
		}
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return fmt.Errorf("command: %s took no more input: %w", p.name, io.ErrClosedPipe)
	}
	return fmt.Errorf("command: %s: %w", p.name, err)
}

// wait reports whether the program ended within d.
func (p *Process) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.exited:
		return true
	case <-timer.C:
		return false
	}
}

// Close ends the program and waits until it is reaped: it closes both ends, which
// wakes Read and Write and lets the program finish with what it was given; then,
// a second later, it sends SIGTERM, and after two more SIGKILL. How the program
// ended is no error of Close.
//
// A program on a terminal is first given a second to read what was written to it.
// Then its terminal hangs up, which it is told by SIGHUP, and what signals follow go
// to the process group that it leads. A program that changed its user, such as a
// set-user-ID pppd, may not be ours to signal: if the hang-up does not end it, Close
// says so and leaves it.
func (p *Process) Close() (err error) {
	p.closing.Do(func() {
		if p.master != nil {
			p.hangUp()
		} else {
			p.duplex.close()
		}
		if p.wait(leaveTime) {
			return
		}
		p.terminate()
		if p.wait(termTime) {
			return
		}
		if err = p.kill(); err == nil || errors.Is(err, os.ErrProcessDone) {
			err = nil
			<-p.exited
		} else {
			err = fmt.Errorf("command: %s does not end: %w", p.name, err)
		}
	})
	return err
}

func (p *Process) terminate() {
	if p.master == nil || !p.group.terminate() {
		terminate(p.proc)
	}
}

func (p *Process) kill() error {
	if p.master != nil && p.group.kill() {
		return nil
	}
	return p.proc.Kill()
}

// An ExitError says that a program ended in failure.
type ExitError struct {
	Name   string // base name of the program
	Status int    // its exit status; -1 if a signal ended it
	Signal int    // the number of that signal, or 0
	How    string // printable, as "exit status 255" or "signal: killed"
}

func (e *ExitError) Error() string { return "command: " + e.Name + ": " + e.How }

// ExitCode returns the exit status; -1 if a signal ended the program.
func (e *ExitError) ExitCode() int { return e.Status }

// exitError turns what exec.Cmd.Wait returned into the error of Process.Read.
func exitError(name string, err error) error {
	var failed *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case errors.As(err, &failed):
		e := &ExitError{Name: name, Status: failed.ExitCode(), How: failed.ProcessState.String()}
		if s, ok := failed.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			e.Signal = int(s.Signal())
		}
		return e
	}
	return fmt.Errorf("command: %s: %w", name, err)
}
