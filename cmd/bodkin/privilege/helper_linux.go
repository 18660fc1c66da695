package privilege

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/cmd/bodkin/passing"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/host"
)

// A Helper is the near end of the host helper. Its methods may be called from several
// goroutines; their errors are the helper's own, or ErrGone once that is gone.
type Helper struct {
	how  string // "root", "by sudo": for people
	mu   sync.Mutex
	conn *net.UnixConn
	cmd  *exec.Cmd
	gone chan struct{} // closed when the helper has ended, and end says how
	end  error
	mark atomic.Uint32
}

// helperPatience is how long the helper may take for one request.
const helperPatience = 30 * time.Second

// Start starts the host helper: as we are when that suffices, else by sudo, which may
// ask on the terminal. Afterwards a process that root started for somebody by sudo is
// that somebody: nothing that reads the network, and no ssh, runs as root for a user.
// What sudo and the helper say goes to errw. An error that the user can do something
// about is of the layer privilege. It does not wait for the helper: Hello does.
func Start(errw io.Writer) (*Helper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args, how := []string{self, Command}, "as root"
	switch {
	case os.Geteuid() == 0:
	case HasNetAdmin():
		how = "by CAP_NET_ADMIN"
	default:
		sudo, err := exec.LookPath("sudo")
		if err != nil {
			return nil, report.At(report.Privilege, errors.New("making a network device and routes needs root, and there is no sudo here"),
				"run bodkin up as root, or give the program the capability: setcap cap_net_admin+ep "+self)
		}
		how = "by sudo"
		args = []string{sudo, "-p", "bodkin: password of %p for the network device and routes: ", "--", self, Command}
	}
	conn, far, err := passing.Pair()
	if err != nil {
		return nil, err
	}
	defer far.Close()
	p := &Helper{how: how, conn: conn}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Stdin, p.cmd.Stderr = far, errw
	if err := p.cmd.Start(); err != nil {
		p.conn.Close()
		return nil, report.At(report.Privilege, err, "")
	}
	p.gone = make(chan struct{})
	go func() {
		p.end = p.cmd.Wait()
		close(p.gone)
	}()
	name, err := GiveUp()
	if err != nil {
		p.Close()
		return nil, report.At(report.Privilege, err, "")
	}
	if name != "" {
		p.how = "as root, all else as " + name
	}
	return p, nil
}

// call sends one request and waits for its reply.
func (p *Helper) call(req request, files ...*os.File) (reply, []*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn.SetDeadline(time.Now().Add(helperPatience))
	if req.Verb == verbHello {
		p.conn.SetDeadline(time.Time{}) // as long as sudo's user takes
	}
	if err := passing.Send(p.conn, req, files...); err != nil {
		return reply{}, nil, lost(err)
	}
	r, got, err := passing.Receive[reply](p.conn)
	if err != nil {
		passing.CloseAll(got)
		return r, nil, lost(err)
	}
	if r.Error != "" {
		passing.CloseAll(got)
		return r, nil, errors.New(r.Error)
	}
	return r, got, nil
}

func lost(err error) error {
	return fmt.Errorf("%w (%v)", ErrGone, err)
}

// How says how the helper runs, for people: "as root", "by sudo".
func (p *Helper) How() string { return p.how }

// Hello waits until the helper is there, or ctx ends, and returns what it had to
// clean up after others.
func (p *Helper) Hello(ctx context.Context) ([]string, error) {
	defer context.AfterFunc(ctx, func() { p.conn.Close() })() // sudo may be asking for a password
	r, _, err := p.call(request{Verb: verbHello})
	return r.Notes, err
}

// Control marks a socket before it connects; it is a net.Dialer's Control.
func (p *Helper) Control(_, _ string, raw syscall.RawConn) error {
	var result error
	err := raw.Control(func(fd uintptr) {
		dup, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			result = err
			return
		}
		file := os.NewFile(uintptr(dup), "socket")
		defer file.Close()
		if _, _, result = p.call(request{Verb: verbMark}, file); result == nil {
			mark, _ := unix.GetsockoptInt(dup, unix.SOL_SOCKET, unix.SO_MARK)
			p.mark.Store(uint32(mark))
		}
	})
	return errors.Join(err, result)
}

// Mark is the fwmark of the sockets that Control has marked; 0: none so far.
func (p *Helper) Mark() uint32 { return p.mark.Load() }

// Device makes the TUN device, and returns its file, which is the caller's, and its name.
func (p *Helper) Device(name string) (*os.File, string, error) {
	r, files, err := p.call(request{Verb: verbDevice, Name: name})
	if err != nil {
		return nil, "", err
	}
	if len(files) != 1 {
		passing.CloseAll(files)
		return nil, "", errors.New("the host helper sent no device")
	}
	return files[0], r.Name, nil
}

// A Resolver is a DNS forwarder's sockets, port 53 of a loopback address. They are
// the caller's, to be served by splitdns.Forwarder.Serve.
type Resolver struct {
	Addr netip.Addr // what a wish's DNS.Forwarder is to be
	UDP  net.PacketConn
	TCP  net.Listener
}

// Resolver opens the sockets of a DNS forwarder. There can be one.
func (p *Helper) Resolver() (*Resolver, error) {
	r, files, err := p.call(request{Verb: verbResolver})
	defer passing.CloseAll(files) // net makes its own of them
	if err != nil {
		return nil, err
	}
	if len(files) != 2 {
		return nil, errors.New("the host helper sent no sockets")
	}
	udp, err := net.FilePacketConn(files[0])
	if err != nil {
		return nil, err
	}
	tcp, err := net.FileListener(files[1])
	if err != nil {
		udp.Close()
		return nil, err
	}
	return &Resolver{Addr: r.Addr, UDP: udp, TCP: tcp}, nil
}

// Set carries out the wish, for the device that was made, and returns what people should
// know of it. An error may be ErrBusy or ErrSplitDNS.
func (p *Helper) Set(w host.Wish) ([]string, error) {
	r, _, err := p.call(request{Verb: verbSet, Wish: &w})
	switch {
	case err == nil:
		return r.Notes, nil
	case r.Busy:
		return nil, fmt.Errorf("%w%w", err, ErrBusy)
	case r.Split:
		return nil, fmt.Errorf("%w%w", err, ErrSplitDNS)
	}
	return nil, err
}

// Look returns what others did to the machine's settings since.
func (p *Helper) Look() []string {
	r, _, _ := p.call(request{Verb: verbLook})
	return r.Notes
}

// Gone is closed when the helper has ended, asked or not: by then it has taken
// everything back.
func (p *Helper) Gone() <-chan struct{} { return p.gone }

// Undo takes the wish back, and gives up the device. It returns what was left to others.
func (p *Helper) Undo() ([]string, error) {
	r, _, err := p.call(request{Verb: verbUndo})
	return r.Notes, err
}

// Close lets the helper go, which takes back what is still there, and waits
// for its end.
func (p *Helper) Close() error {
	p.conn.Close()
	<-p.gone
	return p.end
}
