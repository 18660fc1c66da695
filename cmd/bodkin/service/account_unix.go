//go:build unix

package service

import (
	"io/fs"
	"os/user"
	"strconv"
	"syscall"
)

// othersMayWrite reports whether somebody else than root may write a file or directory,
// and who. The sticky bit keeps what root has in a directory.
func othersMayWrite(info fs.FileInfo) (who string, others bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "somebody", true
	}
	if stat.Uid != 0 {
		uid := strconv.FormatUint(uint64(stat.Uid), 10)
		if u, err := user.LookupId(uid); err == nil {
			return u.Username, true
		}
		return "user " + uid, true
	}
	return "everybody", info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0
}
