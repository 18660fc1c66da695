package command

import (
	"math"
	"os/exec"
	"sync"

	"golang.org/x/sys/unix"
)

// A group is the process group that a program on a terminal leads: its number is the
// program's process id, and is the group's for sure only until that is reaped.
type group struct {
	mu     sync.Mutex // held by who reaps or sends
	number int        // 0: not started, or reaped
}

// startClean starts a program with no blocked signals and no descriptor but those that
// it is given, whatever we inherited ourselves. The calling goroutine stays on its
// thread.
func startClean(cmd *exec.Cmd) error {
	// All of ours are closed on exec already. Kernels before 5.11 cannot do this at
	// once, and programs on those see what was handed to us.
	unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	var none, before unix.Sigset_t
	if unix.PthreadSigmask(unix.SIG_SETMASK, &none, &before) == nil {
		defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	}
	return cmd.Start()
}

// wait waits for the program and reaps it. Its group is told of that by the kernel,
// with SIGHUP, if it was in the foreground of the terminal: _exit(2).
func (g *group) wait(cmd *exec.Cmd) error {
	g.mu.Lock()
	g.number = cmd.Process.Pid
	g.mu.Unlock()
	for unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.number = 0
	return cmd.Wait()
}

// terminate and kill signal the group, and report whether they could.
func (g *group) terminate() bool { return g.signal(unix.SIGTERM) }
func (g *group) kill() bool      { return g.signal(unix.SIGKILL) }

func (g *group) signal(s unix.Signal) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.number != 0 && unix.Kill(-g.number, s) == nil
}
