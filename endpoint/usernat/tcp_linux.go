package usernat

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	gheader "gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/bodkin-net/bodkin/endpoint/netstack"
)

const (
	// dialTimeout ends a dial with ICMP host unreachable. The inner side has
	// sent its SYN five times by then and goes on by its own patience.
	dialTimeout = 30 * time.Second

	// yieldAfter is how long a dial keeps its place against a newcomer: one
	// retransmission of its SYN (RFC 6298, section 2).
	yieldAfter = time.Second
)

// outerKeepAlive, towards the real world, keeps middleboxes' tables and ends what
// nobody answers.
var outerKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 2 * time.Minute, Interval: time.Minute, Count: 10}

// A dial is a SYN that waits for its answer.
type dial struct {
	since     time.Time
	syn       []byte // the packet, headers only: what an ICMP error quotes
	header    header // of syn
	connected bool   // the real connection stands, the handshake inside is under way
	ctx       context.Context
	cancel    context.CancelFunc
}

// dials are the SYNs under way, by their four-tuple. A repeated SYN finds its
// dial here and is ignored.
type dials struct {
	limit int

	mu      sync.Mutex
	m       map[stack.TransportEndpointID]*dial
	waiting int // those not yet connected
}

var (
	errRepeated = errors.New("repeated SYN")
	errNoPlace  = errors.New("no place")
)

// begin enters a dial for id. It cancels the oldest one if that makes the place.
func (t *dials) begin(ctx context.Context, id stack.TransportEndpointID, now time.Time) (*dial, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[id] != nil {
		return nil, errRepeated
	}
	if t.waiting >= t.limit && !t.displace(now) {
		return nil, errNoPlace
	}
	if t.m == nil {
		t.m = make(map[stack.TransportEndpointID]*dial)
	}
	d := &dial{since: now}
	d.ctx, d.cancel = context.WithTimeout(ctx, dialTimeout)
	t.m[id] = d
	t.waiting++
	return d, nil
}

// displace cancels the dial that has waited longest, if that is long enough.
func (t *dials) displace(now time.Time) bool {
	var oldest *dial
	for _, d := range t.m {
		if !d.connected && d.ctx.Err() == nil && (oldest == nil || d.since.Before(oldest.since)) {
			oldest = d
		}
	}
	if oldest == nil || now.Sub(oldest.since) < yieldAfter {
		return false
	}
	oldest.cancel()
	oldest.connected = true // its place is given; end must not give it again
	t.waiting--
	return true
}

func (t *dials) get(id stack.TransportEndpointID) *dial {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[id]
}

// connect marks d as no longer waiting for the real world.
func (t *dials) connect(d *dial) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !d.connected {
		d.connected = true
		t.waiting--
	}
}

func (t *dials) end(id stack.TransportEndpointID, d *dial) {
	t.connect(d)
	d.cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, id)
}

func (t *dials) dialing() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waiting
}

// takeTCP gives a TCP packet to the stack, unless it would open a connection
// that the policy prohibits.
func (n *NAT) takeTCP(h *header, packet []byte, now time.Time) {
	switch f := gheader.TCPFlags(packet[h.offset+13]); {
	case f&(gheader.TCPFlagSyn|gheader.TCPFlagAck) == gheader.TCPFlagSyn:
		if !n.permits(target{h.dst, protoTCP, binary.BigEndian.Uint16(packet[h.offset+2:])}, now) {
			n.refuse(h, packet)
			return
		}
	case !validSource(h.dst): // no connection can be there
		n.count.other.Add(1)
		return
	}
	n.inject(h, packet)
}

// inject hands the stack a TCP packet with header h, its IP options and extension
// headers left out: the stack sees the plainest header only, and has none of the code
// for the others reached from outside.
func (n *NAT) inject(h *header, packet []byte) {
	plain := headerLenOf(h.src)
	if h.offset == plain {
		n.stack.Inject(h.src.Is6(), packet[:h.end], nil)
		return
	}
	var b [headerLen6]byte
	putHeader(b[:], h.src, h.dst, h.proto, h.ttl, h.end-h.offset, 0)
	n.stack.Inject(h.src.Is6(), b[:plain], h.payload(packet))
}

