package ssh

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// canHandOver says that this system can pass an open socket between processes.
const canHandOver = true

// An offer is a connected socket that waits for ssh to take it:
//
//	we  -- Unix socket in a private directory -->  FdpassCommand  -- its stdout -->  ssh
//
// ssh runs FdpassCommand as its ProxyCommand with ProxyUseFdpass, and takes the
// descriptor that it sends (ssh_config(5)). A nil offer is closed already.
type offer struct {
	path string
	dir  string
	file *os.File
	l    *net.UnixListener
	done chan struct{}
	once sync.Once
}

// offer takes over file and waits, in a goroutine, for the helper to fetch it.
func (c *Config) offer(file *os.File) (*offer, error) {
	o := &offer{file: file, done: make(chan struct{})}
	uid := os.Getuid()
	err := func() (err error) {
		if o.dir, err = os.MkdirTemp("", "bodkin-"); err != nil { // mode 0700
			return err
		}
		o.path = filepath.Join(o.dir, "socket")
		if o.l, err = net.ListenUnix("unix", &net.UnixAddr{Name: o.path, Net: "unix"}); err != nil {
			return err
		}
		if c.User != nil {
			uid = int(c.User.UID)
			return errors.Join(os.Chown(o.path, uid, int(c.User.GID)), os.Chown(o.dir, uid, int(c.User.GID)))
		}
		return nil
	}()
	if err != nil {
		o.remove()
		return nil, fmt.Errorf("ssh: offering the socket: %w", err)
	}
	go func() {
		defer close(o.done)
		o.serve(uid)
		o.remove()
	}()
	return o, nil
}

// serve hands the socket over once, to a process of user uid and nobody else.
func (o *offer) serve(uid int) {
	for {
		c, err := o.l.AcceptUnix()
		if err != nil {
			return
		}
		if peerUID(c) != uid {
			c.Close()
			continue
		}
		fd := -1
		control(o.file, func(n int) { fd = n })
		_, _, err = c.WriteMsgUnix([]byte{0}, unix.UnixRights(fd), nil)
		c.Close()
		if err == nil {
			return
		}
	}
}

// peerUID returns the user at the other end; -1 if the kernel does not say.
func peerUID(c *net.UnixConn) int {
	uid := -1
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
				uid = int(cred.Uid)
			}
		})
	}
	return uid
}

// remove takes away all that the offer made.
func (o *offer) remove() {
	o.file.Close()
	if o.l != nil {
		o.l.Close()
	}
	if o.dir != "" {
		os.RemoveAll(o.dir)
	}
}

// close withdraws the offer if nobody took it.
func (o *offer) close() {
	if o == nil {
		return
	}
	o.once.Do(func() {
		o.l.Close()
		<-o.done
	})
}

// ReceiveAndPass is the helper that ssh runs as its ProxyCommand, with
// ProxyUseFdpass: it fetches the connected socket from the Unix socket at path and
// sends it to ssh on standard output, as one octet with SCM_RIGHTS.
func ReceiveAndPass(path string) error {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("ssh: fetching the socket: %w", err)
	}
	defer c.Close()
	fd, err := receive(c)
	if err != nil {
		return fmt.Errorf("ssh: fetching the socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendmsg(1, []byte{0}, unix.UnixRights(fd), nil, 0); err != nil {
		return fmt.Errorf("ssh: passing the socket on: %w", err)
	}
	return nil
}

// receive receives one octet with one descriptor.
func receive(c *net.UnixConn) (int, error) {
	data, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.ReadMsgUnix(data, rights)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return -1, errors.New("the message has no descriptor")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.New("the message has no descriptor")
	}
	return fds[0], nil
}

// control calls f with the descriptor of file.
func control(file *os.File, f func(fd int)) {
	if raw, err := file.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
