//go:build !linux

package tcp

import (
	"errors"
	"fmt"
	"syscall"
)

func tune(_ syscall.RawConn, c Congestion) error {
	if c == System || c == "" {
		return nil
	}
	return fmt.Errorf("tcp: congestion control %q: %w", string(c), errors.ErrUnsupported)
}
