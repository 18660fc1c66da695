package flight

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// A way is a scenario: what lies between the two ends of a session.
type way struct {
	name    string
	rate    float64       // Mbit/s
	delay   time.Duration // round trip
	bdp     float64       // buffer of the bottleneck, in bandwidth-delay products
	loss    float64
	jitter  time.Duration
	slot    time.Duration // how long a jitter lasts; 0: a packet
	bbr     bool          // the carrier's congestion control; else cubic
	socket  bool          // the kernel is asked
	warm    bool          // the carrier has carried much before
	low     time.Duration // when something has made the limit the least there is; 0: never
	options Options

	changes func(time.Duration) float64       // factor of the rate
	longer  func(time.Duration) time.Duration // more round trip
	others  func(time.Duration) bool          // whether another cubic connection competes
	lazy    func(time.Duration, int) bool     // whether answers are 40 ms late, with so many octets in flight
	breaks  func(time.Duration) bool          // whether the program has nothing to send
	window  func(time.Duration) int           // octets in flight that it allows itself
	until   time.Duration                     // end; 0: 20 s
	from    time.Duration                     // measured from; 0: 2 s

	least   float64       // of the way's rate that must be used
	p95     time.Duration // wait of an octet at most; 0: as long as it likes
	unbound float64       // of what a sender without a bound gets at least
}

// A result is what was measured.
type result struct {
	used          float64
	p50, p95, p99 time.Duration
	limit         int
	full          time.Duration // when nine tenths of the rate were first reached
}

// run carries octets over the way, bounded or not.
func (y way) run(bounded bool, trace func(now time.Duration, b *Bound, inFlight int)) (r result) {
	w := &world{rand: rand.New(rand.NewPCG(1, seed))}
	until, from := y.until, y.from
	if until == 0 {
		until = 20 * time.Second
	}
	if from == 0 {
		from = 2 * time.Second
	}
	rate := y.rate * 1e6 / 8
	l := &link{w: w, jitter: y.jitter, slot: y.slot, loss: y.loss, buffer: max(3000, int(rate*y.delay.Seconds()*y.bdp)),
		rate: func(now time.Duration) float64 {
			if y.changes != nil {
				return rate * y.changes(now)
			}
			return rate
		},
		delay: func(now time.Duration) time.Duration {
			d := y.delay / 2
			if y.longer != nil {
				d += y.longer(now) / 2
			}
			return d
		},
	}
	mss := 1448
	if y.rate >= 1000 {
		mss = 62 << 10
	}
	newControl := func() control {
		if y.bbr {
			return new(bbr)
		}
		return &cubic{cwnd: float64(10 * mss), threshold: math.Inf(1)}
	}
	t := newTCP(w, l, mss, max(4<<20, int(4*rate*y.delay.Seconds())), newControl())
	if y.warm {
		if c, ok := t.control.(*cubic); ok {
			c.cwnd = max(c.cwnd, rate*y.delay.Seconds())
		}
	}
	o := y.options
	if o.Most == 0 {
		o.Most = 16 << 20
	}
	if y.socket {
		o.Socket = t
	}
	b := New(o)
	if y.low > 0 {
		w.in(y.low, func() {
			b.limit, b.starting, b.started = 1, false, true
			b.bound()
		})
	}

	type written struct {
		upTo int
		at   time.Duration
	}
	var (
		sent, acked, delivered int
		pending                []written
		waits                  []time.Duration
		timer                  int
		reached                int
		fill                   func()
	)
	fill = func() {
		timer++
		for y.breaks == nil || !y.breaks(w.now) {
			room := math.MaxInt
			if bounded {
				room = b.Limit() - (sent - acked)
				if y.window != nil {
					room = min(room, y.window(w.now)-(sent-acked))
				}
				if room <= 0 {
					break
				}
				room = max(packet, min(room, b.Burst())/packet*packet)
			} else {
				room = 64 << 10
			}
			n := t.write(room)
			if n == 0 {
				return
			}
			sent += n
			b.Sent(w.now, n)
			pending = append(pending, written{sent, w.now})
			if trace != nil {
				trace(w.now, b, sent-acked)
			}
		}
		if !bounded {
			return
		}
		id := timer
		again := 10 * time.Millisecond
		if y.breaks == nil || !y.breaks(w.now) {
			again = b.Overdue(w.now)
			if b.Limit() > sent-acked {
				again = 0
			}
		}
		w.in(max(again, time.Microsecond), func() {
			if id == timer {
				fill()
			}
		})
	}
	t.drained = func() { w.in(0, fill) }
	ackPending := false
	t.delivered = func(total int) {
		delivered = total
		for len(pending) > 0 && pending[0].upTo <= total {
			wait := w.now - pending[0].at - l.delay(w.now)
			if w.now > from {
				waits = append(waits, wait)
			}
			pending = pending[1:]
		}
		if ackPending {
			return
		}
		ackPending = true
		late := time.Duration(w.rand.Int64N(int64(2 * time.Millisecond)))
		if y.lazy != nil && y.lazy(w.now, sent-acked) {
			late += 40 * millisecond // RFC 1122, section 4.2.3.2, as Linux has it
		}
		w.in(late, func() {
			ackPending = false
			total := delivered
			w.in(l.delay(w.now), func() {
				acked = total
				b.Acked(w.now, uint64(total))
				fill()
			})
		})
	}
	if y.others != nil {
		other := newTCP(w, l, mss, 4<<20, &cubic{cwnd: float64(10 * mss), threshold: math.Inf(1)})
		var more func()
		more = func() {
			if y.others(w.now) {
				for other.write(64<<10) > 0 {
				}
			}
			w.in(10*time.Millisecond, more)
		}
		more()
	}
	capacity := 0.0
	step := 50 * time.Millisecond
	last := 0
	var watch func()
	watch = func() {
		if w.now > from {
			capacity += l.rate(w.now-step) * step.Seconds()
		}
		if r.full == 0 && float64(delivered-last) > 0.9*l.rate(w.now)*step.Seconds()*0.96 {
			r.full = w.now
		}
		last = delivered
		w.in(step, watch)
	}
	w.in(step, watch)
	w.in(0, fill)
	w.run(from)
	reached = delivered
	w.run(until)
	r.used = float64(delivered-reached) / capacity * float64(mss+52) / float64(mss)
	r.limit = b.Limit()
	slices.Sort(waits)
	if n := len(waits); n > 0 {
		r.p50, r.p95, r.p99 = waits[n/2], waits[n*95/100], waits[n*99/100]
	}
	return r
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()*1000) }

