package lab

import "net/netip"

// The addresses of the lab: documentation prefixes (RFC 5737, RFC 3849), so that
// none is ever a real one. Direct addresses are benchmarking ones (RFC 2544).
var (
	Laptop4 = netip.MustParseAddr("192.0.2.10")
	Laptop6 = netip.MustParseAddr("2001:db8:1::10")

	// FirewallInside4 and FirewallInside6 are the firewall's own addresses as the
	// laptop sees it, which answer it where Options.Closed is set.
	FirewallInside4 = netip.MustParseAddr("192.0.2.1")
	FirewallInside6 = netip.MustParseAddr("2001:db8:1::1")

	// Gateway4 and Gateway6 are where the laptop reaches the gateway's sshd. The
	// laptop knows them as "gw".
	Gateway4 = netip.MustParseAddr("198.51.100.22")
	Gateway6 = netip.MustParseAddr("2001:db8:2::22")

	// GatewayOut4 and GatewayOut6 are the gateway's other side, as the internet
	// sees it.
	GatewayOut4 = netip.MustParseAddr("203.0.113.22")
	GatewayOut6 = netip.MustParseAddr("2001:db8:f::22")

	// Web4 and Web6 answer HTTP (port 80), TCP and UDP echo (port 7), accept
	// nothing on port SilentPort, refuse every other port, and answer ping.
	Web4 = netip.MustParseAddr("203.0.113.100")
	Web6 = netip.MustParseAddr("2001:db8:f::100")

	// DNS4 and DNS6 answer DNS, see Zone; the gateway's resolvers.
	DNS4 = netip.MustParseAddr("203.0.113.53")
	DNS6 = netip.MustParseAddr("2001:db8:f::53")

	// Hole4 and Hole6 answer nothing at all.
	Hole4 = netip.MustParseAddr("203.0.113.66")
	Hole6 = netip.MustParseAddr("2001:db8:f::66")

	// Office4 and Office6 answer as the web host does, from a private network
	// behind the gateway.
	Office4 = netip.MustParseAddr("10.20.0.80")
	Office6 = netip.MustParseAddr("fd20::80")

	// Corp4 and Corp6 answer as the web host does, in the private network that
	// Options.Corp adds, and CorpDNS4 and CorpDNS6 are its resolvers, see CorpZone.
	Corp4    = netip.MustParseAddr("10.44.0.80")
	Corp6    = netip.MustParseAddr("fd44::80")
	CorpDNS4 = netip.MustParseAddr("10.44.0.53")
	CorpDNS6 = netip.MustParseAddr("fd44::53")

	// CorpGateway4 and CorpGateway6 are where the laptop reaches the gateway besides
	// when the private network is around the gateway: addresses inside the prefixes
	// that a user of that network routes. The laptop knows them as "office" and "office6".
	CorpGateway4 = netip.MustParseAddr("10.9.9.9")
	CorpGateway6 = netip.MustParseAddr("fd44:9::9")

	// NoRoute4 and NoRoute6 are what the internet has no route to: it answers
	// with ICMP network unreachable.
	NoRoute4 = netip.MustParseAddr("198.18.200.1")
	NoRoute6 = netip.MustParseAddr("2001:db8:dead::1")

	// DirectLaptop4 and DirectInternet4 are the two ends of the cable that
	// Options.Direct adds.
	DirectLaptop4   = netip.MustParseAddr("198.18.0.1")
	DirectInternet4 = netip.MustParseAddr("198.18.0.2")
)

// The addresses in between, which programs need not know.
var (
	firewallOut4 = netip.MustParseAddr("198.51.100.1")
	firewallOut6 = netip.MustParseAddr("2001:db8:2::1")
	internet4    = netip.MustParseAddr("203.0.113.1")
	internet6    = netip.MustParseAddr("2001:db8:f::1")

	firewallInternet4 = netip.MustParseAddr("203.0.113.254") // with the private network around the gateway
	firewallInternet6 = netip.MustParseAddr("2001:db8:f::fe")

	corp4         = netip.MustParseAddr("10.44.0.1")
	corp6         = netip.MustParseAddr("fd44::1")
	corpFirewall4 = netip.MustParseAddr("10.44.0.254") // the way out of the private network: the firewall's
	corpFirewall6 = netip.MustParseAddr("fd44::fe")
	corpInside4   = netip.MustParseAddr("10.44.0.22") // or the gateway's
	corpInside6   = netip.MustParseAddr("fd44::22")
)

// Ports of the lab's services.
const (
	SSHPort    = 22   // the gateway's sshd: the one thing that the firewall lets through
	TelnetPort = 23   // of telnet servers and proxies, unless told otherwise
	WebPort    = 80   // HTTP
	EchoPort   = 7    // TCP and UDP echo (RFC 862)
	SilentPort = 9999 // accepts connections and never says a word; takes no octet beyond the kernel's buffers
)

// Uids of the account "me".
const (
	LaptopUID  = 1000
	GatewayUID = 1001
)
