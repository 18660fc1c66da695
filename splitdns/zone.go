package splitdns

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// zones finds who is asked about a name. Names in it are in lower case, without
// the dot at the end; the root is "".
type zones struct {
	domains  map[string][]netip.AddrPort
	outside  map[string]bool
	prefixes []prefixZone // the longer before the shorter
}

type prefixZone struct {
	netip.Prefix
	servers []netip.AddrPort
}

func (z *zones) add(zone Zone) error {
	if err := checkServers("a zone's", zone.Servers); err != nil {
		return err
	}
	if z.domains == nil {
		z.domains = make(map[string][]netip.AddrPort)
	}
	for _, d := range zone.Domains {
		name, err := domainName(d)
		if err != nil {
			return err
		}
		if z.domains[name] != nil {
			return fmt.Errorf("splitdns: domain %q: named twice", d)
		}
		z.domains[name] = first(zone.Servers)
	}
	for _, p := range zone.Reverse {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("splitdns: prefix %v: not one of IPv4 or IPv6", p)
		}
		z.prefixes = append(z.prefixes, prefixZone{p.Masked(), first(zone.Servers)})
	}
	if len(z.domains) > maxDomains || len(z.prefixes) > maxPrefixes {
		return fmt.Errorf("splitdns: %d domains and %d prefixes: at most %d and %d", len(z.domains), len(z.prefixes), maxDomains, maxPrefixes)
	}
	return nil
}

func (z *zones) leaveOut(names []string) error {
	z.outside = make(map[string]bool)
	for _, n := range names {
		name, err := domainName(n)
		if err != nil {
			return err
		}
		z.outside[name] = true
	}
	return nil
}

// domainName returns d as zones keeps it.
func domainName(d string) (string, error) {
	name := lower(strings.TrimSuffix(d, "."))
	if name == "" || len(name) > 253 { // RFC 1035, section 2.3.4, as text
		return "", fmt.Errorf("splitdns: domain %q: want a name of 1 to 253 octets", d)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return "", fmt.Errorf("splitdns: domain %q: want labels of 1 to 63 octets", d)
		}
	}
	return name, nil
}

// lower is how names are compared: ASCII case is nothing, all other octets are
// themselves (RFC 4343, section 3).
func lower(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// servers returns those of the zone that has the name, or nil: then it is one for
// others.
func (z *zones) servers(name string) []netip.AddrPort {
	name = lower(strings.TrimSuffix(name, "."))
	if z.outside[name] {
		return nil
	}
	for rest, more := name, true; more; _, rest, more = strings.Cut(rest, ".") {
		if s := z.domains[rest]; s != nil {
			return s // the longest: the shorter come after it
		}
	}
	p, ok := reversed(name)
	if !ok {
		return nil
	}
	var best prefixZone
	for _, x := range z.prefixes {
		if x.Bits() <= p.Bits() && x.Contains(p.Addr()) && (best.servers == nil || x.Bits() > best.Bits()) {
			best = x
		}
	}
	return best.servers
}

// reversed returns the prefix whose addresses a name of in-addr.arpa or ip6.arpa
// is about. Labels that are no number, as those of RFC 2317, stand below the
// prefix of those above them.
func reversed(name string) (p netip.Prefix, ok bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		return fromLabels(rest, make([]byte, 4), 8)
	}
	if rest, ok := strings.CutSuffix(name, ".ip6.arpa"); ok {
		return fromLabels(rest, make([]byte, 16), 4)
	}
	return p, false
}

// fromLabels reads labels of so many bits each, the last first, into address.
func fromLabels(labels string, address []byte, bits int) (p netip.Prefix, ok bool) {
	base := map[int]int{8: 10, 4: 16}[bits]
	n := 0
	for n < 8*len(address) && labels != "" {
		cut := strings.LastIndexByte(labels, '.')
		label := labels[cut+1:]
		v, err := strconv.ParseUint(label, base, bits)
		if err != nil || len(label) > 1 && (label[0] == '0' || bits == 4) {
			break
		}
		address[n/8] |= byte(v << (8 - bits - n%8))
		n += bits
		labels = labels[:max(0, cut)]
	}
	a, _ := netip.AddrFromSlice(address)
	p, err := a.Prefix(n)
	return p, err == nil
}
