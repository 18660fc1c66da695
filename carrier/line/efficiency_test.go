package line_test

import (
	"io"
	"testing"
	"testing/synctest"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/line"
	"github.com/bodkin-net/bodkin/carrier/line/linetest"
)

// What is said of the efficiency holds for what is sent: counted below, in records
// as TLS makes them.
func TestEfficiency(t *testing.T) {
	tests := []struct {
		name   string
		there  linetest.Faults
		unsafe carrier.ByteSet
		least  float64
	}{
		{"eats some", linetest.Faults{Eat: eaten}, carrier.ByteSet{}, .94},
		{"a terminal", linetest.Faults{}, controls, .88},
		{"7 bits", linetest.Faults{SevenBit: true}, carrier.ByteSet{}, .749},
		{"7 bits, and eats, and maps", linetest.Faults{SevenBit: true, Eat: eaten, CRNL: true}, carrier.ByteSet{}, .749},
		{"7 bits, in lines of 255", linetest.Faults{SevenBit: true, LineBuffered: true, MaxLine: 255}, carrier.ByteSet{}, .74},
		{"in lines of 255", linetest.Faults{LineBuffered: true, MaxLine: 255}, carrier.ByteSet{}, .97},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := linetest.Pipe(tt.there, linetest.Faults{})
				below := &counter{Stream: near}
				near.ReadWriteCloser, near.Unsafe = below, tt.unsafe
				d, a, _ := measure(t.Context(), near, far, line.Options{}, 0)
				if d.err != nil || a.err != nil {
					t.Fatal(d.err, a.err)
				}
				go func() {
					io.Copy(io.Discard, a.s)
					a.s.Close()
				}()
				before, carried := len(below.sent), 0
				for range 50 {
					n, _ := d.s.Write(noise(5, 16<<10))
					carried += n
				}
				d.s.Close()
				efficiency := float64(carried) / float64(len(below.sent)-before)
				if efficiency < tt.least || efficiency < d.m.Out.Efficiency-.005 || efficiency > d.m.Out.Efficiency+.005 {
					t.Errorf("%.4f; want %.3f; it says %.4f", efficiency, tt.least, d.m.Out.Efficiency)
				}
			})
		})
	}
}
