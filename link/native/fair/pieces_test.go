package fair

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/tunnel"
)

// TestPieces: what is larger than a burst goes in pieces that are what they say, and make
// the whole together; what must not be cut goes whole.
func TestPieces(t *testing.T) {
	timestamps := []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}
	signature := append([]byte{1, 1, 19, 18}, make([]byte, 16)...)
	unfinished := segment(1000, 0xffffff00, tcpACK|tcpPSH, timestamps, 60_000)
	unfinished.GSO.NeedsChecksum = true
	whole := segment(1000, 0xffffff00, tcpACK|tcpPSH, timestamps, 60_000)
	datagrams := ecn6(20_000)
	datagrams.GSO = tunnel.Offload{Type: tunnel.GSOUDP, NeedsChecksum: true, SegmentSize: 1200}
	for name, c := range map[string]struct {
		packet   tunnel.Packet
		offloads tunnel.Offloads
		most     int
		pieces   int
	}{
		"super-packet":                 {super(1000, 0xffffff00, 44*1448+1), offloads, burst, 15}, // of 3 segments
		"the least burst":              {super(1000, 0xffffff00, 44*1448+1), offloads, 1514, 45},
		"where nobody ends checksums":  {super(1000, 0xffffff00, 44*1448+1), tunnel.OffloadTSO4, 1514, 45},
		"a quick way":                  {super(1000, 0xffffff00, 44*1448+1), offloads, 64 << 10, 1},
		"one large packet":             {whole, offloads, burst, 13},
		"one large packet, slow way":   {whole, offloads, 1, 42},
		"unfinished":                   {unfinished, offloads, burst, 13},
		"unfinished, not wanted so":    {unfinished, 0, burst, 13},
		"small enough":                 {bulk(1000, 1), offloads, 1514, 1},
		"datagrams":                    {datagrams, offloads, burst, 5},
		"one datagram":                 {ecn6(20_000), offloads, burst, 1},
		"a SYN":                        {segment(1000, 1, tcpACK|tcpSYN, nil, 20_000), offloads, burst, 1},
		"urgent":                       {segment(1000, 1, tcpACK|tcpURG, nil, 20_000), offloads, burst, 1},
		"signed":                       {segment(1000, 1, tcpACK, signature, 20_000), offloads, burst, 1},
		"an option of no length":       {segment(1000, 1, tcpACK, []byte{5, 0, 1, 1}, 20_000), offloads, burst, 1},
		"an option that is too long":   {segment(1000, 1, tcpACK, []byte{5, 9, 1, 1}, 20_000), offloads, burst, 1},
		"an option that is cut short":  {segment(1000, 1, tcpACK, []byte{1, 1, 1, 8}, 20_000), offloads, burst, 1},
		"what ends its options before": {segment(1000, 1, tcpACK, []byte{1, 0, 19, 18}, 20_000), offloads, burst, 5},
	} {
		q := New(c.offloads)
		q.Push(0, c.packet)
		header, err := c.packet.Check()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var payload []byte
		pieces := 0
		for !q.Empty() {
			for _, p := range q.Pop(0, c.most) {
				pieces++
				if c.pieces == 1 {
					if !bytes.Equal(p.Data, c.packet.Data) || p.GSO != c.packet.GSO {
						t.Errorf("%s: came out as another", name)
					}
				}
				h := checked(t, p)
				if c.pieces > 1 && len(p.Data) > max(c.most, header.Payload+leastPiece) {
					t.Errorf("%s: a piece of %d octets", name, len(p.Data))
				}
				if h.Protocol == tunnel.ProtoTCP {
					if got, want := seq(p), seq(c.packet)+uint32(len(payload)); got != want {
						t.Errorf("%s: sequence number %08x, want %08x", name, got, want)
					}
					last := len(payload)+len(p.Data)-h.Payload == len(c.packet.Data)-header.Payload
					if want := c.packet.Data[33] & tcpPSH; last && p.Data[33]&tcpPSH != want || !last && p.Data[33]&tcpPSH != 0 {
						t.Errorf("%s: flags %02x after %d octets", name, p.Data[33], len(payload))
					}
				}
				if c.pieces > 1 {
					if p.GSO.NeedsChecksum && p.GSO.Type == tunnel.GSONone && c.offloads&tunnel.OffloadChecksum == 0 {
						t.Errorf("%s: unfinished", name)
					}
					if h.Version == 4 && !p.GSO.NeedsChecksum {
						if c := transportSum(p.Data); c != 0xffff {
							t.Errorf("%s: sums up to %04x", name, c)
						}
					}
					if h.Version == 4 && p.GSO.NeedsChecksum {
						done := bytes.Clone(p.Data)
						if tunnel.CompleteChecksum(done, h.Transport, h.ChecksumOffset()); transportSum(done) != 0xffff {
							t.Errorf("%s: the pseudo-header's sum is wrong", name)
						}
					}
				}
				payload = append(payload, p.Data[h.Payload:]...)
			}
		}
		if pieces != c.pieces || !bytes.Equal(payload, c.packet.Data[header.Payload:]) {
			t.Errorf("%s: %d pieces with %d octets, want %d with %d", name, pieces, len(payload), c.pieces, len(c.packet.Data)-header.Payload)
		}
		if q.octets != 0 || q.packets != 0 || q.memory != 0 {
			t.Errorf("%s: %d octets of %d packets are left", name, q.octets, q.packets)
		}
	}
}

