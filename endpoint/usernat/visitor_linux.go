package usernat

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/tunnel"
)

// maxVisitors is how many remote sources one UDP redirection tells apart at
// once. At the limit the one that has been silent longest makes room: a flood of
// sources, which cost their sender nothing, displaces only its own kind.
const maxVisitors = 256

// A visitor is a remote source at a UDP redirection. Inside it is a port of the
// host alias.
type visitor struct {
	i     *inletUDP
	key   flowKey       // src is Redirect.To, dst the alias and the visitor's port there
	to    unix.Sockaddr // the remote source
	name  netip.AddrPort
	place *list.Element // in inletUDP.silent

	used time.Time // when something last went either way
	both bool      // the inner side has answered
}

// timeout returns how long v is kept silent.
func (v *visitor) timeout() time.Duration {
	if v.both {
		return idleBothWay
	}
	return idleOneWay
}

// visitors are those of all redirections, by what the inner side's answers to
// them say. Its lock guards them and the lists they are in.
type visitors struct {
	mu sync.Mutex
	m  map[flowKey]*visitor
}

// An inletUDP is a UDP port of the host that leads inside.
type inletUDP struct {
	n    *NAT
	r    Redirect
	from netip.Addr
	*net.UDPConn
	raw syscall.RawConn

	// Guarded by n.visitors.mu.
	byName map[netip.AddrPort]*visitor
	silent list.List // of *visitor, the longest silent first
	used   time.Time // when something last passed
}

func newInletUDP(n *NAT, r Redirect, from netip.Addr) (*inletUDP, error) {
	c, err := (&net.ListenConfig{}).ListenPacket(context.Background(), network("udp", r.Listen.Addr()), r.Listen.String())
	if err != nil {
		return nil, err
	}
	u := c.(*net.UDPConn)
	raw, err := u.SyscallConn()
	if err != nil {
		u.Close()
		return nil, err
	}
	return &inletUDP{n: n, r: r, from: from, UDPConn: u, raw: raw, byName: make(map[netip.AddrPort]*visitor), used: time.Now()}, nil
}

func (i *inletUDP) addr() netip.AddrPort { return i.LocalAddr().(*net.UDPAddr).AddrPort() }

// run brings what comes inside, until Close or Redirect.Idle.
func (i *inletUDP) run() {
	defer i.end()
	buf := make([]byte, 64<<10)
	var k int
	var from unix.Sockaddr
	var failed error
	receive := func(fd uintptr) bool {
		k, from, failed = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
		return failed != unix.EAGAIN
	}
	swept := time.Now()
	for {
		i.SetReadDeadline(i.nextSweep(swept))
		err := i.raw.Read(receive)
		now := time.Now()
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err == nil && failed == nil {
			if v := i.visit(from, now); v != nil && len(buf[:k]) <= mostDatagram {
				i.n.emitUDP(v.key.dst, v.key.src, ttlOwn, buf[:k], tunnel.Offload{}, true)
			}
		}
		if now.Sub(swept) >= sweepEvery {
			swept = now
			if i.sweep(now) {
				return
			}
		}
	}
}

// mostDatagram is the longest payload that goes inside, in octets: what an IPv4
// packet carries. IPv6 carries 20 more, which nobody relies on.
const mostDatagram = 65535 - headerLen4 - headerLenUDP

// visit returns the visitor that from is, a new one if need be, or nil when there
// is no place for one.
func (i *inletUDP) visit(from unix.Sockaddr, now time.Time) *visitor {
	name := nameOf(from)
	t := &i.n.visitors
	t.mu.Lock()
	defer t.mu.Unlock()
	i.used = now
	v := i.byName[name]
	if v == nil {
		if len(i.byName) >= maxVisitors {
			i.remove(i.silent.Front().Value.(*visitor))
		}
		key := flowKey{src: i.r.To, proto: protoUDP}
		if !t.port(&key, i.from, name.Port()) {
			return nil
		}
		if !i.n.place() {
			i.n.count.limit.Add(1)
			return nil
		}
		v = &visitor{i: i, key: key, to: from, name: name}
		v.place = i.silent.PushBack(v)
		i.byName[name], t.m[key] = v, v
		i.n.count.inwardUDP.Add(1)
	}
	v.used = now
	i.silent.MoveToBack(v.place)
	return v
}

// port gives key a free port of from, wanted if that is free. The caller holds
// t.mu.
func (t *visitors) port(key *flowKey, from netip.Addr, wanted uint16) bool {
	for port := range 65536 {
		key.dst = netip.AddrPortFrom(from, wanted+uint16(port))
		if key.dst.Port() != 0 && t.m[*key] == nil {
			return true
		}
	}
	return false
}

// nameOf returns the address of a, with the number of its interface as zone where
// it has one.
func nameOf(a unix.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(a.Addr)
		if a.ZoneId != 0 {
			addr = addr.WithZone(strconv.Itoa(int(a.ZoneId)))
		}
		return netip.AddrPortFrom(addr, uint16(a.Port))
	}
	return netip.AddrPort{}
}

// reply sends data, which came from inside in a packet with key, to the visitor
// it is for: one datagram, or, if size is not 0, datagrams of size octets each and
// the last of what is left. It reports false if it is for none.
func (t *visitors) reply(key flowKey, data []byte, size int, now time.Time) (found bool, err error) {
	t.mu.Lock()
	v := t.m[key]
	if v == nil {
		t.mu.Unlock()
		return false, nil
	}
	v.used, v.both, v.i.used = now, true, now
	v.i.silent.MoveToBack(v.place)
	t.mu.Unlock()
	if size == 0 {
		size = max(len(data), 1)
	}
	// A write that returns true does not wait.
	cerr := v.i.raw.Write(func(fd uintptr) bool {
		for first := true; err == nil && (first || len(data) > 0); first = false {
			part := data[:min(size, len(data))]
			err = unix.Sendto(int(fd), part, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, v.to)
			data = data[len(part):]
		}
		return true
	})
	if err == nil && cerr != nil {
		err = unix.ECONNREFUSED // it has just ended
	}
	return true, err
}

// nextSweep says when to look for the silent again, the last time being swept: not
// at all while nobody could be.
func (i *inletUDP) nextSweep(swept time.Time) time.Time {
	i.n.visitors.mu.Lock()
	defer i.n.visitors.mu.Unlock()
	if len(i.byName) == 0 && i.r.Idle == 0 {
		return time.Time{}
	}
	return swept.Add(sweepEvery)
}

// sweep ends the visitors that were silent for too long, and reports whether the
// redirection was.
func (i *inletUDP) sweep(now time.Time) bool {
	t := &i.n.visitors
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, v := range i.byName {
		if now.Sub(v.used) > v.timeout() {
			i.remove(v)
		}
	}
	return i.r.Idle != 0 && now.Sub(i.used) > i.r.Idle
}

// remove ends v. The caller holds n.visitors.mu.
func (i *inletUDP) remove(v *visitor) {
	delete(i.byName, v.name)
	delete(i.n.visitors.m, v.key)
	i.silent.Remove(v.place)
	i.n.leave()
}

// end closes the port and ends all visitors.
func (i *inletUDP) end() {
	i.Close()
	i.n.visitors.mu.Lock()
	defer i.n.visitors.mu.Unlock()
	for _, v := range i.byName {
		i.remove(v)
	}
}

func (t *visitors) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m)
}
