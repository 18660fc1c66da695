package alert

import (
	"testing"
	"time"
)

func TestSince(t *testing.T) {
	for _, c := range []struct {
		name         string
		awake, whole time.Duration // between two ticks
		want         string
	}{
		{"nothing", time.Second, time.Second, ""},
		{"a busy machine", 3900 * time.Millisecond, 3900 * time.Millisecond, ""},
		{"between two clocks", time.Second, 1999 * time.Millisecond, ""},
		{"a short sleep", time.Second, 2 * time.Second, "slept for 1 s"},
		{"a long one", 400 * time.Millisecond, 312*time.Second + 400*time.Millisecond, "slept for 312 s"},
		{"a night", time.Second, 8*time.Hour + time.Second, "slept for 28800 s"},
		{"stopped", 91 * time.Second, 91 * time.Second, "stood still for 90 s"},
		{"stopped, and slept", 10 * time.Second, 70 * time.Second, "slept for 60 s"},
		{"a wall clock that is set back", time.Second, -time.Hour, ""},
	} {
		before := moment{awake: time.Hour, whole: 5 * time.Hour}
		at := moment{before.awake + c.awake, before.whole + c.whole}
		if got := at.since(before); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestClocks: both clocks run, and together while nobody sleeps.
func TestClocks(t *testing.T) {
	before := now()
	for at := now(); at.awake-before.awake < 10*time.Millisecond; at = now() {
		if ahead := (at.whole - before.whole) - (at.awake - before.awake); ahead < -time.Second || ahead > time.Second {
			t.Fatalf("one clock is ahead by %v", ahead)
		}
	}
}
