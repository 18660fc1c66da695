package usernat

import (
	"fmt"
	"io"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip"
	gheader "gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/bodkin-net/bodkin/tunnel"
)

// nicID is the number of the stack's one interface.
const nicID = 1

// gsoMaxSize is the largest packet the stack makes, in octets. It leaves out
// what a 16-bit total length cannot say (RFC 791, section 3.1).
const gsoMaxSize = 65535

// How the stack's TCP is set.
const (
	// sendBuffer and receiveBuffer are where the buffers of a connection start;
	// they grow with its use up to maxBuffer. gVisor advertises half of a
	// receive buffer as window.
	sendBuffer    = 64 << 10
	receiveBuffer = 128 << 10
	maxBuffer     = 4 << 20

	// timeWait may be short, since a tunnel neither reorders nor repeats.
	timeWait = 2 * time.Second

	// synRetries of our SYN-ACK: with 1 s doubling, 15 s for a peer that sent
	// a SYN and does not go on.
	synRetries = 3

	// maxRetries of a segment before its connection ends. The far half waits
	// for a broken carrier to come back, and connections should survive that:
	// with at most 120 s in between this is about 40 minutes.
	maxRetries = 25
)

// A link is the stack's interface. It takes what TCP sends into the outlet, and
// waits there when that is full; nothing is dropped. It says that the receive
// checksums are verified, which WritePackets has done or need not do, and not
// that it computes those of sent packets: the stack leaves only GSO packets'
// unfinished, and SYN and RST, which it does not count among those, complete.
type link struct {
	n          *NAT
	dispatcher stack.NetworkDispatcher
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

// The stack's log speaks of what peers send; what there is to say is in Stats.
func init() { log.SetTarget(&log.Writer{Next: io.Discard}) }

// newStack makes the stack that terminates TCP for n.
func newStack(n *NAT) (*stack.Stack, *link, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	l := &link{n: n}
	if err := configure(s, l); err != nil {
		s.Destroy()
		return nil, nil, err
	}
	return s, l, nil
}

func configure(s *stack.Stack, l *link) error {
	sack := tcpip.TCPSACKEnabled(true)
	recovery := tcpip.TCPRecovery(0) // no RACK: it reorders its timers for losses that a tunnel does not have
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: sendBuffer, Max: maxBuffer}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: receiveBuffer, Max: maxBuffer}
	congestion := tcpip.CongestionControlOption("reno") // cubic costs a cube root per ACK, and there is no loss to differ in
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	syn := tcpip.TCPSynRetriesOption(synRetries)
	retries := tcpip.TCPMaxRetriesOption(maxRetries)
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &recovery, &moderate, &send, &receive, &congestion, &wait, &syn, &retries} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("usernat: stack: option %T: %s", o, err)
		}
	}
	if err := s.CreateNIC(nicID, l); err != nil {
		return fmt.Errorf("usernat: stack: interface: %s", err)
	}
	if err := s.SetPromiscuousMode(nicID, true); err != nil { // any destination is ours
		return fmt.Errorf("usernat: stack: promiscuous: %s", err)
	}
	if err := s.SetSpoofing(nicID, true); err != nil { // and we answer from it
		return fmt.Errorf("usernat: stack: spoofing: %s", err)
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: gheader.IPv4EmptySubnet, NIC: nicID},
		{Destination: gheader.IPv6EmptySubnet, NIC: nicID},
	})
	return nil
}

// inject hands the stack a TCP packet with header h. The packet is copied, its
// IP options and extension headers left out: the stack sees the plainest header
// only, and has none of the code for the others reached from outside.
func (l *link) inject(h *header, packet []byte) {
	var v *buffer.View
	if plain := headerLenOf(h.src); h.offset == plain {
		v = buffer.NewViewWithData(packet[:h.end])
	} else {
		v = buffer.NewViewSize(plain + h.end - h.offset)
		b := v.AsSlice()
		putHeader(b, h.src, h.dst, h.proto, h.ttl, h.end-h.offset, 0)
		copy(b[plain:], h.payload(packet))
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	proto := ipv4.ProtocolNumber
	if h.src.Is6() {
		proto = ipv6.ProtocolNumber
	}
	l.dispatcher.DeliverNetworkPacket(proto, pkt)
	pkt.DecRef()
}

// WritePackets implements stack.LinkWriter.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	sent := 0
	for _, pkt := range list.AsSlice() {
		if pkt.TransportProtocolNumber != tcp.ProtocolNumber {
			continue // whatever else the stack has to say nobody asked for
		}
		size := pkt.Size()
		if size > tunnel.MaxPacket {
			continue
		}
		b, ok := l.n.out.reserve(size, true)
		if !ok {
			return sent, &tcpip.ErrClosedForSend{}
		}
		views, skip := pkt.AsViewList()
		at := 0
		for v := views.Front(); v != nil; v = v.Next() {
			part := v.AsSlice()
			over := min(skip, len(part))
			skip -= over
			at += copy(b[at:], part[over:])
		}
		l.n.out.commit(b, offload(pkt))
		sent++
	}
	return sent, nil
}

// offload says of a packet the stack made what is left to do.
func offload(pkt *stack.PacketBuffer) tunnel.Offload {
	g := &pkt.GSOOptions
	if g.Type == stack.GSONone || !g.NeedsCsum {
		return tunnel.Offload{}
	}
	o := tunnel.Offload{NeedsChecksum: true}
	if pkt.Data().Size() > int(g.MSS) {
		o.Type, o.SegmentSize = tunnel.GSOTCP4, g.MSS
		if g.Type == stack.GSOTCPv6 {
			o.Type = tunnel.GSOTCP6
		}
	}
	return o
}

// Attach implements stack.NetworkLinkEndpoint. The stack attaches once, while New
// makes it, and detaches once Close has waited for everything else.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d != nil {
		l.dispatcher = d
	}
}

// The rest of stack.LinkEndpoint: facts that do not change, and link layers we have none of.

func (l *link) IsAttached() bool                 { return l.dispatcher != nil }
func (l *link) MTU() uint32                      { return uint32(l.n.mtu.Load()) }
func (l *link) SetMTU(uint32)                    {}
func (l *link) MaxHeaderLength() uint16          { return 0 }
func (l *link) LinkAddress() tcpip.LinkAddress   { return "" }
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}
func (l *link) GSOMaxSize() uint32                       { return gsoMaxSize }
func (l *link) SupportedGSO() stack.SupportedGSO         { return stack.HostGSOSupported }
func (l *link) ARPHardwareType() gheader.ARPHardwareType { return gheader.ARPHardwareNone }
func (l *link) AddHeader(*stack.PacketBuffer)            {}
func (l *link) ParseHeader(*stack.PacketBuffer) bool     { return true }
func (l *link) Wait()                                    {}
func (l *link) Close()                                   {}
func (l *link) SetOnCloseAction(func())                  {}
