package serve

import "golang.org/x/sys/unix"

// memory is how much this machine has, in octets.
func memory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 1 << 30
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}
