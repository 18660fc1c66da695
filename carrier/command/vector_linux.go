package command

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxVector is how many buffers writev(2) takes at once: IOV_MAX of Linux.
const maxVector = 1024

// A vector writes many buffers to a file in one system call.
type vector struct {
	raw    syscall.RawConn
	call   caller
	iovecs []unix.Iovec // kept between calls; at most maxVector
}

func newVector(file *os.File) (vector, error) {
	raw, err := file.SyscallConn()
	return vector{raw: raw, call: callerOf(file)}, err
}

// write writes all of buffers, and consumes the slice of slices.
func (v *vector) write(buffers net.Buffers) error {
	for {
		v.iovecs = v.iovecs[:0]
		for _, b := range buffers {
			if len(v.iovecs) == maxVector {
				break
			}
			if len(b) > 0 {
				v.iovecs = append(v.iovecs, unix.Iovec{Base: &b[0], Len: uint64(len(b))})
			}
		}
		if len(v.iovecs) == 0 {
			return nil
		}
		n, err := v.writeOnce()
		clear(v.iovecs) // the octets are the caller's
		if err != nil {
			return err
		}
		buffers = consume(buffers, n)
	}
}

// writeOnce makes one writev of iovecs, waiting until the file takes something.
func (v *vector) writeOnce() (n int, err error) {
	var errno syscall.Errno
	err = v.raw.Write(func(fd uintptr) bool {
		for {
			n, errno = v.call.writev(fd, v.iovecs)
			if errno != unix.EINTR {
				return errno != unix.EAGAIN
			}
		}
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return n, err
}

// consume takes the first n octets off buffers.
func consume(buffers net.Buffers, n int) net.Buffers {
	for len(buffers) > 0 && n >= len(buffers[0]) {
		n -= len(buffers[0])
		buffers = buffers[1:]
	}
	if n > 0 {
		buffers[0] = buffers[0][n:]
	}
	return buffers
}

// widen makes a pipe hold pipeSize octets. A system that allows its users less
// keeps what it has.
func widen(pipe *os.File) {
	control(pipe, func(fd int) {
		if size, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0); err == nil && size < pipeSize {
			unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
		}
	})
}