var _ carrier.Socket = (*tcp)(nil)

func after(at time.Duration, before, then float64) func(time.Duration) float64 {
	return func(now time.Duration) float64 {
		if now < at {
			return before
		}
		return then
	}
}

const packet = 1448 // octets that are written whole

// nagle is a proxy in the way that was not told TCP_NODELAY: until so much is under way it
// keeps the end of what it has until the rest is acknowledged, which takes its time
// (RFC 9293, section 3.7.4; RFC 896). At first it sees keystrokes, and passes them on.
func nagle(most int) func(time.Duration, int) bool {
	return func(now time.Duration, inFlight int) bool {
		return now > 100*millisecond && inFlight < most
	}
}

// keystrokes are all that there is for a while.
func keystrokes(now time.Duration) int {
	if now < 100*millisecond {
		return 1
	}
	return 1e6
}

// seed makes another run of the same ways.
var seed uint64 = 2

const millisecond = time.Millisecond

// ways are what the bound must be good at.
var ways = []way{
	{name: "20 Mbit/s, 1 BDP", rate: 20, delay: 50 * millisecond, bdp: 1, least: .95, p95: 10 * millisecond},
	{name: "20 Mbit/s, 20 BDP", rate: 20, delay: 50 * millisecond, bdp: 20, least: .95, p95: 10 * millisecond},
	{name: "20 Mbit/s, 20 BDP, BBR", rate: 20, delay: 50 * millisecond, bdp: 20, bbr: true, least: .95, p95: 10 * millisecond},
	{name: "20 Mbit/s, 20 BDP, socket", rate: 20, delay: 50 * millisecond, bdp: 20, socket: true, least: .95, p95: 10 * millisecond},
	{name: "20 Mbit/s, 20 BDP, warm", rate: 20, delay: 50 * millisecond, bdp: 20, warm: true, least: .95, p95: 10 * millisecond},
	{name: "100 Mbit/s, 1 BDP", rate: 100, delay: 50 * millisecond, bdp: 1, least: .95, p95: 10 * millisecond},
	{name: "100 Mbit/s, .1 %", rate: 100, delay: 50 * millisecond, bdp: 1, loss: .001, unbound: .9},
	{name: "100 Mbit/s, 1 %", rate: 100, delay: 50 * millisecond, bdp: 1, loss: .01, unbound: .9},
	{name: "100 Mbit/s, .1 %, BBR", rate: 100, delay: 50 * millisecond, bdp: 1, loss: .001, bbr: true, unbound: .9},
	{name: "100 Mbit/s, 1 %, BBR", rate: 100, delay: 50 * millisecond, bdp: 1, loss: .01, bbr: true, unbound: .88},
	{name: "100 Mbit/s, .1 %, socket", rate: 100, delay: 50 * millisecond, bdp: 1, loss: .001, socket: true, unbound: .9},
	{name: "100 Mbit/s, 1 %, socket", rate: 100, delay: 50 * millisecond, bdp: 1, loss: .01, socket: true, unbound: .9},
	{name: "100 Mbit/s, .1 %, BBR, socket", rate: 100, delay: 50 * millisecond, bdp: 1, loss: .001, bbr: true, socket: true, unbound: .9},
	{name: "100 Mbit/s, 1 %, BBR, socket", rate: 100, delay: 50 * millisecond, bdp: 1, loss: .01, bbr: true, socket: true, unbound: .9},
	{name: "10 Gbit/s, .1 ms", rate: 10000, delay: 100 * time.Microsecond, bdp: 40, least: .95, until: 2 * time.Second, from: time.Second / 2},
	{name: "1 Gbit/s, 1 ms", rate: 1000, delay: time.Millisecond, bdp: 4, least: .95, until: 4 * time.Second, p95: 15 * millisecond},
	{name: "1 Mbit/s, 30 ms", rate: 1, delay: 30 * millisecond, bdp: 20, least: .95, p95: 70 * millisecond},
	{name: "512 kbit/s, 30 ms", rate: .512, delay: 30 * millisecond, bdp: 20, from: 8 * time.Second, least: .95, p95: 180 * millisecond},
	{name: "4 Mbit/s, .3 ms", rate: 4, delay: 300 * time.Microsecond, bdp: 2000, least: .95, p95: 40 * millisecond},
	{name: "9600 baud, known", rate: .0096, delay: 200 * millisecond, bdp: 20, options: Options{Rate: 960}, least: .9, until: 200 * time.Second, from: 20 * time.Second},
	{name: "100 Mbit/s, 300 ms", rate: 100, warm: true, delay: 300 * millisecond, bdp: 1, least: .95, from: 5 * time.Second, p95: 45 * millisecond},
	{name: "50 Mbit/s, jitter 20 ms", rate: 50, delay: 30 * millisecond, jitter: 20 * millisecond, bdp: 5, least: .9, p95: 50 * millisecond},
	{name: "50 Mbit/s, slow jitter", rate: 50, delay: 30 * millisecond, jitter: 20 * millisecond, slot: 15 * millisecond, bdp: 5, least: .9, p95: 120 * millisecond},
	{name: "10:1 slower", rate: 100, delay: 50 * millisecond, bdp: 5, changes: after(10*time.Second, 1, .1), from: 12 * time.Second, least: .95, p95: 15 * millisecond},
	{name: "10:1 faster", rate: 100, delay: 50 * millisecond, bdp: 5, changes: after(10*time.Second, .1, 1), from: 12 * time.Second, least: .9, p95: 15 * millisecond},
	{name: "longer", rate: 20, delay: 30 * millisecond, bdp: 10, longer: func(now time.Duration) time.Duration {
		if now > 10*time.Second {
			return 60 * millisecond
		}
		return 0
	}, from: 12 * time.Second, until: 80 * time.Second, least: .88, p95: 45 * millisecond},
	{name: "a slow start above", rate: 20, delay: 50 * millisecond, bdp: 1, window: func(now time.Duration) int {
		return int(min(400e3, 14480*math.Exp2(now.Seconds()/.06)))
	}, from: time.Second, least: .95, p95: 10 * millisecond},
	{name: "a window above", rate: 20, delay: 50 * millisecond, bdp: 2, warm: true, window: func(now time.Duration) int { return 200e3 }, from: time.Second, least: .95, p95: 10 * millisecond},
	{name: "a relay with Nagle", rate: 900, delay: 200 * time.Microsecond, bdp: 200, lazy: nagle(400e3), window: keystrokes, least: .9},
	{name: "another relay with Nagle", rate: 900, delay: 200 * time.Microsecond, bdp: 200, lazy: nagle(20e3), window: keystrokes, low: time.Second, least: .9},
	{name: "a relay with Nagle at times", rate: 900, delay: 500 * time.Microsecond, bdp: 100, lazy: func(now time.Duration, inFlight int) bool {
		return nagle(30e3)(now, inFlight) && now%(90*millisecond) < 45*millisecond
	}, window: keystrokes, low: time.Second, least: .9},
	{name: "a relay with Nagle, noisy", rate: 900, delay: 300 * time.Microsecond, bdp: 100, lazy: func(now time.Duration, inFlight int) bool {
		return nagle(30e3)(now, inFlight) && (now/(7*millisecond))%3 != 0
	}, window: keystrokes, low: time.Second, least: .9},
	{name: "a longer relay with Nagle", rate: 100, delay: 10 * millisecond, bdp: 10, lazy: func(now time.Duration, inFlight int) bool {
		return nagle(30e3)(now, inFlight) && (now/(7*millisecond))%3 != 0
	}, window: keystrokes, low: time.Second, least: .9},
	{name: "a longer relay, Nagle at times", rate: 100, delay: 10 * millisecond, bdp: 10, lazy: func(now time.Duration, inFlight int) bool {
		return nagle(30e3)(now, inFlight) && now%(90*millisecond) < 45*millisecond
	}, window: keystrokes, low: time.Second, least: .9},
	{name: "a slow relay with Nagle", rate: 20, delay: 50 * millisecond, bdp: 1, lazy: nagle(10e3), window: keystrokes, least: .9, p95: 15 * millisecond},
	{name: "breaks", rate: 20, delay: 50 * millisecond, bdp: 10, breaks: func(now time.Duration) bool { return now%(2*time.Second) > time.Second }, least: .45, p95: 20 * millisecond},
	{name: "another, 1 BDP", rate: 20, delay: 50 * millisecond, bdp: 1, others: func(now time.Duration) bool { return true }, from: 10 * time.Second, until: 60 * time.Second, unbound: .38},
	{name: "another, 5 BDP", rate: 20, delay: 50 * millisecond, bdp: 5, others: func(now time.Duration) bool { return true }, from: 10 * time.Second, until: 60 * time.Second, unbound: .38},
	{name: "another for a while", rate: 20, delay: 50 * millisecond, bdp: 5, others: func(now time.Duration) bool { return now > 5*time.Second && now < 20*time.Second }, from: 30 * time.Second, until: 60 * time.Second, least: .95, p95: 15 * millisecond},
}

