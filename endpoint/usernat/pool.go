package usernat

import "sync/atomic"

// A Pool is a number of flows that several NATs of one process share, beyond those that
// each has for itself (Limits.Own): descriptors are the process's, and one NAT with many
// flows must not leave the others without any.
type Pool struct{ left atomic.Int64 }

// NewPool makes a Pool of so many flows.
func NewPool(flows int) *Pool {
	p := &Pool{}
	p.left.Store(int64(flows))
	return p
}

// take takes one flow, if there is one.
func (p *Pool) take() bool {
	for {
		left := p.left.Load()
		if left <= 0 {
			return false
		}
		if p.left.CompareAndSwap(left, left-1) {
			return true
		}
	}
}

func (p *Pool) give() { p.left.Add(1) }

// places are the flows that one NAT has taken.
type places struct {
	limit, own int64
	pool       *Pool // for those beyond own; nil: there are enough
	taken      atomic.Int64
}

// take takes a place, if there is one.
func (p *places) take() bool {
	for {
		taken := p.taken.Load()
		if taken >= p.limit {
			return false
		}
		pooled := p.pool != nil && taken >= p.own
		if pooled && !p.pool.take() {
			return false
		}
		if p.taken.CompareAndSwap(taken, taken+1) {
			return true
		}
		if pooled {
			p.pool.give()
		}
	}
}

// leave gives a place back: one of the Pool's, as long as there are more than our own.
func (p *places) leave() {
	if left := p.taken.Add(-1); p.pool != nil && left >= p.own {
		p.pool.give()
	}
}
