package ppp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
)

// begin opens all layers, and LCP's lower one at once or when the line has
// settled.
func (l *Link) begin(now time.Time) {
	l.lcp.step(open, now)
	if l.four.wanted {
		l.ipcp.step(open, now)
	}
	if l.six.wanted {
		l.ipv6cp.step(open, now)
	}
	if l.c.LCP.Settle > 0 && !l.c.LCP.Silent {
		l.settled = now.Add(l.c.LCP.Settle)
		return
	}
	l.lowerUp(now)
}

// lowerUp tells LCP that its lower layer is up. A silent end does as pppd: it is
// as if it had asked before, without an answer, and waits in Stopped for the peer.
func (l *Link) lowerUp(now time.Time) {
	if l.begun {
		return
	}
	l.begun, l.settled = true, time.Time{}
	if l.c.LCP.Silent {
		l.lcp.state = stopped
		return
	}
	l.lcp.step(up, now)
}

// control takes a frame that holds no IP packet of an open network. data is
// borrowed.
func (l *Link) control(protocol uint16, data []byte, now time.Time) {
	if l.over {
		return
	}
	l.text = nil
	l.lowerUp(now)
	defer func() { l.heard = l.heard || l.lcpLayer.loops == 0 }() // an echo is nobody
	switch protocol {
	case protocolIPv4, protocolIPv6: // real kernels send IPv6 without asking
		l.counts.early.Add(1)
		return
	}
	p, sound := parsePacket(data)
	l.logPacket("rcvd", protocol, data, p, sound)
	switch {
	case protocol == protocolLCP:
		if sound {
			l.receiveLCP(p, now)
		}
	case l.lcp.state != opened: // "silently discarded": RFC 1661, section 3.4
	case protocol == protocolIPCP && l.four.wanted:
		if sound && l.four.started {
			l.ipcp.receive(p, now)
		}
	case protocol == protocolIPv6CP && l.six.wanted:
		if sound && l.six.started {
			l.ipv6cp.receive(p, now)
		}
	case l.auth.speaks(protocol):
		l.receiveAuth(protocol, data, now)
	case !l.auth.passed: // silently discarded too: section 3.5
	default:
		l.rejectProtocol(protocol, data, now)
	}
}

// receiveLCP takes what is LCP's alone, and leaves the rest to the machine.
func (l *Link) receiveLCP(p packet, now time.Time) {
	known := l.lcp.state == opened
	switch p.code {
	case confReq:
		if l.looped(p, now) {
			return
		}
		l.lcp.receive(p, now)
	case termReq:
		if known || l.lcp.state == stopping {
			l.setCause(l.goodbyeOf(p))
		}
		l.lcp.goodbye = ""
		l.lcp.receive(p, now)
	case termAck:
		l.acked = l.acked || l.lcp.state == closing
		l.lcp.receive(p, now)
	case codeRej:
		if len(p.data) > 0 && p.data[0] == echoReq && !l.echo.next.IsZero() {
			l.echo.next = time.Time{}
			l.note("the peer does not know Echo-Requests: its silence will not be noticed")
		}
		l.lcp.receive(p, now)
	case protRej:
		if known && len(p.data) >= 2 {
			l.protocolRejected(binary.BigEndian.Uint16(p.data), now)
		}
	case echoReq:
		if known {
			l.answerEcho(p, now)
		}
	case echoRep:
		if known {
			l.echoed(p, now)
		}
	case discReq, identification, timeRemaining: // for people, who have it in the log
	default:
		if l.rejections.spend(now) {
			l.lcp.receive(p, now)
		}
	}
}

// looped reports whether p is our own Configure-Request come back, and is to be
// left alone.
func (l *Link) looped(p packet, now time.Time) bool {
	ours := &l.lcpLayer.lcp
	if ours.ours.Magic == 0 || p.id != l.lcp.asked || !bytes.Equal(p.data, l.lcp.request) {
		return false
	}
	ours.loops++
	if ours.loops >= maxLoops {
		l.fail(errorf(Loop, nil, "lcp: what we send comes back: there is no PPP at the other side%s", l.said()), now)
		return true
	}
	return ours.loops > 1
}

// goodbyeOf makes the error of a peer's Terminate-Request.
func (l *Link) goodbyeOf(p packet) error {
	kind, text := PeerTerminated, ""
	if words := carrier.Printable(string(p.data)); words != "" {
		text = fmt.Sprintf(", saying %q", words)
	}
	if l.lcpLayer.authRefused && !l.four.ever && !l.six.ever {
		return errorf(OurSecret, nil, "lcp: the peer ended the link%s: it asked us to prove who we are, in a way that we do not", text)
	}
	return errorf(kind, nil, "lcp: the peer ended the link%s", text)
}

