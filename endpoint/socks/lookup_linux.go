package socks

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// lookupPatience is how long a name may take: two resolvers of the far side,
	// each asked as long as it waits for one, and the way there.
	lookupPatience = 12 * time.Second

	// maxAddresses of a name are tried at most.
	maxAddresses = 8

	// cachedFor is for how long the addresses of a name are used again without a
	// question: a browser asks for a page's server six times at once. Of maxCached
	// names; a new one displaces any other.
	cachedFor = 10 * time.Second
	maxCached = 256

	// no6For is for how long IPv4 is tried first after the far side said that it has
	// no IPv6. Most have none, and each try costs a round trip.
	no6For = 5 * time.Minute
)

// newResolver returns what looks up names through the tunnel. /etc/hosts of this
// machine counts for names with a dot; its resolvers and search domains do not.
func (p *Proxy) newResolver() *net.Resolver {
	if len(p.c.DNS) == 0 {
		return net.DefaultResolver
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		server := p.c.DNS[int(p.resolvers.Add(1)-1)%len(p.c.DNS)]
		if network[:3] == "udp" {
			return p.dialUDP(netip.AddrPortFrom(server, 53))
		}
		d, err := p.dialTunnel(ctx, nil, netip.AddrPortFrom(server, 53))
		if err != nil {
			return nil, err
		}
		return d.conn(), nil
	}}
}

// lookup returns the addresses of a that may be reached, in the order to try them.
// There is one at least, or an error.
func (p *Proxy) lookup(ctx context.Context, a address) ([]netip.Addr, error) {
	if a.ip.IsValid() {
		if p.c.wayTo(a.ip) == nowhere {
			return nil, errProhibited
		}
		return []netip.Addr{a.ip}, nil
	}
	if isLocalhost(a.name) {
		return nil, errProhibited
	}
	if found := p.names.get(a.name); found != nil {
		return p.order(found), nil
	}
	if len(p.c.DNS) == 0 && !p.c.Direct {
		return nil, &net.DNSError{Err: "there is no resolver in the tunnel", Name: a.name, IsNotFound: true}
	}
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	network := "ip"
	switch {
	case p.c.Direct:
	case !p.local6.IsValid():
		network = "ip4"
	case !p.local4.IsValid():
		network = "ip6"
	}
	name := a.name
	if name[len(name)-1] != '.' {
		name += "." // a name of the far side's world, without this machine's search domains
	}
	found, err := p.resolver.LookupNetIP(ctx, network, name)
	if err != nil {
		return nil, err
	}
	list := p.order(found)
	if len(list) == 0 {
		return nil, errProhibited
	}
	p.names.put(a.name, found)
	return list, nil
}

// A cache has the addresses of names for a while.
type cache struct {
	mu sync.Mutex
	m  map[string]cached
}

type cached struct {
	list  []netip.Addr
	until time.Time
}

// get returns the addresses of name, or nil.
func (c *cache) get(name string) []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.m[name]; time.Now().Before(e.until) {
		return e.list
	}
	return nil
}

func (c *cache) put(name string, list []netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[string]cached)
	}
	for n := range c.m {
		if len(c.m) < maxCached {
			break
		}
		delete(c.m, n)
	}
	c.m[name] = cached{list, time.Now().Add(cachedFor)}
}

// isLocalhost reports whether name is one that means whoever looks it up (RFC 6761,
// section 6.3).
func isLocalhost(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// order returns those of found that may be reached, the versions in turn, IPv6 first
// (RFC 8305, section 4) unless the far side has none.
func (p *Proxy) order(found []netip.Addr) []netip.Addr {
	var by [2][]netip.Addr
	for _, a := range found {
		a = a.Unmap()
		if p.c.wayTo(a) == nowhere {
			continue
		}
		second := a.Is4()
		if time.Now().Unix() < p.no6.Load() {
			second = !second
		}
		i := 0
		if second {
			i = 1
		}
		by[i] = append(by[i], a)
	}
	var list []netip.Addr
	for len(list) < maxAddresses && len(by[0])+len(by[1]) > 0 {
		for i := range by {
			if len(by[i]) > 0 {
				list, by[i] = append(list, by[i][0]), by[i][1:]
			}
		}
	}
	return list
}

// errNoName reports whether err says that a name does not exist or was not found.
func errNoName(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e) && !e.IsTimeout
}
