package line_test

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/line"
	"github.com/bodkin-net/bodkin/pty"
)

// Terminals of the kernel, in all the ways that programs leave them.
func TestTerminals(t *testing.T) {
	tests := []struct {
		name    string
		set     func(*unix.Termios)
		unsafe  carrier.ByteSet
		out, in line.Coding
	}{
		{"raw", func(*unix.Termios) {}, carrier.ByteSet{}, line.Clean, line.Clean},
		{"raw, and said to be a terminal", func(*unix.Termios) {}, controls, line.Escape, line.Escape},
		{"CR and LF mapped", func(m *unix.Termios) {
			m.Iflag |= unix.ICRNL
			m.Oflag |= unix.OPOST | unix.ONLCR
		}, carrier.ByteSet{}, line.Escape, line.Escape},
		{"with flow control", func(m *unix.Termios) { m.Iflag |= unix.IXON }, carrier.ByteSet{}, line.Escape, line.Clean},
		{"of 7 bits, all mapped", func(m *unix.Termios) {
			m.Iflag |= unix.ISTRIP | unix.ICRNL | unix.IXON | unix.IXANY
			m.Oflag |= unix.OPOST | unix.ONLCR
		}, carrier.ByteSet{}, line.Armour, line.Escape},
		{"in lines, and edited", func(m *unix.Termios) {
			m.Iflag |= unix.ICRNL | unix.IXON
			m.Lflag |= unix.ICANON | unix.IEXTEN
		}, carrier.ByteSet{}, line.Escape, line.Clean},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			master, slave, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer master.Close()
			modes := termios(t, slave)
			tt.set(modes)
			setTermios(t, slave, modes)
			near := carrier.Stream{ReadWriteCloser: master, Unsafe: tt.unsafe}
			far := carrier.Stream{ReadWriteCloser: unblocked(t, slave)}
			d, a, took := measure(t.Context(), near, far, line.Options{}, 0)
			if d.err != nil || a.err != nil {
				t.Fatal(d.err, a.err)
			}
			t.Logf("%v: out: %v; in: %v", took, d.m.Out, d.m.In)
			if d.m.Out.Coding != tt.out || d.m.In.Coding != tt.in {
				t.Errorf("out: %v; in: %v", d.m.Out, d.m.In)
			}
			if took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			carry(t, d.s, a.s, 1<<20)
			d.s.Close()
			a.s.Close()
		})
	}
}

func termios(t *testing.T, f *os.File) (m *unix.Termios) {
	t.Helper()
	control(t, f, func(fd int) (err error) {
		m, err = unix.IoctlGetTermios(fd, unix.TCGETS)
		return err
	})
	return m
}

func setTermios(t *testing.T, f *os.File, m *unix.Termios) {
	t.Helper()
	control(t, f, func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, m) })
}

// unblocked takes over f as a file whose Close wakes its Read.
func unblocked(t *testing.T, f *os.File) (u *os.File) {
	t.Helper()
	control(t, f, func(fd int) error {
		ours, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err == nil {
			err = unix.SetNonblock(ours, true)
			u = os.NewFile(uintptr(ours), f.Name())
		}
		return err
	})
	f.Close()
	return u
}

func control(t *testing.T, f *os.File, do func(fd int) error) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if failed := raw.Control(func(fd uintptr) { err = do(int(fd)) }); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
}
