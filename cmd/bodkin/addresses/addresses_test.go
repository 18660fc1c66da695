package addresses

import (
	"net/netip"
	"testing"
)

func TestIn(t *testing.T) {
	for i, want := range []string{"10.0.2.15", "fd62:6f64:6b69::15"} {
		if got := In(Networks[i], Peer); got != netip.MustParseAddr(want) {
			t.Errorf("%v: %v, want %s", Networks[i], got, want)
		}
	}
}
