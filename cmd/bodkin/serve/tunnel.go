package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/farside"
	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/server"
	"github.com/bodkin-net/bodkin/session"
	"github.com/bodkin-net/bodkin/trust"
	"github.com/bodkin-net/bodkin/tunnel"
)

// openTunnel says hello to a client, and gives it what its hello asks for: a userspace
// NAT of its own, or, if it is a NAT itself, a place among those who stand. octets is what
// carries the stream, if that outlives a connection.
func (s *service) openTunnel(ctx context.Context, account *server.Session, stream carrier.Stream, octets *session.Session, client trust.Client) (server.Tunnel, error) {
	stream.ReadWriteCloser = account.Meter(stream.ReadWriteCloser)
	var nat *usernat.NAT
	var stands *place
	opening, done := linger(ctx)
	defer done()
	link, peer, _, err := native.Accept(opening, stream, func(peer native.Hello) (mine native.Hello, err error) {
		account.About(peer.Software)
		var ended *server.EndedError
		switch {
		case errors.As(context.Cause(ctx), &ended):
			err = errors.New(ended.Text)
		case peer.Asks&native.AskProxy != 0:
			err = errors.New("this server makes no proxy for its machine's programs")
		case peer.Emulator == native.EmulatorNAT:
			mine, stands, err = s.standing(client, peer)
		case peer.Asks&native.AskKernel != 0:
			err = errors.New("this server has no privileges, and so no kernel interface: it gives a userspace NAT (--far nat)")
		default:
			if mine, nat, err = s.nat(account, client, peer); err == nil {
				mine.Receives = nat.Caps()
			}
		}
		return mine, err
	})
	if err != nil {
		if nat != nil {
			nat.Close()
		}
		return nil, err
	}
	l := clientLink{link, octets}
	if stands != nil {
		return &standing{clientLink: l, hello: peer, place: stands, account: account}, nil
	}
	return &natTunnel{clientLink: l, nat: nat}, nil
}

// lastWords is how long a client that is just coming may take to hear that it must go.
const lastWords = time.Second

// linger returns a context that ends a little after ctx does, so that a client whose
// session ends as it begins is told why.
func linger(ctx context.Context) (context.Context, context.CancelFunc) {
	opening, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	late := time.AfterFunc(time.Hour, func() { cancel(context.Cause(ctx)) })
	late.Stop()
	stop := context.AfterFunc(ctx, func() { late.Reset(lastWords) })
	return opening, func() {
		stop()
		late.Stop()
		cancel(nil)
	}
}

// nat makes the userspace NAT of a client, and the hello that says so.
func (s *service) nat(account *server.Session, client trust.Client, peer native.Hello) (native.Hello, *usernat.NAT, error) {
	mine, err := farside.Offer(s.software, peer.Networks)
	if err != nil {
		return mine, nil, err
	}
	for _, p := range client.Address {
		if !give(&mine, p, peer.Networks) {
			mine.Notes = append(mine.Notes, fmt.Sprintf("the server has the address %v for you, which is in no network that your side has free", p.Addr()))
		}
	}
	c := usernat.Config{
		Allow:   s.bounds.policy(client),
		Limits:  s.natLimits(client),
		Refused: func(r usernat.Refusal) { account.Refused(r.Kind.String(), describe(r)) },
	}
	for _, p := range mine.Yours {
		c.Peer = append(c.Peer, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
	}
	mine, nat, err := farside.NAT(c, mine, peer, s.grants(client))
	return mine, nat, err
}

// Where an address stands alone, its network is one of this length: there the server
// has its own two.
const (
	network4 = 24
	network6 = 64
)

// give puts the address p that a client has by its line into the hello, in the place of
// the usual one of its family. It reports false if p is in none of the networks that the
// client has free, or is one of the server's own in its network.
func give(mine *native.Hello, p netip.Prefix, free []netip.Prefix) bool {
	bits := network4
	if p.Addr().Is6() {
		bits = network6
	}
	if p.Bits() > bits {
		p = netip.PrefixFrom(p.Addr(), bits)
	}
	if len(free) > 0 && !within(netip.PrefixFrom(p.Addr(), p.Addr().BitLen()), free) {
		return false
	}
	offered, err := farside.Offer("", []netip.Prefix{p.Masked()})
	if err != nil || offered.Mine[0] == p.Addr() || farside.Resolvers([]netip.Prefix{p})[0] == p.Addr() {
		return false
	}
	for i, usual := range mine.Yours {
		if usual.Addr().Is4() == p.Addr().Is4() {
			mine.Yours[i], mine.Mine[i] = p, offered.Mine[0]
			return true
		}
	}
	return false
}

// describe is a refusal in words.
func describe(r usernat.Refusal) string {
	protocol := map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}[r.Protocol]
	if protocol == "" {
		protocol = fmt.Sprintf("protocol %d", r.Protocol)
	}
	where := func(a netip.AddrPort) string {
		switch {
		case !a.Addr().IsValid():
			return "?"
		case a.Port() == 0:
			return a.Addr().String()
		}
		return a.String()
	}
	text := fmt.Sprintf("%s from %s to %s", protocol, where(r.Src), where(r.Dst))
	if r.Omitted > 0 {
		text += fmt.Sprintf(", and %d more", r.Omitted)
	}
	return text
}

// A natTunnel is a client's link joined to its NAT.
type natTunnel struct {
	clientLink
	nat *usernat.NAT
}

// Run implements server.Tunnel. The NAT is closed before the client is told: from then
// on nothing passes.
func (t *natTunnel) Run(ctx context.Context) error {
	return orderly(tunnel.Join(ctx, t.nat, farewell{t.link, ctx}))
}

// Counts implements server.Tunnel.
func (t *natTunnel) Counts() server.Counts {
	c := t.clientLink.Counts()
	n := t.nat.Stats()
	c.Flows = n.TCP + n.UDP + n.Echo + n.Dialing
	c.Refused = map[string]uint64{
		"policy": n.RefusedPolicy, "flows": n.RefusedFlows, "dials": n.RefusedDials, "memory": n.RefusedMemory, "echo": n.RefusedEcho,
		"source": n.DroppedSource, "malformed": n.DroppedMalformed + t.link.Stats().Dropped, "fragments": n.DroppedFragments, "full": n.DroppedFull,
	}
	return c
}

// A clientLink is the link to a client, and what carries it if that outlives a connection.
type clientLink struct {
	link   *native.Link
	octets *session.Session // or nil
}

// Counts are those of the link. Over what outlives a connection the link asks for no sign
// of life: its round trip is the one below.
func (l clientLink) Counts() server.Counts {
	s := l.link.Stats()
	c := server.Counts{PacketsIn: s.PacketsIn, PacketsOut: s.PacketsOut, OctetsIn: s.OctetsIn, OctetsOut: s.OctetsOut, RoundTrip: s.RoundTrip}
	if l.octets != nil {
		c.RoundTrip = l.octets.Stats().RoundTrip
	}
	return c
}

// A farewell is a link that tells its client at the end why this side ended it.
type farewell struct {
	*native.Link
	ctx context.Context
}

// Close implements tunnel.Port.
func (f farewell) Close() error {
	var ended *server.EndedError
	if !errors.As(context.Cause(f.ctx), &ended) {
		return f.Link.Close()
	}
	code := uint8(native.CloseEnding)
	if ended.Why == server.WhyKicked {
		code = native.CloseUser
	}
	return f.CloseWith(code, ended.Text)
}

// orderly returns no error where the client ended in good order.
func orderly(err error) error {
	var closed *native.ClosedError
	if errors.As(err, &closed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
