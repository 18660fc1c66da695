package flight

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// A world is a simulation of discrete events.
type world struct {
	now    time.Duration
	events events
	count  int
	rand   *rand.Rand
}

type event struct {
	at    time.Duration
	order int
	do    func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return x
}

func (w *world) at(t time.Duration, do func()) {
	w.count++
	heap.Push(&w.events, event{max(t, w.now), w.count, do})
}

func (w *world) in(d time.Duration, do func()) { w.at(w.now+d, do) }

func (w *world) run(until time.Duration) {
	for len(w.events) > 0 && w.events[0].at <= until {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
	}
	w.now = until
}

// A link is a bottleneck with a drop-tail buffer, and the way behind it.
type link struct {
	w      *world
	rate   func(time.Duration) float64       // octets per second
	delay  func(time.Duration) time.Duration // one way
	jitter time.Duration                     // up to so much more; nothing overtakes
	slot   time.Duration                     // how long the same jitter lasts; 0: a packet
	loss   float64
	buffer int // octets

	slotEnd, more time.Duration

	queued  int
	free    time.Duration // when the last octet queued has left
	arrives time.Duration // when the last packet arrives
	carried int
}

func (l *link) send(n int, arrived func()) {
	if l.queued+n > max(l.buffer, n) {
		return
	}
	l.queued += n
	l.free = max(l.free, l.w.now) + seconds(float64(n)/l.rate(l.w.now))
	l.w.at(l.free, func() {
		l.queued -= n
		l.carried += n
		if l.loss > 0 && l.w.rand.Float64() < l.loss {
			return
		}
		at := l.w.now + l.delay(l.w.now)
		if l.jitter > 0 {
			if l.slot == 0 || l.w.now > l.slotEnd {
				l.slotEnd = l.w.now + l.slot
				l.more = time.Duration(l.w.rand.Int64N(int64(l.jitter)))
			}
			at += l.more
		}
		l.arrives = max(l.arrives, at)
		l.w.at(l.arrives, arrived)
	})
}

// A tcp is a TCP connection in one direction, with selective acknowledgements, and what
// lies before it: a buffer of so many octets, which is ssh's window, pipes and sockets.
type tcp struct {
	w       *world
	l       *link
	mss     int
	buffer  int
	control control

	delivered func(total int) // at the receiver, in order
	drained   func()          // there is room in the buffer again

	written, taken int // octets from above; of those sent at least once
	cumulative     int // octets acknowledged in order
	acked          int // octets acknowledged in any order
	ackedAt        time.Duration
	inFlight       int
	segments       []segment
	sendings       []sending
	front          int   // the first sending that is neither acknowledged nor given up
	lost           []int // segments to send again
	losses         uint64
	recovery       int // the sending that ends it
	limited        bool
	appUntil       int // what is acknowledged up to here was not sent at full speed
	srtt, least    time.Duration
	trip           time.Duration // the last
	timers         int
	nextSend       time.Duration
	waiting        bool

	next, inOrder int // the receiver: the first missing segment, octets before it
}

type segment struct {
	size       int
	got, acked bool
}

type sending struct {
	segment int
	at      time.Duration
	acked   int
	ackedAt time.Duration
	slack   bool // the sender had nothing more to send
	done    bool
}

// A control is a congestion control.
type control interface {
	window() float64                 // octets
	pace() float64                   // octets per second; 0: no pacing
	ack(t *tcp, n int, rate float64) // rate 0: not known
	loss(t *tcp)                     // once a round trip
}

func newTCP(w *world, l *link, mss, buffer int, c control) *tcp {
	return &tcp{w: w, l: l, mss: mss, buffer: buffer, control: c, delivered: func(int) {}, drained: func() {}}
}

// write takes what fits.
func (t *tcp) write(n int) int {
	n = max(0, min(n, t.buffer-(t.written-t.cumulative)))
	t.written += n
	t.push()
	return n
}

