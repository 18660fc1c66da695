package tcp

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The congestion control of a socket for which none was chosen. What a tunnel has under
// way is bounded by what the way holds, so its queues do not overflow and one that goes by
// loss, as cubic does, has nothing to go by, and serves as well as any. Where segments are
// lost though there is no queue it does not: one percent leaves 3 of 100 Mbit/s, since a
// tunnel is one connection for all that is inside. There BBR takes its place, which goes
// by the rate that arrives (draft-cardwell-iccrg-bbr-congestion-control), and keeps 90 of them.
//
// BBR from the beginning would cost what is small: once in ten seconds it has no more than
// four packets under way for 200 ms, in which keystrokes and acknowledgements wait for a
// round trip of the way's.

const bbr = "bbr"

// byLoss are congestion controls that go by loss, the better first (RFC 9438, RFC 5681).
var byLoss = []string{"cubic", "reno"}

// begin has a socket go by loss, if it may.
func begin(fd int) {
	for _, name := range byLoss {
		if choose(fd, name) == nil {
			return
		}
	}
}

// A loss watches for segments that are lost though there is no queue.
type loss struct {
	watched bool   // nothing was chosen, and it goes by loss
	sent    uint32 // segments sent again so far
	times   int    // that there were more and there was no queue
}

const (
	// long is from what round trip on a way is long, in microseconds. There one loss is
	// enough: to wait for a third took three seconds at a tenth of the rate of a way of
	// 50 ms.
	long = 10_000

	// enough is how often segments have to be lost on a shorter one, where a queue is
	// hard to tell from none, who goes by loss recovers at once, and pacing costs much.
	enough = 3
)

// seen notes what the kernel says, and reports whether it was often enough.
func (l *loss) seen(info *unix.TCPInfo) bool {
	if info.Total_retrans == l.sent {
		return false
	}
	l.sent = info.Total_retrans
	if info.Rtt <= info.Min_rtt/4*5+5000 { // microseconds
		l.times++
	}
	return l.times >= enough || l.times > 0 && info.Min_rtt >= long
}

// control reads what congestion control a socket has.
func (s *socket) control(fd int) {
	name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	name = strings.TrimRight(name, "\x00")
	s.paced = err == nil && name == bbr
	s.loss.watched = s.loss.watched && err == nil && slices.Contains(byLoss, name)
}

// adapt changes to BBR if there is reason to, and it may.
func (s *socket) adapt(fd int) {
	if !s.loss.watched || !s.loss.seen(&s.info) {
		return
	}
	s.loss.watched = false
	if choose(fd, bbr) == nil {
		s.paced = true
	}
}
