package ppp

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/bodkin-net/bodkin/link/ppp/auth"
)

// withDefaults returns c with nothing left to be guessed, or says what is wrong
// with it.
func (c Config) withDefaults() (Config, error) {
	c.LCP.MRU = cmp.Or(c.LCP.MRU, defaultMRU)
	c.LCP.Timers = c.LCP.Timers.withDefaults()
	c.IPv4.Timers = c.IPv4.Timers.withDefaults()
	c.IPv6.Timers = c.IPv6.Timers.withDefaults()
	c.Auth.Timeout = cmp.Or(c.Auth.Timeout, time.Minute)
	c.Auth.Restart = cmp.Or(c.Auth.Restart, 3*time.Second)
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.LCP.MRU < minMRU || c.LCP.MRU > 65535 {
		return c, fmt.Errorf("ppp: MRU %d: not within %d to 65535", c.LCP.MRU, minMRU)
	}
	if c.LCP.MTU != 0 && (c.LCP.MTU < minMRU || c.LCP.MTU > 65535) {
		return c, fmt.Errorf("ppp: MTU %d: not within %d to 65535", c.LCP.MTU, minMRU)
	}
	if c.IPv4.Off && c.IPv6.Off {
		return c, fmt.Errorf("ppp: neither IPv4 nor IPv6 is wanted")
	}
	for _, addr := range []netip.Addr{c.IPv4.Local, c.IPv4.Remote} {
		if addr.IsValid() && (!addr.Is4() || !host4(addr)) {
			return c, fmt.Errorf("ppp: %s is no IPv4 address of a host", addr)
		}
	}
	if c.IPv4.Local.IsValid() && c.IPv4.Local == c.IPv4.Remote {
		return c, fmt.Errorf("ppp: both ends are to have the address %s", c.IPv4.Local)
	}
	for _, servers := range [][]netip.Addr{c.IPv4.DNS, c.IPv4.NBNS} {
		if len(servers) > 2 {
			return c, fmt.Errorf("ppp: %d name servers: IPCP can name 2", len(servers))
		}
		for _, addr := range servers {
			if !addr.Is4() {
				return c, fmt.Errorf("ppp: name server %s: IPCP knows IPv4 only", addr)
			}
		}
	}
	if c.IPv6.Local != 0 && c.IPv6.Local == c.IPv6.Remote {
		return c, fmt.Errorf("ppp: both ends are to have the interface identifier %016x", c.IPv6.Local)
	}
	return c, nil
}

func (t Timers) withDefaults() Timers {
	return Timers{
		Restart:      cmp.Or(t.Restart, 3*time.Second),
		MaxConfigure: cmp.Or(t.MaxConfigure, 10),
		MaxTerminate: cmp.Or(t.MaxTerminate, 2),
		MaxFailure:   cmp.Or(t.MaxFailure, 10),
	}
}

// random64 reads from c.Rand.
func (c *Config) random64() uint64 {
	var b [8]byte
	if _, err := io.ReadFull(c.Rand, b[:]); err != nil {
		rand.Read(b[:])
	}
	return binary.BigEndian.Uint64(b[:])
}

func (c *Config) random32() uint32 { return uint32(c.random64() >> 32) }

// maySpeak returns the ways by which we can prove who we are: those that are
// permitted, if there is a name to prove.
func (a Auth) maySpeak() []auth.Protocol {
	if a.Secret == nil {
		return nil
	}
	return a.Permit
}
