package lab

import (
	"math"
	"testing"
	"time"
)

// At 8 Mbit/s an octet takes a microsecond, and a frame of 1,000 octets a millisecond.
func TestLane(t *testing.T) {
	const ms = int64(time.Millisecond)
	type frame struct {
		came int64 // ms
		size int
		due  int64 // ms
		what outcome
	}
	for _, tt := range []struct {
		name   string
		way    Way
		frames []frame
	}{
		{"nothing in the way", Way{}, []frame{{0, 1000, 0, passes}, {7, 60, 7, passes}}},
		{"one after the other", Way{Rate: 8e6}, []frame{{0, 1000, 1, passes}, {0, 2000, 3, passes}, {1, 1000, 4, passes}}},
		{"an idle link saves nothing up", Way{Rate: 8e6}, []frame{{0, 1000, 1, passes}, {50, 1000, 51, passes}, {50, 1000, 52, passes}}},
		{"a delay comes after sending", Way{Rate: 8e6, Delay: 20 * time.Millisecond}, []frame{{0, 1000, 21, passes}, {0, 1000, 22, passes}}},
		{"a delay alone", Way{Delay: 20 * time.Millisecond}, []frame{{0, 1000, 20, passes}, {0, 1000, 20, passes}, {3, 60, 23, passes}}},
		{"the buffer to the last octet", Way{Rate: 8e6, Buffer: 2000}, []frame{
			{0, 1000, 1, passes}, {0, 1000, 2, passes}, {0, 1, 0, dropped}, {1, 1000, 3, passes}, {1, 1, 0, dropped},
		}},
		{"a buffer smaller than the frame", Way{Rate: 8e6, Buffer: 999}, []frame{{0, 1000, 0, dropped}, {0, 0, 0, passes}}},
		{"all is lost, and has used the link", Way{Rate: 8e6, Buffer: 1000, Loss: 1}, []frame{{0, 1000, 0, lost}, {0, 1000, 0, dropped}, {1, 1000, 0, lost}}},
	} {
		l := newLane(tt.way)
		for i, f := range tt.frames {
			due, what := l.take(f.came*ms, f.size, true)
			if due != f.due*ms || what != f.what {
				t.Errorf("%s: frame %d: due at %v, %d; want %d ms, %d", tt.name, i, time.Duration(due), what, f.due, f.what)
			}
		}
	}
}

// TestLaneExact: what does not divide evenly does not add up either.
func TestLaneExact(t *testing.T) {
	l := newLane(Way{Rate: 7_000_003})
	const n, size = 100_000, 1514
	var due int64
	for range n {
		due, _ = l.take(0, size, true)
	}
	want := float64(n) * size * 8 / 7_000_003 * 1e9
	if math.Abs(float64(due)-want) > 1 {
		t.Errorf("%d frames are sent after %d ns, want %.0f", n, due, want)
	}
}

// TestLaneDice: chance is the seed's, frame by frame, whatever else becomes of them.
func TestLaneDice(t *testing.T) {
	const n = 20_000
	fates := func(w Way) (list []bool, count int) {
		l := newLane(w)
		for i := range n {
			_, what := l.take(int64(i)*int64(time.Millisecond), 1514, true)
			list = append(list, what == lost)
			if what == lost {
				count++
			}
		}
		return list, count
	}
	one, count := fates(Way{Loss: .01, Seed: 1})
	if count < 140 || count > 260 { // 200, and 4 standard deviations
		t.Errorf("%d of %d frames are lost, not about 1 %%", count, n)
	}
	same, _ := fates(Way{Loss: .01, Seed: 1, Rate: 20e6, Delay: time.Second, Jitter: time.Second})
	other, _ := fates(Way{Loss: .01, Seed: 2})
	differ := false
	for i := range n {
		if one[i] != same[i] {
			t.Fatalf("frame %d has another fate at another rate", i)
		}
		differ = differ || one[i] != other[i]
	}
	if !differ {
		t.Error("two seeds agree in everything")
	}
	l := newLane(Way{Loss: 1})
	if _, what := l.take(0, 42, false); what != passes {
		t.Error("a frame without IP is lost")
	}
}

func TestLaneJitter(t *testing.T) {
	const n = 10_000
	for _, reorder := range []bool{false, true} {
		l := newLane(Way{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond, Reorder: reorder, Seed: 3})
		var last, most, sum int64
		least, overtaken := int64(math.MaxInt64), 0
		for i := range n {
			now := int64(i) * int64(time.Millisecond)
			due, _ := l.take(now, 1514, true)
			least, most, sum = min(least, due-now), max(most, due-now), sum+due-now
			if due < last {
				overtaken++
			}
			last = due
		}
		if least < int64(10*time.Millisecond) || most > int64(20*time.Millisecond) {
			t.Errorf("reorder %v: delays from %v to %v", reorder, time.Duration(least), time.Duration(most))
		}
		if mean := time.Duration(sum / n); reorder && (mean < 14800*time.Microsecond || mean > 15200*time.Microsecond) {
			t.Errorf("a mean delay of %v, want 15 ms", mean)
		}
		if (overtaken > 0) != reorder {
			t.Errorf("reorder %v: %d frames came before an earlier one", reorder, overtaken)
		}
	}
}

// TestLaneBecomes: what is on its way stays ahead of what comes after a change.
func TestLaneBecomes(t *testing.T) {
	l := newLane(Way{Rate: 8e6, Delay: 50 * time.Millisecond})
	first, _ := l.take(0, 1000, true)
	l.become(Way{Rate: 80e6})
	if second, _ := l.take(0, 1000, true); second < first {
		t.Errorf("a frame comes out at %v, before the one ahead of it at %v", time.Duration(second), time.Duration(first))
	}
}
