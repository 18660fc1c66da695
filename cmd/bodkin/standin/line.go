package standin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/carrier/ssh"
	"github.com/bodkin-net/bodkin/config/pppd"
	"github.com/bodkin-net/bodkin/host"
	"github.com/bodkin-net/bodkin/pty"
)

// A line is the way to the peer: a Stream, and what is known of it.
type line struct {
	stream carrier.Stream
	name   string // for people, and the scripts: /dev/ttyS0, pty
	speed  int    // baud; 0: none

	terminal fs.FileInfo      // of our own terminal if that is the line; else nil
	process  *command.Process // at the other end of the line; nil: none
	words    carrier.Words    // what that says aside
	marked   []netip.AddrPort // the far ends of our own sockets, which are marked
	switched *switchboard     // nil: no command is ever run on the line
}

// A marker marks sockets, so that they stay outside of routes; nil: it need not.
type marker func(network, address string, raw syscall.RawConn) error

// openLine opens the line that the options name. Its error has an exit status.
func openLine(ctx context.Context, o *pppd.Line, mark marker, log *logger) (*line, error) {
	l := &line{words: carrier.Words{Line: func(line string) { log.printf("%s", line) }}}
	err := l.open(ctx, o, mark)
	if err != nil {
		return nil, err
	}
	if o.XONXOFF {
		l.stream.Unsafe.Add(0x11)
		l.stream.Unsafe.Add(0x13)
	}
	if o.Init != "" || o.Connect != "" || o.Welcome != "" || o.Disconnect != "" {
		l.switched = newSwitchboard(l.stream)
		l.stream.ReadWriteCloser = l.switched.end()
	}
	return l, nil
}

func (l *line) open(ctx context.Context, o *pppd.Line, mark marker) error {
	switch o.Kind {
	case pppd.LineDevice:
		return l.openDevice(o)
	case pppd.LinePTY, pppd.LinePipe:
		return l.start(o)
	case pppd.LineSocket:
		return l.dial(ctx, o, mark)
	case pppd.LineDefault:
		if pty.IsTerminal(os.Stdin) {
			return l.openOwn(o)
		}
	}
	return l.useStdio()
}

// openOwn takes the terminal that we were started on. Nothing else is to touch it:
// neither we, from the background, nor others' messages.
func (l *line) openOwn(o *pppd.Line) error {
	if tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		mine := pty.Foreground(tty)
		tty.Close()
		if !mine {
			return failedAs(statusOpenFailed, "bring it to the foreground, or name another line",
				errors.New("the terminal is the line, and a program in the background may not have it"))
		}
	}
	path, err := os.Readlink("/proc/self/fd/0")
	if err != nil {
		path = "/dev/tty"
	}
	if l.terminal, err = os.Stdin.Stat(); err != nil {
		return failedAs(statusOpenFailed, "", err)
	}
	return l.openTerminal(path, o)
}

func (l *line) openDevice(o *pppd.Line) error {
	if err := l.openTerminal(o.Device, o); err != nil {
		return err
	}
	if info, err := os.Stat(o.Device); err == nil {
		l.terminal = info // it may be the one that we are on
	}
	return nil
}

func (l *line) openTerminal(path string, o *pppd.Line) error {
	t, err := command.OpenTerminal(path)
	if err != nil {
		hint := ""
		if errors.Is(err, fs.ErrPermission) {
			hint = "see who may use it with `ls -l " + path + "`: usually the group dialout"
		}
		return failedAs(statusOpenFailed, hint, err)
	}
	restore, err := setSerial(t.File(), o)
	if err != nil {
		t.Close()
		return failedAs(statusOpenFailed, "", fmt.Errorf("%s: %w", path, err))
	}
	l.stream, l.name, l.speed = t.Stream(), path, o.Speed
	l.stream.ReadWriteCloser = &lineTerminal{t, restore}
	return nil
}

// A lineTerminal sets back what openTerminal changed besides.
type lineTerminal struct {
	*command.Terminal
	restore func()
}

func (t *lineTerminal) Close() error {
	t.restore()
	return t.Terminal.Close()
}

// start runs the command of pty, or of pipe.
func (l *line) start(o *pppd.Line) error {
	p, err := command.Start(command.Config{
		Args: []string{"sh", "-c", o.Command}, TTY: o.Kind == pppd.LinePTY, Stderr: &l.words,
	})
	if err != nil {
		return failedAs(statusPTY, "", err)
	}
	l.process, l.stream = p, p.Stream()
	l.name = "pipe"
	if o.Kind == pppd.LinePTY {
		l.name = "pty"
	}
	return nil
}

func (l *line) dial(ctx context.Context, o *pppd.Line, mark marker) error {
	conn, err := (&net.Dialer{Control: mark}).DialContext(ctx, "tcp", o.Socket)
	if err != nil {
		return failedAs(statusOpenFailed, "", err)
	}
	l.stream = carrier.Stream{ReadWriteCloser: conn}
	l.name = o.Socket
	if far, ok := conn.RemoteAddr().(*net.TCPAddr); ok && mark != nil {
		l.marked = []netip.AddrPort{netip.AddrPortFrom(far.AddrPort().Addr().Unmap(), far.AddrPort().Port())}
	}
	return nil
}

// standardFiles are what the standard input and output are open on. The standard
// error may be the same: inetd, for one, gives a program a single socket.
func standardFiles() (list []fs.FileInfo) {
	for _, f := range []*os.File{os.Stdin, os.Stdout} {
		if info, err := f.Stat(); err == nil {
			list = append(list, info)
		}
	}
	return list
}

func (l *line) useStdio() (err error) {
	if l.stream, err = command.Stdio(); err != nil {
		return failedAs(statusOpenFailed, "", err)
	}
	l.name = "stdio"
	return nil
}

// pins are what must stay outside of a default route: the connections that carry
// the line, as far as can be known.
func (l *line) pins() (pins []host.Pin) {
	add := func(uid int, list ...netip.AddrPort) {
		for _, a := range list {
			pins = append(pins, host.Pin{Addr: a, UID: uid})
		}
	}
	if l.process != nil {
		peers, _ := command.Peers(l.process.PID()) // none is no error here: a line may be a local one
		add(os.Getuid(), peers...)
	} else if l.terminal != nil || l.name == "stdio" {
		if client, ok := ssh.Client(); ok {
			add(-1, client)
		}
		// Whoever gave us the standard input carries it: our parent, or what it
		// started beside us.
		if parent := os.Getppid(); l.name == "stdio" && parent > 1 {
			peers, _ := command.Peers(parent)
			add(-1, peers...)
		}
	}
	return pins[:min(len(pins), host.MaxFar)]
}

// hideFromOthers keeps others' messages off our terminal while it is the line, as
// mesg(1) does, and returns the way back.
func hideFromOthers(f *os.File) (restore func()) {
	info, err := f.Stat()
	if err != nil || info.Mode().Perm()&0o022 == 0 || f.Chmod(info.Mode().Perm()&^0o022) != nil {
		return func() {}
	}
	return func() { f.Chmod(info.Mode().Perm()) }
}

// close gives the line up.
func (l *line) close() {
	if l.switched != nil {
		l.switched.close()
		return
	}
	l.stream.Close()
}

// speedText is the speed as the scripts get it.
func (l *line) speedText() string { return strconv.Itoa(l.speed) }
