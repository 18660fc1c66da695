package serve

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"strings"

	"github.com/bodkin-net/bodkin/carrier/tcp"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/server/front"
)

// usual is where clients come in if nothing else is said.
const usual = ":443"

// socketMode is who may connect to a Unix socket: we, and the group of a web server that
// stands before us.
const socketMode = 0o660

// tune sets up what clients come by.
var tune = tcp.Congestion("").Control

// listen listens at the addresses; without any where the service manager does already,
// or at the usual port.
func listen(ctx context.Context, addresses []string) (list []net.Listener, err error) {
	inherited, err := front.Inherited(tune)
	if err != nil {
		return nil, report.At(report.Reach, err, "")
	}
	for _, l := range inherited {
		list = append(list, l)
	}
	if len(addresses) == 0 && len(list) == 0 {
		addresses = []string{usual}
	}
	for _, address := range addresses {
		var l *front.Listener
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			l, err = front.ListenUnix(ctx, path, socketMode)
		} else {
			l, err = front.ListenTCP(ctx, address, tune)
		}
		if err != nil {
			for _, l := range list {
				l.Close()
			}
			hint := ""
			if errors.Is(err, fs.ErrPermission) {
				hint = "--listen :8443 needs no privilege; or let the program use :443, by `sudo setcap cap_net_bind_service+ep` on its file, or by a socket of systemd's (`bodkin serve units`)"
			}
			return nil, report.At(report.Reach, err, hint)
		}
		list = append(list, l)
	}
	return list, nil
}
