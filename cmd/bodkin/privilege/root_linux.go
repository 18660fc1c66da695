package privilege

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// GiveUp makes a process that root started for somebody by sudo that somebody's,
// and returns who that is; empty if it was not so.
func GiveUp() (string, error) {
	if os.Geteuid() != 0 || os.Getenv("SUDO_UID") == "" {
		return "", nil
	}
	return becomeSudoUser()
}

// becomeSudoUser makes this process the user's who called sudo, for good.
func becomeSudoUser() (string, error) {
	u, err := user.LookupId(os.Getenv("SUDO_UID"))
	if err != nil {
		return "", fmt.Errorf("the user who called sudo: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	if uid == 0 {
		return "root", nil
	}
	groups := []int{gid}
	if ids, err := u.GroupIds(); err == nil {
		for _, id := range ids {
			if n, err := strconv.Atoi(id); err == nil && n != gid {
				groups = append(groups, n)
			}
		}
	}
	if err := errors.Join(syscall.Setgroups(groups), syscall.Setresgid(gid, gid, gid), syscall.Setresuid(uid, uid, uid)); err != nil {
		return "", fmt.Errorf("becoming %s: %w", u.Username, err)
	}
	os.Setenv("HOME", u.HomeDir)
	os.Setenv("USER", u.Username)
	os.Setenv("LOGNAME", u.Username)
	os.Unsetenv("XDG_RUNTIME_DIR")
	return u.Username, nil
}

// HasNetAdmin reports whether this process, and so the helper, may change the
// network.
func HasNetAdmin() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
}
