package netstack

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	gheader "gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// NIC is the number of a Stack's one interface.
const NIC = 1

// gsoMaxSize is the largest packet the stack makes, in octets. It leaves out
// what a 16-bit total length cannot say (RFC 791, section 3.1).
const gsoMaxSize = 65535

// How the stack's TCP is set.
const (
	// sendBuffer and ReceiveBuffer are where the buffers of a connection start;
	// they grow with its use up to maxBuffer. gVisor advertises half of a
	// receive buffer as window.
	sendBuffer    = 64 << 10
	ReceiveBuffer = 128 << 10
	maxBuffer     = 4 << 20

	// timeWait may be short, since a tunnel neither reorders nor repeats.
	timeWait = 2 * time.Second

	synRetries = 3 // the default of Options.SYNRetries

	// minRTO is the shortest wait before a segment is sent again (RFC 6298, section 2.4),
	// as the kernel has it on the tunnel's routes (package host): what is sent arrives, but
	// all of it is late where the carrier sends something again itself, sometimes by more than
	// the 200 ms that gVisor would wait.
	minRTO = time.Second

	// maxRTO is the longest wait before a segment is sent again. A carrier that is lost
	// and comes back makes round trips look long, and each loss doubles the wait, so that a
	// connection would stand still for a minute while all others move again. RFC 6298,
	// section 2.5, has a minute at least, for the sake of the network's queues: those
	// on this way are our own.
	maxRTO = 10 * time.Second

	// maxRetries of a segment before its connection ends. The far half waits
	// for a broken carrier to come back, and connections should survive that:
	// with maxRTO in between this is about 40 minutes.
	maxRetries = 240
)

// Options say what a Stack does.
type Options struct {
	// MTU is the largest ordinary packet the stack sends, in octets.
	MTU int

	// Local are the addresses that are the stack's own. Empty: every address is, and
	// the stack sends from whichever its user names.
	Local []netip.Addr

	// UDP says that the stack speaks UDP besides TCP, and sends what belongs to it:
	// ICMP errors and fragments. Without it nothing but TCP leaves.
	UDP bool

	// Buffered is the most octets of TCP payload held for all Conns together.
	Buffered int

	// SYNRetries is how often a SYN or SYN-ACK is sent again; 0: 3, which with 1 s
	// doubling is 15 s for a peer that sent a SYN and does not go on.
	SYNRetries uint8

	// OverMemory, if not nil, is told of each Conn that is reset to keep within
	// Buffered: the other side's address and ours.
	OverMemory func(remote, local netip.AddrPort)
}

// A Stack is a TCP/IP stack with one interface. Close it, then Destroy it.
type Stack struct {
	Out *Outlet // where its packets leave

	o       Options
	gvisor  *stack.Stack
	link    *link
	mtu     atomic.Int32
	port    atomic.Uint32 // the last that Bind took
	conns   conns
	closing chan struct{} // closed by Close
	close   sync.Once
	audited chan struct{} // closed when audit has ended
}

// New makes a Stack.
func New(o Options) (*Stack, error) {
	transports := []stack.TransportProtocolFactory{tcp.NewProtocol}
	if o.UDP {
		transports = append(transports, udp.NewProtocol)
	}
	s := &Stack{
		Out: NewOutlet(),
		o:   o,
		gvisor: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
			TransportProtocols: transports,
		}),
		closing: make(chan struct{}),
		audited: make(chan struct{}),
	}
	s.link = &link{s: s}
	s.mtu.Store(int32(o.MTU))
	s.port.Store(rand.Uint32N(ports)) // another than that of a Stack before this one
	s.conns.limit = int64(o.Buffered)
	if err := s.configure(); err != nil {
		s.gvisor.Destroy()
		return nil, err
	}
	go func() {
		defer close(s.audited)
		s.audit()
	}()
	return s, nil
}

func (s *Stack) configure() error {
	sack := tcpip.TCPSACKEnabled(true)
	recovery := tcpip.TCPRecovery(0) // its RACK, after a timeout, takes all that is under way for lost at once, and waits for the next: a second for each two packets
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: sendBuffer, Max: maxBuffer}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: ReceiveBuffer, Max: maxBuffer}
	congestion := tcpip.CongestionControlOption("reno") // gVisor's cubic takes a small window down to 0 packets, and nothing is sent any more
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	syn := tcpip.TCPSynRetriesOption(cmp.Or(s.o.SYNRetries, synRetries))
	soonest := tcpip.TCPMinRTOOption(minRTO)
	rto := tcpip.TCPMaxRTOOption(maxRTO)
	retries := tcpip.TCPMaxRetriesOption(maxRetries)
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &recovery, &moderate, &send, &receive, &congestion, &wait, &syn, &soonest, &rto, &retries} {
		if err := s.gvisor.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("netstack: option %T: %s", o, err)
		}
	}
	if err := s.gvisor.CreateNIC(NIC, s.link); err != nil {
		return fmt.Errorf("netstack: interface: %s", err)
	}
	for _, a := range s.o.Local {
		own := tcpip.ProtocolAddress{Protocol: protocolOf(a), AddressWithPrefix: AddressOf(a).WithPrefix()}
		if err := s.gvisor.AddProtocolAddress(NIC, own, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("netstack: address %v: %s", a, err)
		}
	}
	if len(s.o.Local) == 0 {
		if err := s.gvisor.SetPromiscuousMode(NIC, true); err != nil { // any destination is ours
			return fmt.Errorf("netstack: promiscuous: %s", err)
		}
		if err := s.gvisor.SetSpoofing(NIC, true); err != nil { // and we answer from it
			return fmt.Errorf("netstack: spoofing: %s", err)
		}
	}
	s.gvisor.SetRouteTable([]tcpip.Route{
		{Destination: gheader.IPv4EmptySubnet, NIC: NIC},
		{Destination: gheader.IPv6EmptySubnet, NIC: NIC},
	})
	return nil
}

