// Package host carries out the whole wish of a machine: addresses, routes, rules,
// packet filter and name servers that make a tunnel's device the way out.
//
// A Wish says everything that is wanted. Plan puts it into words and changes
// nothing; Set makes it true, all of it or nothing; State.Undo takes it back. Set
// writes each change, with the value before and the value after, to a journal
// before the first one is made, so that CleanUp can take back what a killed
// process left. A value that somebody else has changed since is left alone.
//
// How packets find the tunnel (Linux). The tunnel has a routing table T of its
// own, and one rule per address family sends everything there that does not carry
// the mark of the carrier's own sockets:
//
//	rule   not fwmark M lookup T
//	T      PREFIX dev TUN
//	       unreachable PREFIX metric 4294967295    what is left when TUN is gone
//	       throw EXCLUDED                          goes on to the table main
//
// The table main is not changed and, for what T covers, not asked: a more
// specific route put there by a DHCP server (CVE-2024-3661) wins nothing.
//
// The package knows neither the tunnel nor the carrier: the caller makes the
// device, marks the sockets and hands over plain values.
package host

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Bounds of a Wish. What a peer pushes ends up here, so each has a limit: far
// above what people configure, and low enough that undo stays a matter of
// milliseconds.
const (
	MaxRoutes  = 1000 // Routes, and Exclude, each
	MaxAddrs   = 8
	MaxServers = 8 // the C library looks at the first three
	MaxDomains = 32
	MaxFar     = 64 // Pins, and Carrier, each
	MaxForward = 64 // Forwarded: each is a rule that new connections pass

	MinMTU     = 128   // the smallest that PPP agrees upon (pppd(8), mru)
	MinMTUIPv6 = 1280  // RFC 8200, section 5: below it, a device has no IPv6
	MaxMTU     = 65535 // the largest IPv4 packet
)

// A Wish is all that is wanted of the machine for one tunnel.
type Wish struct {
	// Name is the tunnel's name: the journal's, the nftables tables'. A lower-case
	// letter, then up to 14 lower-case letters, digits and hyphens.
	Name string

	// Device is the tunnel's network device. The caller has made it; Set brings
	// it up, and Undo brings it down again if it was.
	Device string

	MTU   int            // of Device, in octets of IP, MinMTU to MaxMTU
	Addrs []netip.Prefix // Device's addresses, each with the tunnel's own prefix around it

	// Routes is what goes through the tunnel. With 0.0.0.0/0 or ::/0 among them
	// the tunnel is full: the family that is not named is refused at once, so
	// that it does not go around the tunnel. The prefixes of Addrs, and name
	// servers that nothing else covers, are routed without being named.
	Routes []netip.Prefix

	// Exclude is what does not go through the tunnel, though Routes has it.
	Exclude []netip.Prefix

	// Pins keep those connections of the carrier outside whose sockets do not
	// carry Mark.
	Pins []Pin

	// Carrier holds the far ends of the marked connections. Their replies are
	// marked too, so that reverse path filters let them in.
	Carrier []netip.AddrPort

	// Mark is the fwmark of the carrier's sockets; 0 means FreeMark's. Tunnels on
	// one machine share one mark: then neither's carrier goes inside the other.
	Mark uint32

	Table int // the routing table's number; 0 means a free one
	DNS   DNS

	// Forward has the machine pass packets on between Device and its other
	// networks, and nothing but these: what comes out of Device may go to
	// Forwarded, and what answers it back. Forwarded holds the networks on this
	// side; none means everywhere, but for link-local addresses and the clouds'
	// metadata. Networks that are named, other than 0.0.0.0/0 and ::/0, may open
	// connections into the tunnel as well.
	Forward   bool
	Forwarded []netip.Prefix

	// Masquerade gives what is passed on this machine's own address on the network
	// that it goes to, for those who do not know the way back: what comes out of
	// Device, and what named networks send into it.
	Masquerade bool
}

// A Pin is one TCP destination of the carrier's that stays outside the tunnel.
type Pin struct {
	Addr netip.AddrPort
	UID  int // whose connections; -1 means everybody's
}

