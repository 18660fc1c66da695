//go:build unix

package profile

import (
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// open opens a file to read, without waiting for the writer of a FIFO.
func open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// owner reports whether a file is ours, root's, or that of the user for whom sudo made us
// root, and whose it is.
func owner(info fs.FileInfo) (who string, ours bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "an unknown user", false
	}
	uid := strconv.FormatUint(uint64(stat.Uid), 10)
	if uid == "0" || uid == strconv.Itoa(os.Geteuid()) || uid == caller() {
		return "", true
	}
	if u, err := user.LookupId(uid); err == nil {
		return u.Username, false
	}
	return "user " + uid, false
}

func writable(info fs.FileInfo) bool { return info.Mode().Perm()&0o022 != 0 }
