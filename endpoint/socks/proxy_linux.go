package socks

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bodkin-net/bodkin/endpoint/netstack"
	"github.com/bodkin-net/bodkin/tunnel"
)

// synRetries of a SYN of ours: with 1 s doubling, over a minute. Limits.Dial ends it
// before that.
const synRetries = 5

// A Proxy is a tunnel.Port in front of programs on this machine. Make one with New.
type Proxy struct {
	c              Config
	local4, local6 netip.Addr // not valid: that version is not spoken
	stack          *netstack.Stack
	resolver       *net.Resolver
	resolvers      atomic.Uint32 // how often one was asked: they take turns
	no6            atomic.Int64  // until when the far side has no IPv6, in seconds of Unix
	dials          dials
	names          cache
	web            web
	listeners      []*net.TCPListener // those of the proxy itself first
	forwards       []netip.AddrPort   // where those of Config.Forwards listen
	places         chan struct{}      // one for each of Limits.Connections
	associations   chan struct{}      // one for each of Limits.Associations
	count          counters

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	mu      sync.Mutex // guards what follows, and wg against Add after Wait
	closed  bool
	closers map[interface{ Close() error }]struct{} // sockets that Close closes
	wg      sync.WaitGroup
	done    chan struct{} // closed when Close has waited for everything
}

// counters are the counts of Stats.
type counters struct {
	v5, v4, http, udp, forwarded, direct atomic.Uint64
	limit, policy, malformed, failed     atomic.Uint64
	packets, datagrams                   atomic.Uint64
}

var _ tunnel.Source = (*Proxy)(nil)

// New makes a Proxy and listens. Close it.
func New(c Config) (*Proxy, error) {
	given := c.Listeners
	p, err := open(c)
	if err != nil {
		for _, l := range given {
			l.Close()
		}
	}
	return p, err
}

func open(c Config) (*Proxy, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		c:      c,
		local4: c.local(false), local6: c.local(true),
		places:       make(chan struct{}, c.Limits.Connections),
		associations: make(chan struct{}, c.Limits.Associations),
		closers:      make(map[interface{ Close() error }]struct{}),
		done:         make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	var own []netip.Addr
	for _, a := range []netip.Addr{p.local4, p.local6} {
		if a.IsValid() {
			own = append(own, a)
		}
	}
	if len(own) == 0 {
		p.cancel()
		return nil, fmt.Errorf("socks: no IPv6 with an MTU of %d, and there is no other address", c.MTU)
	}
	p.stack, err = netstack.New(netstack.Options{
		MTU: c.MTU, Local: own, UDP: true, SYNRetries: synRetries,
		Buffered: c.Limits.Buffered, OverMemory: func(_, _ netip.AddrPort) { p.count.limit.Add(1) },
	})
	if err != nil {
		p.cancel()
		return nil, fmt.Errorf("socks: %w", err)
	}
	p.resolver = p.newResolver()
	p.web.init(p)
	if err := p.listen(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// listen opens all listeners and serves them.
func (p *Proxy) listen() error {
	var config net.ListenConfig
	tcp := func(a netip.AddrPort) (*net.TCPListener, error) {
		l, err := config.Listen(p.ctx, "tcp", a.String())
		if err != nil {
			return nil, fmt.Errorf("socks: %w", err)
		}
		return l.(*net.TCPListener), nil
	}
	for _, a := range p.c.Listen {
		l, err := tcp(a)
		if err != nil {
			return err
		}
		p.listeners = append(p.listeners, l)
		p.keep(l)
	}
	for _, l := range p.c.Listeners {
		p.listeners = append(p.listeners, l)
		p.keep(l)
	}
	var run []func()
	for _, l := range p.listeners {
		run = append(run, func() { p.accept(l, p.serve) })
	}
	for _, f := range p.c.Forwards {
		if f.Network == "udp" {
			u, err := p.newUDPForward(f)
			if err != nil {
				return err
			}
			p.keep(u.UDPConn)
			p.forwards = append(p.forwards, u.LocalAddr().(*net.UDPAddr).AddrPort())
			run = append(run, u.run)
			continue
		}
		l, err := tcp(f.Listen)
		if err != nil {
			return err
		}
		p.keep(l)
		p.forwards = append(p.forwards, l.Addr().(*net.TCPAddr).AddrPort())
		run = append(run, func() { p.accept(l, func(c *net.TCPConn) { p.serveForward(c, f) }) })
	}
	for _, f := range run {
		p.start(f)
	}
	return nil
}

// Addr returns where the proxy listens: Config.Listen, then Config.Listeners.
func (p *Proxy) Addr() []netip.AddrPort {
	var list []netip.AddrPort
	for _, l := range p.listeners {
		list = append(list, l.Addr().(*net.TCPAddr).AddrPort())
	}
	return list
}

// Forwards returns where Config.Forwards listen, in their order.
func (p *Proxy) Forwards() []netip.AddrPort { return p.forwards }

// Quench implements tunnel.Source.
func (p *Proxy) Quench(packet []byte, stood time.Duration) bool {
	return p.stack.Quench(packet, stood)
}

// Caps implements tunnel.Port.
func (p *Proxy) Caps() tunnel.Caps {
	return tunnel.Caps{
		MTU:      p.c.MTU,
		Offloads: tunnel.OffloadChecksum | tunnel.OffloadTSO4 | tunnel.OffloadTSO6,
	}
}

// ReadPackets implements tunnel.Port.
func (p *Proxy) ReadPackets(b []tunnel.Packet) (int, error) { return p.stack.Out.ReadPackets(b) }

// start runs f in a goroutine that Close waits for. After Close it reports false.
func (p *Proxy) start(f func()) bool {
	if !p.enter() {
		return false
	}
	go func() {
		defer p.wg.Done()
		f()
	}()
	return true
}

// enter counts the calling goroutine among those that Close waits for, until
// p.wg.Done. After Close it reports false.
func (p *Proxy) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.wg.Add(1)
	return true
}

// keep has Close close s; release forgets it again. After Close, keep closes it at
// once and reports false.
func (p *Proxy) keep(s interface{ Close() error }) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		s.Close()
		return false
	}
	p.closers[s] = struct{}{}
	return true
}

func (p *Proxy) release(s interface{ Close() error }) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.closers, s)
}

// Close implements tunnel.Port: it ends every connection, wakes ReadPackets, and
// waits for every goroutine.
func (p *Proxy) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		<-p.done
		return nil
	}
	p.closed = true
	for s := range p.closers {
		if c, ok := s.(*net.TCPConn); ok {
			c.SetLinger(0)
		}
		s.Close()
	}
	p.mu.Unlock()

	p.cancel()      // ends dials and lookups
	p.stack.Close() // ends the splices, and what waits for room
	p.web.close()   // ends its idle connections, both sides
	p.wg.Wait()
	p.stack.Destroy() // nobody uses it now
	close(p.done)
	return nil
}

// Stats returns what the Proxy holds and what it did.
func (p *Proxy) Stats() Stats {
	c := &p.count
	return Stats{
		Connections: len(p.places), Associations: len(p.associations), Buffered: p.stack.Buffered(),
		SOCKS5: c.v5.Load(), SOCKS4: c.v4.Load(), HTTP: c.http.Load(), UDP: c.udp.Load(),
		Forwarded: c.forwarded.Load(), Direct: c.direct.Load(),
		RefusedLimit: c.limit.Load(), RefusedPolicy: c.policy.Load(),
		Malformed: c.malformed.Load(), Failed: c.failed.Load(),
		DroppedPackets: c.packets.Load(), DroppedDatagrams: c.datagrams.Load(),
	}
}
