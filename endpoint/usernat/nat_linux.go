package usernat

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/bodkin-net/bodkin/endpoint/netstack"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A NAT is a tunnel.Port in front of this host's sockets. Make one with New.
type NAT struct {
	c            Config
	wanted       int        // Limits.Flows before the limit of open files
	self4, self6 netip.Addr // what we speak from; not valid without an own address of that version
	dns, host    map[netip.Addr]bool
	resolvers    func() []netip.AddrPort
	own          ownAddresses

	inlets    []inlet
	visitors  visitors
	stack     *netstack.Stack
	forwarder *tcp.Forwarder
	dials     dials
	sockets   *sockets
	queries   chan struct{} // a place for each DNS query on its way
	ids       atomic.Uint32 // of the packets made here (RFC 791, section 3.2)
	places    places        // of Limits.Flows
	count     counters
	refused   teller

	parts   reassembler // of the writing goroutine alone
	echo    []byte      // of the writing goroutine alone: the echo request on its way out
	expired time.Time   // when parts last gave up what is old

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	mu     sync.Mutex // guards closed, and wg against Add after Wait
	closed bool
	wg     sync.WaitGroup
	done   chan struct{} // closed when Close has waited for everything
}

// counters are the counts of Stats.
type counters struct {
	tcp, udp, echo, queries, inwardTCP, inwardUDP    atomic.Uint64
	policy, limit, dials, evicted, memory, noEcho    atomic.Uint64
	source, malformed, fragments, other, droppedFull atomic.Uint64
}

var _ tunnel.Source = (*NAT)(nil)

