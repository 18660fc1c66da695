package front

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// sayEvery is how often it is logged that there are too many.
const sayEvery = time.Minute

// waiting are the connections whose peers have not proved who they are: in the order
// of their coming, all together and those of each source.
type waiting struct {
	most, perSource int
	stats           *Stats

	mu      sync.Mutex
	here    crowd
	sources map[netip.Prefix]*crowd
	said    time.Time // when it was logged that there are too many
}

// A crowd is some of them. Those that are known already, and in the middle of a handshake
// as a rule, stand apart from the silent, so that a flood of either makes those of its own
// kind give way.
type crowd struct{ silent, known list.List }

func (w *crowd) size() int { return w.silent.Len() + w.known.Len() }

// oldest returns the oldest of the larger kind; nil: there is none.
func (w *crowd) oldest() *Conn {
	from := &w.silent
	if w.known.Len() > w.silent.Len() {
		from = &w.known
	}
	if e := from.Front(); e != nil {
		return e.Value.(*Conn)
	}
	return nil
}

// A place is a connection's among those that wait.
type place struct {
	waits      atomic.Bool
	known      bool          // of waiting.mu, as are:
	all, among *list.Element // of waiting.here, and of its source's crowd
}

func (w *waiting) init(most, perSource int, stats *Stats) {
	w.most, w.perSource, w.stats = most, perSource, stats
	w.sources = make(map[netip.Prefix]*crowd)
}

// sourceOf returns what of an address shares a bound: an IPv4 address, or the 64 bits of
// an IPv6 network, in which one machine has as many addresses as it likes.
func sourceOf(a net.Addr) netip.Prefix {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits)
	return p
}

// add puts c, which is silent, in its place. If there are too many now, it returns the
// one that gives way, which is to be closed.
func (w *waiting) add(c *Conn) (victim *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.place.waits.Store(true)
	c.place.all = w.here.silent.PushBack(c)
	w.stats.Silent.Add(1)
	w.stats.Waiting.Add(1)
	if c.source.IsValid() {
		share := w.sources[c.source]
		if share == nil {
			share = new(crowd)
			w.sources[c.source] = share
		}
		c.place.among = share.silent.PushBack(c)
		if share.size() > w.perSource {
			victim = share.oldest()
		}
	}
	if victim == nil && w.here.size() > w.most {
		victim = w.here.oldest()
	}
	if victim != nil {
		w.leave(victim)
	}
	return victim
}

// shed returns a connection that gives way, which is to be closed; nil: there is none.
func (w *waiting) shed() (victim *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if victim = w.here.oldest(); victim != nil {
		w.leave(victim)
	}
	return victim
}

// spoke says that c is known.
func (w *waiting) spoke(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !c.place.waits.Load() || c.place.known {
		return
	}
	c.place.known = true
	w.stats.Silent.Add(-1)
	w.here.silent.Remove(c.place.all)
	c.place.all = w.here.known.PushBack(c)
	if share := w.sources[c.source]; share != nil {
		share.silent.Remove(c.place.among)
		c.place.among = share.known.PushBack(c)
	}
}

// remove takes c away, because it is authenticated or closed. It reports whether it was
// there.
func (w *waiting) remove(c *Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !c.place.waits.Load() {
		return false
	}
	w.leave(c)
	return true
}

// leave takes c away. The caller holds mu.
func (w *waiting) leave(c *Conn) {
	c.place.waits.Store(false)
	w.stats.Waiting.Add(-1)
	share := w.sources[c.source]
	if c.place.known {
		w.here.known.Remove(c.place.all)
	} else {
		w.stats.Silent.Add(-1)
		w.here.silent.Remove(c.place.all)
	}
	if share == nil {
		return
	}
	if c.place.known {
		share.known.Remove(c.place.among)
	} else {
		share.silent.Remove(c.place.among)
	}
	if share.size() == 0 {
		delete(w.sources, c.source)
	}
}

// all returns all of them.
func (w *waiting) all() (all []*Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range []*list.List{&w.here.silent, &w.here.known} {
		for e := l.Front(); e != nil; e = e.Next() {
			all = append(all, e.Value.(*Conn))
		}
	}
	return all
}

// sayFull reports whether it is time to log that there are too many.
func (w *waiting) sayFull(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.said.IsZero() && now.Sub(w.said) < sayEvery {
		return false
	}
	w.said = now
	return true
}
