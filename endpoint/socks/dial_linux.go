package socks

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/bodkin-net/bodkin/endpoint/netstack"
)

// attemptDelay is how long an address has before the next one is tried besides (RFC
// 8305, section 5).
const attemptDelay = 250 * time.Millisecond

var (
	errProhibited = os.NewSyscallError("connect", syscall.EACCES)
	errFull       = os.NewSyscallError("connect", syscall.ENOBUFS)
)

// A dialKey names a connection that is being made.
type dialKey struct{ local, remote netip.AddrPort }

// dials are the connections that are being made through the tunnel.
type dials struct {
	mu sync.Mutex
	m  map[dialKey]context.CancelCauseFunc
}

func (d *dials) begin(key dialKey, fail context.CancelCauseFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.m == nil {
		d.m = make(map[dialKey]context.CancelCauseFunc)
	}
	d.m[key] = fail
}

func (d *dials) end(key dialKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.m, key)
}

// fail ends the dial of key, if there is one, with what came back.
func (d *dials) fail(key dialKey, errno syscall.Errno) {
	d.mu.Lock()
	f := d.m[key]
	d.mu.Unlock()
	if f != nil {
		f(os.NewSyscallError("connect", errno))
	}
}

// A dialed is a connection that was made: through the tunnel, or not.
type dialed struct {
	c  *netstack.Conn
	ep tcpip.Endpoint

	direct *net.TCPConn // nil: through the tunnel
}

// dial connects to a, for outer, which may be nil if the result is used by conn
// alone. It tries the addresses of a name one beside the other. ctx bounds it, and so
// does Limits.Dial.
func (p *Proxy) dial(ctx context.Context, outer *net.TCPConn, a address) (*dialed, error) {
	ctx, cancel := context.WithTimeout(ctx, p.c.Limits.Dial)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	list, err := p.lookup(ctx, a)
	if err == nil {
		var d *dialed
		if d, err = p.race(ctx, outer, list, a.port); err == nil {
			return d, nil
		}
	}
	switch {
	case err == errProhibited:
		p.count.policy.Add(1)
	case err == errFull:
		p.count.limit.Add(1)
	default:
		p.count.failed.Add(1)
	}
	return nil, err
}

// dialFor is dial for a program that waits at c, and ends when that goes away.
func (p *Proxy) dialFor(c *net.TCPConn, a address) (*dialed, error) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	c.SetReadDeadline(time.Time{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		var n int
		var err error
		var b [1]byte
		woken := raw.Read(func(fd uintptr) bool {
			n, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			return err != unix.EAGAIN
		})
		if woken == nil && n <= 0 { // its end, or a reset; else it has sent something early
			cancel()
		}
	}()
	d, err := p.dial(ctx, c, a)
	c.SetReadDeadline(time.Unix(1, 0)) // wakes it
	<-watched
	return d, err
}

// race dials the addresses of list, each attemptDelay after the one before or when
// that failed, and returns the first connection. The error is that of the first one,
// or of one that got further than to say that there is no network.
func (p *Proxy) race(ctx context.Context, outer *net.TCPConn, list []netip.Addr, port uint16) (*dialed, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		d   *dialed
		err error
	}
	results := make(chan result, len(list)) // so that none waits for us
	next, running := 0, 0
	begin := func() {
		to := netip.AddrPortFrom(list[next], port)
		next++
		running++
		go func() {
			d, err := p.dialOne(ctx, outer, to)
			results <- result{d, err}
		}()
	}
	begin()
	var won *dialed
	var failed error
	for running > 0 {
		var later <-chan time.Time
		if won == nil && next < len(list) {
			later = time.After(attemptDelay)
		}
		select {
		case <-later:
			begin()
		case r := <-results:
			running--
			switch {
			case r.err == nil && won == nil:
				won = r.d
				cancel() // and wait for the others to see it
			case r.err == nil:
				r.d.reset()
			case failed == nil || errors.Is(failed, syscall.ENETUNREACH):
				failed = r.err
			}
			if r.err != nil && won == nil && next < len(list) && ctx.Err() == nil {
				begin()
			}
		}
	}
	if won == nil {
		return nil, failed
	}
	return won, nil
}