// New makes a NAT. It raises the process's soft limit of open files to its hard
// limit, since every flow is a descriptor, and lowers Limits.Flows to what that
// leaves. Close it.
func New(c Config) (*NAT, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	wanted := c.Limits.Flows
	c.Limits.Flows = min(wanted, raiseFiles())
	n := &NAT{
		c:         c,
		wanted:    wanted,
		dns:       make(map[netip.Addr]bool),
		host:      make(map[netip.Addr]bool),
		resolvers: c.Resolvers,
		own:       ownAddresses{list: net.InterfaceAddrs},
		queries:   make(chan struct{}, maxQueries),
		visitors:  visitors{m: make(map[flowKey]*visitor)},
		done:      make(chan struct{}),
		refused:   teller{to: c.Refused},
	}
	if n.resolvers == nil {
		n.resolvers = (&resolvConf{path: "/etc/resolv.conf"}).resolvers
	}
	for _, a := range c.Host {
		n.host[a] = true
		n.speakFrom(a)
	}
	for _, a := range c.DNS {
		n.dns[a] = true
		n.speakFrom(a)
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.stack, err = netstack.New(netstack.Options{MTU: c.MTU, Buffered: c.Limits.Buffered, OverMemory: n.overMemory})
	if err != nil {
		n.cancel()
		return nil, err
	}
	if n.sockets, err = newSockets(n); err != nil {
		n.cancel()
		n.stack.Close()
		n.stack.Destroy()
		return nil, err
	}
	for _, r := range c.Redirect {
		i, err := n.listen(r)
		if err != nil {
			n.closeInlets()
			n.cancel()
			n.sockets.epoll.Close()
			n.stack.Close()
			n.stack.Destroy()
			return nil, err
		}
		n.inlets = append(n.inlets, i)
	}
	n.sockets.ping.probe()
	n.ids.Store(rand.Uint32())
	n.places.limit, n.places.own, n.places.pool = int64(c.Limits.Flows), int64(c.Limits.Own), c.Limits.Pool
	n.dials.limit = c.Limits.Dials
	// The forwarder's own bound must never bite: ours says why it refuses.
	n.forwarder = tcp.NewForwarder(n.stack.GVisor(), netstack.ReceiveBuffer, 2*c.Limits.Flows, n.serveTCP)
	n.stack.GVisor().SetTransportProtocolHandler(tcp.ProtocolNumber, n.newTCP)
	n.start(n.sockets.run)
	for _, i := range n.inlets {
		n.start(i.run)
	}
	return n, nil
}

// SetMTU gives the NAT another MTU, in octets, when what it is to be joined to is
// known only after New. It must not be called once packets pass: connections keep
// the segment size they began with.
func (n *NAT) SetMTU(mtu int) error {
	if err := checkMTU(mtu); err != nil {
		return err
	}
	n.stack.SetMTU(mtu)
	return nil
}

func (n *NAT) closeInlets() {
	for _, i := range n.inlets {
		i.Close()
	}
}

func (n *NAT) speakFrom(a netip.Addr) {
	if a.Is4() {
		n.self4 = a
	} else {
		n.self6 = a
	}
}

// Caps implements tunnel.Port. All offloads are taken: checksums need not be
// completed, and the super-packets of UDP go out by UDP_SEGMENT.
func (n *NAT) Caps() tunnel.Caps {
	return tunnel.Caps{
		MTU:      n.stack.MTU(),
		Offloads: tunnel.OffloadChecksum | tunnel.OffloadTSO4 | tunnel.OffloadTSO6 | tunnel.OffloadUSO,
	}
}

// Quench implements tunnel.Source.
func (n *NAT) Quench(packet []byte, stood time.Duration) bool { return n.stack.Quench(packet, stood) }

// ReadPackets implements tunnel.Port.
func (n *NAT) ReadPackets(p []tunnel.Packet) (int, error) { return n.stack.Out.ReadPackets(p) }

// WritePackets implements tunnel.Port. It never waits for a socket: what one has
// no room for is dropped, as a router would (UDP), or held back by the
// connection's window (TCP).
func (n *NAT) WritePackets(p []tunnel.Packet) error {
	if n.ctx.Err() != nil {
		return net.ErrClosed
	}
	now := time.Now()
	for i := range p {
		n.take(&p[i], now)
	}
	if now.Sub(n.expired) > partTimeout/8 {
		n.parts.expire(now)
		n.expired = now
	}
	n.count.fragments.Store(n.parts.dropped)
	return nil
}

// take brings one packet to where it belongs.
func (n *NAT) take(p *tunnel.Packet, now time.Time) {
	packet := p.Data
	h, ok := parse(packet)
	if !ok {
		n.malformed(&header{})
		return
	}
	if h.proto == protoICMPv6 && h.dst.IsMulticast() {
		n.count.other.Add(1) // a kernel looks for neighbours and routers, from where it likes
		return
	}
	if !n.fromPeer(h.src) {
		n.count.source.Add(1)
		n.tell(RefusalSource, &h, nil)
		return
	}
	if h.src.Is6() && n.stack.MTU() < minMTU6 {
		n.count.other.Add(1)
		return
	}
	gso := p.GSO
	if h.fragment() {
		if packet, ok = n.parts.add(&h, packet, now); !ok {
			return
		}
		if h, ok = parse(packet); !ok {
			n.malformed(&header{})
			return
		}
		gso = tunnel.Offload{}
	}
	segment := h.payload(packet)
	switch h.proto {
	case protoTCP, protoUDP, protoICMP, protoICMPv6:
		if !gso.NeedsChecksum && gso.Type == tunnel.GSONone && !sumHolds(&h, segment) {
			n.malformed(&h)
			return
		}
	}
	switch {
	case h.proto == protoTCP && len(segment) >= headerLenTCP:
		n.takeTCP(&h, packet, now)
	case h.proto == protoUDP && len(segment) >= headerLenUDP:
		n.takeUDP(&h, packet, gso, now)
	case len(segment) >= headerLenICMP && (h.proto == protoICMP && h.src.Is4() && segment[0] == echoRequest4 ||
		h.proto == protoICMPv6 && h.src.Is6() && segment[0] == echoRequest6):
		n.takeEcho(&h, packet, now)
	case h.proto == protoICMP, h.proto == protoICMPv6:
		n.count.other.Add(1) // errors and neighbour messages: nothing here waits for them
	case h.proto == protoTCP, h.proto == protoUDP:
		n.malformed(&h)
	default:
		n.count.other.Add(1)
		if n.permits(target{addr: h.dst, proto: h.proto}, now) {
			n.sendError(&h, packet, noProtocol)
		} else {
			n.refuse(&h, packet)
		}
	}
}

// fromPeer reports whether a packet from inside can come from a.
func (n *NAT) fromPeer(a netip.Addr) bool {
	if !validSource(a) {
		return false
	}
	for _, p := range n.c.Peer {
		if p.Contains(a) {
			return true
		}
	}
	return len(n.c.Peer) == 0
}

// permits reports whether t may be reached. It is the one place where the policy
// is asked.
func (n *NAT) permits(t target, now time.Time) bool {
	switch {
	case n.dns[t.addr]:
		return true
	case n.host[t.addr]:
		return n.c.Allow.allowsAlias(t, n.outer(t.addr))
	}
	return n.c.Allow.allows(t, n.own.get(now))
}

// outer returns where in the real world dst lies: for the host's alias the
// loopback, else dst itself.
func (n *NAT) outer(dst netip.Addr) netip.Addr {
	switch {
	case !n.host[dst]:
		return dst
	case dst.Is4():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// place takes one of Limits.Flows; leave gives it back. At the limit it displaces
// the oldest idle UDP or ping flow.
func (n *NAT) place() bool {
	for !n.places.take() {
		if !n.sockets.evict() {
			return false
		}
	}
	return true
}

func (n *NAT) leave() { n.places.leave() }

// start runs f in a goroutine that Close waits for. After Close it reports false.
func (n *NAT) start(f func()) bool {
	if !n.enter() {
		return false
	}
	go func() {
		defer n.wg.Done()
		f()
	}()
	return true
}

// enter counts the calling goroutine among those that Close waits for, until
// n.wg.Done. After Close it reports false.
func (n *NAT) enter() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.wg.Add(1)
	return true
}

// Close implements tunnel.Port: it ends every flow (a real connection with a
// RST), wakes ReadPackets, and waits for every goroutine.
func (n *NAT) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		<-n.done
		return nil
	}
	n.closed = true
	n.mu.Unlock()

	n.cancel()       // ends dials and queries
	n.sockets.wake() // ends their loop
	n.closeInlets()  // nobody comes in any more
	n.stack.Close()  // ends the pumps, handshakes, and what waits for room
	n.wg.Wait()
	n.stack.Destroy() // nobody uses it now
	close(n.done)
	return nil
}

