package usernat

import (
	"net/netip"
	"sync"
	"time"
)

// A Refusal is one thing that was turned away, for a server's log. What it says of
// addresses and ports is what the inner side claims.
type Refusal struct {
	Kind     RefusalKind
	Protocol uint8          // IP protocol number (IANA); 0 when it is not known
	Src, Dst netip.AddrPort // ports are 0 for what has none; not valid when they are not known

	// Omitted is how many more, of any kind, were not told since the last Refusal
	// that was, because there were too many.
	Omitted uint64
}

// RefusalKind says why something was turned away.
type RefusalKind uint8

// The kinds of refusal, each with the count of Stats that it is a part of.
const (
	RefusalPolicy    RefusalKind = iota // RefusedPolicy
	RefusalFlows                        // RefusedFlows
	RefusalDials                        // RefusedDials
	RefusalMemory                       // RefusedMemory
	RefusalSource                       // DroppedSource
	RefusalMalformed                    // DroppedMalformed

	refusalKinds = iota // how many there are
)

// String returns the kind in a word.
func (k RefusalKind) String() string {
	names := [...]string{"policy", "flows", "dials", "memory", "source", "malformed"}
	if int(k) >= len(names) {
		return "unknown"
	}
	return names[k]
}

// refusalsPerSecond is how many refusals of a kind are told in a second at most: enough
// to see what a client tries, too few to fill a disk or to slow packets down.
const refusalsPerSecond = 10

// A teller hands refusals on to Config.Refused, not too many of them.
type teller struct {
	to func(Refusal)

	mu      sync.Mutex
	second  time.Time // when the count began
	told    [refusalKinds]int
	omitted uint64 // since the last that was told
}

// tell hands r on, or counts it. No lock is held while it is handed on.
func (t *teller) tell(r Refusal, now time.Time) {
	if t.to == nil {
		return
	}
	t.mu.Lock()
	if now.Sub(t.second) >= time.Second {
		t.second, t.told = now, [refusalKinds]int{}
	}
	if t.told[r.Kind] == refusalsPerSecond {
		t.omitted++
		t.mu.Unlock()
		return
	}
	t.told[r.Kind]++
	r.Omitted, t.omitted = t.omitted, 0
	t.mu.Unlock()
	t.to(r)
}