// FuzzQueue: whatever comes in, in whatever order it is taken, comes out once or is
// counted as dropped or thinned; packets of one flow stay in order; what was what it says
// still is.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 10, 200, 1, 3, 255, 40, 2, 5}, uint16(5000), []byte{0x45})
	f.Add([]byte{1, 1, 1, 255, 255, 0, 0, 254}, uint16(1514), super(7, 7, 3000).Data)
	f.Add([]byte{5, 5, 5, 5, 255, 255, 255}, uint16(60_000), ecn6(100).Data)
	f.Fuzz(func(t *testing.T, steps []byte, most uint16, strange []byte) {
		q := New(offloads)
		pushed, popped := 0, 0
		numbers := map[uint16]uint32{}
		last := map[uint16]uint32{}
		now := time.Duration(0)
		pop := func() {
			for _, p := range q.Pop(now, int(most)) {
				if bytes.HasPrefix(p.Data, []byte{0x45}) && len(p.Data) >= 40 && p.Data[12] == 10 && p.Data[9] == tunnel.ProtoTCP && !bytes.Equal(p.Data, strange) {
					checked(t, p)
					if seq(p) < last[port(p)] {
						t.Fatalf("flow %d: %d after %d", port(p), seq(p), last[port(p)])
					}
					last[port(p)] = seq(p)
				}
				popped += len(p.Data)
			}
		}
		for _, s := range steps {
			port := uint16(s % 5)
			n := numbers[port]
			var p tunnel.Packet
			switch {
			case s >= 200:
				now += time.Duration(s-200) * time.Millisecond
				pop()
				continue
			case s >= 190:
				p = tunnel.Packet{Data: strange}
			case s >= 150:
				p = super(port, n, int(s)*300)
			case s >= 100:
				p = segment(port, n, tcpACK, nil, int(s)*300)
			default:
				p = bulk(port, n)
			}
			if s < 190 {
				numbers[port] += uint32(len(p.Data) - 40)
			}
			pushed++
			q.Push(now, p)
		}
		for range 100_000 {
			if q.Empty() {
				break
			}
			before := q.packets
			pop()
			if most > 0 && q.packets == before && q.octets == 0 {
				t.Fatal("packets wait, and nothing comes")
			}
		}
		s := q.Stats()
		if s.Packets != 0 || s.Octets != 0 || q.memory != 0 || q.turn() != nil && q.fresh.first != nil {
			t.Fatalf("at last %+v", s)
		}
		if pushed > 0 && popped == 0 && s.Dropped == 0 {
			t.Fatalf("%d packets came, nothing went", pushed)
		}
	})
}

// FuzzPieces: a packet that is what it says goes in pieces that are too, and together
// hold its payload.
func FuzzPieces(f *testing.F) {
	f.Add(super(1, 2, 5000).Data, byte(tunnel.GSOTCP4), uint16(1448), uint16(3000))
	f.Add(segment(1, 2, tcpACK, nil, 5000).Data, byte(0), uint16(0), uint16(1500))
	f.Add(ecn6(500).Data, byte(tunnel.GSOUDP), uint16(100), uint16(250))
	f.Fuzz(func(t *testing.T, data []byte, kind byte, size, most uint16) {
		p := tunnel.Packet{Data: data}
		if kind != 0 {
			p.GSO = tunnel.Offload{Type: tunnel.GSOType(kind), NeedsChecksum: true, SegmentSize: size}
		}
		h, err := p.Check()
		q := New(offloads)
		q.Push(0, p)
		var got []byte
		for !q.Empty() {
			for _, piece := range q.Pop(0, int(most)) {
				if err != nil {
					if !bytes.Equal(piece.Data, data) {
						t.Fatal("a packet that is not what it says was touched")
					}
					return
				}
				ph, err := piece.Check()
				if err != nil || ph.Payload != h.Payload {
					t.Fatalf("%x: a piece %x: %v", data, piece.Data, err)
				}
				if h.Protocol == tunnel.ProtoTCP && !h.Fragment {
					want := binary.BigEndian.Uint32(data[h.Transport+4:]) + uint32(len(got))
					if n := binary.BigEndian.Uint32(piece.Data[h.Transport+4:]); n != want {
						t.Fatalf("%x: sequence number %08x, want %08x", data, n, want)
					}
				}
				got = append(got, piece.Data[h.Payload:]...)
			}
		}
		if err == nil && !bytes.Equal(got, data[h.Payload:]) {
			t.Fatalf("%x: %d octets came out", data, len(got))
		}
	})
}

// FuzzMark: a mark changes nothing but the two bits, and a header checksum stays right.
func FuzzMark(f *testing.F) {
	f.Add(bulk(1, 2).Data[:40])
	f.Add(ecn6(5).Data)
	f.Fuzz(func(t *testing.T, d []byte) {
		h, err := tunnel.Parse(d)
		if err != nil {
			return
		}
		before := bytes.Clone(d)
		right := h.Version == 4 && sum(d[:20]) == 0xffff
		if !mark(d) && !bytes.Equal(before, d) {
			t.Fatalf("%x became %x", before, d)
		}
		if right && sum(d[:20]) != 0xffff && sum(d[:20]) != math.MaxUint16 {
			t.Fatalf("%x became %x", before, d)
		}
		if h.Version == 4 {
			d[1], before[1] = d[1]|3, before[1]|3
			copy(d[10:12], before[10:12])
		} else {
			d[1], before[1] = d[1]|0x30, before[1]|0x30
		}
		if !bytes.Equal(before, d) {
			t.Fatalf("%x became %x", before, d)
		}
	})
}
