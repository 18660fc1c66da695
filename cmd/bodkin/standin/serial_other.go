//go:build !linux

package standin

import (
	"errors"
	"os"

	"github.com/bodkin-net/bodkin/config/pppd"
)

// setSerial can set nothing of a serial line here: it stays as stty(1) left it.
func setSerial(tty *os.File, o *pppd.Line) (restore func(), err error) {
	if o.Speed != 0 || o.CRTSCTS != pppd.AsIs || o.XONXOFF {
		return nil, errors.New("speed and flow control cannot be set on this system; set them with stty")
	}
	return hideFromOthers(tty), nil
}