func TestWays(t *testing.T) {
	t.Logf("%-32s %6s %7s %7s %7s %8s %7s  %s", "way", "used", "p50 ms", "p95 ms", "p99 ms", "limit", "full at", "unbound: used, p50")
	for _, y := range ways {
		r, u := y.run(true, nil), y.run(false, nil)
		if y.others != nil {
			// Who gets how much of a queue is a matter of luck.
			for seed = 3; seed <= 6; seed++ {
				r.used += y.run(true, nil).used
				u.used += y.run(false, nil).used
			}
			seed = 2
			r.used, u.used = r.used/5, u.used/5
		}
		bad := ""
		if y.least > 0 && r.used < y.least {
			bad += fmt.Sprintf(" used < %v", y.least)
		}
		if y.p95 > 0 && r.p95 > y.p95 {
			bad += fmt.Sprintf(" p95 > %v", y.p95)
		}
		if y.unbound > 0 && r.used < y.unbound*u.used {
			bad += fmt.Sprintf(" used < %v of unbound", y.unbound)
		}
		line := fmt.Sprintf("%-32s %6.3f %7s %7s %7s %8d %7s  %.3f %7s %s", y.name, r.used, ms(r.p50), ms(r.p95), ms(r.p99), r.limit, ms(r.full), u.used, ms(u.p50), bad)
		if bad != "" {
			t.Error(line)
		} else {
			t.Log(line)
		}
	}
}
