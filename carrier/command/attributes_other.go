//go:build !linux && !darwin

package command

import (
	"errors"
	"os"
	"syscall"
)

// attributes returns how the system is to start the program.
func attributes(c Config) (*syscall.SysProcAttr, error) {
	switch {
	case c.User != nil:
		return nil, errors.New("running as another user is not possible on this system")
	case c.TTY:
		return nil, errors.New("a program cannot be given a terminal on this system")
	}
	return nil, nil
}

// terminate does what a system without a polite signal can do.
func terminate(p *os.Process) { p.Kill() }
