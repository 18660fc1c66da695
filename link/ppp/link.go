package ppp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
	"github.com/bodkin-net/bodkin/link/ppp/pppdump"
	"github.com/bodkin-net/bodkin/tunnel"
)

const (
	// grace is how long an open IPv4 waits for IPv6: slirp never answers IPv6CP.
	// grace4 is how long an open IPv6 waits for IPv4, which nearly every peer has:
	// a lost request is repeated in it once.
	grace  = time.Second
	grace4 = 4 * time.Second

	// closePatience is how long Close waits for a Terminate-Ack.
	closePatience = time.Second

	// flushPatience is how long the last frames may take to go out.
	flushPatience = 200 * time.Millisecond

	// maxText is how much of what came before the first frame is kept to be
	// quoted, in octets: a line or two.
	maxText = 512
)

// A Link is a tunnel.Port to a peer that speaks PPP.
//
// A packet's way in: (1) the reader reads the stream and finds the frames in
// place (read.go); (2) packets of the control protocols step the machines there
// and then, which never blocks, as what they send goes to a bounded outbox
// (control.go); (3) IP packets are lent to ReadPackets. Its way out: (4)
// WritePackets encodes a batch behind what is in the outbox and writes both at
// once (write.go). The keeper rings the timers and ends it all (keep.go).
type Link struct {
	stream carrier.Stream
	c      Config // with its defaults
	record *pppdump.Writer

	caps tunnel.Caps // set before Open returns

	batches chan *loan // from the reader to ReadPackets
	lent    *loan      // owned by ReadPackets
	rest    []tunnel.Packet

	writing   chan struct{} // full while somebody writes: a lock that waits as long as a Stream
	buffer    []byte        // owned by who holds writing
	lastWrite time.Time
	outbox    outbox

	wake    chan struct{} // to the writer: the outbox is not empty
	kick    chan struct{} // to the keeper: the deadlines may have changed
	changed chan struct{} // to Open: a protocol came up or failed

	closing   chan struct{} // closed when the user wants no more packets
	closeOnce sync.Once
	ended     chan struct{} // closed when the link is over
	done      chan struct{} // closed when the goroutines are, too
	running   sync.WaitGroup

	// What the data path asks the machines.
	up4, up6 atomic.Bool
	mtu      atomic.Int64                // of IP, octets
	format   atomic.Pointer[hdlc.Format] // of what we send
	receive  atomic.Pointer[receiveForm] // of what we receive

	counts counts

	mu sync.Mutex // for all below: the machines, and the callbacks of Config
	conversation
}

// A conversation is the state of the control protocols.
type conversation struct {
	lcp    machine
	ipcp   machine
	ipv6cp machine

	lcpLayer  lcpLayer
	ipv4Layer ipv4Layer
	ipv6Layer ipv6Layer

	plain *hdlc.Format // the default one, for LCP's codes 1 to 7

	settled time.Time // until when an echo may be on its way; zero once begun
	begun   bool      // LCP has its lower layer
	heard   bool      // a good frame came
	text    []byte    // what came before that, at most maxText octets

	auth authentication
	echo echo

	in, out Terms // what LCP agreed on

	rejections budget // of Protocol-Rejects and Code-Rejects

	alarms []alarm

	four, six network
	over      bool  // ended is closed
	cause     error // the first one, of the end that is coming or has come
	acked     bool  // the peer took our Terminate-Request
}

// A network is how one network protocol stands.
type network struct {
	wanted  bool
	started bool      // the network phase was reached
	since   time.Time // open since
	ever    bool      // open at least once
	failed  string    // why it is not open, and will not be unless the peer starts it
}

func (n *network) open() bool    { return !n.since.IsZero() }
func (n *network) pending() bool { return n.wanted && n.failed == "" && !n.open() }

// Open brings up a link on s and returns it once each wanted network protocol is
// open, has failed or does not answer, and at least one is open; what comes up
// later still comes up, and is told by c.Notify. It owns s from then on, and has
// closed it when it returns an error, which is an *Error unless c was wrong or ctx
// ended. ctx bounds Open only.
func Open(ctx context.Context, s carrier.Stream, c Config) (*Link, error) {
	c, err := c.withDefaults()
	if err != nil {
		s.Close()
		return nil, err
	}
	l := newLink(s, c)
	l.do(l.begin)
	l.running.Add(2)
	go l.read()
	go l.write()
	go l.keep()

	var graceOver <-chan time.Time
	for {
		open, waiting := l.standing()
		switch {
		case open && waiting == 0:
			return l.opened(), nil
		case open && graceOver == nil:
			timer := time.NewTimer(waiting)
			defer timer.Stop()
			graceOver = timer.C
		case !open:
			graceOver = nil
		}
		select {
		case <-l.changed:
		case <-graceOver:
			return l.opened(), nil
		case <-l.done:
			return nil, l.cause
		case <-ctx.Done():
			l.Close()
			return nil, fmt.Errorf("ppp: opening the link: %w", context.Cause(ctx))
		}
	}
}