// protocolRejected takes the peer's word that it does not know a protocol. No more
// is sent of it (RFC 1661, section 5.7): to reject a network's packets is to reject
// its control protocol, whose number differs by the high bit.
func (l *Link) protocolRejected(protocol uint16, now time.Time) {
	switch protocol |= 0x8000; {
	case protocol == protocolLCP:
		l.lcp.step(rxjBad, now)
	case protocol == protocolIPCP && l.four.started:
		l.four.failed = "the peer does not know IPCP"
		l.ipcp.step(rxjBad, now)
	case protocol == protocolIPv6CP && l.six.started:
		l.six.failed = "the peer does not know IPv6CP"
		l.ipv6cp.step(rxjBad, now)
	case l.auth.speaks(protocol):
		l.authRejected(protocol, now)
	}
}

// rejectProtocol answers what we do not know, or did not agree to: it is not even
// looked at.
func (l *Link) rejectProtocol(protocol uint16, data []byte, now time.Time) {
	if !l.rejections.spend(now) {
		l.counts.dropped.Add(1)
		return
	}
	b := binary.BigEndian.AppendUint16(nil, protocol)
	b = append(b, data[:min(len(data), l.out.MRU-headerLen-2)]...)
	l.send(protocolLCP, packet{protRej, l.lcp.nextID(), b})
}

// send puts a control packet into the outbox: LCP's codes 1 to 7 as if nothing had
// been agreed (RFC 1661, section 5).
func (l *Link) send(protocol uint16, p packet) {
	l.sendRaw(protocol, appendPacket(nil, p))
}

// sendRaw is send for a packet that is whole.
func (l *Link) sendRaw(protocol uint16, b []byte) {
	if l.over {
		return
	}
	format := l.format.Load()
	if protocol == protocolLCP && b[0] <= codeRej {
		format = l.plain
	}
	if !l.outbox.add(format, protocol, b) {
		l.counts.dropped.Add(1)
		return
	}
	p, sound := parsePacket(b)
	l.logPacket("sent", protocol, b, p, sound)
	signal(l.wake)
}

// setCause keeps the first cause of the link's end.
func (l *Link) setCause(err error) {
	if l.cause == nil {
		l.cause = err
	}
}

// shut ends the link in good order for a cause of ours; the peer is told a reason.
// To a peer that was never heard nothing is said.
func (l *Link) shut(cause error, reason string, now time.Time) {
	if l.over {
		return
	}
	l.setCause(cause)
	if l.heard {
		l.lcp.close(reason, now)
	}
	switch {
	case !l.heard, l.lcp.state == initial, l.lcp.state == closed:
		l.finish()
	}
}

// fail ends the link at once, without a word: where there is nobody to take it, or
// a shell's prompt would.
func (l *Link) fail(cause error, now time.Time) {
	if l.over {
		return
	}
	l.setCause(cause)
	if l.lcp.state == opened {
		l.lcpLayer.down(now)
	}
	l.lcp.state = initial
	l.lcp.deadline = time.Time{}
	l.finish()
}

// finish makes the end known.
func (l *Link) finish() {
	if l.over {
		return
	}
	l.over = true
	l.setCause(net.ErrClosed)
	close(l.ended)
	signal(l.changed)
}

// hangup ends the link because its Stream ended.
func (l *Link) hangup(err error, now time.Time) {
	switch {
	case !l.heard:
		l.fail(errorf(Hangup, err, "the stream ended before a PPP frame came: %s%s", reasonOf(err), l.said()), now)
	default:
		l.acked = l.acked || l.lcp.state == closing // it left, which is answer enough
		l.fail(errorf(Hangup, err, "the stream ended: %s", reasonOf(err)), now)
	}
}

// said quotes what came before the first frame.
func (l *Link) said() string {
	if words := carrier.Printable(string(l.text)); words != "" {
		return fmt.Sprintf("; the other side said %q", words)
	}
	return ""
}

func (l *Link) note(format string, args ...any) {
	l.notify(Event{Kind: Note, Text: fmt.Sprintf(format, args...)})
}

func (l *Link) notify(e Event) {
	if l.c.Notify != nil {
		l.c.Notify(e)
	}
}

// lcpLayer is LCP's part in the link.
type lcpLayer struct {
	lcp
	link *Link
}

// up applies what was agreed, both ways at once, and goes on to authentication.
func (y *lcpLayer) up(now time.Time) {
	l := y.link
	l.in, l.out = y.agreed()
	l.format.Store(l.formatOf(l.out))
	form := &receiveForm{}
	if l.in.mapped && !l.c.LCP.ReceiveAll {
		form.accm = l.in.ACCM
	}
	if l.in.FCS32 {
		form.fcs = hdlc.FCS32
	}
	l.receive.Store(form)
	// No more than we take ourselves, as pppd: what TCP is told by the size of the
	// interface is what the peer's side learns of ours.
	mtu := min(l.out.MRU, l.in.MRU)
	if l.c.LCP.MTU > 0 {
		mtu = min(mtu, l.c.LCP.MTU)
	}
	l.mtu.Store(int64(mtu))
	l.notify(Event{Kind: LinkUp, MRU: mtu})
	l.startEcho(now)
	l.startAuth(now)
}

