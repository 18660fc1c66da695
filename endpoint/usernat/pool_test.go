package usernat

import (
	"sync"
	"testing"
)

// TestPool: each has its own, the rest is for who comes first, and all of it comes back.
func TestPool(t *testing.T) {
	pool := NewPool(10)
	greedy := places{limit: 100, own: 4, pool: pool}
	taken := 0
	for greedy.take() {
		taken++
	}
	if taken != 14 {
		t.Errorf("one alone took %d places, of 4 of its own and 10 for all", taken)
	}
	modest := places{limit: 100, own: 4, pool: pool}
	for i := range 4 {
		if !modest.take() {
			t.Errorf("the other got no place %d of its own", i+1)
		}
	}
	if modest.take() {
		t.Error("the other got more than its own of an empty pool")
	}
	greedy.leave()
	if !modest.take() {
		t.Error("what one gave back the other does not get")
	}
	for range 13 {
		greedy.leave()
	}
	for range 5 {
		modest.leave()
	}
	if left := pool.left.Load(); left != 10 {
		t.Errorf("%d of 10 are in the pool at the end", left)
	}
}

// TestPoolLimit: the pool gives no more than a NAT may have.
func TestPoolLimit(t *testing.T) {
	p := places{limit: 6, own: 4, pool: NewPool(10)}
	taken := 0
	for p.take() {
		taken++
	}
	if taken != 6 || p.pool.left.Load() != 8 {
		t.Errorf("took %d of 6, and left %d of 8 in the pool", taken, p.pool.left.Load())
	}
}

// TestPoolAtOnce: nothing is lost and nothing made when many take and give at once.
func TestPoolAtOnce(t *testing.T) {
	pool := NewPool(50)
	var users sync.WaitGroup
	for range 8 {
		p := &places{limit: 40, own: 5, pool: pool}
		for range 2 {
			users.Go(func() {
				for range 2000 {
					n := 0
					for n < 12 && p.take() {
						n++
					}
					for range n {
						p.leave()
					}
				}
			})
		}
	}
	users.Wait()
	if left := pool.left.Load(); left != 50 {
		t.Errorf("%d of 50 are in the pool at the end", left)
	}
}
