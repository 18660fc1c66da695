package command

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/pty"
)

// pollTime is how often a terminal is asked what no system call waits for: whether
// its programs have read all they were given, and whether somebody has opened it.
const pollTime = 5 * time.Millisecond

// terminalPair makes a pair of terminals: our duplex on the master, and the slave,
// which is u's as login(1) would make it.
func terminalPair(u *User) (near *duplex, slave *os.File, err error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, nil, err
	}
	near, err = newDuplex(master, master)
	if err == nil && u != nil {
		err = slave.Chown(int(u.UID), -1)
	}
	if err != nil {
		master.Close()
		slave.Close()
		return nil, nil, err
	}
	return near, slave, nil
}

// hangUp lets the programs on the terminal read what they were given, for leaveTime,
// and closes it.
func (p *Process) hangUp() {
	p.duplex.wake()
	letRead(p.master)
	p.duplex.close()
}

// letRead waits, for leaveTime, until what was written to master is read. A hang-up
// throws away what is not.
func letRead(master *os.File) {
	late := time.NewTimer(leaveTime)
	defer late.Stop()
	again := time.NewTicker(pollTime)
	defer again.Stop()
	for pty.Held(master) && pty.Unread(master) {
		select {
		case <-late.C:
			return
		case <-again.C:
		}
	}
}

// Resize gives the program's terminal the window size of another, and so passes on a
// SIGWINCH. Without a terminal it does nothing.
func (p *Process) Resize(like *os.File) error {
	if p.master == nil {
		return nil
	}
	return pty.CopySize(p.master, like)
}

// Held reports whether anybody has the program's terminal open: the program, or what
// it left behind. Without a terminal it is false.
func (p *Process) Held() bool { return p.master != nil && pty.Held(p.master) }

// A Terminal is a terminal of somebody else's, a device or the one we were started
// on, and the ReadWriteCloser of its Stream. It has no half-close.
type Terminal struct {
	*duplex
	tty     *os.File
	restore func() error
	closing sync.Once
	err     error // of Close
}

// OpenTerminal opens the terminal at path, such as /dev/ttyS0 or /dev/tty, and sets it
// raw until Close. Speed, modem lines and flow control by them stay as they are set,
// by stty(1) for example; it does not wait for a modem's carrier. It does not become
// our controlling terminal.
//
// The modes are as before only after Close: see pty.Raw.
func OpenTerminal(path string) (*Terminal, error) {
	tty, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	t := &Terminal{tty: tty}
	t.duplex, err = newDuplex(tty, tty)
	if err == nil {
		t.restore, err = pty.Raw(tty)
	}
	if err != nil {
		tty.Close()
		return nil, fmt.Errorf("command: %w", err)
	}
	return t, nil
}

// Stream returns the Stream of what is typed, or received, there.
func (t *Terminal) Stream() carrier.Stream { return carrier.Stream{ReadWriteCloser: t} }

// File returns the terminal, which stays the Terminal's: to ask for its window size.
func (t *Terminal) File() *os.File { return t.tty }

// Read reads from the terminal. A hang-up is io.EOF.
func (t *Terminal) Read(b []byte) (int, error) {
	n, err := t.duplex.Read(b)
	if errors.Is(err, syscall.EIO) {
		err = io.EOF
	}
	return n, err
}

// Close wakes Read and Write, sets the modes back that the terminal had, and closes
// it. A terminal that has hung up has no modes to set back, which is no error.
func (t *Terminal) Close() error {
	t.closing.Do(func() {
		t.duplex.wake()
		if err := t.restore(); err != nil && !errors.Is(err, syscall.EIO) {
			t.err = fmt.Errorf("command: setting the modes of %s back: %w", t.tty.Name(), err)
		}
		t.duplex.close()
	})
	return t.err
}

// An Offer is a new terminal that waits for a program somebody starts by hand, such as
// a pppd that knows devices only, and the ReadWriteCloser of its Stream.
//
// Until the program's first octet, whoever opens and closes the terminal again has
// only looked, as stty does: Read and Write go on waiting. After it, the Stream ends
// when nobody has the terminal open any more.
type Offer struct {
	*duplex
	path    string
	begun   atomic.Bool // the program has written something
	closing sync.Once
	done    chan struct{} // closed by Close
}

// NewOffer makes a raw terminal and offers it.
func NewOffer() (*Offer, error) {
	near, slave, err := terminalPair(nil)
	if err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	o := &Offer{duplex: near, path: slave.Name(), done: make(chan struct{})}
	slave.Close() // from here on, an open slave is somebody else's
	return o, nil
}

// Path returns what the program is to open, "/dev/pts/7".
func (o *Offer) Path() string { return o.path }

// Stream returns the Stream of what the program writes and reads there.
func (o *Offer) Stream() carrier.Stream { return carrier.Stream{ReadWriteCloser: o} }

// Resize gives the terminal the window size of another.
func (o *Offer) Resize(like *os.File) error { return pty.CopySize(o.in, like) }

// Read reads what the program writes.
func (o *Offer) Read(b []byte) (int, error) {
	for {
		n, err := o.duplex.Read(b)
		switch {
		case n > 0:
			o.begun.Store(true)
		case !errors.Is(err, syscall.EIO) && !errors.Is(err, io.EOF):
		case o.begun.Load():
			err = io.EOF
			o.stopWrites() // see Process.nobody
		default:
			// Nobody has it open, or had since and has left nothing. A look at who has
			// would miss a program that comes and goes meanwhile; what it said waits.
			o.pause()
			continue
		}
		return n, err
	}
}

// Write writes to the program, once there is one.
func (o *Offer) Write(b []byte) (n int, err error) {
	for n < len(b) {
		k := 0
		if o.await() {
			k, err = o.duplex.Write(b[n:])
		} else {
			err = os.ErrDeadlineExceeded
		}
		n += k
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return n, fmt.Errorf("command: %s: nobody has it open any more: %w", o.path, io.ErrClosedPipe)
		case err != nil && !errors.Is(err, syscall.EIO):
			return n, err
		}
	}
	return n, nil
}

// WriteBuffers writes the buffers one after the other.
func (o *Offer) WriteBuffers(buffers net.Buffers) error {
	for _, b := range buffers {
		if _, err := o.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// await waits until somebody has the terminal open, and reports false if the program
// has been there and left. After Close it reports true at once: Write then says so.
func (o *Offer) await() bool {
	for !pty.Held(o.in) {
		if o.begun.Load() {
			return false
		}
		if !o.pause() {
			return true
		}
	}
	return true
}

// pause waits for pollTime, and reports whether the Offer is still open.
func (o *Offer) pause() bool {
	again := time.NewTimer(pollTime)
	defer again.Stop()
	select {
	case <-o.done:
		return false
	case <-again.C:
		return true
	}
}

// Close lets the program read what it was given, for a second, and hangs up.
func (o *Offer) Close() error {
	o.closing.Do(func() {
		close(o.done)
		o.duplex.wake()
		letRead(o.in)
		o.duplex.close()
	})
	return nil
}