func (t *tcp) push() {
	for !t.waiting && float64(t.inFlight) < t.control.window() {
		pace := t.control.pace()
		if pace > 0 && t.nextSend > t.w.now {
			t.waiting = true
			t.w.at(t.nextSend, func() { t.waiting = false; t.push() })
			return
		}
		var i int
		if len(t.lost) > 0 {
			i, t.lost = t.lost[0], t.lost[1:]
			if t.segments[i].acked {
				continue
			}
		} else if size := min(t.mss, t.written-t.taken); size > 0 {
			i = len(t.segments)
			t.segments = append(t.segments, segment{size: size})
			t.taken += size
		} else {
			t.limited = false
			t.appUntil = t.acked + t.inFlight
			return
		}
		size := t.segments[i].size
		if pace > 0 {
			t.nextSend = max(t.nextSend, t.w.now) + seconds(float64(size+52)/pace)
		}
		t.transmit(i, size)
	}
	if !t.waiting {
		t.limited = true
	}
}

func (t *tcp) transmit(i, size int) {
	if t.inFlight == 0 {
		t.ackedAt = t.w.now
		t.timer()
	}
	t.inFlight += size
	k := len(t.sendings)
	t.sendings = append(t.sendings, sending{segment: i, at: t.w.now, acked: t.acked, ackedAt: t.ackedAt, slack: t.appUntil > t.acked})
	t.l.send(size+52, func() {
		t.segments[i].got = true
		before := t.inOrder
		for t.next < len(t.segments) && t.segments[t.next].got {
			t.inOrder += t.segments[t.next].size
			t.next++
		}
		if t.inOrder > before {
			t.delivered(t.inOrder)
		}
		cumulative := t.inOrder
		t.w.in(t.l.delay(t.w.now), func() { t.ack(k, cumulative) })
	})
}

// ack is told by the receiver that sending k has come.
func (t *tcp) ack(k, cumulative int) {
	s := &t.sendings[k]
	seg := &t.segments[s.segment]
	room := cumulative > t.cumulative
	t.cumulative = max(t.cumulative, cumulative)
	if !seg.acked {
		seg.acked = true
		if !s.done {
			t.inFlight -= seg.size
		}
		t.acked += seg.size
		t.ackedAt = t.w.now
		trip := t.w.now - s.at
		t.trip = trip
		if t.srtt == 0 {
			t.srtt, t.least = trip, trip
		}
		t.srtt += (trip - t.srtt) / 8
		t.least = min(t.least, trip)
		rate := 0.0
		if span := t.w.now - s.ackedAt; span > 0 {
			rate = float64(t.acked-s.acked) / span.Seconds()
		}
		if s.slack {
			rate = -rate
		}
		t.control.ack(t, seg.size, rate)
	} else if !s.done {
		t.inFlight -= seg.size
	}
	s.done = true
	for ; t.front < k-3; t.front++ { // what was sent three before and is not there is lost
		t.giveUp(t.front)
	}
	t.push()
	if room {
		t.drained()
	}
}

func (t *tcp) giveUp(k int) {
	s := &t.sendings[k]
	if s.done {
		return
	}
	s.done = true
	seg := t.segments[s.segment]
	t.inFlight -= seg.size
	if seg.acked {
		return
	}
	t.losses++
	t.lost = append(t.lost, s.segment)
	if k >= t.recovery {
		t.recovery = len(t.sendings)
		t.control.loss(t)
	}
}

// timer sends again what nothing is heard of.
func (t *tcp) timer() {
	t.timers++
	id := t.timers
	at := max(t.ackedAt, t.sendings0()) + max(200*time.Millisecond, 2*t.srtt)
	t.w.at(max(at, t.w.now+time.Millisecond), func() {
		if id != t.timers || t.inFlight == 0 {
			return
		}
		if t.w.now-t.ackedAt >= max(200*time.Millisecond, 2*t.srtt) {
			for ; t.front < len(t.sendings); t.front++ {
				t.giveUp(t.front)
			}
			t.ackedAt = t.w.now
			t.push()
		}
		t.timer()
	})
}

func (t *tcp) sendings0() time.Duration {
	if t.front < len(t.sendings) {
		return t.sendings[t.front].at
	}
	return 0
}

// Path makes a tcp a carrier.Socket.
func (t *tcp) Path() carrier.Path {
	_, paced := t.control.(*bbr)
	return carrier.Path{RoundTrip: t.srtt, LeastRoundTrip: t.least, Unsent: t.written - t.taken, Lost: t.losses, Paced: paced}
}

// cubic is RFC 9438, without HyStart.
type cubic struct {
	cwnd, threshold, most float64
	epoch                 time.Duration
	reno                  float64
	roundEnd              int
	roundLeast            time.Duration
}