// DNS says who answers questions about names.
type DNS struct {
	// Servers are asked through the tunnel. None: names are left as they are.
	Servers []netip.Addr

	// Domains limits the Servers to names below these; empty means every name.
	// Only systemd-resolved can do that by itself: where resolv.conf is all there
	// is and there is no Forwarder, Set refuses with ErrSplitDNS rather than send
	// names elsewhere than was asked.
	Domains []string

	// Forwarder is a loopback address at which somebody asks the Servers about the
	// Domains, and about other names those whom the machine asked before (see
	// NameServers). Where resolv.conf is all there is, it names the Forwarder in
	// their place, and the rest of it, the search list and options, stays.
	Forwarder netip.Addr

	Mode DNSMode
}

// A DNSMode says how the machine is told about name servers.
type DNSMode int

// The modes.
const (
	DNSAuto     DNSMode = iota // systemd-resolved if it runs, resolv.conf if programs read their servers there
	DNSOff                     // names are left as they are
	DNSResolved                // systemd-resolved, or fail
	DNSFile                    // resolv.conf
)

// Errors that a caller may want to tell apart.
var (
	// ErrUnsupported says that this system is not Linux.
	ErrUnsupported = errors.New("host: this system's network cannot be changed yet: only Linux")

	// ErrBusy says that a tunnel with that name is up.
	ErrBusy = errors.New("is up already")

	// ErrSplitDNS says that resolv.conf cannot send some names one way and some
	// another.
	ErrSplitDNS = errors.New("resolv.conf cannot send only some domains through the tunnel")
)

// Full reports whether the tunnel takes everything of one family.
func (w Wish) Full() bool {
	for _, p := range w.Routes {
		if p.Bits() == 0 {
			return true
		}
	}
	return false
}

// Check says what is wrong with w, as far as can be said without looking at the
// machine. Plan and Set call it first.
func (w Wish) Check() error {
	if !validName(w.Name) {
		return fmt.Errorf("host: name %q: want a lower-case letter, then up to 14 lower-case letters, digits and hyphens", w.Name)
	}
	if !validDevice(w.Device) {
		return fmt.Errorf("host: device %q: want 1 to 15 letters, digits, dots, hyphens and underscores", w.Device)
	}
	if w.MTU < MinMTU || w.MTU > MaxMTU {
		return fmt.Errorf("host: MTU %d: want %d to %d octets", w.MTU, MinMTU, MaxMTU)
	}
	if w.Table < 0 || w.Table >= 253 && w.Table <= 255 || w.Table > 1<<31-1 {
		return fmt.Errorf("host: table %d: want a number the kernel has no use for", w.Table)
	}
	for _, n := range []struct {
		what     string
		have, at int
	}{
		{"addresses", len(w.Addrs), MaxAddrs},
		{"routes", len(w.Routes), MaxRoutes},
		{"excluded prefixes", len(w.Exclude), MaxRoutes},
		{"pins", len(w.Pins), MaxFar},
		{"carrier addresses", len(w.Carrier), MaxFar},
		{"forwarded prefixes", len(w.Forwarded), MaxForward},
		{"name servers", len(w.DNS.Servers), MaxServers},
		{"domains", len(w.DNS.Domains), MaxDomains},
	} {
		if n.have > n.at {
			return fmt.Errorf("host: %d %s: at most %d", n.have, n.what, n.at)
		}
	}
	if len(w.Addrs) == 0 {
		return errors.New("host: no address for the tunnel")
	}
	for _, p := range w.Addrs {
		if err := checkHost(p.Addr()); err != nil || !p.IsValid() || p.Bits() == 0 {
			return fmt.Errorf("host: address %v: not one a machine can have", p)
		}
		if p.Addr().Is6() && w.MTU < MinMTUIPv6 {
			return fmt.Errorf("host: address %v: IPv6 needs an MTU of %d octets, not %d", p, MinMTUIPv6, w.MTU)
		}
	}
	if err := w.checkRoutes(); err != nil {
		return err
	}
	for _, p := range w.Pins {
		if err := checkFar(p.Addr); err != nil {
			return err
		}
		if p.UID < -1 || p.UID > 1<<31-1 {
			return fmt.Errorf("host: pin %v: user id %d", p.Addr, p.UID)
		}
	}
	for _, a := range w.Carrier {
		if err := checkFar(a); err != nil {
			return err
		}
	}
	return w.DNS.check()
}

