//go:build unix

package main

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketPair returns two ends of one connection, the second for a command.
func socketPair() (near net.Conn, far *os.File, err error) {
	syscall.ForkLock.RLock() // darwin has no SOCK_CLOEXEC
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	far = os.NewFile(uintptr(fds[1]), "line")
	if near, err = fileConn(os.NewFile(uintptr(fds[0]), "line")); err != nil {
		far.Close()
	}
	return near, far, err
}

// shutWrites ends what the command's side writes, whoever has it open still.
func shutWrites(far *os.File) { unix.Shutdown(int(far.Fd()), unix.SHUT_WR) }

// unread returns what was written to the command and not read by it.
func unread(far *os.File) (all []byte) {
	b := make([]byte, switchBuffer)
	for {
		n, _, err := unix.Recvfrom(int(far.Fd()), b, unix.MSG_DONTWAIT)
		if n <= 0 || err != nil {
			return all
		}
		all = append(all, b[:n]...)
	}
}
