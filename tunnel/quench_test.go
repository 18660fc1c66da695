package tunnel

import (
	"context"
	"testing"
	"time"
)

// A quenched Port is a Source and a Queuer.
type quenched struct {
	Port
	source Source
}

func (q *quenched) Quench([]byte, time.Duration) bool { return true }
func (q *quenched) SetSource(s Source)                { q.source = s }

// TestJoinIntroduces: each Port knows where its packets come from, if that can be told.
func TestJoinIntroduces(t *testing.T) {
	a, _ := Pipe(Caps{MTU: 1500})
	b, _ := Pipe(Caps{MTU: 1500})
	plain, _ := Pipe(Caps{MTU: 1500})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	one, other, alone := &quenched{Port: a}, &quenched{Port: b}, &quenched{Port: b}
	Join(ended, one, other)
	Join(ended, plain, alone)
	if one.source != Source(other) || other.source != Source(one) || alone.source != nil {
		t.Errorf("sources are %v, %v and %v", one.source, other.source, alone.source)
	}
}
