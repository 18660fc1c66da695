package enclosure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

// An Enclosure is a command's namespaces, seen from outside. Its methods are for one
// goroutine, but for Close, which may be called from any, and more than once.
type Enclosure struct {
	conn   *net.UnixConn
	device *os.File // until Device gave it away
	name   string
	notes  []string
	gone   chan struct{} // closed when process 1 has ended
	once   sync.Once

	interrupted func()
	running     atomic.Bool   // the keys are the command's
	answers     chan message  // what process 1 says but for keys; closed when the socket ends
	read        chan struct{} // closed when the socket is read no more
}

// New makes the namespaces, with a device in them that nothing is set of yet, and finds
// the command in PATH. Whatever the system forbids shows here, before there is a tunnel;
// such an error has its layer, and a hint.
//
// All that runs inside ends when this process does, however that comes.
func New(c Config) (*Enclosure, error) {
	if len(c.Command) == 0 {
		return nil, report.Usage(errors.New("enclosure: no command"))
	}
	flags := uintptr(unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID)
	if !mayMakeNamespaces() {
		flags |= unix.CLONE_NEWUSER
	}
	e, err := start(c, flags)
	var f *failure
	if errors.As(err, &f) && f.Step == stepProc {
		// A container that covers parts of its /proc lets nobody mount another, and
		// without that a process namespace is of no use. See processes.
		e, err = start(c, flags&^unix.CLONE_NEWPID)
	}
	if err != nil {
		return nil, explain(err, flags, system{})
	}
	signal.Ignore(os.Interrupt, unix.SIGQUIT) // process 1 has them as they were
	go e.listen()
	return e, nil
}

// listen reads what process 1 says.
func (e *Enclosure) listen() {
	defer close(e.read)
	defer close(e.answers)
	for {
		m, _, err := receive(e.conn)
		switch {
		case err != nil:
			return
		case m.Verb != verbKey:
			e.answers <- m
		case e.interrupted != nil && !e.running.Load():
			e.interrupted()
		}
	}
}

// maxAnswers is how many messages process 1 may say ahead of who waits for them: done,
// and what ends the command. More wait in the socket.
const maxAnswers = 2

// start starts process 1 with these namespaces, and waits until it is ready.
func start(c Config, flags uintptr) (*Enclosure, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("enclosure: %w", err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "enclosure"), os.NewFile(uintptr(fds[1]), "enclosure")
	defer far.Close()
	conn, err := net.FileConn(near)
	near.Close()
	if err != nil {
		return nil, fmt.Errorf("enclosure: %w", err)
	}
	e := &Enclosure{
		conn: conn.(*net.UnixConn), gone: make(chan struct{}), interrupted: c.Interrupted,
		answers: make(chan message, maxAnswers), read: make(chan struct{}),
	}
	if err := e.spawn(c, flags, far); err != nil {
		e.conn.Close()
		return nil, err
	}
	m, file, err := receive(e.conn)
	if err != nil || m.Verb != verbReady || file == nil {
		e.conn.Close()
		<-e.gone
		if err != nil {
			return nil, fmt.Errorf("%w: before it was ready", ErrGone)
		}
		return nil, m.failed()
	}
	e.device, e.name, e.notes = file, m.Name, m.Notes
	return e, nil
}

// failed is the error that a message is.
func (m message) failed() error {
	if m.Failure == nil {
		return fmt.Errorf("enclosure: process 1 says %q", m.Verb)
	}
	return fmt.Errorf("enclosure: %w", m.Failure)
}

// spawn starts process 1, which has the socket far under a number of its own choice, so
// that descriptors 3 and up are what our caller left there, as with env(1).
func (e *Enclosure) spawn(c Config, flags uintptr, far *os.File) error {
	self, err := executable()
	if err != nil {
		return fmt.Errorf("enclosure: %w", err)
	}
	defer self.Close()
	fd, err := unix.FcntlInt(far.Fd(), unix.F_DUPFD, 3) // to be inherited: it is not closed on exec
	if err != nil {
		return fmt.Errorf("enclosure: %w", err)
	}
	defer unix.Close(fd)
	cmd := &exec.Cmd{
		Path:        fmt.Sprintf("/proc/self/fd/%d", self.Fd()),
		Args:        append([]string{"bodkin", Command, strconv.Itoa(fd), c.Name}, c.Command...),
		Dir:         c.Dir,
		Env:         c.Env,
		Stdin:       c.Stdin,
		Stdout:      c.Stdout,
		Stderr:      c.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: flags},
	}
	if flags&unix.CLONE_NEWPID != 0 {
		// Should we be killed, it sees its socket end and does the same; this holds even
		// if it is stopped. Without a process namespace it must live, to kill the others.
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if c.Env == nil {
		cmd.Env = Environment(os.Environ())
	}
	// A typed nil would not be nil, and /dev/null is not what was meant.
	if c.Stdin == nil {
		cmd.Stdin = os.Stdin
	}
	if c.Stdout == nil {
		cmd.Stdout = os.Stdout
	}
	if c.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	if flags&unix.CLONE_NEWUSER != 0 {
		// The user stays who he is. All other users' files are still theirs, but have
		// no name inside: nobody's.
		uid, gid := os.Geteuid(), os.Getegid()
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		// For mounts and for the network, until process 1 is at the command, which gets
		// none: see giveNoCapabilities.
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN}
		// A process that changed its user, or got capabilities of its file, may not
		// write its child's maps: /proc/PID is root's then (proc(5)). For a moment it
		// is as any program of this user's.
		if was, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err == nil && was != 1 {
			unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
			defer unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
		}
	}
	started := make(chan error, 1)
	go func() {
		// The signal at our death is sent when the thread dies that started the
		// process, so this one stays (prctl(2), PR_SET_PDEATHSIG).
		runtime.LockOSThread()
		defer close(e.gone)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
	}()
	return <-started
}

