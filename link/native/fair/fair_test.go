package fair

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/tunnel"
)

const offloads = tunnel.OffloadChecksum | tunnel.OffloadTSO4 | tunnel.OffloadTSO6 | tunnel.OffloadUSO

// burst is 2 ms at 20 Mbit/s, in octets.
const burst = 5000

func TestSparseOvertakes(t *testing.T) {
	q := New(offloads)
	for i := range uint32(100) {
		q.Push(0, bulk(1000, i))
		q.Push(0, bulk(1001, i))
	}
	for range 4 { // both have had their turns
		q.Pop(0, burst)
	}
	for name, p := range map[string]tunnel.Packet{"a ping": ping(), "an acknowledgement": ack(443, 7), "a SYN": segment(1002, 0, tcpSYN, nil, 0)} {
		q.Push(0, p)
		if got := q.Pop(0, burst); !bytes.Equal(got[0].Data, p.Data) {
			t.Errorf("%s: %x went first", name, got[0].Data[:40])
		}
	}
}

// TestSparseIsNoWayAround: a flow whose packet has just gone is not fresh again at once.
func TestSparseIsNoWayAround(t *testing.T) {
	q := New(offloads)
	for i := range uint32(200) {
		q.Push(0, bulk(1000, i))
	}
	counts := map[uint16]int{}
	for i := range uint32(100) {
		q.Push(0, bulk(1001, i)) // one at a time, whenever its queue is empty
		for _, p := range q.Pop(0, 1500) {
			counts[port(p)]++
		}
	}
	if counts[1000] < 45 {
		t.Errorf("%v packets of each flow went", counts)
	}
}

// TestNoChanceMeetings: hundreds of flows do not share a queue with a transfer.
func TestNoChanceMeetings(t *testing.T) {
	q := New(offloads)
	for i := range uint32(300) {
		q.Push(0, bulk(1000, i))
	}
	for range 4 {
		q.Pop(0, burst)
	}
	for port := range uint16(400) {
		q.Push(0, ack(2000+port, 1))
	}
	for range 5 { // 75 of 40 octets each time
		for _, p := range q.Pop(0, 3000) {
			if port(p) == 1000 {
				t.Fatal("a transfer's packet went before the others'")
			}
		}
	}
}

// TestManyFlows: more flows than there are buckets share some, and all of it comes out.
func TestManyFlows(t *testing.T) {
	q := New(offloads)
	for i := range uint32(3 * buckets) {
		q.Push(0, bulk(uint16(1000+i), i))
	}
	dropped := int(q.Stats().Dropped)
	got := map[uint16]bool{}
	for !q.Empty() {
		for _, p := range q.Pop(0, burst) {
			got[port(p)] = true
		}
	}
	if len(got)+dropped != 3*buckets || len(got) < 2*buckets/3 {
		t.Errorf("%d flows' packets came, %d were dropped", len(got), dropped)
	}
}

func TestEqualShares(t *testing.T) {
	for name, other := range map[string]func(i uint32) tunnel.Packet{
		"frames":          func(i uint32) tunnel.Packet { return bulk(1001, i) },
		"small ones":      func(i uint32) tunnel.Packet { return segment(1001, i, tcpACK, nil, 200) },
		"super-packets":   func(i uint32) tunnel.Packet { return super(1001, i, 44*1448) },
		"large datagrams": func(i uint32) tunnel.Packet { p := ecn6(9000); p.Data[1] = 0; return p },
	} {
		q := New(offloads)
		octets := map[bool]int{}
		for i := range uint32(400) {
			q.Push(0, bulk(1000, i))
			for o := 0; o < 1000 && q.memory < maxMemory*3/4; {
				p := other(i)
				q.Push(0, p)
				o += len(p.Data)
			}
		}
		for range 100 {
			for _, p := range q.Pop(0, burst) {
				octets[p.Data[0]>>4 == 4 && port(p) == 1000] += len(p.Data)
			}
		}
		if a, b := octets[true], octets[false]; a+b < 300_000 || max(a, b)-min(a, b) > 2*9100 {
			t.Errorf("%s: %d octets beside %d of frames", name, b, a)
		}
	}
}

