package host

import "testing"

// TestInitialWindow: about 64 KiB at once, and RFC 3390's window on a slow way.
func TestInitialWindow(t *testing.T) {
	for _, c := range []struct{ mtu, segments int }{
		{296, 4}, {576, 4}, {1280, 3}, // slow
		{1281, 54}, {1500, 46}, {9000, 8}, {65535, 2},
	} {
		if n := initialWindow(c.mtu); n != c.segments {
			t.Errorf("MTU %d: %d segments, want %d", c.mtu, n, c.segments)
		}
	}
}
