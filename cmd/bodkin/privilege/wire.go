package privilege

import (
	"net/netip"

	"github.com/bodkin-net/bodkin/host"
)

// The host helper is the only privileged process. It makes the device and
// carries out the wish for the machine, and takes it all back when asked or when its caller
// is gone, however that went. It reads nothing of the network's, runs no other
// program, and understands these requests only, one at a time, each answered:
//
//	hello    nothing; the reply says what was cleaned up before
//	mark     the TCP socket that comes along gets the carrier's mark
//	device   make the TUN device; its file comes back
//	resolver open a loopback address's DNS port; the UDP and the TCP socket come back
//	set      carry out a wish on that device
//	look     what has happened to the machine's settings since; in the notes
//	undo     take it back
//
// They travel as JSON in the packets of a Unix socket, files beside them.
type request struct {
	Verb string     `json:"verb"`
	Name string     `json:"name,omitempty"` // device: what to call it
	Wish *host.Wish `json:"wish,omitempty"` // set
}

// A reply answers a request.
type reply struct {
	Error string   `json:"error,omitempty"`
	Busy  bool     `json:"busy,omitempty"`  // Error is that a tunnel of this name is up
	Split bool     `json:"split,omitempty"` // Error is host.ErrSplitDNS
	Name  string   `json:"name,omitempty"`  // device: what it is called
	Notes []string `json:"notes,omitempty"` // for people

	Addr netip.Addr `json:"addr,omitzero"` // resolver: which
}

// The verbs of a request.
const (
	verbHello  = "hello"
	verbMark   = "mark"
	verbDevice = "device"
	verbSet    = "set"

	verbResolver = "resolver"

	verbLook = "look"
	verbUndo = "undo"
)
