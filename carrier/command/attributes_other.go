//go:build !linux

package command

import (
	"errors"
	"os"
	"syscall"
)

// attributes returns how the system is to start the program.
func attributes(u *User) (*syscall.SysProcAttr, error) {
	if u != nil {
		return nil, errors.New("running as another user is not possible on this system")
	}
	return nil, nil
}

// terminate does what a system without a polite signal can do.
func terminate(p *os.Process) { p.Kill() }