// GVisor returns the stack below, for what is not here.
func (s *Stack) GVisor() *stack.Stack { return s.gvisor }

// MTU returns the largest ordinary packet that the stack sends, in octets.
func (s *Stack) MTU() int { return int(s.mtu.Load()) }

// SetMTU sets it. Connections keep the segment size they began with.
func (s *Stack) SetMTU(mtu int) { s.mtu.Store(int32(mtu)) }

// Inject hands the stack one packet, given in two parts, of which it makes a copy.
// Checksums count as verified, and so must be if the packet came from where they
// could be wrong; a super-packet goes in whole.
func (s *Stack) Inject(v6 bool, head, rest []byte) {
	v := buffer.NewViewSize(len(head) + len(rest))
	copy(v.AsSlice()[copy(v.AsSlice(), head):], rest)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	proto := ipv4.ProtocolNumber
	if v6 {
		proto = ipv6.ProtocolNumber
	}
	s.link.dispatcher.DeliverNetworkPacket(proto, pkt)
	pkt.DecRef()
}

// The ports that Bind takes, one after the other: the stack's own choice is random, and
// soon hits one whose last connection the other side's stack has not forgotten, which
// costs the new one a second.
const firstPort, ports = 16384, 65536 - 16384

// Bind makes an endpoint of TCP at a free port of from. It fails when there is none.
func (s *Stack) Bind(from netip.Addr, wq *waiter.Queue) (ep tcpip.Endpoint, local netip.AddrPort, terr tcpip.Error) {
	if ep, terr = s.gvisor.NewEndpoint(tcp.ProtocolNumber, protocolOf(from), wq); terr != nil {
		return nil, local, terr
	}
	for range ports {
		local = netip.AddrPortFrom(from, uint16(firstPort+s.port.Add(1)%ports))
		terr = ep.Bind(tcpip.FullAddress{NIC: NIC, Addr: AddressOf(from), Port: local.Port()})
		if _, taken := terr.(*tcpip.ErrPortInUse); !taken {
			break
		}
	}
	if terr != nil {
		ep.Close()
		return nil, netip.AddrPort{}, terr
	}
	return ep, local, nil
}

// Connect connects ep, which Bind made with wq, to to. When ctx ends first, or it
// fails, ep is closed; a ctx that has ended is a timeout.
func (s *Stack) Connect(ctx context.Context, ep tcpip.Endpoint, wq *waiter.Queue, to netip.AddrPort) tcpip.Error {
	entry, changed := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	terr := ep.Connect(tcpip.FullAddress{NIC: NIC, Addr: AddressOf(to.Addr()), Port: to.Port()})
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-changed:
			terr = ep.LastError()
		case <-ctx.Done():
			terr = &tcpip.ErrTimeout{}
		}
	}
	if terr != nil {
		ep.Abort()
		ep.Close()
	}
	return terr
}

// Conns returns how many Conns run.
func (s *Stack) Conns() int { return s.conns.size() }

// Buffered returns how many octets of TCP payload are held, as last counted.
func (s *Stack) Buffered() int { return int(s.conns.charged.Load()) }

// Full reports whether Options.Buffered is reached: no connection should be opened.
func (s *Stack) Full() bool { return s.conns.over() }

// Close resets every Conn and every handshake, closes Out, and so wakes all that
// waits. It may be called more than once.
func (s *Stack) Close() {
	s.close.Do(func() {
		close(s.closing)
		s.Out.Close() // frees what waits for room, the stack's goroutines among them
		s.conns.reset()
		s.gvisor.Close() // ends handshakes, and what its goroutines wait for
	})
}

// Destroy frees the stack after Close, when nobody uses it any more.
func (s *Stack) Destroy() {
	<-s.audited
	s.gvisor.Destroy()
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is6() {
		return ipv6.ProtocolNumber
	}
	return ipv4.ProtocolNumber
}

// AddrOf turns the stack's address into ours.
func AddrOf(a tcpip.Address) netip.Addr {
	if a.Len() == 4 {
		return netip.AddrFrom4(a.As4())
	}
	return netip.AddrFrom16(a.As16())
}

// AddressOf turns our address into the stack's.
func AddressOf(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }
