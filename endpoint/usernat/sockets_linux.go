package usernat

import (
	"container/list"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long a flow without traffic is kept.
const (
	idleDNS     = 15 * time.Second // port 53: a question and its answer
	idleOneWay  = 60 * time.Second // nothing came back yet, or nothing went out again
	idleBothWay = 5 * time.Minute  // RFC 4787, section 4.3, REQ-5
	idleEcho    = 30 * time.Second // RFC 5508, section 3.2, REQ-2 asks for 60; a new flow costs a ping nothing
)

// drainMost is how many datagrams are taken from one socket before the next has
// its turn.
const drainMost = 16

// A flowKey names a flow by what its packets inside say. For pings the source
// port is the identifier, and the destination port 0.
type flowKey struct {
	src, dst netip.AddrPort
	proto    uint8
}

// A flow is one connected datagram socket: a UDP flow, or the pings of one
// sender to one host.
type flow struct {
	key   flowKey
	place *list.Element // in sockets.idle

	mu   sync.Mutex // guards what follows, and that fd is ours
	fd   int        // -1 once closed
	raw  bool       // fd is a raw ICMP socket
	ttl  uint8      // as last set
	df   bool       // as last set
	id   uint16     // of pings, outside, when raw
	both bool       // something came back
	used time.Time  // when something last went either way
}

// timeout returns how long f is kept idle.
func (f *flow) timeout() time.Duration {
	switch {
	case f.key.proto != protoUDP:
		return idleEcho
	case f.key.dst.Port() == dnsPort:
		return idleDNS
	case f.both:
		return idleBothWay
	}
	return idleOneWay
}

// sockets are the flows, and one goroutine that waits on all their sockets.
// Packets from inside are sent in the caller's goroutine.
type sockets struct {
	n     *NAT
	epoll *os.File // of all the sockets; itself in the runtime's poller
	ready syscall.RawConn

	ping pings

	mu   sync.Mutex
	m    map[flowKey]*flow
	byFD map[int32]*flow
	idle list.List // of *flow, the least recently used first
	udp  int       // of them UDP flows
	done bool
}

func newSockets(n *NAT) (*sockets, error) {
	s := &sockets{n: n, m: make(map[flowKey]*flow), byFD: make(map[int32]*flow)}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("usernat: epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("usernat: epoll: %w", err)
	}
	s.epoll = os.NewFile(uintptr(fd), "epoll")
	if s.ready, err = s.epoll.SyscallConn(); err != nil {
		s.epoll.Close()
		return nil, fmt.Errorf("usernat: epoll: %w", err)
	}
	return s, nil
}

// watch has the loop look at fd.
func (s *sockets) watch(fd int) (err error) {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLERR, Fd: int32(fd)}
	cerr := s.ready.Control(func(epoll uintptr) { err = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, fd, &e) })
	return errors.Join(cerr, err)
}

// get returns the flow of key, freshly used, or nil.
func (s *sockets) get(key flowKey) *flow {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.m[key]
	if f != nil {
		s.idle.MoveToBack(f.place)
	}
	return f
}

// add enters f, whose socket is open. It reports false after wake; then the
// socket is still the caller's.
func (s *sockets) add(f *flow) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done || s.watch(f.fd) != nil {
		return false
	}
	s.m[f.key], s.byFD[int32(f.fd)] = f, f
	f.place = s.idle.PushBack(f)
	if f.key.proto == protoUDP {
		s.udp++
	}
	if len(s.m) == 1 { // the loop waits for ever while there are no flows
		s.epoll.SetReadDeadline(time.Now().Add(sweepEvery))
	}
	return true
}

// remove closes f and gives its place back. The caller holds s.mu.
func (s *sockets) remove(f *flow) {
	f.mu.Lock()
	delete(s.m, f.key)
	delete(s.byFD, int32(f.fd))
	s.idle.Remove(f.place)
	if f.key.proto == protoUDP {
		s.udp--
	}
	unix.Close(f.fd) // leaves the epoll set with it
	f.fd = -1
	f.mu.Unlock()
	s.n.leave()
}

// evict ends the least recently used flow and reports whether there was one.
func (s *sockets) evict() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.idle.Front()
	if e == nil {
		return false
	}
	s.remove(e.Value.(*flow))
	s.n.count.evicted.Add(1)
	return true
}

// expire ends the flows that were idle for too long.
func (s *sockets) expire(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.m {
		f.mu.Lock()
		old := now.Sub(f.used) > f.timeout()
		f.mu.Unlock()
		if old {
			s.remove(f)
		}
	}
}

