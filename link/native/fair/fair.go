// Package fair queues packets where more come than the way carries, so that nobody waits
// for anybody else: as FQ-CoDel does, described in RFC 8290.
//
// Each flow has a queue of its own; they take turns by octets, and one that had nothing
// waiting goes first. So what is sparse (a ping, a name looked up, a key pressed, an
// acknowledgement) overtakes what is bulk, and two transfers get half each. A flow that
// keeps its queue standing is told, by RFC 8289, each flow for itself: directly, if its
// sender can be reached, else by a mark or a drop.
//
// It does no I/O and reads no clock. When to take something out is its caller's to say.
package fair

import (
	"hash/maphash"
	"time"

	"github.com/bodkin-net/bodkin/tunnel"
)

// Bounds of a Queue.
const (
	// maxMemory bounds the buffers that packets wait in, in octets: a quarter of a
	// second at 128 Mbit/s. Slower ways keep their queues shorter by far (target); it is
	// for a way that stands still, and for flows that heed nothing.
	maxMemory = 4 << 20

	// reachedMemory bounds them as long as the longest queue is of a flow whose sender can
	// be told directly. It sends what it has promised to, a window that doubled until it
	// was told, and ends there. Hundreds of its packets lost at once would cost it seconds.
	reachedMemory = 4 * maxMemory

	// batchMemory is what a batch of tunnel.BatchSize frames of Ethernet needs, or of
	// several super-packets.
	batchMemory = 512 << 10

	// buckets bounds the flows that are told apart (RFC 8290, section 4.1.2). Beyond
	// that, some share a queue. At the most a flow takes 128 octets.
	buckets = 1024

	// quantum is the octets of a turn: a full frame of Ethernet, so that a flow of no
	// more than that has its turn whole (RFC 8290, section 5.2.3).
	quantum = 1514
)

// A Queue holds the packets that wait. It is not for concurrent use.
type Queue struct {
	// Quench, if not nil, tells the sender of a packet that it has waited for so long, and
	// reports whether it will send less.
	Quench func(packet []byte, waited time.Duration) bool

	offloads tunnel.Offloads
	seed     maphash.Seed
	flows    [buckets]flow
	fresh    turns // flows that had nothing waiting when their packet came
	standing turns // all others with packets
	packets  int
	octets   int
	memory   int // of the buffers of those packets, octets

	out     []tunnel.Packet // what Pop returned
	lent    []*entry        // whose buffers that lies in
	scratch []byte          // and its pieces

	dropped, marked, quenched, thinned uint64
}

// A flow is what one bucket holds.
type flow struct {
	name       uint64 // its hash
	head, tail *entry
	octets     int
	largest    int // octets of the largest packet so far
	credit     int // octets that this turn still has
	turns      *turns
	next       *flow
	codel      codel
}

// New returns an empty Queue of packets for a side that takes such offloads.
func New(offloads tunnel.Offloads) *Queue {
	return &Queue{offloads: offloads, seed: maphash.MakeSeed()}
}

// Empty reports whether nothing waits.
func (q *Queue) Empty() bool { return q.packets == 0 }

// Stats are the counts of a Queue.
type Stats struct {
	Packets, Octets int    // that wait now
	Dropped         uint64 // packets: their flow's queue stood too long, or all was full
	Marked          uint64 // packets that were told of the first instead (RFC 3168)
	Quenched        uint64 // packets whose sender was told of the first instead
	Thinned         uint64 // acknowledgements that a later one made needless
}

// Stats returns the counts as they are.
func (q *Queue) Stats() Stats {
	return Stats{Packets: q.packets, Octets: q.octets, Dropped: q.dropped, Marked: q.marked, Quenched: q.quenched, Thinned: q.thinned}
}

// Push copies p to the end of its flow's queue. When all is full, the sender of the longest
// queue is told, or the queue loses at its head what is too much.
func (q *Queue) Push(now time.Duration, p tunnel.Packet) {
	if len(p.Data) == 0 || len(p.Data) > tunnel.MaxPacket {
		q.dropped++
		return
	}
	header, err := p.Check()
	known := err == nil
	f := &q.flows[0]
	if known {
		f = q.place(p.Data, header)
	}
	if known && q.thin(f, p) {
		return
	}
	e := newEntry(now, p, header, known, q.offloads)
	if f.head == nil {
		f.head = e
	} else {
		f.tail.next = e
	}
	f.tail = e
	largest := len(p.Data)
	if p.GSO.Type != tunnel.GSONone && known {
		largest = header.Payload + int(p.GSO.SegmentSize)
	}
	f.largest = max(f.largest, largest)
	f.octets += len(p.Data)
	q.octets += len(p.Data)
	q.packets++
	q.memory += len(e.buf)
	if f.turns == nil {
		f.credit = quantum
		q.fresh.push(f)
	}
	for q.memory > maxMemory {
		f := q.longest()
		if q.memory <= reachedMemory && q.quench(now, f.head) {
			break
		}
		q.drop(f)
	}
}

