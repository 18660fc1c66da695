//go:build unix

package chat

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A line is standard input and output as a Stream's ReadWriteCloser. What a Read takes
// is gone for the program that comes next, so it takes one octet, and whoever reads can
// be called off. The files are others' too: their flags are not touched, and Close does
// not close them.
type line struct {
	in, out int // descriptors

	// A pipe that wakes whoever waits: while an octet is in it nobody may wait.
	wakeR, wakeW *os.File

	mu     sync.Mutex
	closed bool
	woken  bool // an octet is in the pipe
}

func openLine(in, out *os.File) (io.ReadWriteCloser, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &line{in: int(in.Fd()), out: int(out.Fd()), wakeR: r, wakeW: w}, nil
}

// await waits until a descriptor is ready.
func (l *line) await(fd int, events int16) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}, {Fd: int32(l.wakeR.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return os.NewSyscallError("poll", err)
		}
		l.mu.Lock()
		closed, woken := l.closed, l.woken
		l.mu.Unlock()
		switch {
		case closed:
			return net.ErrClosed
		case woken:
			return os.ErrDeadlineExceeded
		case fds[0].Revents != 0:
			return nil
		}
	}
}

// Read reads one octet.
func (l *line) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		if err := l.await(l.in, unix.POLLIN); err != nil {
			return 0, err
		}
		switch n, err := unix.Read(l.in, b[:1]); {
		case n == 1:
			return 1, nil
		case err == unix.EINTR, err == unix.EAGAIN: // somebody else was faster
		case err == nil, err == unix.EIO: // a terminal that hung up says so
			return 0, io.EOF
		default:
			return 0, os.NewSyscallError("read", err)
		}
	}
}

// Write writes octet by octet, for one fits where poll says so, and more may not.
func (l *line) Write(b []byte) (int, error) {
	for written := 0; written < len(b); {
		if err := l.await(l.out, unix.POLLOUT); err != nil {
			return written, err
		}
		switch n, err := unix.Write(l.out, b[written:written+1]); {
		case n == 1:
			written++
		case err == unix.EINTR, err == unix.EAGAIN:
		default:
			return written, os.NewSyscallError("write", err)
		}
	}
	return len(b), nil
}

// Break sends a break of a quarter of a second or more, on a terminal.
func (l *line) Break() error { return sendBreak(l.out) }

// SetReadDeadline ends a Read under way if the time is past, and lets there be another
// if it is zero. No other time is of use here.
func (l *line) SetReadDeadline(when time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if when.IsZero() == !l.woken || l.closed {
		return nil
	}
	var err error
	if l.woken {
		_, err = l.wakeR.Read(make([]byte, 1))
	} else {
		_, err = l.wakeW.Write([]byte{0})
	}
	l.woken = !l.woken
	return err
}

// Close wakes whoever reads or writes.
func (l *line) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	return l.wakeW.Close() // a pipe at its end is ready for ever
}
