//go:build unix

package serve

import (
	"io/fs"
	"os"
	"syscall"
)

// ours reports whether a file is the present user's.
func ours(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
