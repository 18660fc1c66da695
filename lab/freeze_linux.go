package lab

import (
	"errors"
	"fmt"
	"syscall"
)

// Freeze stops every process of the machine, as its sleep would. The kernel lives on, and
// with it whatever answers for connections. Thaw lets them go on.
func (m *Machine) Freeze() error { return m.signalAll(syscall.SIGSTOP) }

// Thaw ends a Freeze.
func (m *Machine) Thaw() error { return m.signalAll(syscall.SIGCONT) }

func (m *Machine) signalAll(sig syscall.Signal) error {
	all, err := m.Processes()
	if err != nil {
		return err
	}
	for _, p := range all {
		if err := syscall.Kill(p.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("lab: %s: process %d: %w", m.Name, p.PID, err)
		}
	}
	return nil
}
