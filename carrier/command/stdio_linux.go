package command

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/carrier"
)

// stdio is the ReadWriteCloser of our own standard input and output.
type stdio struct {
	*duplex
	closing sync.Once
	flagged []flagged // what others hold too, and we changed
}

// Stdio makes a Stream of our standard input and output and takes them over:
// descriptors 0 and 1 become /dev/null, so that nothing printed by accident gets
// into the Stream, and the peer sees its end when it is closed. It may be called
// once.
//
// Pipes are widened to pipeSize. Flags of a terminal, or of anything else that
// outlives us, are as before after Close; a terminal's modes are never touched.
func Stdio() (carrier.Stream, error) {
	s := &stdio{}
	in, err := s.takeOver(0, unix.O_RDONLY, "stdin")
	if err != nil {
		return carrier.Stream{}, err
	}
	out, err := s.takeOver(1, unix.O_WRONLY, "stdout")
	if err == nil {
		s.duplex, err = newDuplex(in, out)
	}
	if err != nil {
		in.Close()
		return carrier.Stream{}, fmt.Errorf("command: %w", err)
	}
	widen(in)
	widen(out)
	return carrier.Stream{ReadWriteCloser: s}, nil
}

// takeOver returns a file of our own for what descriptor fd is open on, and leaves
// /dev/null in its place.
//
// Whether reads block is a flag of the open file, which our parent may hold as
// well. A pipe or a terminal is therefore opened anew. A socket cannot be: its
// flag is set, and set back on Close. Regular files never block.
func (s *stdio) takeOver(fd, mode int, name string) (*os.File, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, fmt.Errorf("command: %s: %w", name, err)
	}
	ours := -1
	kind := stat.Mode & unix.S_IFMT
	if kind == unix.S_IFIFO || kind == unix.S_IFCHR {
		path := fmt.Sprintf("/proc/self/fd/%d", fd)
		if anew, err := unix.Open(path, mode|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0); err == nil {
			ours = anew
		}
	}
	if ours < 0 {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return nil, fmt.Errorf("command: %s: %w", name, err)
		}
		ours = dup
		if kind == unix.S_IFIFO || kind == unix.S_IFSOCK {
			s.unblock(ours)
		}
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Dup3(null, fd, 0)
		unix.Close(null)
	}
	if err != nil {
		unix.Close(ours)
		return nil, fmt.Errorf("command: %s: %w", name, err)
	}
	return os.NewFile(uintptr(ours), name), nil
}

// unblock makes reads and writes of an open file that is not ours alone return
// instead of block, until Close.
func (s *stdio) unblock(fd int) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK != 0 {
		return
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_NONBLOCK); err != nil {
		return
	}
	held, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return
	}
	s.flagged = append(s.flagged, flagged{held, flags})
}

// A flagged is an open file whose flags others see.
type flagged struct {
	held  int // a descriptor of it
	flags int // as they were
}

// restore sets the flags back.
func (f flagged) restore() {
	unix.FcntlInt(uintptr(f.held), unix.F_SETFL, f.flags)
	f.forget()
}

// forget leaves the flags as they are.
func (f flagged) forget() { unix.Close(f.held) }

// CloseWrite ends our standard output, and leaves the input open: it is a
// carrier.CloseWriter's.
func (s *stdio) CloseWrite() error {
	// One socket may be both, and ends one way only if told so.
	control(s.out, func(fd int) { unix.Shutdown(fd, unix.SHUT_WR) })
	return s.plain(s.out.Close())
}

// Close closes both, and wakes Read and Write.
func (s *stdio) Close() error {
	s.closing.Do(func() {
		s.duplex.close()
		for _, f := range s.flagged {
			f.restore()
		}
	})
	return nil
}
