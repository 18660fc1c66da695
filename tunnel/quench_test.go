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
	var later [2]*quenched
	first, _ := Pipe(Caps{MTU: 1500})
	later[0] = &quenched{Port: first}
	opened := make(chan struct{})
	k := Keep(t.Context(), later[0], func(context.Context) (Port, error) {
		p, _ := Pipe(Caps{MTU: 1500})
		later[1] = &quenched{Port: p}
		return later[1], nil
	}, KeepOptions{Notify: func(e KeepEvent) {
		if e.Up {
			close(opened)
		}
	}})
	k.SetSource(one)
	first.Close()
	go k.ReadPackets(make([]Packet, 1))
	<-opened
	k.Close()
	if later[0].source != Source(one) || later[1].source != Source(one) {
		t.Errorf("beneath a Keeper, sources are %v and %v", later[0].source, later[1].source)
	}
	if one.source != Source(other) || other.source != Source(one) || alone.source != nil {
		t.Errorf("sources are %v, %v and %v", one.source, other.source, alone.source)
	}
}