func (w Wish) checkRoutes() error {
	own := make(map[netip.Prefix]string)
	for _, p := range w.Addrs {
		own[p.Masked()] = "the tunnel's own"
	}
	for _, p := range w.Routes {
		if err := checkRoute(p); err != nil {
			return err
		}
		own[p] = "routed"
	}
	for _, p := range w.Exclude {
		if err := checkRoute(p); err != nil {
			return err
		}
		if how := own[p]; how != "" {
			return fmt.Errorf("host: %v is both %s and excluded", p, how)
		}
	}
	if !w.Forward && (w.Masquerade || len(w.Forwarded) > 0) {
		return errors.New("host: masquerading and prefixes to forward to mean nothing without forwarding")
	}
	for _, p := range w.Forwarded {
		if err := checkRoute(p); err != nil {
			return err
		}
		if how := own[p]; how != "" {
			return fmt.Errorf("host: %v is both %s and forwarded to", p, how)
		}
	}
	return nil
}

func checkRoute(p netip.Prefix) error {
	switch a := p.Addr(); {
	case !p.IsValid() || a.Is4In6() || a.Zone() != "":
		return fmt.Errorf("host: route %v: not a prefix of IPv4 or IPv6", p)
	case p != p.Masked():
		return fmt.Errorf("host: route %v: has bits beyond its length, want %v", p, p.Masked())
	case p.Bits() > 0 && (a.IsMulticast() || a.IsLoopback() || a.IsUnspecified()):
		return fmt.Errorf("host: route %v: multicast, loopback and unspecified addresses stay on the machine", p)
	}
	return nil
}

// checkHost refuses what cannot be a machine's address, and IPv4 in the
// clothes of IPv6.
func checkHost(a netip.Addr) error {
	if !a.IsValid() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() ||
		a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return fmt.Errorf("host: address %v: not one a machine can have", a)
	}
	return nil
}

// checkFar accepts loopback too: a carrier may go through a local forwarder, and
// such packets never reach our rules.
func checkFar(a netip.AddrPort) error {
	ip := a.Addr()
	if !ip.IsValid() || ip.Is4In6() || ip.IsUnspecified() || ip.IsMulticast() || a.Port() == 0 {
		return fmt.Errorf("host: carrier's address %v: not one to connect to", a)
	}
	return nil
}

func (d DNS) check() error {
	if d.Mode < DNSAuto || d.Mode > DNSFile {
		return fmt.Errorf("host: DNS mode %d: unknown", d.Mode)
	}
	for _, s := range d.Servers {
		if checkHost(s) != nil || s.IsLinkLocalUnicast() {
			return fmt.Errorf("host: name server %v: not one that can be asked through a tunnel", s)
		}
	}
	if f := d.Forwarder; f.IsValid() && (!f.IsLoopback() || f.Is4In6() || f.Zone() != "") {
		return fmt.Errorf("host: DNS forwarder %v: not one on this machine", f)
	}
	if d.Forwarder.IsValid() && (len(d.Domains) == 0 || len(d.Servers) == 0) {
		return errors.New("host: a DNS forwarder wants domains, and servers for them")
	}
	for _, name := range d.Domains {
		if !validDomain(name) {
			return fmt.Errorf("host: domain %q: not a domain name", name)
		}
	}
	return nil
}

func validName(s string) bool {
	if len(s) < 1 || len(s) > 15 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return only(s, "abcdefghijklmnopqrstuvwxyz0123456789-")
}

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

// validDevice is stricter than the kernel, which takes control characters, and
// leaves out what is a word of its own under /proc/sys/net/ipv4/conf.
func validDevice(s string) bool {
	return len(s) >= 1 && len(s) <= 15 && s != "." && s != ".." && s != "all" && s != "default" && s != "lo" &&
		only(s, letters+digits+"._-")
}

// validDomain takes the letters, digits, hyphens and underscores of names in
// use (RFC 1123, section 2.1; RFC 2782), without the dot at the end.
func validDomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) < 1 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			!only(label, letters+digits+"_-") {
			return false
		}
	}
	return true
}

// only reports whether every octet of s is in set.
func only(s, set string) bool { return strings.Trim(s, set) == "" }
