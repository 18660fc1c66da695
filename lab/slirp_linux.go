package lab

import (
	"context"
	"fmt"
	"os"
	"syscall"
)

// slirpProgram is Debian's build without pacing. The other one, /usr/bin/slirp,
// ends as soon as it is idle: it hands select(2) a time that glibc takes no more.
const slirpProgram = "/usr/bin/slirp-fullbolt"

// InstallSlirp gives the machine the real SLiRP under the name slirp, ahead of
// Debian's in every account's path.
func (m *Machine) InstallSlirp() error {
	if err := m.InstallAs(slirpProgram, "slirp"); err != nil {
		return fmt.Errorf("lab: %s: installing slirp: %w (Debian's package slirp)", m.Name, err)
	}
	return nil
}

// Slirp starts SLiRP as an account with words of its configuration as arguments,
// on a tty that TTYLine made, whose copy here it closes. The caller waits for it.
func (m *Machine) Slirp(ctx context.Context, account string, tty *os.File, words ...string) (*Cmd, error) {
	defer tty.Close()
	c := m.Command(ctx, "slirp", words...).As(account)
	c.Stdin, c.Stdout, c.Stderr = tty, tty, tty
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		return nil, err
	}
	return c, nil
}
