package enclosure

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/endpoint/tun"
)

// A process1 is process 1, or its stand-in where there is no process namespace.
type process1 struct {
	conn    *net.UnixConn
	command []string
	path    string // of the command's program
	device  string
}

// Serve is process 1. Its arguments are the number of a socket, the device's name and
// the command. It returns when nothing runs inside any more; what comes after that in
// this process is to end it.
func Serve(args []string) error {
	errByHand := errors.New("process 1 of an enclosure is started by `bodkin exec`, not by hand")
	if len(args) < 3 {
		return errByHand
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return errByHand
	}
	unix.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), "enclosure")
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		return errByHand
	}
	defer conn.Close()
	i := &process1{command: args[2:]}
	var ok bool
	if i.conn, ok = conn.(*net.UnixConn); !ok {
		return errByHand
	}
	os.WriteFile("/proc/self/comm", []byte("bodkin"), 0) // for ps, which would have the name of a descriptor
	keys := catchSignals()
	queue, notes, failed := i.make(args[1])
	if failed != nil {
		return send(i.conn, message{Verb: verbFailed, Failure: failed}, nil)
	}
	err = send(i.conn, message{Verb: verbReady, Name: i.device, Notes: notes}, queue)
	queue.Close() // the device shall go with the tunnel
	if err != nil {
		return err
	}
	go func() {
		for range keys { // until the end of this process
			send(i.conn, message{Verb: verbKey}, nil)
		}
	}()
	return i.serve()
}

// catchSignals lets no signal end or stop this process, whatever the terminal sends to
// its group: the command decides what they mean. It finds none of it changed, for a
// signal that is caught is not across exec, and one that was ignored still is. Those of
// Ctrl-C and Ctrl-\ come back, for the outside to know while there is no command.
func catchSignals() (keys <-chan os.Signal) {
	pressed, others := make(chan os.Signal, 1), make(chan os.Signal, 1) // nobody reads the others
	for s := syscall.Signal(1); s < 32; s++ {
		switch {
		case s == unix.SIGKILL, s == unix.SIGSTOP, s == unix.SIGCHLD, signal.Ignored(s):
		case s == unix.SIGINT, s == unix.SIGQUIT:
			signal.Notify(pressed, s)
		default:
			signal.Notify(others, s)
		}
	}
	return pressed
}

// make makes what is inside, but for what only the tunnel can tell, and returns the
// device's queue.
func (i *process1) make(device string) (queue *os.File, notes []string, failed *failure) {
	if failed := makeMounts(); failed != nil {
		return nil, nil, failed
	}
	var err error
	if i.path, err = exec.LookPath(i.command[0]); err != nil && !errors.Is(err, exec.ErrDot) { // "." in PATH is the user's choice
		return nil, nil, at(stepCommand, err)
	}
	if queue, i.device, err = tun.Create(device); err != nil {
		return nil, nil, at(stepDevice, err)
	}
	if err := raiseLoopback(); err != nil {
		queue.Close()
		return nil, nil, at(stepNetwork, err)
	}
	if err := permitPing(); err != nil {
		notes = append(notes, fmt.Sprintf("ping may not work inside: %v", err))
	}
	return queue, notes, nil
}

// serve does as it is told until nothing runs inside any more.
func (i *process1) serve() error {
	for {
		m, _, err := receive(i.conn)
		if err != nil {
			return nil // the outside has ended, and the command was not started
		}
		switch m.Verb {
		case verbSet:
			if m.Settings == nil {
				return errors.New("set: no settings")
			}
			if failed := i.set(*m.Settings); failed != nil {
				return send(i.conn, message{Verb: verbFailed, Failure: failed}, nil)
			}
			if err := send(i.conn, message{Verb: verbDone}, nil); err != nil {
				return nil
			}
		case verbRun:
			return i.run()
		default:
			return fmt.Errorf("%q is no request", m.Verb)
		}
	}
}

// set does what the tunnel's two halves agreed upon.
func (i *process1) set(s Settings) *failure {
	if err := setNetwork(i.device, s); err != nil {
		return at(stepNetwork, err)
	}
	return at(stepNames, writeResolvConf(s))
}

// run runs the command to its end, and that of all it started.
func (i *process1) run() error {
	p, err := startProcesses(i.path, i.command)
	if err != nil {
		status := StatusCannotRun
		if errors.Is(err, unix.ENOENT) {
			status = StatusNotFound
		}
		return send(i.conn, message{Verb: verbFailed, Failure: at(stepCommand, err), Status: status}, nil)
	}
	wanted, gone := make(chan struct{}), make(chan struct{}) // the end; the outside is gone
	go func() {
		defer close(gone)
		for {
			m, _, err := receive(i.conn)
			if err != nil {
				return
			}
			if m.Verb == verbEnd {
				close(wanted) // it is said once
			}
		}
	}()
	if err := send(i.conn, message{Verb: verbDone}, nil); err != nil {
		p.kill()
		return nil
	}
	select {
	case <-p.ended:
	case <-wanted:
	case <-gone:
	}
	p.end(gone)
	send(i.conn, message{Verb: verbEnded, Status: p.status}, nil) // if there is anybody left to know
	return nil
}
