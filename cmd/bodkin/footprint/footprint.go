// Package footprint is how much of a machine a process may take that carries packets:
// it is to stay small beside the programs that it serves.
package footprint

import (
	"runtime"
	"runtime/debug"
)

// heapLimit is where the collector begins to work harder rather than let the
// heap grow: a side is to stay small beside what it serves.
const heapLimit = 24 << 20

// Limit keeps this process small beside what it serves, for good. Half of the
// processors are left to ssh, sshd and the programs: on a machine with two, a
// download through ssh gains a tenth, since no packet is handed from one
// processor to the other.
func Limit() {
	debug.SetMemoryLimit(heapLimit)
	runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
}
