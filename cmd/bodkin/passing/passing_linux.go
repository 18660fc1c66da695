package passing

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Most bounds a message, in octets: a wish for the machine with all the routes that
// there may be stays below it.
const Most = 192 << 10

// mostFiles is how many files come beside a message at most.
const mostFiles = 4

// Pair returns two connected sockets: ours, and the other for another process.
func Pair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	conn, err := From(near)
	if err != nil {
		far.Close()
	}
	return conn, far, err
}

// From makes a connection of a socket, and closes the file.
func From(file *os.File) (*net.UnixConn, error) {
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	c, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("passing: not a Unix socket")
	}
	return c, nil
}

// UID returns whose process made or listened at the other end.
func UID(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var peer *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, failed); err != nil {
		return -1, err
	}
	return int(peer.Uid), nil
}

// Send writes one message, with the files beside it, which stay the caller's.
func Send(conn *net.UnixConn, message any, files ...*os.File) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(b) > Most {
		return fmt.Errorf("passing: a message of %d octets, more than %d", len(b), Most)
	}
	return withDescriptors(files, nil, func(fds []int) error {
		var rights []byte
		if len(fds) > 0 {
			rights = unix.UnixRights(fds...)
		}
		_, _, err := conn.WriteMsgUnix(b, rights, nil)
		return err
	})
}

// withDescriptors calls use with the descriptors of files, which stay open until
// it returns. They are used without Fd, which would make them blocking.
func withDescriptors(files []*os.File, fds []int, use func([]int) error) error {
	if len(files) == 0 {
		return use(fds)
	}
	raw, err := files[0].SyscallConn()
	if err != nil {
		return err
	}
	var used error
	err = raw.Control(func(fd uintptr) { used = withDescriptors(files[1:], append(fds, int(fd)), use) })
	return errors.Join(err, used)
}

// Receive reads one message and the files beside it, which are the caller's, also those
// that come with an error. It returns net.ErrClosed when the other end is gone.
func Receive[T any](conn *net.UnixConn) (message T, files []*os.File, err error) {
	b := make([]byte, Most)
	rights := make([]byte, unix.CmsgSpace(mostFiles*4))
	n, rightsLen, flags, _, err := conn.ReadMsgUnix(b, rights)
	if err != nil {
		return message, nil, err
	}
	if n == 0 {
		return message, nil, net.ErrClosed
	}
	if rightsLen > 0 {
		messages, err := unix.ParseSocketControlMessage(rights[:rightsLen])
		if err != nil {
			return message, nil, err
		}
		for _, m := range messages {
			fds, err := unix.ParseUnixRights(&m)
			if err != nil {
				continue
			}
			for _, fd := range fds {
				unix.CloseOnExec(fd)
				files = append(files, os.NewFile(uintptr(fd), "passed"))
			}
		}
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return message, files, errors.New("passing: a message longer than there are")
	}
	return message, files, json.Unmarshal(b[:n], &message)
}

// CloseAll closes files.
func CloseAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
