package lab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A PPPD is a real pppd that runs in a guest of a machine, and that guest: a host
// with the link's end as its only network. The guest's files are the machine's,
// read only; its /etc/ppp is its own.
type PPPD struct {
	machine *Machine
	dir     string // shared with the guest, see uml_pppd.sh
	cmd     *Cmd   // nil if another started it
	ask     *os.File
	tell    *os.File
	exited  chan int      // length 1: its exit status, if this process started it
	ended   chan struct{} // closed when nothing more is told
	status  int           // valid after ended

	mu       sync.Mutex
	networks map[string]*network
	asked    int
	answers  map[int]chan int // exit statuses of what Run runs
}

// noGuest is the status of uml_pppd.sh if the guest did not get so far as to end.
const noGuest = 127

// A network is "ipv4" or "ipv6" of a link.
type network struct {
	up      chan struct{} // closed when it came up
	details []string      // of the last time: device, local address, peer's address
}

// PPPD starts a pppd as root with options as in pppd(8) on a line: one end of
// what Line or TTYLine made, whose copy here it closes. InstallPPPD comes first.
// When ctx ends everything is killed. The caller closes it.
func (m *Machine) PPPD(ctx context.Context, line *os.File, options ...string) (*PPPD, error) {
	defer line.Close()
	p := newPPPD(m)
	err := m.Do(func() error {
		var err error
		if p.dir, err = os.MkdirTemp("/tmp", "lab-guest."); err != nil {
			return err
		}
		for _, name := range []string{"ask", "tell"} {
			if err := unix.Mkfifo(filepath.Join(p.dir, name), 0o600); err != nil {
				return fmt.Errorf("making %s: %w", name, err)
			}
		}
		return p.open(os.O_RDWR) // for it is not there yet: reading would only meet the end
	})
	if err != nil {
		p.remove()
		return nil, fmt.Errorf("lab: %s: making room for pppd: %w", m.Name, err)
	}
	p.cmd = m.Command(ctx, "pppd", options...)
	p.cmd.Env = []string{"LAB_PPPD=" + p.dir}
	p.cmd.Stdin, p.cmd.Stdout = line, line
	if err := p.cmd.Start(); err != nil {
		p.release()
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		p.exited <- p.cmd.ProcessState.ExitCode()
		p.tell.WriteString("end\n") // after all that it told
	}()
	go p.listen()
	return p, nil
}

// AttachPPPD finds the one pppd that runs on the machine and that another
// program started, sshd for example. The caller closes what it returns, which
// ends nothing.
func (m *Machine) AttachPPPD() (*PPPD, error) {
	p := newPPPD(m)
	err := m.Do(func() error {
		logs, err := filepath.Glob("/tmp/lab-pppd.*/log")
		if err != nil {
			return err
		}
		if len(logs) != 1 {
			return fmt.Errorf("%d of them run", len(logs))
		}
		p.dir = filepath.Dir(logs[0])
		return p.open(os.O_RDONLY)
	})
	if err != nil {
		return nil, fmt.Errorf("lab: %s: finding pppd: %w", m.Name, err)
	}
	go p.listen()
	return p, nil
}

func newPPPD(m *Machine) *PPPD {
	return &PPPD{
		machine:  m,
		exited:   make(chan int, 1),
		ended:    make(chan struct{}),
		networks: map[string]*network{"ipv4": {up: make(chan struct{})}, "ipv6": {up: make(chan struct{})}},
		answers:  make(map[int]chan int),
	}
}

// open opens the FIFOs, on a thread inside the machine.
func (p *PPPD) open(how int) (err error) {
	if p.tell, err = os.OpenFile(p.dir+"/tell", how|unix.O_NONBLOCK, 0); err != nil {
		return err
	}
	p.ask, err = os.OpenFile(p.dir+"/ask", os.O_RDWR|unix.O_NONBLOCK, 0)
	return err
}

// listen reads what is told until the end.
func (p *PPPD) listen() {
	defer close(p.ended)
	lines := bufio.NewScanner(p.tell)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) == 1 && f[0] == "end":
			p.status = <-p.exited
			return
		case len(f) == 3 && f[0] == "ran":
			n, _ := strconv.Atoi(f[1])
			status, err := strconv.Atoi(f[2])
			p.mu.Lock()
			if answer := p.answers[n]; answer != nil && err == nil {
				answer <- status
				delete(p.answers, n)
			}
			p.mu.Unlock()
		case len(f) >= 2 && f[0] == "up":
			p.mu.Lock()
			if n := p.networks[f[1]]; n != nil {
				if n.details == nil {
					close(n.up)
				}
				n.details = f[2:]
			}
			p.mu.Unlock()
		}
	}
}

