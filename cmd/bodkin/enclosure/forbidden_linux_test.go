package enclosure

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

// TestForbidden: where there may be no namespace or no device, that is said first, with
// the setting that forbids it.
func TestForbidden(t *testing.T) {
	// As root of a user namespace, whose settings are its own.
	const user = `exec setpriv --reuid 4321 --regid 4321 --clear-groups "$0" drive true`
	for _, test := range []struct {
		name, line string
		status     int
		says       []string
	}{
		{"no user namespaces", "echo 0 >/proc/sys/user/max_user_namespaces && " + user, 10,
			[]string{"error: privilege: user namespaces are forbidden here: user.max_user_namespaces is 0\n", "bodkin up --near socks"}},
		{"no network namespaces", "echo 0 >/proc/sys/user/max_net_namespaces && " + user, 10,
			[]string{"user.max_net_namespaces is 0\n"}},
		{"a device for root alone", "mount -t tmpfs none /dev/net && touch /dev/net/tun && chmod 600 /dev/net/tun && " + user, 16,
			[]string{"error: device: ", "opening /dev/net/tun: permission denied\n", "chmod 0666 /dev/net/tun", "bodkin up --near socks"}},
		{"no device", "mount -t tmpfs none /dev/net && " + user, 16,
			[]string{"opening /dev/net/tun: no such file", "modprobe tun", "bodkin up --near socks"}},
		{"allowed", user, 0, nil},
	} {
		cmd := asUser(t, "sh", "-c", test.line, driver)
		ids := []syscall.SysProcIDMap{{Size: 65535}}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
			Credential: &syscall.Credential{},
		}
		r := finish(t, cmd)
		if r.status != test.status {
			t.Errorf("%s: status %d, want %d", test.name, r.status, test.status)
		}
		for _, piece := range test.says {
			if !strings.Contains(r.err, piece) {
				t.Errorf("%s: %q, without %q", test.name, r.err, piece)
			}
		}
	}
}

// TestExplain is how each of the ways to forbid it shows.
func TestExplain(t *testing.T) {
	const flags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	start := func(errno syscall.Errno) error { return &os.PathError{Op: "fork/exec", Path: "bodkin", Err: errno} }
	step := func(s step, errno syscall.Errno) error {
		return fmt.Errorf("enclosure: %w", at(s, fmt.Errorf("doing it: %w", errno)))
	}
	for _, test := range []struct {
		name    string
		err     error
		flags   uintptr
		files   map[string]string // of /proc
		layer   report.Layer
		says    string
		hintHas string
	}{
		{"Debian's setting", start(unix.EPERM), flags, map[string]string{"sys/kernel/unprivileged_userns_clone": "0\n"},
			report.Privilege, "user namespaces are forbidden here: kernel.unprivileged_userns_clone is 0", "let root set kernel.unprivileged_userns_clone to 1"},
		{"Ubuntu's AppArmor", step(stepMounts, unix.EACCES), flags, map[string]string{"sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
			report.Privilege, "user namespaces are forbidden here: kernel.apparmor_restrict_unprivileged_userns is 1", "AppArmor profile"},
		{"a container", start(unix.EPERM), flags, map[string]string{"self/status": "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"},
			report.Privilege, "user namespaces are forbidden here by a seccomp filter, as a container has it", "--near socks"},
		{"settings that do not forbid it", start(unix.EPERM), flags, map[string]string{"sys/kernel/unprivileged_userns_clone": "1\n", "self/status": "Seccomp:\t0\n"},
			report.Privilege, "user namespaces are forbidden here: fork/exec bodkin: operation not permitted", "--near socks"},
		{"no number left", start(unix.ENOSPC), flags, map[string]string{"sys/user/max_user_namespaces": "0"},
			report.Privilege, "user namespaces are forbidden here: user.max_user_namespaces is 0", "to a number"},
		{"too deep", start(unix.ENOSPC), flags, map[string]string{"sys/user/max_user_namespaces": "100"},
			report.Privilege, "no further namespace may be made here: there are too many, or they are nested too deeply", "--near socks"},
		{"an old kernel", start(unix.EINVAL), flags, nil,
			report.Privilege, "this kernel has no user namespaces (CONFIG_USER_NS)", "--near socks"},
		{"root without power", start(unix.EPERM), unix.CLONE_NEWNET, nil,
			report.Privilege, "namespaces are forbidden here even to root: fork/exec bodkin: operation not permitted", "--near socks"},
		{"no resolv.conf", step(stepNames, unix.ENOENT), flags, nil,
			report.DNS, "enclosure: doing it: no such file or directory", "touch /etc/resolv.conf"},
		{"something else", step(stepMounts, unix.ENOMEM), flags, nil,
			report.Privilege, "enclosure: doing it: cannot allocate memory", "--near socks"},
	} {
		root := t.TempDir()
		for name, text := range test.files {
			path := filepath.Join(root, "proc", name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		err := explain(test.err, test.flags, system{root})
		if err.Error() != test.says || report.Status(err) != test.layer.Status || !strings.Contains(report.HintOf(err), test.hintHas) {
			t.Errorf("%s: status %d, %q, hint %q", test.name, report.Status(err), err, report.HintOf(err))
		}
		if !errors.Is(err, test.err) && test.layer == report.DNS {
			t.Errorf("%s: the cause is lost", test.name)
		}
	}
}

// TestServeByHand: process 1 is nothing to start by hand.
func TestServeByHand(t *testing.T) {
	for _, args := range [][]string{nil, {"x", "bodkin0", "true"}, {"1", "bodkin0", "true"}, {"99", "bodkin0", "true"}} {
		out, err := exec.Command(driver, append([]string{Command}, args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "not by hand") {
			t.Errorf("%q: %v, %q", args, err, out)
		}
	}
}
