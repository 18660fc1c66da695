// Package private is where running commands have their control sockets: Unix sockets in
// directories that one user alone may enter.
package private

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// ErrAnswered is that somebody listens at a socket already, and answers.
var ErrAnswered = errors.New("another answers there")

// Runtime is the directory of that name in which the present user has sockets.
func Runtime(name string) string {
	if os.Geteuid() == 0 {
		return filepath.Join("/run", name)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, name)
	}
	in, temporary := Of(name, fmt.Sprint(os.Getuid()))
	if info, err := os.Stat(filepath.Dir(in)); err == nil && info.IsDir() {
		return in
	}
	return temporary
}

// Of are the directories of that name that another user, by the number, may have: where
// there is a session, and where there is none.
func Of(name, uid string) (session, temporary string) {
	return filepath.Join("/run/user", uid, name), filepath.Join(os.TempDir(), name+"-"+uid)
}

// Is reports whether dir is a directory of that user's, by the number, and closed to all
// others.
func Is(dir string, uid int) bool {
	info, err := os.Lstat(dir)
	return err == nil && info.IsDir() && info.Mode().Perm()&0o077 == 0 && owned(info, uid)
}

// Make makes dir, or finds that it is the present user's own and closed to others.
func Make(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if !Is(dir, os.Geteuid()) {
		return fmt.Errorf("%s: not a directory of this user's alone", dir)
	}
	return nil
}

// Listen opens a socket in a directory that Make makes. One that nobody answers is left
// over from a killed process and replaced; of one that somebody does the error is
// ErrAnswered.
func Listen(path string) (*net.UnixListener, error) {
	if err := Make(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, ErrAnswered
	}
	os.Remove(path)
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}
