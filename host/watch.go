package host

import (
	"fmt"
	"net/netip"
)

// A Foreign is a route of somebody else's that the tunnel overrides: it lies
// inside what the tunnel carries, and packets would follow it if the tunnel
// were not there.
type Foreign struct {
	Prefix netip.Prefix
	Device string     // as the kernel has it, any octets: quote it
	Via    netip.Addr // the gateway; not valid if there is none
	Table  int

	// Link says that the kernel made the route for an address of Device: the
	// machine's own network, and not an attack (CVE-2024-3661).
	Link bool
}

// String puts f in the words of ip(8), safe for a terminal.
func (f Foreign) String() string {
	s := f.Prefix.String()
	if f.Via.IsValid() {
		s += " via " + f.Via.String()
	}
	return fmt.Sprintf("%s dev %q", s, f.Device)
}

// An Event is something that happened to the machine while the tunnel was up.
type Event struct {
	Kind EventKind
	Text string // one line, safe for a terminal
}

// An EventKind says what happened.
type EventKind int

// The kinds of Events.
const (
	Remade       EventKind = iota + 1 // somebody removed one of our rules, routes or addresses; it is there again
	Failed                            // ... and could not be made again: Text has the reason
	ForeignRoute                      // a route appeared that the tunnel overrides
	Gateway                           // the way out beside the tunnel changed: the carrier may have to dial again
	DeviceGone                        // the tunnel's device was deleted; what it carried is refused
	NamesChanged                      // somebody wrote resolv.conf; it is left to them
)
