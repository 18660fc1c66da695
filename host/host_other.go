//go:build !linux

package host

import (
	"context"
	"net/netip"
	"syscall"
)

// A State is a Wish come true.
type State struct{}

// Plan returns ErrUnsupported on this system.
func Plan(w Wish) ([]string, error) { return nil, ErrUnsupported }

// Set returns ErrUnsupported on this system.
func Set(w Wish, dir string) (*State, error) { return nil, ErrUnsupported }

// CleanUp returns ErrUnsupported on this system.
func CleanUp(dir string) ([]string, error) { return nil, ErrUnsupported }

// Clash returns ErrUnsupported on this system.
func Clash(addrs []netip.Prefix) error { return ErrUnsupported }

// Choose returns ErrUnsupported on this system.
func Choose(candidates []netip.Prefix) (netip.Prefix, error) {
	return netip.Prefix{}, ErrUnsupported
}

// NameServers returns ErrUnsupported on this system.
func NameServers() ([]netip.Addr, error) { return nil, ErrUnsupported }

// FreeMark returns ErrUnsupported on this system.
func FreeMark() (uint32, error) { return 0, ErrUnsupported }

// Marked returns a function that fails: this system has no socket marks.
func Marked(mark uint32) func(network, address string, c syscall.RawConn) error {
	return func(string, string, syscall.RawConn) error { return ErrUnsupported }
}

// Undo returns ErrUnsupported on this system.
func (s *State) Undo() error { return ErrUnsupported }

// Notes returns nothing on this system.
func (s *State) Notes() []string { return nil }

// Mark returns 0 on this system.
func (s *State) Mark() uint32 { return 0 }

// Table returns 0 on this system.
func (s *State) Table() int { return 0 }

// Foreign returns ErrUnsupported on this system.
func (s *State) Foreign() ([]Foreign, error) { return nil, ErrUnsupported }

// Watch returns ErrUnsupported on this system.
func (s *State) Watch(ctx context.Context) (<-chan Event, error) { return nil, ErrUnsupported }
