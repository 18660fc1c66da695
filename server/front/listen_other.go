//go:build !unix

package front

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// Inherited returns the sockets that a service manager has made for this process: on
// this system there is none that does.
func Inherited(Control) ([]*Listener, error) {
	if os.Getenv("LISTEN_FDS") != "" {
		return nil, errors.New("front: sockets of a service manager's are not known on this system")
	}
	return nil, nil
}

func narrow(fs.FileMode) func(network, address string, raw syscall.RawConn) error { return nil }

// refused reports whether nobody listens there. WSAECONNREFUSED is 10061.
func refused(err error) bool { return errors.Is(err, syscall.Errno(10061)) }

// maxFiles is how many files this process may open: as many as there is memory for.
func maxFiles() int { return 1 << 20 }