// executable opens the program that is running: even if its file has been replaced by
// now, and without its capabilities if the file has some, for they would take the
// ambient ones away (capabilities(7)).
func executable() (*os.File, error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	if n, err := unix.Fgetxattr(int(self.Fd()), "security.capability", nil); err != nil || n == 0 {
		return self, nil
	}
	defer self.Close()
	fd, err := unix.MemfdCreate("bodkin", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("a copy of the program: %w", err)
	}
	plain := os.NewFile(uintptr(fd), "bodkin")
	if _, err := io.Copy(plain, self); err != nil {
		plain.Close()
		return nil, fmt.Errorf("a copy of the program: %w", err)
	}
	return plain, nil
}

// Device returns the queue of the device, for tun.Open, which owns it from then on, and
// the device's name. A second call returns no file.
func (e *Enclosure) Device() (file *os.File, name string) {
	file, e.device = e.device, nil
	return file, e.name
}

// Notes are what people should know of how things are inside; none is an error.
func (e *Enclosure) Notes() []string { return e.notes }

// Gone is closed when process 1 has ended, and with it all that ran inside.
func (e *Enclosure) Gone() <-chan struct{} { return e.gone }

// Set gives the device its addresses and routes, and names their resolvers. It is
// called once, before Run. Its error has its layer.
func (e *Enclosure) Set(s Settings) error {
	if err := e.ask(message{Verb: verbSet, Settings: &s}); err != nil {
		return report.At(report.Routes, err, "")
	}
	return nil
}

// ask sends a request and waits until it is done.
func (e *Enclosure) ask(m message) error {
	if err := send(e.conn, m, nil); err != nil {
		return ErrGone
	}
	answer, ok := <-e.answers
	switch {
	case !ok:
		return ErrGone
	case answer.Verb != verbDone:
		return answer.failed()
	}
	return nil
}

// Run starts the command, waits until it has ended, and sees that all it left behind
// ends too. It returns the command's exit status, 128+n if signal n ended it.
//
// When ctx ends, so does the command: SIGHUP first, as when a line hangs up, after a
// second SIGTERM, after five SIGKILL. What is left behind when the command ends by
// itself gets the same. A caller whose command shall outlive the tunnel gives it another ctx.
//
// The command stands in our process group. So the terminal's keys reach it as they
// would without us: Ctrl-C and Ctrl-\ it alone, Ctrl-Z, which stops it, us too. A shell
// inside may make another group the terminal's; at the end it is ours again.
func (e *Enclosure) Run(ctx context.Context) (status int, err error) {
	e.running.Store(true)
	defer keepTerminal()()
	if err := send(e.conn, message{Verb: verbRun}, nil); err != nil {
		return 0, ErrGone
	}
	defer context.AfterFunc(ctx, func() { send(e.conn, message{Verb: verbEnd}, nil) })()
	for m := range e.answers {
		switch m.Verb {
		case verbEnded:
			return m.Status, nil
		case verbFailed:
			return m.Status, m.failed()
		}
	}
	return 0, ErrGone
}

// Close ends what still runs inside, at once, and waits until it is gone.
func (e *Enclosure) Close() error {
	e.once.Do(func() {
		e.conn.Close()
		if e.device != nil {
			e.device.Close()
			e.device = nil
		}
		<-e.gone
		<-e.read
		signal.Reset(os.Interrupt, unix.SIGQUIT)
	})
	return nil
}

// mayMakeNamespaces reports whether this process needs no user namespace: it is root,
// and not one of a container that root's capabilities were taken from.
func mayMakeNamespaces() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if os.Geteuid() != 0 || unix.Capget(&header, &data[0]) != nil {
		return false
	}
	const need = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN
	return data[0].Effective&need == need
}