// TestFull: the queue holds so much and no more, and who has most there loses.
func TestFull(t *testing.T) {
	q := New(offloads)
	q.Push(0, bulk(1000, 1))
	for i := range uint32(10_000) {
		q.Push(0, bulk(1001, i))
		if q.memory > maxMemory {
			t.Fatalf("%d octets of memory", q.memory)
		}
	}
	s := q.Stats()
	if s.Octets < maxMemory/2 || s.Dropped != uint64(10_001-s.Packets) || !q.Full() {
		t.Errorf("%+v", s)
	}
	if age := q.Age(time.Second); age != time.Second {
		t.Errorf("it is %v old", age)
	}
	var last uint32
	sparse := false
	for !q.Empty() {
		for _, p := range q.Pop(0, math.MaxInt) {
			if port(p) == 1000 {
				sparse = true
			} else if last = seq(p); last < uint32(s.Dropped) {
				t.Fatalf("packet %d came, and the first %d should be gone", last, s.Dropped)
			}
		}
	}
	if last != 9999 || !sparse || q.octets != 0 || q.memory != 0 || q.Age(0) != 0 {
		t.Errorf("at last packet %d, the other flow's %v; %d octets of %d are left", last, sparse, q.octets, q.memory)
	}
}

func TestThinning(t *testing.T) {
	q := New(offloads)
	for i := range uint32(10) {
		q.Push(0, ack(1000, 100+i))
		q.Push(0, ack(1001, 7)) // says it again: a loss (RFC 5681, section 3.2)
	}
	q.Push(0, bulk(1000, 5))
	q.Push(0, ack(1000, 200))
	counts := map[uint16]int{}
	for _, p := range q.Pop(0, math.MaxInt) {
		if counts[port(p)]++; port(p) == 1000 && counts[1000] == 1 && !bytes.Equal(p.Data, ack(1000, 109).Data) {
			t.Errorf("%x went first", p.Data)
		}
	}
	if counts[1000] != 3 || counts[1001] != 10 || q.Stats().Thinned != 9 {
		t.Errorf("%v packets of each flow went, %+v", counts, q.Stats())
	}
}

func TestAcknowledgement(t *testing.T) {
	// with changes an octet of a packet.
	with := func(p tunnel.Packet, at int, value byte) tunnel.Packet {
		p.Data[at] = value
		return p
	}
	for name, c := range map[string]struct {
		packet tunnel.Packet
		want   bool
	}{
		"acknowledgement":   {ack(80, 1), true},
		"unfinished":        {tunnel.Packet{Data: ack(80, 1).Data, GSO: tunnel.Offload{NeedsChecksum: true}}, true},
		"SYN":               {with(ack(80, 1), 33, 0x12), false},
		"FIN":               {with(ack(80, 1), 33, 0x11), false},
		"RST":               {with(ack(80, 1), 33, 0x14), false},
		"congestion echoed": {with(ack(80, 1), 33, 0x50), false},
		"ping":              {ping(), false},
		"with payload":      {segment(80, 1, tcpACK, nil, 1), false},
	} {
		if _, ok := Acknowledgement(c.packet); ok != c.want {
			t.Errorf("%s: %v", name, ok)
		}
	}
}

// TestNoAllocations: what waits lies in buffers that are used again.
func TestNoAllocations(t *testing.T) {
	q := New(offloads)
	p := []tunnel.Packet{bulk(1000, 1), super(1001, 1, 30_000), ping(), ack(1002, 1)}
	round := func() {
		for range 8 {
			for _, p := range p {
				q.Push(0, p)
			}
		}
		for !q.Empty() {
			q.Pop(0, burst)
		}
	}
	round()
	if n := testing.AllocsPerRun(200, round); n > 20 { // of 64; the race detector has pools lose every fourth, and so may the collector
		t.Errorf("%v allocations in 32 packets", n)
	}
}

func BenchmarkQueue(b *testing.B) {
	for name, p := range map[string]tunnel.Packet{"frame": bulk(1000, 1), "super-packet": super(1000, 1, 44*1448)} {
		b.Run(name, func(b *testing.B) {
			q := New(offloads)
			b.SetBytes(int64(4 * len(p.Data)))
			b.ReportAllocs()
			for b.Loop() {
				for range 4 {
					q.Push(0, p)
				}
				for !q.Empty() {
					q.Pop(0, 256<<10)
				}
			}
		})
	}
}
