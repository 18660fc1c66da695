package lab

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs fn on an operating system thread of its own, which ends with fn:
// whatever namespaces fn entered or left, no other goroutine ever runs in them.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("lab: the function ended its goroutine instead of returning")
		defer func() { done <- err }()
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and stands for the process in /proc.
			// Holding it here makes the next goroutine take another one.
			err = onThread(fn)
			runtime.UnlockOSThread()
			return
		}
		err = fn() // still locked on return, so the thread ends with its goroutine
	}()
	return <-done
}

// namespaces are a machine's, held open by descriptors; -1 is none of its own.
type namespaces struct {
	net, mnt, uts, ipc, pid int
}

// enter moves the calling thread, which must be locked, into the namespaces. The
// process namespace counts only for processes that the thread starts from then on.
func (n namespaces) enter() error {
	// A thread that shares its root and working directory cannot change its mounts.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for _, ns := range []struct{ fd, kind int }{
		{n.net, unix.CLONE_NEWNET},
		{n.uts, unix.CLONE_NEWUTS},
		{n.ipc, unix.CLONE_NEWIPC},
		{n.pid, unix.CLONE_NEWPID},
		{n.mnt, unix.CLONE_NEWNS}, // last: it takes the real /proc away
	} {
		if ns.fd < 0 {
			continue
		}
		if err := unix.Setns(ns.fd, ns.kind); err != nil {
			return err
		}
	}
	return nil
}

// close lets the namespaces go; the kernel removes them when nothing else holds them.
func (n namespaces) close() {
	for _, fd := range []int{n.net, n.mnt, n.uts, n.ipc, n.pid} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
