//go:build !linux

package ssh

import (
	"errors"
	"os"
)

// canHandOver says that here ssh connects by itself.
const canHandOver = false

var errNoHandOver = errors.New("ssh: handing over a socket is not possible on this system")

type offer struct{ path string }

func (c *Config) offer(*os.File) (*offer, error) { return nil, errNoHandOver }

func (o *offer) close() {}

// ReceiveAndPass is not possible on this system.
func ReceiveAndPass(string) error { return errNoHandOver }
