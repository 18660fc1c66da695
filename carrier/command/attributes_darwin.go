package command

import (
	"errors"
	"os"
	"syscall"
)

// attributes returns how the system is to start the program.
func attributes(c Config) (*syscall.SysProcAttr, error) {
	if c.User != nil {
		return nil, errNoUser
	}
	return &syscall.SysProcAttr{Setsid: c.TTY, Setctty: c.TTY}, nil // of descriptor 0
}

var errNoUser = errors.New("running as another user is not possible on this system")

func terminate(p *os.Process) { p.Signal(syscall.SIGTERM) }
