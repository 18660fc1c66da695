package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/endpoint/tun"
	"github.com/bodkin-net/bodkin/host"
)

// journalDir is where the journals of what was changed are: of root's, or, for
// a user with capabilities of his own, of his.
func journalDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/bodkin"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "bodkin")
	}
	home, _ := os.UserHomeDir()
	state := filepath.Join(home, ".local", "state")
	os.MkdirAll(state, 0o700) // what fails here fails, with its reason, at the journal
	return filepath.Join(state, "bodkin")
}

// A helper is the privileged process: one caller, one device, one wish.
type helper struct {
	conn    *net.UnixConn
	device  string // the name of the one that was made
	file    *os.File
	state   *host.State
	sockets uint32   // the mark of the carrier's sockets; 0 before the first
	notes   []string // what was cleaned up before anything began

	said     []string           // the state's notes that the caller has had
	stop     context.CancelFunc // ends watching
	watching sync.WaitGroup
	mu       sync.Mutex
	events   []string // what happened since, the last maxEvents
}

// maxEvents bounds what is remembered for `bodkin status`.
const maxEvents = 16

// runHelper serves the requests that come in on the standard input, a socket,
// until the caller is gone, and takes back what is left to take back.
func runHelper() error {
	conn, err := net.FileConn(os.Stdin)
	if err != nil {
		return errors.New("the host helper is started by `bodkin up`, not by hand")
	}
	h := &helper{}
	var ok bool
	if h.conn, ok = conn.(*net.UnixConn); !ok {
		return errors.New("the host helper is started by `bodkin up`, not by hand")
	}
	// The keys of the terminal reach us too, but it is the caller who decides.
	signal.Ignore(os.Interrupt, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		h.conn.Close()
	}()
	if h.notes, err = host.CleanUp(journalDir()); err != nil {
		h.notes = append(h.notes, err.Error())
	}
	for {
		if err := h.serve(); err != nil {
			break
		}
	}
	_, err = h.undo()
	return err
}

// serve answers one request. An error means that the caller is gone.
func (h *helper) serve() error {
	req, files, err := receive[request](h.conn)
	defer closeAll(files)
	if err != nil {
		return err
	}
	var r reply
	var give *os.File
	switch req.Verb {
	case verbHello:
		r.Notes, h.notes = h.notes, nil
	case verbMark:
		err = h.mark(files)
	case verbDevice:
		give, err = h.makeDevice(req.Name)
		r.Name = h.device
	case verbSet:
		r.Notes, err = h.set(req.Wish)
	case verbLook:
		r.Notes = h.look()
	case verbUndo:
		r.Notes, err = h.undo()
	default:
		err = fmt.Errorf("%q is no request", req.Verb)
	}
	if err != nil {
		r.Error = err.Error()
		r.Busy = errors.Is(err, host.ErrBusy)
		r.Split = errors.Is(err, host.ErrSplitDNS)
	}
	return send(h.conn, r, give)
}

// mark gives the caller's TCP socket the mark that keeps it outside the tunnel.
func (h *helper) mark(files []*os.File) error {
	if len(files) != 1 {
		return errors.New("mark: one socket must come along")
	}
	fd := int(files[0].Fd())
	if protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || protocol != unix.IPPROTO_TCP {
		return errors.New("mark: not a TCP socket")
	}
	var err error
	if h.sockets == 0 {
		if h.sockets, err = host.FreeMark(); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(h.sockets)); err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	return nil
}

func (h *helper) makeDevice(name string) (*os.File, error) {
	if h.file != nil {
		return nil, errors.New("device: there is one already")
	}
	var err error
	h.file, h.device, err = tun.Create(name)
	return h.file, err
}

func (h *helper) set(w *host.Wish) ([]string, error) {
	if w == nil || h.file == nil || w.Device != h.device || h.state != nil {
		return nil, errors.New("set: one wish, for the device that was made")
	}
	w.Mark = h.sockets
	state, err := host.Set(*w, journalDir())
	if err != nil {
		return nil, err
	}
	h.state, h.said = state, state.Notes()
	ctx, stop := context.WithCancel(context.Background())
	events, err := state.Watch(ctx)
	if err != nil {
		stop()
		return append(h.said, "changes by others are not noticed: "+err.Error()), nil
	}
	h.stop = stop
	h.watching.Go(func() {
		for e := range events {
			h.mu.Lock()
			h.events = append(h.events, e.Text)
			h.events = h.events[max(0, len(h.events)-maxEvents):]
			h.mu.Unlock()
		}
	})
	return h.said, nil
}

// look says what others did to the machine's settings.
func (h *helper) look() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.events)
}

// undo takes back the wish and gives up the device. It says what was left to
// others.
func (h *helper) undo() (notes []string, err error) {
	if h.state != nil {
		if h.stop != nil {
			h.stop()
			h.watching.Wait()
		}
		err = h.state.Undo()
		notes = slices.DeleteFunc(h.state.Notes(), func(n string) bool { return slices.Contains(h.said, n) })
		h.state = nil
	}
	if h.file != nil {
		h.file.Close()
		h.file = nil
	}
	return notes, err
}

// send writes one message, with a file beside it where there is one.
func send(conn *net.UnixConn, message any, file *os.File) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(b) > wireMax {
		return fmt.Errorf("a message of %d octets, more than %d", len(b), wireMax)
	}
	var rights []byte
	if file != nil {
		raw, err := file.SyscallConn()
		if err != nil {
			return err
		}
		// The descriptor is used without Fd, which would make it blocking.
		var sent error
		if err := raw.Control(func(fd uintptr) {
			_, _, sent = conn.WriteMsgUnix(b, unix.UnixRights(int(fd)), nil)
		}); err != nil {
			return err
		}
		return sent
	}
	_, _, err = conn.WriteMsgUnix(b, rights, nil)
	return err
}

// receive reads one message and the files beside it, which are the caller's.
func receive[T any](conn *net.UnixConn) (message T, files []*os.File, err error) {
	b := make([]byte, wireMax)
	rights := make([]byte, unix.CmsgSpace(4*4))
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
		return message, files, errors.New("a message longer than there are")
	}
	return message, files, json.Unmarshal(b[:n], &message)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