// newTCP is called by the stack for every segment that belongs to no connection,
// with the segment in pkt. Reporting false has the stack answer RST.
func (n *NAT) newTCP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	ip, segment := pkt.NetworkHeader().Slice(), pkt.TransportHeader().Slice()
	if len(segment) < headerLenTCP {
		return true
	}
	if f := gheader.TCP(segment).Flags(); !f.Contains(gheader.TCPFlagSyn) || f.Intersects(gheader.TCPFlagAck|gheader.TCPFlagRst) {
		return false
	}
	syn := append(append(make([]byte, 0, len(ip)+len(segment)), ip...), segment...)
	h := header{
		src: netstack.AddrOf(id.RemoteAddress), dst: netstack.AddrOf(id.LocalAddress),
		proto: protoTCP, offset: len(ip), end: len(syn),
	}
	if n.dns[h.dst] && id.LocalPort != dnsPort {
		return false
	}
	if n.stack.Full() {
		n.count.memory.Add(1)
		n.tell(RefusalMemory, &h, syn)
		return false
	}
	d, err := n.dials.begin(n.ctx, id, time.Now())
	if err == errRepeated {
		return true
	}
	if err != nil {
		n.count.dials.Add(1)
		n.tell(RefusalDials, &h, syn)
		return false
	}
	d.syn, d.header = syn, h
	if !n.place() {
		n.full(&h, syn)
		n.dials.end(id, d)
		return false
	}
	if !n.forwarder.HandlePacket(id, pkt) {
		n.dials.end(id, d)
		n.leave()
		return false
	}
	return true
}

// serveTCP is the life of one connection. The forwarder starts it in a goroutine
// of its own.
func (n *NAT) serveTCP(r *tcp.ForwarderRequest) {
	id := r.ID()
	d := n.dials.get(id)
	if d == nil || !n.enter() {
		r.Complete(false)
		return
	}
	defer n.wg.Done()
	defer n.leave()

	outer, err := n.dial(d.ctx, netip.AddrPortFrom(d.header.dst, id.LocalPort))
	n.dials.connect(d)
	if err != nil {
		why, reset := dialReason(err)
		if outOfSockets(err) {
			n.full(&d.header, d.syn)
		}
		if !reset {
			n.sendError(&d.header, d.syn, why)
		}
		r.Complete(reset)
		n.dials.end(id, d)
		return
	}
	c := n.stack.NewConn(outer)
	ep, terr := r.CreateEndpoint(&c.WQ)
	r.Complete(false)
	n.dials.end(id, d)
	if terr != nil {
		outer.SetLinger(0)
		outer.Close()
		return
	}
	n.count.tcp.Add(1)
	c.Run(ep)
}

// dial connects to the real dst: to the host's resolvers when dst is a DNS
// address, to its loopback when dst is its alias.
func (n *NAT) dial(ctx context.Context, dst netip.AddrPort) (*net.TCPConn, error) {
	if n.dns[dst.Addr()] {
		return n.dialResolver(ctx)
	}
	return dialTCP(ctx, netip.AddrPortFrom(n.outer(dst.Addr()), dst.Port()))
}

func dialTCP(ctx context.Context, dst netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{KeepAliveConfig: outerKeepAlive}
	c, err := d.DialContext(ctx, "tcp", dst.String()) // Go sets TCP_NODELAY
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// dialReason says what the inner side is told about a dial that ended with err:
// a RST, or the reason of an ICMP error.
func dialReason(err error) (r reason, reset bool) {
	var errno syscall.Errno
	errors.As(err, &errno)
	switch errno {
	case syscall.ECONNREFUSED, syscall.ECONNRESET:
		return 0, true
	case syscall.ENETUNREACH, syscall.EAFNOSUPPORT, syscall.ENETDOWN:
		return noNetwork, false
	case syscall.EACCES, syscall.EPERM:
		return prohibited, false
	case syscall.ENOPROTOOPT: // Linux's word for ICMP protocol unreachable
		return noProtocol, false
	}
	if outOfSockets(err) {
		return 0, true
	}
	return noHost, false // a timeout, a displaced dial, EHOSTUNREACH, and what else there may be
}

// outOfSockets reports whether err says that this process or host has no more
// sockets or ports to give.
func outOfSockets(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
