package alert

import (
	"fmt"
	"net/netip"

	"github.com/bodkin-net/bodkin/carrier"
)

// anywhere stands for all destinations where none is known: the addresses of the first
// root name server, to which nothing is sent.
var anywhere = []netip.Addr{netip.MustParseAddr("198.41.0.4"), netip.MustParseAddr("2001:503:ba3e::2:30")}

// A way is how packets to one destination leave. The zero way: they do not.
type way struct {
	index   int    // of the device
	device  string // its name, any octets
	downs   uint32 // how often its cable, or radio, came and went
	source  netip.Addr
	gateway netip.Addr // not valid: none
}

// differs says what has changed on the way to a destination since it was before; empty:
// nothing.
func (w way) differs(before way, to string) string {
	device := carrier.Printable(w.device)
	switch {
	case w == before:
		return ""
	case w == way{}:
		return "there is no way to " + to + " any more"
	case before == way{}:
		return "there is a way to " + to + " again, by " + device
	case w.index != before.index:
		return fmt.Sprintf("the way to %s goes by %s, no longer by %s", to, device, carrier.Printable(before.device))
	case w.source != before.source:
		return fmt.Sprintf("%s has another address: %v", device, w.source)
	case w.gateway != before.gateway:
		return fmt.Sprintf("%s has another gateway: %v", device, w.gateway)
	case w.downs != before.downs:
		return device + " was disconnected for a moment"
	}
	return ""
}

// ways are those to some destinations.
type ways map[netip.Addr]way

// differs says what has changed on one of the ways, since they were before. A destination
// that is new has not changed.
func (w ways) differs(before ways, order []netip.Addr) string {
	for _, a := range order {
		old, known := before[a]
		if !known {
			continue
		}
		to := a.String()
		for _, x := range anywhere {
			if a == x {
				to = "anywhere"
			}
		}
		if detail := w[a].differs(old, to); detail != "" {
			return detail
		}
	}
	return ""
}
