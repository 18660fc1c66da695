//go:build !race

package tls

import "testing"

// TestNothingAllocated by a call of Write or WriteBuffers. (The race detector has pools
// forget what they hold.)
func TestNothingAllocated(t *testing.T) {
	client, _ := hosed(t)
	for _, sizes := range [][]int{{5}, {maxRecord}, {256 << 10}, {0}, repeat(1500, 200), {4, 40000, 4, 20000}} {
		write, total := writer(t, client, sizes)
		if allocs := testing.AllocsPerRun(20, write); allocs >= 1 {
			t.Errorf("%d octets in %d buffers: %v allocations", total, len(sizes), allocs)
		}
	}
}
