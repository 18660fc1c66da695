package hdlc

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// The lines of the benchmarks: what is agreed, and how long the packets are.
var lines = []struct {
	accm ACCM
	fcs  FCS
	size int
}{
	{0, FCS16, 1500},
	{0, FCS32, 1500},
	{0, FCS16, 64 << 10},
	{0, FCS32, 64 << 10},
	{0xa0000, FCS16, 1500},
	{DefaultACCM, FCS16, 1500},
	{DefaultACCM, FCS32, 1500},
	{DefaultACCM, FCS16, 64 << 10},
}

func random(n int) []byte {
	source := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	source.Read(b)
	return b
}

// sample is how many octets of random data the benchmarks have: too many for a
// branch predictor to know them by heart.
const sample = 1 << 20

// onLines runs f for each line, with random packets of its size.
func onLines(b *testing.B, f func(b *testing.B, format Format, accm ACCM, packets [][]byte)) {
	data := random(sample)
	for _, l := range lines {
		b.Run(fmt.Sprintf("accm=%x/fcs=%d/octets=%d", l.accm, 16+16*l.fcs, l.size), func(b *testing.B) {
			var packets [][]byte
			for rest := data; len(rest) >= l.size; rest = rest[l.size:] {
				packets = append(packets, rest[:l.size])
			}
			b.SetBytes(int64(l.size))
			b.ReportAllocs()
			f(b, Format{Escape: NewSet(l.accm, [4]uint64{}), FCS: l.fcs, ACFC: true, PFC: true}, l.accm, packets)
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	onLines(b, func(b *testing.B, format Format, _ ACCM, packets [][]byte) {
		dst := format.Append(nil, 0x21, packets[0])
		for n := 0; b.Loop(); n++ {
			dst = format.Append(dst[:0], 0x21, packets[n%len(packets)])
		}
	})
}

// BenchmarkNext includes one copy of the frame, in place of the read.
func BenchmarkNext(b *testing.B) {
	onLines(b, func(b *testing.B, format Format, accm ACCM, packets [][]byte) {
		var frames [][]byte
		for _, p := range packets {
			frames = append(frames, format.Append(nil, 0x21, p))
		}
		d := NewDecoder(len(packets[0]))
		d.SetFCS(format.FCS)
		d.SetReceiveMap(accm)
		for n := 0; b.Loop(); n++ {
			d.Fill(copy(d.Buffer(), frames[n%len(frames)]))
			if _, data, ok := d.Next(); !ok || len(data) != len(packets[0]) {
				b.Fatal("no packet")
			}
		}
	})
}
