package flight

import (
	"testing"
	"time"
)

// TestFirstLimit: until something is known there is a little, what is slow gets
// less, and nothing exceeds Most.
func TestFirstLimit(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want int
	}{
		{Options{Most: 1 << 20}, 64 << 10},
		{Options{Most: 10000}, 10000},
		{Options{Most: 1 << 20, Rate: 30}, 256},
		{Options{Most: 1 << 20, Rate: 3600}, 900},
		{Options{Most: 1 << 20, Rate: 1e9}, 64 << 10},
	} {
		if got := New(c.o).Limit(); got != c.want {
			t.Errorf("%+v: first limit %d, want %d", c.o, got, c.want)
		}
	}
}

// TestRoundTrips: an acknowledgement in the middle of what was sent at once tells its
// round trip, and one of more than was sent does no harm.
func TestRoundTrips(t *testing.T) {
	b := New(Options{Most: 1 << 20})
	if s, l := b.RoundTrip(); s != 0 || l != 0 || b.Rate() != 0 || b.Burst() != frame {
		t.Errorf("at first: round trip %v, least %v, rate %v, burst %d", s, l, b.Rate(), b.Burst())
	}
	b.Sent(1*time.Second, 1000)
	b.Sent(1*time.Second+10*time.Millisecond, 3000)
	b.Acked(1*time.Second+50*time.Millisecond, 2000)
	if s, l := b.RoundTrip(); s != 40*time.Millisecond || l != s {
		t.Errorf("round trip %v, least %v, want 40 ms", s, l)
	}
	b.Acked(1*time.Second+60*time.Millisecond, 1<<40)
	b.Acked(1*time.Second+60*time.Millisecond, 3)
	if b.acked != 4000 {
		t.Errorf("acknowledged %d octets of 4000 sent", b.acked)
	}
	if _, l := b.RoundTrip(); l != 40*time.Millisecond {
		t.Errorf("least %v, want 40 ms", l)
	}
}

// TestManyMarks: however small the pieces, the round trip of the oldest is known, and of
// the newest not shorter than it was.
func TestManyMarks(t *testing.T) {
	b := New(Options{Most: 1 << 20})
	for i := range 10 * marksSize {
		b.Sent(time.Duration(i)*time.Millisecond, 1)
	}
	b.Acked(time.Minute, 1)
	if s, _ := b.RoundTrip(); s != time.Minute {
		t.Errorf("round trip of the first %v, want a minute", s)
	}
	var m marks
	const coarse = 10 * marksSize * time.Millisecond / 50
	for i := range 10 * marksSize {
		m.push(mark{upTo: uint64(i + 1), at: time.Duration(i) * time.Millisecond})
	}
	for total := uint64(1); total <= 10*marksSize; total++ {
		k, ok := m.reach(total)
		if sent := time.Duration(total-1) * time.Millisecond; !ok || k.at > sent || sent-k.at > coarse {
			t.Fatalf("octet %d was sent at %v, not %v (%v)", total, sent, k.at, ok)
		}
	}
	if _, ok := m.reach(1 << 40); ok {
		t.Error("what was not sent was acknowledged")
	}
}

// TestLeastOf: the least is forgotten after twenty to thirty seconds.
func TestLeastOf(t *testing.T) {
	var l leastOf
	l.add(0, 10)
	for now := time.Duration(0); now < 20*time.Second; now += time.Second {
		if l.add(now, 30); l.least() != 10 {
			t.Fatalf("after %v: %d, want 10", now, l.least())
		}
	}
	for now := 20 * time.Second; now < 31*time.Second; now += time.Second {
		l.add(now, 30)
	}
	if l.least() != 30 {
		t.Errorf("at last: %d, want 30", l.least())
	}
}

