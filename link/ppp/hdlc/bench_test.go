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

func BenchmarkAppend(b *testing.B) {
	for _, l := range lines {
		b.Run(fmt.Sprintf("accm=%x/fcs=%d/octets=%d", l.accm, 16+16*l.fcs, l.size), func(b *testing.B) {
			f := Format{Escape: NewSet(l.accm, [4]uint64{}), FCS: l.fcs, ACFC: true, PFC: true}
			data := random(l.size)
			dst := f.Append(nil, 0x21, data)
			b.SetBytes(int64(l.size))
			b.ReportAllocs()
			for b.Loop() {
				dst = f.Append(dst[:0], 0x21, data)
			}
		})
	}
}

// BenchmarkNext includes one copy of the frame, for the read.
func BenchmarkNext(b *testing.B) {
	for _, l := range lines {
		b.Run(fmt.Sprintf("accm=%x/fcs=%d/octets=%d", l.accm, 16+16*l.fcs, l.size), func(b *testing.B) {
			f := Format{Escape: NewSet(l.accm, [4]uint64{}), FCS: l.fcs, ACFC: true, PFC: true}
			frame := f.Append(nil, 0x21, random(l.size))
			d := NewDecoder(l.size)
			d.SetFCS(l.fcs)
			d.SetReceiveMap(l.accm)
			b.SetBytes(int64(l.size))
			b.ReportAllocs()
			for b.Loop() {
				d.Fill(copy(d.Buffer(), frame))
				if _, data, ok := d.Next(); !ok || len(data) != l.size {
					b.Fatal("no packet")
				}
			}
		})
	}
}
