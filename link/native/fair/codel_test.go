package fair

import (
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/tunnel"
)

// offer has a flow offer packets at twice the rate at which they are taken, one every
// 2 ms, and returns when it was told to slow down.
func offer(q *Queue, packet func(i uint32) tunnel.Packet, long time.Duration) (told []time.Duration) {
	n := uint32(0)
	for now := time.Duration(0); now < long; now += 2 * time.Millisecond {
		for range 2 {
			q.Push(now, packet(n))
			n++
		}
		before := q.Stats()
		q.Pop(now, 1514)
		for range q.Stats().Dropped - before.Dropped + q.Stats().Marked - before.Marked {
			told = append(told, now)
		}
	}
	return told
}

// TestCodel: RFC 8289, section 4: a queue that stands is told once it has stood for an
// interval, then ever more often.
func TestCodel(t *testing.T) {
	q := New(offloads)
	told := offer(q, func(i uint32) tunnel.Packet { return bulk(1000, i) }, 4*time.Second)
	if len(told) < 10 || told[0] < target+interval || told[0] > 2*target+interval+10*time.Millisecond {
		t.Fatalf("told at %v", told)
	}
	for i, want := range []time.Duration{interval, interval * 707 / 1000, interval * 577 / 1000, interval / 2} {
		if took := told[i+1] - told[i]; took < want-3*time.Millisecond || took > want+3*time.Millisecond {
			t.Errorf("told for the %d. time after another %v, want %v", i+2, took, want)
		}
	}
	if s := q.Stats(); s.Marked != 0 || s.Dropped != uint64(len(told)) {
		t.Errorf("%+v", s)
	}
}

// TestQuench: who can be reached is told as often, and loses nothing.
func TestQuench(t *testing.T) {
	q := New(offloads)
	var told []time.Duration
	q.Quench = func(p []byte, waited time.Duration) bool {
		if got := port(tunnel.Packet{Data: p}); got != 1000 {
			t.Fatalf("a packet from port %d is blamed", got)
		}
		told = append(told, waited)
		return true
	}
	if lost := offer(q, func(i uint32) tunnel.Packet { return bulk(1000, i) }, 4*time.Second); len(lost) > 0 {
		t.Errorf("packets were lost at %v", lost)
	}
	if s := q.Stats(); len(told) < 10 || s.Quenched != uint64(len(told)) {
		t.Fatalf("told %d times, %+v", len(told), s)
	}
	for i, waited := range told {
		if waited < target || i > 0 && waited < told[i-1] {
			t.Errorf("told that packets waited %v, the time before %v", waited, told[max(0, i-1)])
		}
	}
	q.Quench = func([]byte, time.Duration) bool { return false }
	if lost := offer(q, func(i uint32) tunnel.Packet { return bulk(2000, i) }, 4*time.Second); len(lost) < 10 {
		t.Errorf("who cannot be reached lost packets at %v alone", lost)
	}
}

// TestMarks: where both ends understand, they are told without a loss.
func TestMarks(t *testing.T) {
	for version, packet := range map[int]func(i uint32) tunnel.Packet{
		4: func(i uint32) tunnel.Packet {
			p := bulk(1000, i)
			p.Data[1] |= 2 // ECT(0)
			p.Data[10], p.Data[11] = 0, 0
			c := ^sum(p.Data[:20])
			p.Data[10], p.Data[11] = byte(c>>8), byte(c)
			return p
		},
		6: func(uint32) tunnel.Packet { return ecn6(1452) },
	} {
		q := New(offloads)
		told := offer(q, packet, 4*time.Second)
		if s := q.Stats(); s.Dropped != 0 || s.Marked != uint64(len(told)) || len(told) < 10 {
			t.Fatalf("IPv%d: %+v, told at %v", version, s, told)
		}
		marked := 0
		for now := 4 * time.Second; !q.Empty(); now += 2 * time.Millisecond {
			for _, p := range q.Pop(now, 1514) {
				checked(t, p)
				if p.Data[1]&3 == 3 && version == 4 || p.Data[1]&0x30 == 0x30 && version == 6 {
					marked++
				}
			}
		}
		if marked == 0 {
			t.Errorf("IPv%d: no mark came out", version)
		}
	}
}

// TestSuperPacketLosesOneSegment: the sender is told, and needs to send no more again
// than one segment.
func TestSuperPacketLosesOneSegment(t *testing.T) {
	q := New(offloads)
	const payload, supers = 10 * 1448, 80
	for i := range uint32(supers) {
		q.Push(0, super(1000, i*payload, payload))
	}
	got, gap, next := 0, 0, uint32(0)
	for now := 40 * time.Millisecond; !q.Empty(); now += 3 * time.Millisecond {
		for _, p := range q.Pop(now, burst) {
			h := checked(t, p)
			if lost := seq(p) - next; lost > 0 {
				gap++
				if lost != 1448 {
					t.Errorf("at %v %d octets are missing", now, lost)
				}
			}
			next = seq(p) + uint32(len(p.Data)-h.Payload)
			got += len(p.Data) - h.Payload
		}
	}
	if gap < 2 || uint64(gap) != q.Stats().Dropped || got != supers*payload-gap*1448 {
		t.Errorf("%d gaps, %+v, %d octets came", gap, q.Stats(), got)
	}
}

// TestTwoPacketsDoNotStand: with no more than two of its packets waiting, a flow has
// nothing to take back, however slow the way is.
func TestTwoPacketsDoNotStand(t *testing.T) {
	q := New(offloads)
	q.Push(0, bulk(1000, 0))
	for i := range uint32(100) {
		now := time.Duration(i) * time.Second
		q.Push(now, bulk(1000, i+1))
		q.Pop(now+time.Second, 1514)
	}
	if s := q.Stats(); s.Dropped != 0 || s.Packets != 1 {
		t.Errorf("%+v", s)
	}
}

// TestExcused: what waited while the way stood still is not dropped for its age, and what
// comes after is again.
func TestExcused(t *testing.T) {
	q := New(offloads)
	for i := range uint32(500) {
		q.Push(time.Duration(i)*time.Millisecond, bulk(1000, i))
	}
	q.Excuse()
	if age := q.Age(time.Minute); age != 0 {
		t.Errorf("what is excused has waited for %v", age)
	}
	now := time.Minute
	for i := uint32(500); i > 0; i-- {
		q.Pop(now, 1514)
		now += 2 * time.Millisecond
		q.Push(now, bulk(1000, 1000-i))
	}
	if s := q.Stats(); s.Dropped > 0 {
		t.Errorf("excused: %+v", s)
	}
	for !q.Empty() {
		q.Pop(now, 1514)
		now += 2 * time.Millisecond
	}
	if s := q.Stats(); s.Dropped == 0 {
		t.Errorf("after that: %+v", s)
	}
}