// dialOne connects to one address, which wayTo says the way of.
func (p *Proxy) dialOne(ctx context.Context, outer *net.TCPConn, to netip.AddrPort) (*dialed, error) {
	if p.c.wayTo(to.Addr()) == through {
		return p.dialTunnel(ctx, outer, to)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	p.count.direct.Add(1)
	return &dialed{direct: c.(*net.TCPConn)}, nil
}

// dialTunnel connects to an address through the tunnel. What comes back in an error
// is what the far side said: a refusal, an ICMP error; or that it said nothing.
func (p *Proxy) dialTunnel(ctx context.Context, outer *net.TCPConn, to netip.AddrPort) (*dialed, error) {
	from := p.local4
	if to.Addr().Is6() {
		from = p.local6
	}
	if !from.IsValid() {
		return nil, os.NewSyscallError("connect", syscall.ENETUNREACH)
	}
	if p.stack.Full() {
		return nil, errFull
	}
	d := &dialed{c: p.stack.NewConn(outer)}
	ep, local, terr := p.stack.Bind(from, &d.c.WQ)
	if terr != nil {
		return nil, errFull // all ports are taken
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	key := dialKey{local, to}
	p.dials.begin(key, fail)
	terr = p.stack.Connect(ctx, ep, &d.c.WQ, to)
	p.dials.end(key)
	if terr == nil {
		d.ep = ep
		return d, nil
	}
	err := context.Cause(ctx)
	if err == nil {
		err = os.NewSyscallError("connect", errnoOfStack(terr))
	}
	if to.Addr().Is6() && errors.Is(err, syscall.ENETUNREACH) {
		p.no6.Store(time.Now().Add(no6For).Unix())
	}
	return nil, err
}

// errnoOfStack is what an error of the stack is called outside of it.
func errnoOfStack(err tcpip.Error) syscall.Errno {
	switch err.(type) {
	case *tcpip.ErrConnectionRefused, *tcpip.ErrConnectionReset:
		return syscall.ECONNREFUSED
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	case *tcpip.ErrNetworkUnreachable:
		return syscall.ENETUNREACH
	case *tcpip.ErrHostUnreachable, *tcpip.ErrHostDown, *tcpip.ErrNoNet:
		return syscall.EHOSTUNREACH
	}
	return syscall.ECONNABORTED
}

// local returns the address that the connection comes from, as its destination sees
// it, or does not behind a NAT.
func (d *dialed) local() netip.AddrPort {
	if d.direct != nil {
		return d.direct.LocalAddr().(*net.TCPAddr).AddrPort()
	}
	a, err := d.ep.GetLocalAddress()
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netstack.AddrOf(a.Addr), a.Port)
}

// reset ends a connection that nobody uses.
func (d *dialed) reset() {
	if d.direct != nil {
		d.direct.SetLinger(0)
		d.direct.Close()
		return
	}
	d.ep.Abort()
	d.ep.Close()
}

// conn returns the connection for a program of ours.
func (d *dialed) conn() net.Conn {
	if d.direct != nil {
		return d.direct
	}
	return &conn{gonet.NewTCPConn(&d.c.WQ, d.ep), d.ep.(*tcp.Endpoint)} // what else would a TCP stack make
}

// A conn is a connection of the stack for a program of ours.
type conn struct {
	*gonet.TCPConn
	ep *tcp.Endpoint
}

// Read is gonet's, and has the window grow with what is read.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if n > 0 {
		c.ep.ModerateRecvBuf(n)
	}
	return n, err
}

// splice carries the connection to outer, for which it was dialled, until it has
// ended; both are closed then. early is what the program has sent already.
func (d *dialed) splice(outer *net.TCPConn, early []byte) {
	outer.SetDeadline(time.Time{})
	if d.direct != nil {
		join(outer, d.direct, early)
		return
	}
	for r := bytes.NewReader(early); r.Len() > 0; {
		if _, err := d.ep.Write(r, tcpip.WriteOptions{}); err != nil { // a fresh buffer has room for it
			d.reset()
			outer.SetLinger(0)
			outer.Close()
			return
		}
	}
	d.c.Run(d.ep)
}

// join carries between two sockets of this machine. An end is passed on, and a
// failure resets both.
func join(a, b *net.TCPConn, early []byte) {
	var wg sync.WaitGroup
	var once sync.Once
	pass := func(to, from *net.TCPConn) {
		_, err := to.ReadFrom(from) // splice(2)
		if err == nil {
			err = to.CloseWrite()
		}
		if err != nil {
			once.Do(func() {
				a.SetLinger(0)
				b.SetLinger(0)
				a.Close()
				b.Close()
			})
		}
	}
	wg.Go(func() {
		if _, err := b.Write(early); err != nil {
			a.SetLinger(0)
			a.Close()
		}
		pass(b, a)
	})
	pass(a, b)
	wg.Wait()
	a.Close()
	b.Close()
}

// dialUDP returns a UDP socket of the stack connected to to.
func (p *Proxy) dialUDP(to netip.AddrPort) (*gonet.UDPConn, error) {
	from, proto := p.local4, ipv4.ProtocolNumber
	if to.Addr().Is6() {
		from, proto = p.local6, ipv6.ProtocolNumber
	}
	if !from.IsValid() {
		return nil, os.NewSyscallError("connect", syscall.ENETUNREACH)
	}
	local := tcpip.FullAddress{NIC: netstack.NIC, Addr: netstack.AddressOf(from)}
	var remote *tcpip.FullAddress
	if to.Port() != 0 {
		remote = &tcpip.FullAddress{NIC: netstack.NIC, Addr: netstack.AddressOf(to.Addr()), Port: to.Port()}
	}
	return gonet.DialUDP(p.stack.GVisor(), &local, remote, proto)
}

// DialContext connects through the tunnel, or past it where Config says so. network is
// tcp or udp; addr is "host:port", its name looked up through the tunnel. What it returns ends with the Proxy; of TCP it has CloseWrite.
// Errors are *net.OpError and hold an errno as those of package net do: ECONNREFUSED,
// EHOSTUNREACH, ENETUNREACH, EACCES for what is prohibited, or a timeout.
func (p *Proxy) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := p.dialContext(ctx, network, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return c, nil
}

func (p *Proxy) dialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := splitHostPort(addr)
	if err != nil {
		return nil, err
	}
	a, err := hostAddress(host, port)
	if err != nil {
		return nil, err
	}
	if network != "tcp" && network != "udp" {
		return nil, net.UnknownNetworkError(network)
	}
	if !p.enter() {
		return nil, net.ErrClosed
	}
	defer p.wg.Done()
	if network == "tcp" {
		d, err := p.dial(ctx, nil, a)
		if err != nil {
			return nil, err
		}
		return d.conn(), nil
	}
	list, err := p.lookup(ctx, a)
	if err != nil {
		return nil, err
	}
	to := netip.AddrPortFrom(list[0], a.port)
	if p.c.wayTo(to.Addr()) == direct {
		var d net.Dialer
		return d.DialContext(ctx, "udp", to.String())
	}
	c, err := p.dialUDP(to)
	if err != nil {
		return nil, err
	}
	return c, nil
}
