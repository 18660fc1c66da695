// Package privilege is the host helper, both ends, and the giving up of root.
//
// The helper is the only privileged process. Whoever wants something of this machine's
// changed starts it, and asks it over a socket:
//
//	privilege.go      names and errors, which every system has
//	wire.go           the requests, and what each may ask
//	helper_linux.go   Helper, the near end: Start, Hello, Device, Resolver, Set, Undo
//	server_linux.go   Serve, the privileged process
//	root_linux.go     who may change the network, and being root no more
//
// What a wish for the machine means is package host's affair; this package decides only
// whose wish is carried out, and sees that it is taken back.
package privilege

import "errors"

// Command is the command of the program that must run Serve: its helper is itself.
const Command = "host-helper"

// ErrGone is what all requests end with once the helper is gone: sudo refused, or
// somebody ended it.
var ErrGone = errors.New("the host helper is gone")

// Kinds of errors that the helper tells apart, kept over the wire: ErrBusy for
// host.ErrBusy, ErrSplitDNS for host.ErrSplitDNS. Their texts are empty: the error
// before them says it all.
var (
	ErrBusy     error = kind("busy")
	ErrSplitDNS error = kind("split")
)

type kind string

func (kind) Error() string { return "" }