func (c *cubic) window() float64 { return c.cwnd }
func (c *cubic) pace() float64   { return 0 }
func (c *cubic) ack(t *tcp, n int, _ float64) {
	if !t.limited && len(t.lost) == 0 {
		return
	}
	if c.cwnd < c.threshold {
		c.cwnd += float64(n)
		if t.acked > c.roundEnd { // HyStart, RFC 9406
			c.roundEnd, c.roundLeast = t.acked+t.inFlight, t.trip
		}
		c.roundLeast = min(c.roundLeast, t.trip)
		if t.acked > c.roundEnd-t.inFlight/2 && c.roundLeast > t.least+min(max(t.least/8, 4*time.Millisecond), 16*time.Millisecond) {
			c.threshold = c.cwnd
		}
		return
	}
	mss := float64(t.mss)
	if c.epoch == 0 {
		c.epoch, c.reno = t.w.now, c.cwnd
		c.most = max(c.most, c.cwnd)
	}
	at := (t.w.now - c.epoch + t.srtt).Seconds() - math.Cbrt((c.most-c.cwndAt())/mss/0.4)
	target := c.most + 0.4*at*at*at*mss
	c.reno += 0.53 * float64(n) * mss / c.cwnd
	if target = max(target, c.reno); target > c.cwnd {
		c.cwnd += min(0.5, (target-c.cwnd)/c.cwnd) * float64(n)
	}
}

func (c *cubic) cwndAt() float64 { return min(c.most, c.threshold) }

func (c *cubic) loss(*tcp) {
	c.most = c.cwnd
	c.cwnd = max(c.cwnd*0.7, 2*1448)
	c.threshold, c.epoch = c.cwnd, 0
}

// bbr is BBR version 1, roughly.
type bbr struct {
	rates    [10]float64
	roundEnd int
	rounds   int
	full     float64
	stuck    int
	mode     int // startup, drain, probe
	cycle    int
	cycleAt  time.Duration
	least    time.Duration
	mss      int
}

func (b *bbr) rate() (r float64) {
	for _, v := range b.rates {
		r = max(r, v)
	}
	return r
}

func (b *bbr) window() float64 {
	gain := 2.0
	if b.mode == 0 {
		gain = 2.89
	}
	return max(10*1448, gain*b.rate()*b.least.Seconds()+3*float64(b.mss))
}

func (b *bbr) pace() float64 {
	r := b.rate()
	if r == 0 {
		return 10 * 1448 / 0.01
	}
	switch {
	case b.mode == 0:
		return 2.89 * r
	case b.mode == 1:
		return r / 2.89
	}
	return []float64{1.25, .75, 1, 1, 1, 1, 1, 1}[b.cycle] * r * 0.99
}

func (b *bbr) ack(t *tcp, _ int, rate float64) {
	b.mss, b.least = t.mss, t.least
	if t.acked >= b.roundEnd {
		b.roundEnd = t.acked + t.inFlight
		b.rounds++
		b.rates[b.rounds%len(b.rates)] = 0
		if b.mode == 0 && rate > 0 {
			if r := b.rate(); r > b.full*1.25 {
				b.full, b.stuck = r, 0
			} else if b.stuck++; b.stuck >= 3 {
				b.mode = 1
			}
		}
	}
	if rate < 0 && -rate > b.rate() {
		rate = -rate
	}
	if rate > 0 {
		b.rates[b.rounds%len(b.rates)] = max(rate, b.rates[b.rounds%len(b.rates)])
	} else if b.rates[b.rounds%len(b.rates)] == 0 {
		b.rates[b.rounds%len(b.rates)] = b.rates[(b.rounds+9)%len(b.rates)] // slack: no new knowledge
	}
	if b.mode == 1 && float64(t.inFlight) < b.rate()*b.least.Seconds() {
		b.mode, b.cycle, b.cycleAt = 2, 2, t.w.now
	}
	bdp := b.rate() * b.least.Seconds()
	over := t.w.now-b.cycleAt > b.least
	switch b.cycle {
	case 0:
		over = over && float64(t.inFlight) >= 1.25*bdp
	case 1:
		over = over || float64(t.inFlight) <= bdp
	}
	if b.mode == 2 && over {
		b.cycle, b.cycleAt = (b.cycle+1)%8, t.w.now
	}
}

func (b *bbr) loss(*tcp) {}
