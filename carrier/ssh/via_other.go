//go:build !linux

package ssh

import (
	"errors"

	"github.com/bodkin-net/bodkin/carrier"
)

func hand(s carrier.Stream) (handed, error) {
	s.Close()
	return handed{}, errors.New("ssh: on this system ssh cannot be given a connection of ours")
}