// Notes says, in lines for the user, what this host keeps from the NAT.
func (n *NAT) Notes() []string {
	var notes []string
	if n.sockets.ping.kind() == PingNone {
		notes = append(notes, "ping does not work: this account may open neither ping sockets (net.ipv4.ping_group_range) nor raw ones")
	}
	if n.c.Limits.Flows < n.wanted {
		notes = append(notes, fmt.Sprintf("at most %d connections at once: the limit of open files leaves no more", n.c.Limits.Flows))
	}
	return notes
}

// Stats returns what the NAT holds and what it turned away.
func (n *NAT) Stats() Stats {
	c := &n.count
	s := Stats{
		Dialing:          n.dials.dialing(),
		Queries:          len(n.queries),
		OpenedTCP:        c.tcp.Load(),
		OpenedUDP:        c.udp.Load(),
		OpenedEcho:       c.echo.Load(),
		OpenedQueries:    c.queries.Load(),
		RedirectedTCP:    c.inwardTCP.Load(),
		RedirectedUDP:    c.inwardUDP.Load(),
		RefusedPolicy:    c.policy.Load(),
		RefusedFlows:     c.limit.Load(),
		RefusedDials:     c.dials.Load(),
		Evicted:          c.evicted.Load(),
		RefusedMemory:    c.memory.Load(),
		RefusedEcho:      c.noEcho.Load(),
		DroppedSource:    c.source.Load(),
		DroppedMalformed: c.malformed.Load(),
		DroppedFragments: c.fragments.Load(),
		DroppedOther:     c.other.Load(),
		DroppedFull:      c.droppedFull.Load(),
	}
	s.TCP, s.Buffered = n.stack.Conns(), n.stack.Buffered()
	s.UDP, s.Echo = n.sockets.size()
	s.UDP += n.visitors.size()
	s.Ping = n.sockets.ping.kind()
	return s
}
