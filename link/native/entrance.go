package native

// A packet from the Port that the link is joined to walks
//
//	WritePackets -> Stream                        nothing waits, and it is soon through: uncopied
//	WritePackets -> fair.Queue -> carry -> Stream  else: copied, and its turn comes
//
// so that a Stream that a transfer has filled keeps only that transfer waiting. What a
// Stream takes before it makes its caller wait, it says as a carrier.Meter; one that does
// not is written to as it comes.

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/native/fair"
	"github.com/bodkin-net/bodkin/tunnel"
)

const (
	// writeMost is the octets of packets from the queue in one write at most: on a quick
	// way, where a burst is more than that, it is enough to amortise a system call.
	writeMost = 256 << 10

	// crowdWait is how long WritePackets waits at most while the queue is full of what
	// has only just come: as long as a quick way, the only one on which that happens,
	// takes to empty all of it.
	crowdWait = 25 * time.Millisecond

	// awayAfter and awayTimes are how much longer than usual a write takes before the
	// Stream is held to have been away. A packet that waited meanwhile is not to be
	// blamed for it.
	awayAfter = time.Second
	awayTimes = 8
)

// An entrance is what packets wait in. It is locked before Link.sending where both are.
type entrance struct {
	sync.Mutex
	held    held
	release *time.Timer // sends what is held

	// For a Stream that is a Meter, else nil.
	queue    *fair.Queue
	carrying bool          // what left the queue last may not have reached the Stream
	usual    float64       // what a write from the queue takes, smoothed, ns per octet
	filled   chan struct{} // to carry: there is something in the queue
	emptied  chan struct{} // to WritePackets: there is less
	late     *time.Timer   // to WritePackets: it has waited enough

	// The queue's Stats, for those who do not wait for the lock.
	packets, octets, dropped, marked, quenched atomic.Int64
}

// SetSource implements tunnel.Queuer.
func (l *Link) SetSource(s tunnel.Source) {
	e := &l.entrance
	e.Lock()
	defer e.Unlock()
	if e.queue != nil {
		e.queue.Quench = s.Quench
	}
}

// open makes an entrance of the zero value, to what l's peer takes.
func (e *entrance) open(l *Link) {
	e.release = time.AfterFunc(time.Hour, l.flush)
	e.release.Stop()
	if _, ok := l.stream.ReadWriteCloser.(carrier.Meter); ok {
		e.queue = fair.New(l.caps.Offloads)
		e.filled, e.emptied = make(chan struct{}, 1), make(chan struct{}, 1)
		e.late = time.NewTimer(time.Hour)
		e.late.Stop()
	}
}

// WritePackets sends the packets, or queues what the Stream has no room for. When the
// queue is full, the flow with most in it loses packets. Acknowledgements of much that
// comes in may wait a little.
func (l *Link) WritePackets(p []tunnel.Packet) error {
	e := &l.entrance
	e.Lock()
	defer e.Unlock()
	if l.bulk.Load() && e.clear() {
		first := e.held.n == 0
		for len(p) > 0 && e.held.hold(p[0]) {
			p = p[1:]
		}
		if len(p) == 0 {
			if first {
				e.release.Reset(holdTime)
			}
			return nil
		}
	}
	return l.enter(p)
}

// flush sends what is held.
func (l *Link) flush() {
	e := &l.entrance
	e.Lock()
	defer e.Unlock()
	if e.held.n > 0 {
		l.enter(nil)
	}
}

// clear reports whether nothing waits or is on its way from the queue.
func (e *entrance) clear() bool { return e.queue == nil || e.queue.Empty() && !e.carrying }

