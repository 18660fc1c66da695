//go:build !linux

package socks

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"github.com/bodkin-net/bodkin/tunnel"
)

// A Proxy is a tunnel.Port in front of programs on this machine. It exists on Linux
// only.
type Proxy struct{ tunnel.Port }

// New reports that there is no proxy on this system yet.
func New(c Config) (*Proxy, error) {
	for _, l := range c.Listeners {
		l.Close()
	}
	return nil, fmt.Errorf("socks: not available on %s", runtime.GOOS)
}

// Addr returns where the proxy listens.
func (p *Proxy) Addr() []netip.AddrPort { return nil }

// Forwards returns where Config.Forwards listen.
func (p *Proxy) Forwards() []netip.AddrPort { return nil }

// DialContext connects through the tunnel.
func (p *Proxy) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, net.ErrClosed
}

// Stats returns what the Proxy holds and what it did.
func (p *Proxy) Stats() Stats { return Stats{} }
