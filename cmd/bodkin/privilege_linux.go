package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/host"
)

// A privileged is the near end of the host helper.
type privileged struct {
	how  string // "root", "by sudo": for people
	mu   sync.Mutex
	conn *net.UnixConn
	cmd  *exec.Cmd
	gone chan struct{} // closed when the helper has ended, and end says how
	end  error
}

// helperPatience is how long the helper may take for one request.
const helperPatience = 30 * time.Second

// startPrivileged starts the host helper: as we are when that suffices, else by
// sudo, which may ask on the terminal. Afterwards a process that root started
// for somebody by sudo is that somebody: nothing that reads the network, and no
// ssh, runs as root for a user.
func startPrivileged(errw io.Writer) (*privileged, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args, how := []string{self, helperCommand}, "as root"
	switch {
	case os.Geteuid() == 0:
	case hasNetAdmin():
		how = "by CAP_NET_ADMIN"
	default:
		sudo, err := exec.LookPath("sudo")
		if err != nil {
			return nil, report.At(report.Privilege, errors.New("making a network device and routes needs root, and there is no sudo here"),
				"run bodkin up as root, or give the program the capability: setcap cap_net_admin+ep "+self)
		}
		how = "by sudo"
		args = []string{sudo, "-p", "bodkin: password of %p for the network device and routes: ", "--", self, helperCommand}
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	near, far := os.NewFile(uintptr(fds[0]), "helper"), os.NewFile(uintptr(fds[1]), "helper")
	defer far.Close()
	defer near.Close()
	conn, err := net.FileConn(near)
	if err != nil {
		return nil, err
	}
	p := &privileged{how: how, conn: conn.(*net.UnixConn)}
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
	name, err := giveUpRoot()
	if err != nil {
		p.Close()
		return nil, report.At(report.Privilege, err, "")
	}
	if name != "" {
		p.how = "as root, all else as " + name
	}
	return p, nil
}

// giveUpRoot makes a process that root started for somebody by sudo that somebody's,
// and returns who that is; empty if it was not so.
func giveUpRoot() (string, error) {
	if os.Geteuid() != 0 || os.Getenv("SUDO_UID") == "" {
		return "", nil
	}
	return becomeSudoUser()
}

// hasNetAdmin reports whether this process, and so the helper, may change the
// network.
func hasNetAdmin() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
}

// becomeSudoUser makes this process the user's who called sudo, for good.
func becomeSudoUser() (string, error) {
	u, err := user.LookupId(os.Getenv("SUDO_UID"))
	if err != nil {
		return "", fmt.Errorf("the user who called sudo: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	if uid == 0 {
		return "root", nil
	}
	groups := []int{gid}
	if ids, err := u.GroupIds(); err == nil {
		for _, id := range ids {
			if n, err := strconv.Atoi(id); err == nil && n != gid {
				groups = append(groups, n)
			}
		}
	}
	if err := errors.Join(syscall.Setgroups(groups), syscall.Setresgid(gid, gid, gid), syscall.Setresuid(uid, uid, uid)); err != nil {
		return "", fmt.Errorf("becoming %s: %w", u.Username, err)
	}
	os.Setenv("HOME", u.HomeDir)
	os.Setenv("USER", u.Username)
	os.Setenv("LOGNAME", u.Username)
	os.Unsetenv("XDG_RUNTIME_DIR")
	return u.Username, nil
}

// call sends one request and waits for its reply.
func (p *privileged) call(req request, file *os.File) (reply, []*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn.SetDeadline(time.Now().Add(helperPatience))
	if req.Verb == verbHello {
		p.conn.SetDeadline(time.Time{}) // as long as sudo's user takes
	}
	if err := send(p.conn, req, file); err != nil {
		return reply{}, nil, lost(err)
	}
	r, files, err := receive[reply](p.conn)
	if err != nil {
		closeAll(files)
		return r, nil, lost(err)
	}
	if r.Error != "" {
		closeAll(files)
		return r, nil, errors.New(r.Error)
	}
	return r, files, nil
}

// errHelperGone is what all requests end with once the helper is gone: sudo
// refused, or somebody ended it.
var errHelperGone = errors.New("the host helper is gone")

func lost(err error) error {
	return fmt.Errorf("%w (%v)", errHelperGone, err)
}

// Hello waits until the helper is there, or ctx ends, and returns what it had to
// clean up after others.
func (p *privileged) Hello(ctx context.Context) ([]string, error) {
	defer context.AfterFunc(ctx, func() { p.conn.Close() })() // sudo may be asking for a password
	r, _, err := p.call(request{Verb: verbHello}, nil)
	return r.Notes, err
}

// Control marks a socket before it connects; it is a net.Dialer's Control.
func (p *privileged) Control(_, _ string, raw syscall.RawConn) error {
	var result error
	err := raw.Control(func(fd uintptr) {
		dup, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			result = err
			return
		}
		file := os.NewFile(uintptr(dup), "socket")
		defer file.Close()
		_, _, result = p.call(request{Verb: verbMark}, file)
	})
	return errors.Join(err, result)
}

// Device makes the TUN device. The file is the caller's.
func (p *privileged) Device(name string) (*os.File, string, error) {
	r, files, err := p.call(request{Verb: verbDevice, Name: name}, nil)
	if err != nil {
		return nil, "", err
	}
	if len(files) != 1 {
		closeAll(files)
		return nil, "", errors.New("the host helper sent no device")
	}
	return files[0], r.Name, nil
}

// Set carries out the wish.
func (p *privileged) Set(w host.Wish) ([]string, error) {
	r, _, err := p.call(request{Verb: verbSet, Wish: &w}, nil)
	switch {
	case err == nil:
		return r.Notes, nil
	case r.Busy:
		return nil, fmt.Errorf("%w%w", err, errBusy)
	case r.Split:
		return nil, fmt.Errorf("%w%w", err, errSplit)
	}
	return nil, err
}

// Kinds of errors that the helper tells apart, kept over the wire. Their texts
// are empty: the error before them says it all.
var (
	errBusy  error = kind("")
	errSplit error = kind("")
)

type kind string

func (k kind) Error() string { return string(k) }

// Look returns what others did to the machine's settings since.
func (p *privileged) Look() []string {
	r, _, _ := p.call(request{Verb: verbLook}, nil)
	return r.Notes
}

// Gone is closed when the helper has ended, asked or not: by then it has taken
// everything back.
func (p *privileged) Gone() <-chan struct{} { return p.gone }

// Undo takes the wish back.
func (p *privileged) Undo() ([]string, error) {
	r, _, err := p.call(request{Verb: verbUndo}, nil)
	return r.Notes, err
}

// Close lets the helper go, which takes back what is still there, and waits
// for its end.
func (p *privileged) Close() error {
	p.conn.Close()
	<-p.gone
	return p.end
}
