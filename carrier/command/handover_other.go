//go:build !linux

package command

import (
	"errors"
	"os"

	"github.com/bodkin-net/bodkin/carrier"
)

// Give gives nothing: no process takes it on this system.
func Give(carrier.Stream, func(in, out *os.File) error) (ok bool, err error) { return false, nil }

// Take is for systems with Give.
func Take(in, out *os.File) (carrier.Stream, error) {
	return carrier.Stream{}, errors.ErrUnsupported
}
