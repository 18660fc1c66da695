//go:build unix

package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// openOrdinary opens a file to read. It does not follow a symbolic link, which leads to
// where others may write, nor wait for the writer of a FIFO.
func openOrdinary(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, syscall.ELOOP):
		return nil, &UnsafeError{file, "it is a symbolic link", "put the file itself there"}
	case errors.Is(err, syscall.ENXIO): // a socket
		return nil, &UnsafeError{file, "it is not an ordinary file", "put a file in its place"}
	case err != nil:
		return nil, fmt.Errorf("trust: %w", err)
	}
	return f, nil
}

// owner reports whether a file is the present user's, or root's where that will do, and
// whose it is.
func owner(info fs.FileInfo, rootToo bool) (who string, ours bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "an unknown user", false
	}
	uid := int(stat.Uid)
	if uid == os.Geteuid() || rootToo && uid == 0 {
		return "", true
	}
	who = "user " + strconv.Itoa(uid)
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		who = u.Username
	}
	return who, false
}

func permissions(info fs.FileInfo) fs.FileMode { return info.Mode().Perm() }

// isBusy reports whether a name cannot be taken since something is mounted on it.
func isBusy(err error) bool { return errors.Is(err, syscall.EBUSY) }
