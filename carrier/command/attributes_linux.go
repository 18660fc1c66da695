package command

import (
	"os"
	"syscall"
)

// attributes returns how the kernel is to start the program.
func attributes(u *User) (*syscall.SysProcAttr, error) {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if u != nil {
		a.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	return a, nil
}

func terminate(p *os.Process) { p.Signal(syscall.SIGTERM) }
