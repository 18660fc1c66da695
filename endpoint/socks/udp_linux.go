package socks

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxDatagram = 64 << 10 // octets: no UDP datagram is longer

	// maxCorrespondents are the addresses that an association may hear from; a new
	// one displaces any other.
	maxCorrespondents = 1024

	// maxLookups are the names of an association being looked up at once; datagrams
	// to more are dropped.
	maxLookups = 8
)

// An association is one UDP ASSOCIATE (RFC 1928, section 7): a UDP socket on this
// machine for the program, and those that its datagrams leave by.
type association struct {
	p       *Proxy
	program *net.UDPConn
	owner   netip.Addr   // who made it: datagrams come from there alone
	used    atomic.Int64 // when a datagram last went either way, in nanoseconds of Unix
	wg      sync.WaitGroup
	lookups chan struct{} // one for each of maxLookups

	mu      sync.Mutex
	port    uint16 // the program's; 0 until its first datagram where it did not say
	ended   bool
	outlets map[outletKind]net.PacketConn
	known   map[netip.AddrPort]struct{} // who has been written to
}

// An outletKind is a kind of socket that datagrams leave by.
type outletKind struct {
	way way
	v6  bool
}

// serveAssociate is UDP ASSOCIATE. It lasts as long as c.
func (p *Proxy) serveAssociate(c *net.TCPConn, r *request) {
	defer c.Close()
	select {
	case p.associations <- struct{}{}:
		defer func() { <-p.associations }()
	default:
		p.count.limit.Add(1)
		p.sayReply(c, r, replyFailed, netip.AddrPort{})
		return
	}
	here := c.LocalAddr().(*net.TCPAddr)
	program, err := net.ListenUDP("udp", &net.UDPAddr{IP: here.IP, Zone: here.Zone})
	if err != nil {
		p.count.limit.Add(1)
		p.sayReply(c, r, replyFailed, netip.AddrPort{})
		return
	}
	p.count.udp.Add(1)
	a := &association{
		p: p, program: program,
		owner:   c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(),
		port:    r.to.port,
		lookups: make(chan struct{}, maxLookups),
		outlets: make(map[outletKind]net.PacketConn),
		known:   make(map[netip.AddrPort]struct{}),
	}
	a.touch()
	if p.sayReply(c, r, replyDone, program.LocalAddr().(*net.UDPAddr).AddrPort()) == nil {
		a.wg.Go(a.outward)
		a.wait(c)
	}
	a.end()
	a.wg.Wait()
}

func (a *association) touch() { a.used.Store(time.Now().UnixNano()) }

// wait returns when c ends, or when nothing has passed for Limits.Idle.
func (a *association) wait(c *net.TCPConn) {
	var b [256]byte
	for {
		end := time.Unix(0, a.used.Load()).Add(a.p.c.Limits.Idle)
		c.SetDeadline(end)
		_, err := c.Read(b[:]) // there is nothing to say
		if errors.Is(err, os.ErrDeadlineExceeded) && time.Unix(0, a.used.Load()).Add(a.p.c.Limits.Idle).After(time.Now()) {
			continue
		}
		if err != nil {
			return
		}
	}
}

// end closes the association's sockets.
func (a *association) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	a.program.Close()
	for _, o := range a.outlets {
		o.Close()
	}
}

// outward carries what the program sends.
func (a *association) outward() {
	b := make([]byte, maxDatagram)
	for {
		n, from, err := a.program.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the answer to something sent: the program's socket is gone
		}
		to, data, err := parseDatagram(b[:n])
		if err != nil || !a.owns(from) {
			a.p.count.datagrams.Add(1)
			continue
		}
		a.touch()
		a.send(to, data)
	}
}

// owns reports whether from is the program. Its first datagram says its port where
// it has not.
func (a *association) owns(from netip.AddrPort) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if from.Addr().Unmap() != a.owner {
		return false
	}
	if a.port == 0 {
		a.port = from.Port()
	}
	return a.port == from.Port()
}

// send sends a datagram to an address or a name, if that may be reached.
func (a *association) send(to address, data []byte) {
	if to.ip.IsValid() {
		a.sendTo(netip.AddrPortFrom(to.ip, to.port), data)
		return
	}
	if found := a.p.names.get(to.name); found != nil {
		a.sendTo(netip.AddrPortFrom(a.p.order(found)[0], to.port), data)
		return
	}
	select {
	case a.lookups <- struct{}{}:
	default:
		a.p.count.datagrams.Add(1)
		return
	}
	data = append([]byte(nil), data...)
	a.wg.Go(func() {
		defer func() { <-a.lookups }()
		list, err := a.p.lookup(a.p.ctx, to)
		if err != nil {
			a.p.count.datagrams.Add(1)
			return
		}
		a.sendTo(netip.AddrPortFrom(list[0], to.port), data)
	})
}

func (a *association) sendTo(to netip.AddrPort, data []byte) {
	o := a.outlet(to)
	if o == nil {
		a.p.count.datagrams.Add(1)
		return
	}
	if _, err := o.WriteTo(data, net.UDPAddrFromAddrPort(to)); err != nil {
		a.p.count.datagrams.Add(1)
	}
}

// outlet returns the socket for datagrams to to, and notes that to may answer. It is
// nil if there is none.
func (a *association) outlet(to netip.AddrPort) net.PacketConn {
	kind := outletKind{a.p.c.wayTo(to.Addr()), to.Addr().Is6()}
	a.mu.Lock()
	defer a.mu.Unlock()
	if kind.way == nowhere || a.ended {
		return nil
	}
	o := a.outlets[kind]
	if o == nil {
		var err error
		if kind.way == through {
			o, err = a.p.dialUDP(netip.AddrPortFrom(to.Addr(), 0))
		} else {
			o, err = net.ListenPacket(network("udp", kind.v6), ":0")
		}
		if err != nil {
			return nil
		}
		a.outlets[kind] = o
		a.wg.Go(func() { a.inward(o) })
	}
	if _, ok := a.known[to]; !ok && len(a.known) >= maxCorrespondents {
		for k := range a.known {
			delete(a.known, k)
			break
		}
	}
	a.known[to] = struct{}{}
	return o
}

// network returns Go's name of a network for one IP version.
func network(name string, v6 bool) string {
	if v6 {
		return name + "6"
	}
	return name + "4"
}

// inward carries what comes back at o.
func (a *association) inward(o net.PacketConn) {
	b := make([]byte, datagramHeaderLen+maxDatagram)
	for {
		n, from, err := o.ReadFrom(b[datagramHeaderLen:])
		if errors.Is(err, net.ErrClosed) || err == io.EOF { // the latter of the stack's sockets
			return
		}
		if err != nil {
			continue // what came back about a datagram
		}
		src := from.(*net.UDPAddr).AddrPort()
		src = netip.AddrPortFrom(src.Addr().Unmap(), src.Port())
		a.mu.Lock()
		_, known := a.known[src]
		program := netip.AddrPortFrom(a.owner, a.port)
		a.mu.Unlock()
		if !known {
			a.p.count.datagrams.Add(1)
			continue
		}
		a.touch()
		// The header goes before the data, which stays where it is.
		var head [datagramHeaderLen]byte
		h := appendDatagramHeader(head[:0], src)
		at := datagramHeaderLen - len(h)
		copy(b[at:], h)
		a.program.WriteToUDPAddrPort(b[at:datagramHeaderLen+n], program)
	}
}
