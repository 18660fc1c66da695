package netstack

import (
	"io"

	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip"
	gheader "gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/bodkin-net/bodkin/tunnel"
)

// A link is the stack's interface. It takes what TCP sends into the outlet, and
// waits there when that is full; nothing is dropped. It says that the receive
// checksums are verified, which Inject asks for, and not
// that it computes those of sent packets: the stack leaves only GSO packets'
// unfinished, and SYN and RST, which it does not count among those, complete.
type link struct {
	s          *Stack
	dispatcher stack.NetworkDispatcher
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

// The stack's log speaks of what peers send; what there is to say is in Stats.
func init() { log.SetTarget(&log.Writer{Next: io.Discard}) }

// WritePackets implements stack.LinkWriter.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	sent := 0
	for _, pkt := range list.AsSlice() {
		if !l.s.o.UDP && pkt.TransportProtocolNumber != tcp.ProtocolNumber {
			continue // whatever else the stack has to say nobody asked for
		}
		size := pkt.Size()
		if size > tunnel.MaxPacket {
			continue
		}
		b, ok := l.s.Out.Reserve(size, true)
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
		l.s.Out.Commit(b, offload(pkt))
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
// makes it, and detaches once all else has ended.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d != nil {
		l.dispatcher = d
	}
}

// The rest of stack.LinkEndpoint: facts that do not change, and link layers we have none of.

func (l *link) IsAttached() bool                 { return l.dispatcher != nil }
func (l *link) MTU() uint32                      { return uint32(l.s.mtu.Load()) }
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
