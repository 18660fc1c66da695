package keeper

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/bodkin-net/bodkin/cmd/bodkin/passing"
	"github.com/bodkin-net/bodkin/cmd/bodkin/private"
)

// commands is the directory in which a user's running commands have their sockets, and below
// it the one for keepers.
const (
	commands = "bodkin"
	below    = "far"
)

// network is the kind of sockets that keepers listen at.
const network = "unixpacket"

// staleAge is how old a socket without a name must be to be somebody's who was killed: it is
// given one at once when it listens.
const staleAge = time.Minute

// A keeper has two names for its socket: one from birth, by which all are found, and
// that of its session, once there is one. It answers from then on; but at no name is
// there nobody who listens, unless it was killed.
var (
	birthName   = regexp.MustCompile(`^[0-9a-f]{16}\.sock$`)
	sessionName = regexp.MustCompile(`^[0-9a-f]{32}\.sock$`)
)

const suffix = ".sock"

// A socket is where a keeper is found.
type socket struct {
	*net.UnixListener
	names []string // its paths
}

// listen opens a socket that no session has yet.
func listen() (*socket, error) {
	dir := private.Runtime(commands)
	if err := private.Make(dir); err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, below)
	if err := private.Make(dir); err != nil {
		return nil, err
	}
	var number [8]byte
	rand.Read(number[:])
	birth := hex.EncodeToString(number[:])
	path, nameless := filepath.Join(dir, birth+suffix), filepath.Join(dir, "."+birth)
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: nameless, Net: network})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Rename(nameless, path); err != nil {
		os.Remove(nameless)
		l.Close()
		return nil, err
	}
	return &socket{l, []string{path}}, nil
}

// name gives it the name of its session.
func (s *socket) name(id string) error {
	path := filepath.Join(filepath.Dir(s.names[0]), id+suffix)
	err := os.Link(s.names[0], path)
	if err == nil {
		s.names = append(s.names, path)
	}
	return err
}

// close takes the names away first: whoever finds one reaches somebody.
func (s *socket) close() {
	for _, path := range s.names {
		os.Remove(path)
	}
	s.Close()
}

// A place is a directory with the sockets of a user's keepers.
type place struct {
	dir string
	uid int
}

// own are the places of the present user's keepers, wherever a login of theirs would have
// put them.
func own() []place {
	uid := os.Geteuid()
	session, temporary := private.Of(commands, strconv.Itoa(uid))
	var places []place
	seen := map[string]bool{}
	for _, dir := range []string{private.Runtime(commands), session, temporary} {
		if !seen[dir] {
			seen[dir] = true
			places = append(places, place{filepath.Join(dir, below), uid})
		}
	}
	return places
}

// all are the places of everybody's, for root; else one's own.
func all() []place {
	places := own()
	if os.Geteuid() != 0 {
		return places
	}
	session, temporary := private.Of(commands, "*")
	for _, pattern := range []string{session, temporary} {
		found, _ := filepath.Glob(filepath.Join(pattern, below))
		for _, dir := range found {
			info, err := os.Lstat(dir)
			if err != nil {
				continue
			}
			if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
				places = append(places, place{dir, int(stat.Uid)})
			}
		}
	}
	return places
}

// closed reports whether nobody but the user, and root, can have made what is in it.
func (p place) closed() bool {
	return private.Is(filepath.Dir(p.dir), p.uid) && private.Is(p.dir, p.uid)
}

// dial connects to a socket in the place, if it is the user's who listens there.
func (p place) dial(file string) (*net.UnixConn, error) {
	path := filepath.Join(p.dir, file)
	conn, err := net.DialUnix(network, nil, &net.UnixAddr{Name: path, Net: network})
	if errors.Is(err, syscall.ECONNREFUSED) {
		p.tidy(path)
	}
	if err != nil {
		return nil, err
	}
	if uid, err := passing.UID(conn); err != nil || uid != p.uid {
		conn.Close()
		return nil, fmt.Errorf("keeper: %s: user %d listens there, and not %d", path, uid, p.uid)
	}
	return conn, nil
}

// tidy removes a socket of one's own that a killed keeper left.
func (p place) tidy(path string) {
	info, err := os.Lstat(path)
	if err != nil || p.uid != os.Geteuid() || info.Mode().Type() != os.ModeSocket {
		return
	}
	name := filepath.Base(path)
	if birthName.MatchString(name) || sessionName.MatchString(name) || time.Since(info.ModTime()) > staleAge {
		os.Remove(path)
	}
}
