package lab

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Process is a running program of a machine.
type Process struct {
	PID  int           // as this process sees it; the machine numbers its own from 1
	PPID int           // of its parent, likewise
	UID  uint32        // effective
	Args []string      // its command line; empty for one that ended and was not waited for
	RSS  int64         // octets of memory resident, shared ones included
	CPU  time.Duration // of processor time used so far, in steps of clockTick
}

// clockTick is the kernel's unit of processor time (USER_HZ, the same on every
// architecture that Go knows).
const clockTick = 10 * time.Millisecond

// Processes lists the machine's processes but for process 1 and its helper, in the
// order of their numbers.
func (m *Machine) Processes() ([]Process, error) {
	var ns unix.Stat_t
	if err := unix.Fstat(m.ns.pid, &ns); err != nil {
		return nil, fmt.Errorf("lab: %s: reading its namespace: %w", m.Name, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("lab: %s: listing processes: %w", m.Name, err)
	}
	var ps []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := "/proc/" + e.Name()
		var own unix.Stat_t
		if unix.Stat(dir+"/ns/pid", &own) != nil || own.Ino != ns.Ino || own.Dev != ns.Dev {
			continue
		}
		cmdline, err := os.ReadFile(dir + "/cmdline")
		if err != nil {
			continue // it ended meanwhile
		}
		p := Process{PID: pid}
		if status, err := os.ReadFile(dir + "/status"); err == nil {
			// Not the owner of the directory: that is root for many who are not
			// (proc(5), on PR_SET_DUMPABLE).
			if _, rest, ok := strings.Cut(string(status), "\nUid:"); ok {
				var real uint32
				fmt.Sscan(rest, &real, &p.UID)
			}
		}
		if cmdline = bytes.TrimSuffix(cmdline, []byte{0}); len(cmdline) > 0 {
			p.Args = strings.Split(string(cmdline), "\x00")
		}
		if len(p.Args) > 0 && p.Args[0] == initName {
			continue
		}
		if statm, err := os.ReadFile(dir + "/statm"); err == nil {
			if f := strings.Fields(string(statm)); len(f) > 1 {
				pages, _ := strconv.ParseInt(f[1], 10, 64)
				p.RSS = pages * int64(os.Getpagesize())
			}
		}
		if stat, err := os.ReadFile(dir + "/stat"); err == nil {
			// The second field is a name in parentheses and may hold anything
			// (proc(5)); the times are the 14th and 15th,
			// the parent the 4th.
			f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
			if len(f) > 12 {
				p.PPID, _ = strconv.Atoi(f[1])
				user, _ := strconv.ParseInt(f[11], 10, 64)
				system, _ := strconv.ParseInt(f[12], 10, 64)
				p.CPU = time.Duration(user+system) * clockTick
			}
		}
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b Process) int { return a.PID - b.PID })
	return ps, nil
}
