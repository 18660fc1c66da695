package command

import (
	"os"
	"syscall"
)

// attributes returns how the kernel is to start the program.
func attributes(c Config) (*syscall.SysProcAttr, error) {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if u := c.User; u != nil {
		a.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	a.Setsid, a.Setctty = c.TTY, c.TTY // of descriptor 0
	return a, nil
}

func terminate(p *os.Process) { p.Signal(syscall.SIGTERM) }