// TestOverdue: while nothing comes the limit grows by what the way carries, to its double
// at most, and an acknowledgement of all takes that back.
func TestOverdue(t *testing.T) {
	b := New(Options{Most: 1 << 24})
	now := steadily(b, 0, 2*time.Second)
	before := b.limit
	for range 400 {
		wait := b.Overdue(now)
		if wait < burst/2 {
			t.Fatalf("to be asked again after %v", wait)
		}
		now += wait
		b.Sent(now, b.Limit()-int(b.sent-b.acked))
	}
	if after := b.Limit(); after != int(2*before) {
		t.Errorf("after a long silence %d, want the double of %.0f", after, before)
	}
	b.Acked(now, b.sent)
	if after := b.limit + b.credit; after > before*5/4 {
		t.Errorf("after it %.0f, not about %.0f", after, before)
	}
}

// steadily uses a way of 50 ms and 2 MB/s, as much as the limit allows, and returns when
// it stopped.
func steadily(b *Bound, now, lasting time.Duration) time.Duration {
	const rate = 2000 // octets per millisecond
	end := now + lasting
	type arrival struct {
		at    time.Duration
		total uint64
	}
	var under []arrival
	free := now
	for ; now < end; now += time.Millisecond {
		for len(under) > 0 && under[0].at <= now {
			b.Acked(now, under[0].total)
			under = under[1:]
		}
		for int(b.sent-b.acked) < b.Limit() {
			b.Sent(now, 1000)
			free = max(free, now) + 1000*time.Millisecond/rate
			under = append(under, arrival{free + 50*time.Millisecond, b.sent})
		}
		b.Overdue(now)
	}
	return now
}

// TestNoAllocation: what happens for each write and each acknowledgement costs nothing.
func TestNoAllocation(t *testing.T) {
	b := New(Options{Most: 1 << 24})
	now := time.Duration(0)
	if n := testing.AllocsPerRun(10000, func() {
		now += 100 * time.Microsecond
		b.Sent(now, 1500)
		b.Acked(now, b.sent-min(b.sent, 50000))
		b.Overdue(now)
		b.Limit()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSentAcked(b *testing.B) {
	w := New(Options{Most: 1 << 24})
	now := time.Duration(0)
	for b.Loop() {
		now += 100 * time.Microsecond
		w.Sent(now, 1500)
		w.Acked(now, w.sent-min(w.sent, 50000))
		w.Limit()
	}
}

// TestPace: after a pause what may be in flight does not go at once.
func TestPace(t *testing.T) {
	b := New(Options{Most: 1 << 24})
	now := steadily(b, 0, 2*time.Second) + 60*time.Millisecond
	b.Acked(now, b.sent)
	now += 10 * time.Second
	start, rate := now, b.Rate()
	for sent := 0; sent < 100_000; {
		wait := b.Overdue(now)
		n := b.Limit() - int(b.sent-b.acked)
		if n > 0 {
			b.Sent(now, n)
		}
		sent += n
		if most := rate*(now-start+lump).Seconds()*paceGain + 2*frame; float64(sent) > most {
			t.Fatalf("%d octets within %v, at %.0f octets per second", sent, now-start, rate)
		}
		now += wait
	}
	if took := now - start; took > seconds(100_000/rate)+lump {
		t.Errorf("100,000 octets take %v", took)
	}
}

// TestLittleSaysLittle: what a way carried of little traffic, some of it late behind what
// was lost, does not hold back the transfer that follows.
func TestLittleSaysLittle(t *testing.T) {
	b := New(Options{Most: 1 << 24})
	type arrival struct {
		at    time.Duration
		total uint64
	}
	var under []arrival
	for now := time.Duration(0); now < 5*time.Second; now += 10 * time.Millisecond {
		for len(under) > 0 && under[0].at <= now {
			b.Acked(now, under[0].total)
			under = under[1:]
		}
		took := 50 * time.Millisecond
		if now%time.Second > 700*time.Millisecond {
			took = 150 * time.Millisecond
		}
		b.Sent(now, 100)
		under = append(under, arrival{now + took, b.sent})
	}
	if room := b.Limit() - int(b.sent-b.acked); room < first*3/4 {
		t.Errorf("%d octets may go, want about %d", room, first)
	}
}
