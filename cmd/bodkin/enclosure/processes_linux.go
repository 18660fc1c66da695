package enclosure

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long those that shall end may take, from the first signal on.
const (
	termAfter = time.Second     // for what a shell does at SIGHUP: tell its jobs
	killAfter = 5 * time.Second // for saving what is to be saved
	killAgain = 20 * time.Millisecond
)

// processes are the command and all that it starts. This process is the parent of
// those whose own has ended: as process 1, or as their subreaper (prctl(2)).
//
// As process 1 it need do nothing to end the others: the kernel kills them with it.
// Elsewhere it looks for them in /proc, until there are none.
type processes struct {
	ended  chan struct{} // closed when the command has ended, and status says how
	status int
	none   chan struct{} // closed when no process is left
}

// startProcesses starts the command, whose program is at path.
func startProcesses(path string, command []string) (*processes, error) {
	if os.Getpid() != 1 {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return nil, fmt.Errorf("adopting processes: %w", err)
		}
	}
	runtime.LockOSThread() // a child has the capabilities of the thread that makes it
	defer runtime.UnlockOSThread()
	if err := bequeathNothing(); err != nil {
		return nil, fmt.Errorf("giving up capabilities: %w", err)
	}
	pid, err := syscall.ForkExec(path, command, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p := &processes{ended: make(chan struct{}), none: make(chan struct{})}
	go p.reap(pid)
	return p, nil
}

// bequeathNothing empties this thread's inheritable set, and with it the ambient one,
// which the command would have its capabilities from.
//
// The command may still get some by a file that has them, such as ping or dumpcap: they
// reach no further than these namespaces. A setuid program does not become root, who has
// no name in the user namespace. So no_new_privs is not set, and ping works.
func bequeathNothing() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	return unix.Capset(&header, &data[0])
}

// reap waits for every child until there is none. command is the one whose status counts.
func (p *processes) reap(command int) {
	defer close(p.none)
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil: // ECHILD
			return
		case pid == command && ws.Signaled():
			p.status = 128 + int(ws.Signal())
			close(p.ended)
		case pid == command:
			p.status = ws.ExitStatus()
			close(p.ended)
		}
	}
}

// end ends all that is left, in order; at once when gone is closed.
func (p *processes) end(gone <-chan struct{}) {
	term, kill := time.NewTimer(termAfter), time.NewTimer(killAfter)
	defer term.Stop()
	defer kill.Stop()
	p.signal(unix.SIGHUP)
	p.signal(unix.SIGCONT) // what is stopped cannot end
	for {
		select {
		case <-p.none:
			return
		case <-term.C:
			p.signal(unix.SIGTERM)
			p.signal(unix.SIGCONT)
		case <-kill.C:
			p.kill()
			return
		case <-gone:
			p.kill()
			return
		}
	}
}

// kill kills all that is left, and waits until it is gone. While they are killed they
// may start others, so it is done until there is none.
func (p *processes) kill() {
	again := time.NewTicker(killAgain)
	defer again.Stop()
	for {
		p.signal(unix.SIGKILL)
		select {
		case <-p.none:
			return
		case <-again.C:
		}
	}
}

// signal sends a signal to all of them.
func (p *processes) signal(s unix.Signal) {
	if os.Getpid() == 1 {
		unix.Kill(-1, s)
		return
	}
	for _, pid := range descendants(os.Getpid(), nil) {
		unix.Kill(pid, s)
	}
}

// descendants appends to list the processes below one (proc(5), /proc/PID/task/TID/children).
func descendants(pid int, list []int) []int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f) // of a thread that ended there are none
		for word := range strings.FieldsSeq(string(b)) {
			if child, err := strconv.Atoi(word); err == nil {
				list = descendants(child, append(list, child))
			}
		}
	}
	return list
}
