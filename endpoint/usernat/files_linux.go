package usernat

import "golang.org/x/sys/unix"

// spareFiles are descriptors left to the rest of the process: its carrier, its
// listeners, DNS queries (maxQueries) and the like.
const spareFiles = 64 + maxQueries

// minFlows are the flows New insists on, however low the limit of open files is.
const minFlows = 16

// MaxFlows raises the soft limit of open files to the hard one, and returns how many
// flows that leaves to all NATs of this process together.
func MaxFlows() int { return raiseFiles() }

// raiseFiles raises the soft limit of open files to the hard one and returns how
// many flows that leaves.
func raiseFiles() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return minFlows
	}
	if l.Cur < l.Max {
		raised := unix.Rlimit{Cur: l.Max, Max: l.Max}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
			l = raised
		}
	}
	if l.Cur < spareFiles+minFlows {
		return minFlows
	}
	return int(min(l.Cur-spareFiles, 1<<30))
}
