package serve

import (
	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/trust"
)

// How the machine is divided among clients.
const (
	// ownFlows is how many flows each session has that no other can take from it: what a
	// browser wants to open a page.
	ownFlows = 64

	// mostFlows is how many flows one session may have at most, where neither its line
	// nor --max-flows says.
	mostFlows = 16384

	// allBuffered is the most octets of TCP payload that all sessions together hold, if
	// all of them send to who does not read; of that, one has no less than leastBuffered
	// and no more than mostBuffered: windows of some 100 KiB and 2 MiB.
	allBuffered   = 4 << 30
	leastBuffered = 2 << 20
	mostBuffered  = 24 << 20

	// mostSilent is how many connections may be there whose client has not proved its
	// key.
	mostSilent = 20000
)

// A share is how the limit of open files and memory are divided.
type share struct {
	flows    int // of one session at most
	own      int // of them its own
	pool     *usernat.Pool
	buffered int
	silent   int // connections that nobody has proved a key on
}

// divide divides what this process may have among so many sessions; flows, if not 0, is
// how many one may have at most.
func divide(sessions, flows int) share {
	files := usernat.MaxFlows()
	s := share{silent: min(mostSilent, files/4)}
	files -= s.silent + sessions // a session is a connection itself
	files = max(files, sessions)
	s.own = min(ownFlows, max(1, files/2/sessions))
	pool := max(0, files-s.own*sessions)
	s.pool = usernat.NewPool(pool)
	if s.flows = flows; flows <= 0 {
		// One alone cannot empty the pool.
		s.flows = min(mostFlows, s.own+pool/2)
	}
	s.buffered = min(max(min(allBuffered, int(memory()/2))/sessions, leastBuffered), mostBuffered)
	return s
}

// natLimits are those of a client's NAT.
func (s *service) natLimits(client trust.Client) usernat.Limits {
	l := usernat.Limits{Flows: s.share.flows, Own: s.share.own, Pool: s.share.pool, Buffered: s.share.buffered}
	if client.Flows > 0 {
		l.Flows = min(l.Flows, client.Flows)
	}
	return l
}
