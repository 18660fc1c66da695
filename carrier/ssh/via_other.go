//go:build !linux

package ssh

import (
	"errors"
	"os"

	"github.com/bodkin-net/bodkin/carrier"
)

func hand(s carrier.Stream) (*os.File, func(), error) {
	s.Close()
	return nil, nil, errors.New("ssh: on this system ssh cannot be given a connection of ours")
}
