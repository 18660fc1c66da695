//go:build unix

package front

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// firstInherited is the descriptor of the first socket that a service manager hands
// over, and maxInherited how many are believed (sd_listen_fds(3)).
const (
	firstInherited = 3
	maxInherited   = 64
)

// Inherited returns the sockets that a service manager such as systemd has made for this
// process (sd_listen_fds(3)), which may be none. It takes the variables that say so
// out of the environment: they are not for children. control, which may be nil, is called
// with those of TCP.
func Inherited(control Control) ([]*Listener, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxInherited {
		return nil, fmt.Errorf("front: LISTEN_FDS is %q, and no number of sockets", count)
	}
	var listeners []*Listener
	split := strings.Split(names, ":")
	for i := range n {
		name := "systemd"
		if i < len(split) && split[i] != "" {
			name += ":" + split[i]
		}
		l, err := inherit(firstInherited+i, name, control)
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			return nil, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// inherit makes a Listener of a descriptor, and owns it.
func inherit(fd int, name string, control Control) (*Listener, error) {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), name)
	defer f.Close() // the listener has one of its own
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("front: socket %d of the service manager's (%s): %w", fd, name, err)
	}
	switch l := l.(type) {
	case *net.TCPListener:
		if control == nil {
			break
		}
		raw, err := l.SyscallConn()
		if err == nil {
			err = control("tcp", l.Addr().String(), raw)
		}
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("front: socket %d of the service manager's (%s): %w", fd, name, err)
		}
	case *net.UnixListener:
		l.SetUnlinkOnClose(false) // it is the manager's
	}
	return &Listener{l, name + " " + l.Addr().String()}, nil
}

// narrow gives a socket its mode before it has a name, as far as the system has that:
// Linux takes it over into the file.
func narrow(mode fs.FileMode) func(network, address string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { unix.Fchmod(int(fd), uint32(mode.Perm())) })
	}
}

// refused reports whether nobody listens there.
func refused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }

// maxFiles is how many files this process may open.
func maxFiles() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > 1<<20 {
		return 1 << 20
	}
	return int(limit.Cur)
}
