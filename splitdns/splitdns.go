// Package splitdns is a small DNS forwarder (RFC 1035; RFC 7766 for TCP) for
// machines on which resolv.conf is all there is: it sends names below some
// domains to the tunnel's resolvers, and all other names to those that the
// machine had before.
//
// Of a message it looks at the header, the question and the size that EDNS
// offers; the rest is passed on as it came, so that it need not know what types of
// records there are, what DNSSEC asks for, and what comes next. Only the message
// id is its own, and so is the source port: fresh and random for each try
// (RFC 5452, section 9).
//
// It keeps no answers. Whoever asks it, the C library or a cache of the machine's
// own, and whom it asks remember as they like; a third memory in between would
// serve what was true of another network, and is what poisoners aim at.
//
// A name of the tunnel's is never asked elsewhere, whatever fails: a name that
// only the far network knows is nobody else's business, and an answer from
// somebody else to it is worth nothing.
//
// Listen makes the sockets and needs the right to port 53; Serve needs no right at
// all, so that the two can be in different processes.
package splitdns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Bounds of a Config: as many as resolv.conf(5) knows, and far more than people
// write.
const (
	maxServers  = 3 // of a zone, or Others, that are asked; resolv.conf(5), MAXNS
	maxZones    = 64
	maxDomains  = 64
	maxPrefixes = 1024
)

const (
	// maxQueries are on their way to servers at once, each with up to three
	// sockets; those beyond get SERVFAIL. A machine's programs have some tens.
	maxQueries = 256

	// maxConnections are TCP connections open to us at once; more are closed. The
	// C library opens one when an answer does not fit a datagram.
	maxConnections = 32

	// idle is for how long a TCP connection may say nothing; RFC 7766, section
	// 6.2.3, asks for seconds.
	idle = 10 * time.Second

	// patience is all that one question may take. A stub asks again, or the next
	// server, after 5 s (resolv.conf(5), timeout), and then we have answered.
	patience = 3 * time.Second

	// another is when the next server is asked besides, or the only one again.
	another = time.Second

	// maxQuery is the longest question over UDP that is taken, in octets: one name
	// and EDNS options fit a few times.
	maxQuery = 4096

	// maxAnswer is the longest answer over UDP that is taken, in octets: twice the
	// size that is offered in practice at most (RFC 6891, section 6.2.5). For a
	// longer one the asker is told to ask by TCP.
	maxAnswer = 8192
)

// A Zone is a set of names, and who knows them.
type Zone struct {
	// Domains are names, and all names below them: "corp.example".
	Domains []string

	// Reverse are prefixes: the names of their addresses in in-addr.arpa and
	// ip6.arpa (RFC 1035, section 3.5; RFC 3596, section 2.5) are the zone's too.
	Reverse []netip.Prefix

	// Servers are asked in this order, the first three.
	Servers []netip.AddrPort
}

// A Config says who is asked about which names.
type Config struct {
	// Zones are asked about their names and nobody else is. Of several domains the
	// longest counts, of several prefixes likewise.
	Zones []Zone

	// Others are asked about all other names: the machine's own name servers, as
	// they were before resolv.conf named us.
	Others []netip.AddrPort

	// Outside are names that Others are asked about though a zone has them, but
	// not those below: the tunnel's own server, which must be found while the
	// tunnel is down.
	Outside []string

	// Dial connects to a server; nil means net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Forwarder answers questions as its Config says.
type Forwarder struct {
	zones   zones
	others  []netip.AddrPort
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	queries chan struct{} // holds as many as are on their way
	conns   chan struct{} // holds as many as are open
}

// New checks c and returns its Forwarder, which does nothing yet.
func New(c Config) (*Forwarder, error) {
	f := &Forwarder{
		others: first(c.Others), dial: c.Dial,
		queries: make(chan struct{}, maxQueries), conns: make(chan struct{}, maxConnections),
	}
	if f.dial == nil {
		f.dial = new(net.Dialer).DialContext
	}
	if err := checkServers("the machine's own", c.Others); err != nil {
		return nil, err
	}
	if len(c.Zones) > maxZones {
		return nil, fmt.Errorf("splitdns: %d zones: at most %d", len(c.Zones), maxZones)
	}
	for _, z := range c.Zones {
		if err := f.zones.add(z); err != nil {
			return nil, err
		}
	}
	return f, f.zones.leaveOut(c.Outside)
}

func checkServers(whose string, servers []netip.AddrPort) error {
	if len(servers) == 0 {
		return fmt.Errorf("splitdns: %s servers: none", whose)
	}
	for _, s := range servers {
		switch a := s.Addr(); {
		case !s.IsValid() || s.Port() == 0 || a.IsUnspecified() || a.IsMulticast():
			return fmt.Errorf("splitdns: server %v: not one to ask", s)
		case isOurs(a):
			return fmt.Errorf("splitdns: server %v: that is ourselves", s)
		}
	}
	return nil
}

// first returns the servers that are asked, each once.
func first(servers []netip.AddrPort) (some []netip.AddrPort) {
	for _, s := range servers {
		if len(some) < maxServers && !slices.Contains(some, s) {
			some = append(some, s)
		}
	}
	return some
}

// Serve answers what comes in until ctx ends, and returns nil then, or until a
// socket fails. It closes both, and all that it began has ended when it returns.
// Questions from other machines are not answered. A Forwarder serves once.
func (f *Forwarder) Serve(ctx context.Context, udp net.PacketConn, tcp net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { // closing is what wakes the two loops
		udp.Close()
		tcp.Close()
	})
	defer stop()

	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, serve := range []func() error{
		func() error { return f.serveUDP(ctx, &wg, udp) },
		func() error { return f.serveTCP(ctx, &wg, tcp) },
	} {
		wg.Go(func() {
			errs[i] = serve()
			cancel()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