// down takes back what was agreed: the network protocols start afresh.
func (y *lcpLayer) down(now time.Time) {
	l := y.link
	l.stopAuth()
	l.echo.next = time.Time{}
	for _, n := range []*network{&l.four, &l.six} {
		n.started = false
	}
	l.ipcp.step(down, now)
	l.ipv6cp.step(down, now)
	l.in, l.out = defaultTerms, defaultTerms
	l.format.Store(l.plain)
	l.receive.Store(&receiveForm{})
	l.notify(Event{Kind: LinkDown})
}

func (y *lcpLayer) finished(now time.Time) {
	l := y.link
	switch {
	case l.cause != nil:
	case !l.heard:
		l.cause = errorf(Negotiation, nil, "lcp: no answer to %d Configure-Requests%s", l.c.LCP.Timers.MaxConfigure, l.said())
	default:
		l.cause = errorf(Negotiation, nil, "lcp: no agreement with the peer after %d Configure-Requests", l.c.LCP.Timers.MaxConfigure)
	}
	l.finish()
}

// startNetworks begins the network phase: both ends have proved what was asked of
// them.
func (l *Link) startNetworks(now time.Time) {
	if l.four.wanted {
		l.four.started, l.four.failed = true, ""
		l.ipcp.step(open, now) // again, if it was closed for want of an address
		l.ipcp.step(up, now)
	}
	if l.six.wanted {
		if mtu := min(int(l.mtu.Load()), l.in.MRU); mtu < minMTU6 {
			l.six.failed = fmt.Sprintf("the link takes %d octets, IPv6 needs %d", mtu, minMTU6)
			l.six.wanted = false
			l.note("no IPv6: %s", l.six.failed)
			l.networkEnded(now)
			return
		}
		l.six.started, l.six.failed = true, ""
		l.ipv6cp.step(open, now)
		l.ipv6cp.step(up, now)
	}
}

// networkUp notes that a network protocol is open.
func (l *Link) networkUp(n *network, e Event, now time.Time) {
	n.since, n.ever, n.failed = now, true, ""
	l.notify(e)
	signal(l.changed)
}

// networkDown notes that it is not.
func (l *Link) networkDown(n *network, kind EventKind) {
	if n.open() {
		n.since = time.Time{}
		l.notify(Event{Kind: kind})
	}
}

// networkEnded ends the link when no network protocol is left.
func (l *Link) networkEnded(now time.Time) {
	signal(l.changed)
	if l.over || l.four.open() || l.six.open() || l.four.pending() || l.six.pending() {
		return
	}
	kind := Negotiation
	if l.four.ever || l.six.ever {
		kind = PeerTerminated
	}
	reason := ""
	if l.four.failed != "" {
		reason = "; IPv4: " + l.four.failed
	}
	if l.six.failed != "" {
		reason += "; IPv6: " + l.six.failed
	}
	l.shut(errorf(kind, nil, "no network protocol is left%s", reason), "No network protocols running", now)
}

// ipv4Layer is IPCP's part in the link.
type ipv4Layer struct {
	ipcp
	link *Link
	got  addresses
}

func (y *ipv4Layer) up(now time.Time) {
	l := y.link
	got, err := y.agreed()
	if err != nil {
		l.four.failed = err.Error()
		l.note("no IPv4: %s", err)
		l.ipcp.close("", now)
		l.networkEnded(now)
		return
	}
	y.got = got
	l.up4.Store(true)
	l.networkUp(&l.four, Event{Kind: IPv4Up, Local: got.local, Remote: got.remote, DNS: got.dns}, now)
}

func (y *ipv4Layer) down(time.Time) {
	y.link.up4.Store(false)
	y.link.networkDown(&y.link.four, IPv4Down)
}

func (y *ipv4Layer) finished(now time.Time) {
	l := y.link
	if l.four.failed == "" {
		l.four.failed = "no agreement on IPCP"
		if l.four.ever {
			l.four.failed = "the peer ended IPCP"
		}
	}
	l.networkEnded(now)
}

// mayUse reports whether the peer may use an address.
func (l *Link) mayUse(addr netip.Addr) bool {
	return l.c.Auth.Allow == nil || l.c.Auth.Allow(l.auth.peer, addr)
}

// ipv6Layer is IPv6CP's part in the link.
type ipv6Layer struct {
	ipv6cp
	link          *Link
	local, remote netip.Addr
}

func (y *ipv6Layer) up(now time.Time) {
	l := y.link
	local, remote, err := y.agreed()
	if err != nil {
		l.six.failed = err.Error()
		l.note("no IPv6: %s", err)
		l.ipv6cp.close("", now)
		l.networkEnded(now)
		return
	}
	y.local, y.remote = local, remote
	l.up6.Store(true)
	l.networkUp(&l.six, Event{Kind: IPv6Up, Local: local, Remote: remote}, now)
}

func (y *ipv6Layer) down(time.Time) {
	y.link.up6.Store(false)
	y.link.networkDown(&y.link.six, IPv6Down)
}

func (y *ipv6Layer) finished(now time.Time) {
	l := y.link
	if l.six.failed == "" {
		l.six.failed = "no agreement on IPv6CP"
		if l.six.ever {
			l.six.failed = "the peer ended IPv6CP"
		}
	}
	l.networkEnded(now)
}
