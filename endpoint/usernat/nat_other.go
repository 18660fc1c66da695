//go:build !linux

package usernat

import (
	"fmt"
	"net/netip"
	"runtime"

	"github.com/bodkin-net/bodkin/tunnel"
)

// A NAT is a tunnel.Port in front of this host's sockets. It exists on Linux only.
type NAT struct{ tunnel.Port }

// New reports that there is no NAT on this system yet.
func New(Config) (*NAT, error) {
	return nil, fmt.Errorf("usernat: not available on %s", runtime.GOOS)
}

// SetMTU gives the NAT another MTU.
func (n *NAT) SetMTU(int) error { return nil }

// Redirects returns where the redirections listen.
func (n *NAT) Redirects() []netip.AddrPort { return nil }

// Stats returns what the NAT holds and what it turned away.
func (n *NAT) Stats() Stats { return Stats{} }

// Notes says what this host keeps from the NAT.
func (n *NAT) Notes() []string { return nil }

// MaxFlows returns that there are no flows.
func MaxFlows() int { return 0 }
