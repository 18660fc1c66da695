package tcp

import (
	"net"
	"net/netip"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/carrier"
)

// SocketOf returns what tells of a connection, which stays the caller's; nil if it is not
// one of TCP. If no Congestion was chosen for it, whoever asks for its Path also has that
// fit the way. Its Path costs one system call and allocates nothing; of a connection that
// is closed it is the zero Path. It may be called from several goroutines.
func SocketOf(c net.Conn, chosen Congestion) carrier.Socket {
	conn, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	return newSocket(conn, raw, chosen)
}

// newSocket is SocketOf by another descriptor of c's.
func newSocket(c *net.TCPConn, raw controller, chosen Congestion) *socket {
	s := &socket{raw: raw, loss: loss{watched: chosen == ""}}
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		s.local = a.AddrPort().Addr().Unmap()
	}
	s.read = s.readInfo
	raw.Control(func(fd uintptr) { s.control(int(fd)) })
	return s
}

// watchCopy is conn.Watch by a descriptor of its own. Go's poller does not know that: it
// would wake for each segment that comes for the program that has the connection.
func watchCopy(c *net.TCPConn, chosen Congestion) (carrier.Socket, func()) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, func() {}
	}
	d := &descriptor{fd: -1}
	raw.Control(func(fd uintptr) { d.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) })
	if err != nil || d.fd < 0 {
		return nil, func() {}
	}
	return newSocket(c, d, chosen), d.close
}

// A controller lends a descriptor, as a syscall.RawConn does.
type controller interface {
	Control(func(fd uintptr)) error
}

// A descriptor is one of ours, until it is closed.
type descriptor struct {
	mu sync.Mutex
	fd int // -1 once closed
}

func (d *descriptor) Control(f func(fd uintptr)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		return net.ErrClosed
	}
	f(uintptr(d.fd))
	return nil
}

func (d *descriptor) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd >= 0 {
		unix.Close(d.fd)
	}
	d.fd = -1
}

// A socket is the carrier.Socket of a TCP connection.
type socket struct {
	raw   controller
	read  func(fd uintptr) // readInfo
	local netip.Addr

	mu    sync.Mutex
	paced bool
	loss  loss
	info  unix.TCPInfo // what readInfo found
	known bool         // ... if it did
}

func (s *socket) Path() carrier.Path {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = false
	if s.raw.Control(s.read) != nil || !s.known {
		return carrier.Path{}
	}
	p := carrier.Path{
		RoundTrip: time.Duration(s.info.Rtt) * time.Microsecond,
		Unsent:    int(s.info.Notsent_bytes),
		Lost:      uint64(s.info.Total_retrans),
		Paced:     s.paced,
		Local:     s.local,
	}
	if s.info.Min_rtt != 1<<32-1 { // the kernel's word for none yet
		p.LeastRoundTrip = time.Duration(s.info.Min_rtt) * time.Microsecond
	}
	return p
}

// readInfo asks the kernel; unix.GetsockoptTCPInfo would allocate each time. A kernel
// that knows less than we do leaves the rest as it was, which is zero.
func (s *socket) readInfo(fd uintptr) {
	size := uint32(unsafe.Sizeof(s.info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&s.info)), uintptr(unsafe.Pointer(&size)), 0)
	if s.known = errno == 0; s.known {
		s.adapt(int(fd))
	}
}