// AwaitUp returns when pppd has brought a network up, "ipv4" or "ipv6", and with
// it the guest's address and the peer's.
func (p *PPPD) AwaitUp(ctx context.Context, name string) (local, remote string, err error) {
	n := p.networks[name]
	if n == nil {
		return "", "", fmt.Errorf("lab: no network %q", name)
	}
	select {
	case <-n.up:
	case <-p.ended:
		return "", "", fmt.Errorf("lab: pppd ended before %s came up: %s", name, p.Log())
	case <-ctx.Done():
		return "", "", fmt.Errorf("lab: waiting for %s of pppd: %w: %s", name, context.Cause(ctx), p.Log())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(n.details) < 3 {
		return "", "", fmt.Errorf("lab: pppd's %s came up with %q", name, n.details)
	}
	return n.details[1], n.details[2], nil
}

// Run runs a program in the guest as root to its end, and returns its standard
// output. If it fails, the error holds the last of its standard error.
func (p *PPPD) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	p.mu.Lock()
	p.asked++
	n := p.asked
	answer := make(chan int, 1)
	p.answers[n] = answer
	p.mu.Unlock()

	file := filepath.Join(p.dir, strconv.Itoa(n))
	script := "exec " + quote(append([]string{name}, args...)) + "\n"
	err := p.machine.WriteFile(file+".sh", []byte(script), 0o644, "root")
	if err == nil {
		_, err = fmt.Fprintf(p.ask, "run %d\n", n)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: asking the guest to run %s: %w", name, err)
	}
	var status int
	select {
	case status = <-answer:
	case <-p.ended:
		return nil, fmt.Errorf("lab: the guest ended while it ran %s", name)
	case <-ctx.Done():
		return nil, fmt.Errorf("lab: the guest runs %s: %w", name, context.Cause(ctx))
	}
	out, err := p.machine.ReadFile(file + ".out")
	if status != 0 {
		said, _ := p.machine.ReadFile(file + ".err")
		err = fmt.Errorf("lab: the guest ran %s: exit status %d: %s", name, status, bytes.TrimSpace(said[max(0, len(said)-1000):]))
	}
	return out, err
}

// Signal sends TERM, INT, HUP, USR1 or USR2 to pppd; KILL ends the guest at once.
func (p *PPPD) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill9 ends pppd and all of the guest without a word on the line.
func (p *PPPD) Kill9() error { return p.cmd.Process.Kill() }

// Exit waits for pppd's end and returns its exit status: -1 after Kill9, and 0 of
// one that another program started, which alone knows.
func (p *PPPD) Exit(ctx context.Context) (status int, err error) {
	select {
	case <-p.ended:
		return p.status, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("lab: waiting for pppd to end: %w: %s", context.Cause(ctx), p.Log())
	}
}

// Log is what pppd logged, with each packet of its negotiations, and what else was
// said in the guest.
func (p *PPPD) Log() string {
	names := []string{"log", "errors", "init"}
	select {
	case <-p.ended:
		if p.status == noGuest {
			names = append(names, "console")
		}
	default:
	}
	var all []string
	for _, name := range names {
		b, _ := p.machine.ReadFile(filepath.Join(p.dir, name)) // not all are there from the start
		all = append(all, string(b))
	}
	return strings.Join(all, "")
}

// Secrets makes lines of a secrets file of pppd's, "pap-secrets" or
// "chap-secrets", known to the pppds that the machine starts from then on.
func (m *Machine) Secrets(file string, lines ...string) error {
	return m.WriteFile("/etc/ppp/"+file, []byte(strings.Join(lines, "\n")+"\n"), 0o600, "root")
}

// Close kills what this process started and removes what it left.
func (p *PPPD) Close() error {
	if p.cmd != nil {
		p.cmd.Process.Kill()
	} else {
		p.tell.Close()
	}
	<-p.ended
	return p.release()
}

func (p *PPPD) release() error {
	p.ask.Close()
	p.tell.Close()
	if p.cmd == nil {
		return nil
	}
	return p.remove()
}

func (p *PPPD) remove() error {
	if p.dir == "" {
		return nil
	}
	return p.machine.Do(func() error { return os.RemoveAll(p.dir) })
}

// Line makes a line of PPP without a tty: a socket pair. Either end may be read
// and written here, or be a program's standard input and output.
func Line() (one, other *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("lab: making a line: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "line"), os.NewFile(uintptr(fds[1]), "line"), nil
}

// TTY makes a pty pair as a login has it: it echoes, and sees to lines and signals.
func TTY() (control, tty *os.File, err error) { return openPTY(false) }

// TTYLine makes a pty pair for PPP: its tty is raw and does not echo.
func TTYLine() (control, tty *os.File, err error) { return openPTY(true) }

func openPTY(raw bool) (control, tty *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("lab: making a tty: %w", err)
	}
	if tty, err = openTTY(fd, raw); err != nil {
		unix.Close(fd)
		return nil, nil, fmt.Errorf("lab: making a tty: %w", err)
	}
	return os.NewFile(uintptr(fd), "ptmx"), tty, nil
}

// openTTY opens the other end of a pty.
func openTTY(control int, raw bool) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(control, unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	n, err := unix.IoctlGetInt(control, unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	path := fmt.Sprintf("/dev/pts/%d", n)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if raw {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
			t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B38400
			t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
			err = unix.IoctlSetTermios(fd, unix.TCSETS, t)
		}
		if err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	return os.NewFile(uintptr(fd), path), nil
}