// thin puts p in the place of the last packet of its flow, if both are bare
// acknowledgements and p's says all that the other does (RFC 3449, section 5.2.2).
func (q *Queue) thin(f *flow, p tunnel.Packet) bool {
	if f.tail == nil {
		return false
	}
	tcp, ok := Acknowledgement(p)
	if !ok {
		return false
	}
	waits := f.tail.Packet
	if at, ok := Acknowledgement(waits); !ok || at != tcp || !SameFlow(waits.Data, p.Data, tcp) || !Newer(waits.Data[tcp:], p.Data[tcp:]) {
		return false
	}
	e := f.tail
	n := len(p.Data) - len(e.Packet.Data)
	e.Packet = tunnel.Packet{Data: append(e.buf[:0], p.Data...), GSO: p.GSO}
	f.octets += n
	q.octets += n
	q.thinned++
	return true
}

// Pop returns the packets whose turn it is, of most octets together, though at least
// one if any waits, and no more than tunnel.BatchSize. They are valid until the next Pop.
// Of TCP packets and super-packets larger than most it takes a piece.
func (q *Queue) Pop(now time.Duration, most int) []tunnel.Packet {
	for i, e := range q.lent {
		e.free()
		q.lent[i] = nil
	}
	q.lent, q.out, q.scratch = q.lent[:0], q.out[:0], q.scratch[:0]
	for taken := 0; len(q.out) < tunnel.BatchSize; {
		f := q.turn()
		if f == nil {
			break
		}
		e := q.judge(now, f)
		if e == nil {
			// RFC 8290, section 4.2: a flow does not become fresh again by waiting for
			// nothing.
			if f.turns == &q.fresh {
				f.turns.pop()
				q.standing.push(f)
			} else {
				f.turns.pop()
				f.turns = nil
			}
			continue
		}
		octets, segments := e.share(most)
		if taken > 0 && taken+octets > most {
			break
		}
		taken += octets
		f.credit -= octets
		q.take(f, e, segments)
	}
	return q.out
}

// turn returns the flow whose turn it is, or nil.
func (q *Queue) turn() *flow {
	for {
		t := &q.fresh
		if t.first == nil {
			t = &q.standing
		}
		f := t.first
		if f == nil || f.credit > 0 {
			return f
		}
		f.credit += quantum
		t.pop()
		q.standing.push(f)
	}
}

// take moves the head e of f to q.out: so many segments of it, or all if 0.
func (q *Queue) take(f *flow, e *entry, segments int) {
	if segments == 0 {
		q.remove(f)
		q.out = append(q.out, e.Packet)
		q.lent = append(q.lent, e)
		return
	}
	before := e.left()
	var piece tunnel.Packet
	q.scratch, piece = e.Append(q.scratch, segments)
	q.out = append(q.out, piece)
	e.begun, e.judged = true, false
	f.octets -= before - e.left()
	q.octets -= before - e.left()
	if e.Left() == 0 {
		q.remove(f).free()
	}
}

// remove takes the head of f off its queue.
func (q *Queue) remove(f *flow) *entry {
	e := f.head
	f.head = e.next
	if f.head == nil {
		f.tail = nil
	}
	e.next = nil
	f.octets -= e.left()
	q.packets--
	q.octets -= e.left()
	q.memory -= len(e.buf)
	return e
}

// drop throws the head of f away.
func (q *Queue) drop(f *flow) {
	q.remove(f).free()
	q.dropped++
}

// longest returns the flow with the most octets waiting, of those that have any.
func (q *Queue) longest() *flow {
	var longest *flow
	for _, t := range []*turns{&q.fresh, &q.standing} {
		for f := t.first; f != nil; f = f.next {
			if longest == nil || f.octets > longest.octets {
				longest = f
			}
		}
	}
	return longest
}

// Excuse is for a way that stood still and goes on: nothing that waits now is dropped for
// its age. Those who sent it had no answer, and are as slow to find a loss now as the way
// was silent: after a minute, a minute and more (RFC 6298, section 5).
func (q *Queue) Excuse() {
	for _, t := range []*turns{&q.fresh, &q.standing} {
		for f := t.first; f != nil; f = f.next {
			for e := f.head; e != nil; e = e.next {
				e.excused = true
			}
		}
	}
}

// Full reports whether what a batch brings could make the longest queue lose packets.
func (q *Queue) Full() bool { return q.memory > maxMemory-batchMemory }

// Age returns how long the first packet of the longest queue has waited, unless it is
// excused. A Queue that is full and yet young is emptied fast: its caller does better to
// wait than to push.
func (q *Queue) Age(now time.Duration) time.Duration {
	if f := q.longest(); f != nil && f.head != nil && !f.head.excused {
		return now - f.head.at
	}
	return 0
}

// A turns is a list of flows, in the order of their turns.
type turns struct{ first, last *flow }

func (t *turns) push(f *flow) {
	f.turns, f.next = t, nil
	if t.first == nil {
		t.first = f
	} else {
		t.last.next = f
	}
	t.last = f
}

func (t *turns) pop() {
	f := t.first
	if t.first = f.next; t.first == nil {
		t.last = nil
	}
	f.next = nil
}
