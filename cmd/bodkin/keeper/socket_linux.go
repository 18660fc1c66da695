package keeper

import (
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

// name is the directory in which a user's running commands have their sockets, and below
// it the one for keepers.
const (
	name  = "bodkin"
	below = "far"
)

// network is the kind of sockets that keepers listen at.
const network = "unixpacket"

// staleAge is how old a socket must be that nobody listens at to be somebody's who was killed:
// a socket has its name a moment before it listens.
const staleAge = time.Minute

// socketName is the name of a session's socket; one of a keeper that has no session yet
// is shorter. That answers when it has one, and its name.
var socketName = regexp.MustCompile(`^[0-9a-f]{32}\.sock$`)

const suffix = ".sock"

// A socket is where a keeper is found.
type socket struct {
	*net.UnixListener
	path string
}

// listen opens a socket that no session has yet.
func listen() (*socket, error) {
	dir := private.Runtime(name)
	if err := private.Make(dir); err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, below)
	if err := private.Make(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, strconv.Itoa(os.Getpid())+suffix)
	os.Remove(path) // of one who had our number before, and was killed
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return &socket{l, path}, nil
}

// rename makes it the socket of a session.
func (s *socket) rename(id string) error {
	path := filepath.Join(filepath.Dir(s.path), id+suffix)
	if err := os.Rename(s.path, path); err != nil {
		return err
	}
	s.path = path
	return nil
}

// close removes the name first: whoever finds it reaches somebody.
func (s *socket) close() {
	os.Remove(s.path)
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
	session, temporary := private.Of(name, strconv.Itoa(uid))
	var places []place
	seen := map[string]bool{}
	for _, dir := range []string{private.Runtime(name), session, temporary} {
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
	session, temporary := private.Of(name, "*")
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
	if err == nil && p.uid == os.Geteuid() && info.Mode().Type() == os.ModeSocket &&
		(socketName.MatchString(filepath.Base(path)) || time.Since(info.ModTime()) > staleAge) {
		os.Remove(path)
	}
}
