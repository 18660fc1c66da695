package ppp

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
)

// Stats are a link's counts since it began.
type Stats struct {
	PacketsIn, PacketsOut uint64 // IP packets
	OctetsIn, OctetsOut   uint64 // of IP
	LineIn, LineOut       uint64 // octets of the Stream, all that came and went

	// Dropped counts packets that could not be carried, that nobody took, and
	// control packets beyond what we answer. Early counts IP packets that came
	// while their network protocol was not open.
	Dropped, Early uint64

	Line hdlc.Stats // frames that came in, good and bad

	RoundTrip time.Duration // of the last echo; 0 before the first

	In, Out Terms // what LCP agreed on for what comes in and for what goes out
}

// counts are what Stats are made of.
type counts struct {
	packetsIn, packetsOut atomic.Uint64
	octetsIn, octetsOut   atomic.Uint64
	lineIn, lineOut       atomic.Uint64
	dropped, early        atomic.Uint64
	frames                atomic.Uint64 // good ones that came in
	roundTrip             atomic.Int64

	mu   sync.Mutex
	line hdlc.Stats
}

func (c *counts) setLine(s hdlc.Stats) {
	c.mu.Lock()
	c.line = s
	c.mu.Unlock()
}

func sum(a, b hdlc.Stats) hdlc.Stats {
	return hdlc.Stats{
		Frames: a.Frames + b.Frames, FCS: a.FCS + b.FCS, Aborted: a.Aborted + b.Aborted,
		Short: a.Short + b.Short, Long: a.Long + b.Long, Protocol: a.Protocol + b.Protocol,
	}
}

// Stats returns the link's counts.
func (l *Link) Stats() Stats {
	c := &l.counts
	s := Stats{
		PacketsIn: c.packetsIn.Load(), PacketsOut: c.packetsOut.Load(),
		OctetsIn: c.octetsIn.Load(), OctetsOut: c.octetsOut.Load(),
		LineIn: c.lineIn.Load(), LineOut: c.lineOut.Load(),
		Dropped: c.dropped.Load(), Early: c.early.Load(),
		RoundTrip: time.Duration(c.roundTrip.Load()),
	}
	c.mu.Lock()
	s.Line = c.line
	c.mu.Unlock()
	l.mu.Lock()
	s.In, s.Out = l.in, l.out
	l.mu.Unlock()
	return s
}
