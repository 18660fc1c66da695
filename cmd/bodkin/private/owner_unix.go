//go:build unix

package private

import (
	"io/fs"
	"syscall"
)

// owned reports whether a file is a user's.
func owned(info fs.FileInfo, uid int) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == uid
}
