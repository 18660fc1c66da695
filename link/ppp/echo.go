package ppp

import (
	"encoding/binary"
	"time"
)

// echo is the keepalive of an open LCP (RFC 1661, section 5.8).
type echo struct {
	next time.Time // when to look again; zero: never

	id         byte
	asked      time.Time // when the last request left
	unanswered int
	foreign    int    // requests with our own magic number, in a row
	frames     uint64 // good ones that had come in when we last looked
}

// startEcho begins to ask, at once as pppd does.
func (l *Link) startEcho(now time.Time) {
	l.echo = echo{}
	if l.c.LCP.EchoInterval > 0 {
		l.askEcho(now)
	}
}

// echoDue asks again, or gives the peer up.
func (l *Link) echoDue(now time.Time) {
	frames := l.counts.frames.Load()
	quiet := frames == l.echo.frames
	l.echo.frames = frames
	switch {
	case l.c.LCP.EchoAdaptive && !quiet:
		l.echo.unanswered = 0
		l.echo.next = now.Add(l.c.LCP.EchoInterval)
	case l.c.LCP.EchoFailure > 0 && l.echo.unanswered >= l.c.LCP.EchoFailure:
		l.fail(errorf(EchoLost, nil, "lcp: no answer to %d Echo-Requests", l.echo.unanswered), now)
	default:
		l.askEcho(now)
	}
}

func (l *Link) askEcho(now time.Time) {
	l.echo.asked = now
	l.echo.unanswered++
	l.echo.next = now.Add(l.c.LCP.EchoInterval)
	l.send(protocolLCP, packet{echoReq, l.echo.id, binary.BigEndian.AppendUint32(nil, l.in.Magic)})
	l.echo.id++
}

// answerEcho answers a request with our own magic number. One that already has it
// is ours, come back: the far program is gone and its terminal echoes.
func (l *Link) answerEcho(p packet, now time.Time) {
	if len(p.data) < 4 {
		return
	}
	if l.in.Magic != 0 && binary.BigEndian.Uint32(p.data) == l.in.Magic {
		if l.echo.foreign++; l.echo.foreign > 1 {
			l.fail(errorf(Loop, nil, "lcp: what we send comes back: the program at the other side is gone"), now)
		}
		return
	}
	l.echo.foreign = 0
	b := binary.BigEndian.AppendUint32(nil, l.in.Magic)
	b = append(b, p.data[4:min(len(p.data), l.out.MRU-headerLen)]...)
	l.send(protocolLCP, packet{echoRep, p.id, b})
}

// echoed takes a reply. One with our own magic number is none: see answerEcho.
func (l *Link) echoed(p packet, now time.Time) {
	if len(p.data) < 4 || l.in.Magic != 0 && binary.BigEndian.Uint32(p.data) == l.in.Magic {
		return
	}
	l.echo.unanswered = 0
	if p.id == l.echo.id-1 {
		l.counts.roundTrip.Store(int64(now.Sub(l.echo.asked)))
	}
}
