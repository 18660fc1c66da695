package usernat

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/bodkin-net/bodkin/endpoint/netstack"
)

// An inlet is a redirection that listens.
type inlet interface {
	run()
	addr() netip.AddrPort // where it listens
	Close() error
}

// listen opens the inlet of r.
func (n *NAT) listen(r Redirect) (i inlet, err error) {
	from := r.from(&n.c)
	if r.Network == "tcp" {
		i, err = newInletTCP(n, r, from)
	} else {
		i, err = newInletUDP(n, r, from)
	}
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) { // what it adds is said already
			err = op.Err
		}
		return nil, fmt.Errorf("usernat: redirection %v: %w", r, err)
	}
	return i, nil
}

// network returns Go's name of a network for addresses like a alone.
func network(name string, a netip.Addr) string {
	if a.Is4() {
		return name + "4"
	}
	return name + "6"
}

// Redirects returns where the redirections listen, in the order of
// Config.Redirect: a port that was given as 0 is the one that was found.
func (n *NAT) Redirects() []netip.AddrPort {
	var list []netip.AddrPort
	for _, i := range n.inlets {
		list = append(list, i.addr())
	}
	return list
}

// An inletTCP is a TCP port of the host that leads inside.
type inletTCP struct {
	n    *NAT
	r    Redirect
	from netip.Addr
	*net.TCPListener
}

func newInletTCP(n *NAT, r Redirect, from netip.Addr) (*inletTCP, error) {
	c := net.ListenConfig{KeepAliveConfig: outerKeepAlive}
	l, err := c.Listen(context.Background(), network("tcp", r.Listen.Addr()), r.Listen.String())
	if err != nil {
		return nil, err
	}
	return &inletTCP{n, r, from, l.(*net.TCPListener)}, nil
}

func (i *inletTCP) addr() netip.AddrPort { return i.Addr().(*net.TCPAddr).AddrPort() }

// acceptPause is for how long no connection is accepted after the host had no
// descriptor or memory for one.
const acceptPause = 100 * time.Millisecond

// run accepts connections until Close.
func (i *inletTCP) run() {
	for {
		outer, err := i.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			i.n.count.limit.Add(1)
			select {
			case <-time.After(acceptPause):
			case <-i.n.ctx.Done():
				return
			}
			continue
		}
		if i.r.Once {
			i.Close()
		}
		if !i.n.start(func() { i.serve(outer) }) {
			outer.Close()
		}
	}
}

// serve is the life of one connection from outside. What the inner side does not
// take is reset outside: a RST is as near as a host comes to a refusal that it
// hears of too late.
func (i *inletTCP) serve(outer *net.TCPConn) {
	n := i.n
	refuse := func() {
		outer.SetLinger(0)
		outer.Close()
	}
	if n.stack.Full() {
		n.count.memory.Add(1)
		refuse()
		return
	}
	if !n.place() {
		n.count.limit.Add(1)
		refuse()
		return
	}
	defer n.leave()
	c := n.stack.NewConn(outer)
	ep := n.dialInside(&c.WQ, i.from, i.r.To)
	if ep == nil {
		refuse()
		return
	}
	n.count.inwardTCP.Add(1)
	c.Run(ep)
}

// dialInside connects to to at the inner side, from a free port of from. The
// result is nil if that does not succeed: what the inner side said, or that it
// said nothing, makes no difference to anyone.
func (n *NAT) dialInside(wq *waiter.Queue, from netip.Addr, to netip.AddrPort) tcpip.Endpoint {
	ep, local, terr := n.stack.Bind(from, wq)
	if terr != nil {
		n.count.limit.Add(1) // all ports are taken
		return nil
	}
	id := stack.TransportEndpointID{
		LocalAddress: netstack.AddressOf(from), LocalPort: local.Port(),
		RemoteAddress: netstack.AddressOf(to.Addr()), RemotePort: to.Port(),
	}
	d, err := n.dials.begin(n.ctx, id, time.Now())
	if err != nil {
		n.count.dials.Add(1)
		ep.Close()
		return nil
	}
	defer n.dials.end(id, d)
	if n.stack.Connect(d.ctx, ep, wq, to) != nil {
		return nil
	}
	return ep
}