func (s *sockets) size() (udp, echo int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.udp, len(s.m) - s.udp
}

// wake ends the loop; no flow is added afterwards.
func (s *sockets) wake() {
	s.mu.Lock()
	s.done = true
	s.mu.Unlock()
	s.epoll.Close()
}

// sweepEvery is how often idle flows are looked for.
const sweepEvery = time.Second

// run waits on the sockets and brings what they have inside, until wake. Then it
// closes them all.
func (s *sockets) run() {
	events := make([]unix.EpollEvent, 64)
	var n int
	look := func(epoll uintptr) bool {
		var err error
		n, err = epollNow(epoll, events)
		return n > 0 || err != nil
	}
	for {
		n = 0
		err := s.ready.Read(look)
		now := time.Now()
		if n > 0 {
			r := receivers.Get().(*receiver)
			for i := range n {
				s.take(&events[i], r, now)
			}
			receivers.Put(r)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.sweep(now)
		} else if err != nil {
			break // closed
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = true
	for _, f := range s.m {
		s.remove(f)
	}
}

// sweep ends the flows that were idle for too long, and says when to look again.
func (s *sockets) sweep(now time.Time) {
	s.expire(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	next := now.Add(sweepEvery)
	if len(s.m) == 0 {
		next = time.Time{}
	}
	s.epoll.SetReadDeadline(next)
}

// take takes what one socket has.
func (s *sockets) take(e *unix.EpollEvent, r *receiver, now time.Time) {
	s.mu.Lock()
	f := s.byFD[e.Fd]
	s.mu.Unlock()
	if f == nil { // it has just ended
		return
	}
	if e.Events&unix.EPOLLERR != 0 {
		for range drainMost {
			if !f.receive(r, true) {
				break
			}
			s.n.passError(f, r)
		}
	}
	for range drainMost {
		if !f.receive(r, false) {
			return
		}
		if f.key.proto == protoUDP {
			s.n.answerUDP(f, r)
		} else if !s.n.answerEcho(f, r) {
			continue
		}
		s.mu.Lock()
		f.mu.Lock()
		if f.fd >= 0 {
			f.both, f.used = true, now
			s.idle.MoveToBack(f.place)
		}
		f.mu.Unlock()
		s.mu.Unlock()
	}
}

// A receiver is what one datagram is received into.
type receiver struct {
	data, control []byte

	n     int // octets of data
	facts controls
}

// receivers are those that no loop uses: an idle NAT needs none.
var receivers = sync.Pool{New: func() any {
	return &receiver{data: make([]byte, 64<<10), control: make([]byte, 256)}
}}

// receive takes one datagram, or one failure, from the socket of f without
// waiting. It reports false when there is none.
func (f *flow) receive(r *receiver, failures bool) bool {
	flags := 0
	if failures {
		flags = unix.MSG_ERRQUEUE
	}
	for range drainMost {
		f.mu.Lock()
		if f.fd < 0 {
			f.mu.Unlock()
			return false
		}
		n, controlLen, err := receive(f.fd, r.data, r.control, flags)
		f.mu.Unlock()
		switch {
		case err == unix.EAGAIN:
			return false
		case err != nil && failures:
			return false
		case err != nil:
			continue // a failure that the error queue told already; reading it clears it
		}
		r.n = n
		r.facts = parseControl(r.control[:controlLen])
		return true
	}
	return false
}

// set sets the TTL and the don't-fragment bit of what f sends, where they differ
// from what they are. The caller holds f.mu.
func (f *flow) set(ttl uint8, df bool) {
	v6 := f.key.dst.Addr().Is6()
	if ttl != f.ttl {
		if v6 {
			unix.SetsockoptInt(f.fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, int(ttl))
		} else {
			unix.SetsockoptInt(f.fd, unix.IPPROTO_IP, unix.IP_TTL, int(ttl))
		}
		f.ttl = ttl
	}
	if df != f.df && !v6 {
		mode := unix.IP_PMTUDISC_DONT
		if df {
			mode = unix.IP_PMTUDISC_PROBE
		}
		unix.SetsockoptInt(f.fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, mode)
		f.df = df
	}
}

// prepare sets what every socket of a flow to dst needs, and connects it.
func prepare(fd int, dst netip.AddrPort) error {
	if dst.Addr().Is6() {
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
		return unix.Connect(fd, &unix.SockaddrInet6{Port: int(dst.Port()), Addr: dst.Addr().As16()})
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
	unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
	return unix.Connect(fd, &unix.SockaddrInet4{Port: int(dst.Port()), Addr: dst.Addr().As4()})
}
