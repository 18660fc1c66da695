//go:build !linux

package tcp

import (
	"net"

	"github.com/bodkin-net/bodkin/carrier"
)

// SocketOf returns nil: this system tells nothing that we know to read.
func SocketOf(net.Conn, Congestion) carrier.Socket { return nil }

func watchCopy(*net.TCPConn, Congestion) (carrier.Socket, func()) { return nil, func() {} }
