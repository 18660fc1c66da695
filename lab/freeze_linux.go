package lab

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
)

// Freeze stops every process of the machine, as its sleep would. The kernel lives on, and
// with it whatever answers for connections. Thaw lets them go on.
//
// Parents stop before their children and go on after them, so that nobody sees another
// stand still: sudo would stop with its command.
func (m *Machine) Freeze() error {
	all, err := m.Processes()
	if err != nil {
		return err
	}
	return m.signalAll(all, syscall.SIGSTOP)
}

// Thaw ends a Freeze.
func (m *Machine) Thaw() error {
	all, err := m.Processes()
	if err != nil {
		return err
	}
	slices.Reverse(all)
	return m.signalAll(all, syscall.SIGCONT)
}

func (m *Machine) signalAll(all []Process, sig syscall.Signal) error {
	for _, p := range all {
		if err := syscall.Kill(p.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("lab: %s: process %d: %w", m.Name, p.PID, err)
		}
	}
	return nil
}
