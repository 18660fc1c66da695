package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/tunnel"
)

// Where the addresses of a userspace NAT lie in the network it works in: those
// of SLiRP, and the same last octets in IPv6.
const (
	hostTwo   = 2  // the far host itself, closed unless opened
	hostThree = 3  // answers DNS
	hostPeer  = 15 // whoever is at the other end
)

// defaultNetworks are what the tunnel's addresses come from when nobody names
// others: SLiRP's, and one of our own made of the name (RFC 4193, section 3).
var defaultNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.2.0/24"),
	netip.MustParsePrefix("fd62:6f64:6b69::/64"),
}

// within returns the n-th address of a network.
func within(network netip.Prefix, n byte) netip.Addr {
	b := network.Masked().Addr().AsSlice()
	b[len(b)-1] += n
	a, _ := netip.AddrFromSlice(b)
	return a
}

// software is what we tell the peer of ourselves.
func software() string {
	return fmt.Sprintf("bodkin %s %s/%s", version, runtime.GOOS, runtime.GOARCH)
}

// natMTU is what a userspace NAT takes: it ends TCP itself, so the path beyond
// it does not matter, and large packets cost least.
const natMTU = 65535

// heapLimit is where the collector begins to work harder rather than let the
// heap grow: a side is to stay small beside what it serves.
const heapLimit = 24 << 20

// A farHalf is what the far side was asked for.
type farHalf struct {
	stream carrier.Stream
	grant  native.Asks // what the peer may have opened
	policy usernat.Policy
	log    io.Writer
}

// run carries packets between the stream and a userspace NAT until the peer
// ends it.
func (f *farHalf) run(ctx context.Context) error {
	debug.SetMemoryLimit(heapLimit)
	var nat *usernat.NAT
	link, _, _, err := native.Accept(ctx, f.stream, func(peer native.Hello) (native.Hello, error) {
		networks := peer.Networks
		if len(networks) == 0 {
			networks = defaultNetworks
		}
		mine := native.Hello{Software: software(), Emulator: native.EmulatorNAT}
		var c usernat.Config
		for _, n := range networks {
			if n.Addr().BitLen()-n.Bits() < 5 {
				return mine, fmt.Errorf("the network %v has no room for the tunnel's addresses", n)
			}
			mine.Yours = append(mine.Yours, netip.PrefixFrom(within(n, hostPeer), n.Bits()))
			mine.Mine = append(mine.Mine, within(n, hostTwo))
			mine.DNS = append(mine.DNS, within(n, hostThree))
		}
		c.MTU = natMTU
		c.DNS, c.Host = mine.DNS, mine.Mine
		c.Allow = f.policy
		asks := peer.Asks & f.grant
		c.Allow.Host = c.Allow.Host || asks&native.AskHost != 0
		c.Allow.LinkLocal = c.Allow.LinkLocal || asks&native.AskLinkLocal != 0
		if refused := peer.Asks &^ f.grant; refused != 0 {
			mine.Notes = append(mine.Notes, "the far side's own settings do not let the peer open more")
		}
		var err error
		if nat, err = usernat.New(c); err != nil {
			return mine, err
		}
		mine.Notes = append(mine.Notes, nat.Notes()...)
		mine.Receives = nat.Caps()
		return mine, nil
	})
	if err != nil {
		if nat != nil {
			nat.Close()
		}
		return err
	}
	err = tunnel.Join(ctx, link, nat)
	var closed *native.ClosedError
	if errors.As(err, &closed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// quiet keeps the far half's words off the stream: its standard error is the
// near side's to show.
func (f *farHalf) say(format string, args ...any) {
	w := f.log
	if w == nil {
		w = os.Stderr
	}
	fmt.Fprintf(w, "bodkin far: "+format+"\n", args...)
}
