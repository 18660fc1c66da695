//go:build !linux

package tun

import (
	"os"

	"github.com/bodkin-net/bodkin/tunnel"
)

// Create reports ErrUnsupported.
func Create(name string) (*os.File, string, error) { return nil, "", ErrUnsupported }

// Open reports ErrUnsupported.
func Open(file *os.File, mtu int) (tunnel.Port, error) { return nil, ErrUnsupported }
