package privilege

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/cmd/bodkin/passing"
	"github.com/bodkin-net/bodkin/endpoint/tun"
	"github.com/bodkin-net/bodkin/host"
	"github.com/bodkin-net/bodkin/splitdns"
)

// JournalDir is where the journals of what was changed are: of root's, or, for
// a user with capabilities of his own, of his.
func JournalDir() string {
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

// A server is the privileged process: one caller, one device, one wish.
type server struct {
	conn     *net.UnixConn
	device   string // the name of the one that was made
	file     *os.File
	state    *host.State
	resolver netip.Addr // where a DNS forwarder's sockets were opened; not valid: nowhere
	sockets  uint32     // the mark of the carrier's sockets; 0 before the first
	notes    []string   // what was cleaned up before anything began

	said     []string           // the state's notes that the caller has had
	stop     context.CancelFunc // ends watching
	watching sync.WaitGroup
	mu       sync.Mutex
	events   []string // what happened since, the last maxEvents
}

// maxEvents bounds what is remembered for `bodkin status`.
const maxEvents = 16

// Serve is the privileged process. It serves the requests that come in on the standard
// input, a socket, until the caller is gone, and takes back what is left to take back.
func Serve() error {
	conn, err := net.FileConn(os.Stdin)
	if err != nil {
		return errors.New("the host helper is started by `bodkin up`, not by hand")
	}
	s := &server{}
	var ok bool
	if s.conn, ok = conn.(*net.UnixConn); !ok {
		return errors.New("the host helper is started by `bodkin up`, not by hand")
	}
	// The keys of the terminal reach us too, but it is the caller who decides.
	signal.Ignore(os.Interrupt, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		s.conn.Close()
	}()
	if s.notes, err = host.CleanUp(JournalDir()); err != nil {
		s.notes = append(s.notes, err.Error())
	}
	for {
		if err := s.serve(); err != nil {
			break
		}
	}
	_, err = s.undo()
	return err
}

// serve answers one request. An error means that the caller is gone.
func (s *server) serve() error {
	req, files, err := passing.Receive[request](s.conn)
	defer passing.CloseAll(files)
	if err != nil {
		return err
	}
	var r reply
	var give []*os.File
	switch req.Verb {
	case verbHello:
		r.Notes, s.notes = s.notes, nil
	case verbMark:
		err = s.mark(files)
	case verbDevice:
		give, err = s.makeDevice(req.Name)
		r.Name = s.device
	case verbResolver:
		give, r.Addr, err = s.openResolver()
		defer passing.CloseAll(give) // the caller has its own
	case verbSet:
		r.Notes, err = s.set(req.Wish)
	case verbLook:
		r.Notes = s.look()
	case verbUndo:
		r.Notes, err = s.undo()
	default:
		err = fmt.Errorf("%q is no request", req.Verb)
	}
	if err != nil {
		r.Error = err.Error()
		r.Busy = errors.Is(err, host.ErrBusy)
		r.Split = errors.Is(err, host.ErrSplitDNS)
	}
	return passing.Send(s.conn, r, give...)
}

// mark gives the caller's TCP socket the mark that keeps it outside the tunnel.
func (s *server) mark(files []*os.File) error {
	if len(files) != 1 {
		return errors.New("mark: one socket must come along")
	}
	fd := int(files[0].Fd())
	if protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || protocol != unix.IPPROTO_TCP {
		return errors.New("mark: not a TCP socket")
	}
	var err error
	if s.sockets == 0 {
		if s.sockets, err = host.FreeMark(); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(s.sockets)); err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	return nil
}

func (s *server) makeDevice(name string) ([]*os.File, error) {
	if s.file != nil {
		return nil, errors.New("device: there is one already")
	}
	var err error
	if s.file, s.device, err = tun.Create(name); err != nil {
		return nil, err
	}
	return []*os.File{s.file}, nil
}

// openResolver opens the sockets of a DNS forwarder, the caller's own. It is
// the only address that a wish's resolv.conf may then name for one.
func (s *server) openResolver() (files []*os.File, at netip.Addr, err error) {
	if s.resolver.IsValid() {
		return nil, at, errors.New("resolver: there is one already")
	}
	udp, tcp, at, err := splitdns.Listen()
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w: it needs root, or CAP_NET_BIND_SERVICE besides CAP_NET_ADMIN", err)
		}
		return nil, at, err
	}
	defer udp.Close()
	defer tcp.Close()
	u, err := udp.File()
	if err != nil {
		return nil, at, err
	}
	t, err := tcp.File()
	if err != nil {
		u.Close()
		return nil, at, err
	}
	s.resolver = at
	return []*os.File{u, t}, at, nil
}

func (s *server) set(w *host.Wish) ([]string, error) {
	if w == nil || s.file == nil || w.Device != s.device || s.state != nil {
		return nil, errors.New("set: one wish, for the device that was made")
	}
	if f := w.DNS.Forwarder; f.IsValid() && f != s.resolver {
		return nil, errors.New("set: a DNS forwarder that was not opened here")
	}
	w.Mark = s.sockets
	state, err := host.Set(*w, JournalDir())
	if err != nil {
		return nil, err
	}
	s.state, s.said = state, state.Notes()
	ctx, stop := context.WithCancel(context.Background())
	events, err := state.Watch(ctx)
	if err != nil {
		stop()
		return append(s.said, "changes by others are not noticed: "+err.Error()), nil
	}
	s.stop = stop
	s.watching.Go(func() {
		for e := range events {
			s.mu.Lock()
			s.events = append(s.events, e.Text)
			s.events = s.events[max(0, len(s.events)-maxEvents):]
			s.mu.Unlock()
		}
	})
	return s.said, nil
}

// look says what others did to the machine's settings.
func (s *server) look() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// undo takes back the wish and gives up the device. It says what was left to
// others.
func (s *server) undo() (notes []string, err error) {
	if s.state != nil {
		if s.stop != nil {
			s.stop()
			s.watching.Wait()
		}
		err = s.state.Undo()
		notes = slices.DeleteFunc(s.state.Notes(), func(n string) bool { return slices.Contains(s.said, n) })
		s.state = nil
	}
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
	return notes, err
}