// newLink returns a Link that has not begun.
func newLink(s carrier.Stream, c Config) *Link {
	l := &Link{
		stream:  s,
		c:       c,
		batches: make(chan *loan),
		writing: make(chan struct{}, 1),
		wake:    make(chan struct{}, 1),
		kick:    make(chan struct{}, 1),
		changed: make(chan struct{}, 1),
		closing: make(chan struct{}),
		ended:   make(chan struct{}),
		done:    make(chan struct{}),
	}
	if c.Record != nil {
		l.record = pppdump.NewWriter(c.Record, time.Now())
	}
	l.four.wanted, l.six.wanted = !c.IPv4.Off, !c.IPv6.Off

	accm := c.LCP.ACCM
	for octet := range byte(32) {
		if s.Unsafe.Has(octet) {
			accm |= 1 << octet
		}
	}
	l.lcpLayer = lcpLayer{link: l, lcp: lcp{
		want: c.LCP, accm: accm, require: c.Auth.Require, permit: c.Auth.maySpeak(), random: l.c.random32,
	}}
	l.ipv4Layer = ipv4Layer{link: l, ipcp: ipcp{want: c.IPv4, allow: l.mayUse}}
	l.ipv6Layer = ipv6Layer{link: l, ipv6cp: ipv6cp{want: c.IPv6, random: l.c.random64}}
	mru := func() int { return l.out.MRU }
	l.lcp = machine{protocol: protocolLCP, name: "LCP", layer: &l.lcpLayer, timers: c.LCP.Timers, passive: c.LCP.Passive, send: l.send, mru: mru}
	l.ipcp = machine{protocol: protocolIPCP, name: "IPCP", layer: &l.ipv4Layer, timers: c.IPv4.Timers, send: l.send, mru: mru}
	l.ipv6cp = machine{protocol: protocolIPv6CP, name: "IPV6CP", layer: &l.ipv6Layer, timers: c.IPv6.Timers, send: l.send, mru: mru}
	l.setAlarms()

	l.in, l.out = defaultTerms, defaultTerms
	l.plain = l.formatOf(defaultTerms)
	l.format.Store(l.plain)
	l.receive.Store(&receiveForm{})
	l.mtu.Store(defaultMRU)
	return l
}

// formatOf returns how to send by terms, with what the way here cannot carry
// escaped besides.
func (l *Link) formatOf(t Terms) *hdlc.Format {
	more := l.c.LCP.Escape
	for i := range more {
		more[i] |= l.stream.Unsafe[i]
	}
	f := &hdlc.Format{Escape: hdlc.NewSet(t.ACCM, more), ACFC: t.ACFC, PFC: t.PFC}
	if t.FCS32 {
		f.FCS = hdlc.FCS32
	}
	return f
}

// do runs fn with the machines to itself, and has the deadlines looked at after.
func (l *Link) do(fn func(now time.Time)) {
	l.mu.Lock()
	fn(time.Now())
	l.mu.Unlock()
	signal(l.kick)
}

// signal leaves word in a channel of length 1.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// standing reports whether a network protocol is open, and how long to wait for
// the others from when it opened.
func (l *Link) standing() (open bool, waiting time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.over:
		return false, 0
	case l.four.open() && l.six.pending():
		return true, grace
	case l.six.open() && l.four.pending():
		return true, grace4
	}
	return l.four.open() || l.six.open(), 0
}

// opened fixes what Caps says.
func (l *Link) opened() *Link {
	l.caps = tunnel.Caps{MTU: int(l.mtu.Load())}
	return l
}

// Caps says what the peer takes: no super-packets. Its MTU is the peer's MRU or
// LCP.MTU, whichever is less, and may be below 1280: then there is no IPv6.
func (l *Link) Caps() tunnel.Caps { return l.caps }

// Agreed returns the addresses as they are now: Local has the IPv4 address as a
// /32 and the IPv6 link-local one as a /64, of the protocols that are open.
func (l *Link) Agreed() tunnel.Agreed {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := tunnel.Agreed{MTU: int(l.mtu.Load())}
	if l.four.open() {
		got := l.ipv4Layer.got
		a.Local = append(a.Local, netip.PrefixFrom(got.local, 32))
		if got.remote.IsValid() {
			a.Peer = append(a.Peer, got.remote)
		}
		a.DNS = append(a.DNS, got.dns...)
	}
	if l.six.open() {
		a.Local = append(a.Local, netip.PrefixFrom(l.ipv6Layer.local, 64))
		a.Peer = append(a.Peer, l.ipv6Layer.remote)
	}
	return a
}

// Done is closed when the link has ended, by whatever cause, and its Stream is
// closed.
func (l *Link) Done() <-chan struct{} { return l.done }

// Err returns nil while the link lives, then how it ended: an *Error, or
// net.ErrClosed after Close or Terminate.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		return nil
	}
	return l.cause
}

// Terminate ends the link in good order: it says goodbye with a reason for people,
// repeats that until the peer agrees or MaxTerminate is reached, closes the Stream
// and returns. The error says that the peer did not agree.
func (l *Link) Terminate(reason string) error {
	l.end(reason, 0)
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.cause, net.ErrClosed) && l.heard && !l.acked {
		return errors.New("ppp: lcp: the peer did not answer our Terminate-Request")
	}
	return nil
}

// Close is Terminate for who cannot wait: after a second without an answer the
// Stream is closed. No frame follows the goodbye, and none is sent at all to a
// peer that never sent a good one: it may be a shell's prompt.
func (l *Link) Close() error {
	l.end("", closePatience)
	return nil
}

// end says goodbye and waits, for no longer than patience unless that is 0.
func (l *Link) end(reason string, patience time.Duration) {
	l.closeOnce.Do(func() { close(l.closing) })
	l.do(func(now time.Time) { l.shut(net.ErrClosed, reason, now) })
	if patience > 0 {
		late := time.AfterFunc(patience, func() { l.do(func(time.Time) { l.finish() }) })
		defer late.Stop()
	}
	<-l.done
}