// enter sends what is held, and p, or queues them. Its caller holds l.entrance.
func (l *Link) enter(p []tunnel.Packet) error {
	e := &l.entrance
	held := e.held.take()
	if e.queue == nil {
		l.sending.Lock()
		defer l.sending.Unlock()
		return l.send(held, p)
	}
	if cause := l.cause.Load(); cause != nil {
		return *cause
	}
	if e.clear() && l.sending.TryLock() {
		room, burst := l.stream.Room()
		room -= headerLen + 8 // an echo reply may be owed
		n, m := passing(held, &room, burst), passing(p, &room, burst)
		var err error
		if n == len(held) && n+m > 0 {
			err = l.send(held, p[:m])
			held, p = nil, p[m:]
		}
		l.sending.Unlock()
		if err != nil || len(p)+len(held) == 0 {
			return err
		}
	}
	l.wait()
	now := l.clock()
	for _, list := range [...][]tunnel.Packet{held, p} {
		for _, packet := range list {
			if l.fits(packet) {
				e.queue.Push(now, packet)
			} else {
				l.dropped.Add(1)
			}
		}
	}
	e.changed()
	signal(e.filled)
	return nil
}

// passing returns how many of the first packets there is room for, and takes them off it.
// One that is more than a burst is for the queue to cut: whole, it would arrive when its
// last octet does, and where a carrier has only just begun that takes it so many round
// trips that the sender thinks it lost.
func passing(p []tunnel.Packet, room *int, burst int) int {
	for i := range p {
		n := headerLen + factsLen + len(p[i].Data)
		if n > *room || len(p[i].Data) > burst {
			*room = 0
			return i
		}
		*room -= n
	}
	return len(p)
}

// wait waits while the queue is full of what has only just come: on a way so quick that it
// is sent soon. Who sends it waits too then, and nothing is lost.
func (l *Link) wait() {
	e := &l.entrance
	if !e.queue.Full() || e.queue.Age(l.clock()) >= crowdWait {
		return
	}
	e.late.Reset(crowdWait)
	defer e.late.Stop()
	for waiting := true; waiting && e.queue.Full(); {
		e.Unlock()
		select {
		case <-e.emptied:
		case <-e.late.C:
			waiting = false
		case <-l.ended:
			waiting = false
		}
		e.Lock()
	}
}

// carry takes bursts out of the queue, and writes each when there is room. What comes
// while one waits for room has its place before or behind the next, as is fair. It runs
// until Close.
func (l *Link) carry() {
	for {
		select {
		case <-l.ended:
			return
		case <-l.entrance.filled:
		}
		for l.carryBurst() {
		}
	}
}

// carryBurst writes one burst, and reports whether there may be another.
func (l *Link) carryBurst() bool {
	if l.cause.Load() != nil {
		return false
	}
	_, burst := l.stream.Room()
	e := &l.entrance
	e.Lock()
	p := e.queue.Pop(l.clock(), min(burst, writeMost))
	e.carrying = len(p) > 0
	e.changed()
	e.Unlock()
	if len(p) == 0 {
		return false
	}
	signal(e.emptied)
	began := time.Now()
	l.sending.Lock()
	err := l.send(nil, p)
	l.sending.Unlock()
	if e.wasAway(time.Since(began), p) {
		e.Lock()
		e.queue.Excuse()
		e.Unlock()
	}
	return err == nil
}

// wasAway notes how long a write of p took, and reports whether that is because the Stream
// was away. Only carryBurst calls it.
func (e *entrance) wasAway(took time.Duration, p []tunnel.Packet) bool {
	octets := 0.0
	for i := range p {
		octets += float64(len(p[i].Data))
	}
	limit := awayAfter + time.Duration(awayTimes*e.usual*octets)
	e.usual += (float64(min(took, limit))/octets - e.usual) / 8
	return took > limit
}

// clock is the time since the link opened.
func (l *Link) clock() time.Duration { return time.Since(l.opened) }

// changed notes the counts of the queue.
func (e *entrance) changed() {
	s := e.queue.Stats()
	e.packets.Store(int64(s.Packets))
	e.octets.Store(int64(s.Octets))
	e.dropped.Store(int64(s.Dropped))
	e.marked.Store(int64(s.Marked))
	e.quenched.Store(int64(s.Quenched))
}

// signal leaves word in a channel with room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
