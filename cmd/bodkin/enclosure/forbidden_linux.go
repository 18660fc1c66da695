package enclosure

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

// A system is where the kernel's settings are looked up; the zero value is this one.
type system struct {
	root string // where its /proc is
}

// sysctl returns a setting, named as a path, or the empty string if there is none.
func (s system) sysctl(path string) string {
	b, _ := os.ReadFile(filepath.Join(s.root, "/proc/sys", path))
	return strings.TrimSpace(string(b))
}

// filtered reports whether a seccomp filter rules this process (proc(5), Seccomp).
func (s system) filtered() bool {
	b, _ := os.ReadFile(filepath.Join(s.root, "/proc/self/status"))
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(line, ":"); name == "Seccomp" {
			return strings.TrimSpace(value) == "2"
		}
	}
	return false
}

// limits are the settings that bound the number of namespaces (namespaces(7)), in the
// order in which the kernel makes them.
var limits = []struct {
	flag   uintptr
	sysctl string
}{
	{unix.CLONE_NEWUSER, "user/max_user_namespaces"},
	{unix.CLONE_NEWNS, "user/max_mnt_namespaces"},
	{unix.CLONE_NEWPID, "user/max_pid_namespaces"},
	{unix.CLONE_NEWNET, "user/max_net_namespaces"},
}

// hintSocks is the other way.
const hintSocks = "`bodkin up --near socks` needs no namespace: a proxy for programs that can use one"

// explain says why there is no enclosure here: with its layer, the setting that forbids
// it and its value, and what to do. flags are the namespaces that were asked for.
func explain(err error, flags uintptr, s system) error {
	var errno syscall.Errno
	var f *failure
	if errors.As(err, &f) {
		errno = f.Errno
	} else {
		errors.As(err, &errno)
	}
	switch {
	case f == nil && errno == unix.ENOSPC:
		for _, l := range limits {
			if flags&l.flag != 0 && s.sysctl(l.sysctl) == "0" {
				return forbiddenBy(s, l.sysctl, "a number such as 10000")
			}
		}
		return report.At(report.Privilege, errors.New("no further namespace may be made here: there are too many, or they are nested too deeply"), hintSocks)
	case f == nil && errno == unix.EINVAL:
		return report.At(report.Privilege, errors.New("this kernel has no user namespaces (CONFIG_USER_NS)"), hintSocks)
	case f != nil && f.Step == stepCommand:
		return &commandError{err, errno}
	case f != nil && f.Step == stepDevice:
		return report.At(report.Device, err, hintDevice(errno, f))
	case f != nil && f.Step == stepNames && errno == unix.ENOENT:
		return report.At(report.DNS, err, "make an empty one: touch "+resolvPath)
	case errno != unix.EPERM && errno != unix.EACCES:
	case flags&unix.CLONE_NEWUSER == 0:
		return report.At(report.Privilege, fmt.Errorf("namespaces are forbidden here even to root: %w", err), hintSocks)
	case s.sysctl("kernel/unprivileged_userns_clone") == "0":
		return forbiddenBy(s, "kernel/unprivileged_userns_clone", "1")
	case s.sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return forbiddenBy(s, "kernel/apparmor_restrict_unprivileged_userns", "0, or an AppArmor profile for bodkin (docs/exec.md)")
	case s.filtered():
		return report.At(report.Privilege, errors.New("user namespaces are forbidden here by a seccomp filter, as a container has it"),
			hintSocks+"; or start the container with --security-opt seccomp=unconfined")
	case f == nil:
		return report.At(report.Privilege, fmt.Errorf("user namespaces are forbidden here: %w", err), hintSocks)
	}
	return report.At(report.Privilege, err, hintSocks)
}

// forbiddenBy is the error of a setting.
func forbiddenBy(s system, path, better string) error {
	name := strings.ReplaceAll(path, "/", ".")
	return report.At(report.Privilege, fmt.Errorf("user namespaces are forbidden here: %s is %s", name, s.sysctl(path)),
		fmt.Sprintf("%s; or let root set %s to %s", hintSocks, name, better))
}

// hintDevice is what to do when there is no device.
func hintDevice(errno syscall.Errno, f *failure) string {
	const mode = "let root make /dev/net/tun what it is on most systems: chmod 0666 /dev/net/tun; " + hintSocks
	switch errno {
	case unix.ENOENT, unix.ENODEV, unix.ENXIO:
		return "load the kernel's driver with `modprobe tun`; in a container, start it with --device /dev/net/tun; " + hintSocks
	case unix.EACCES, unix.EPERM:
		return mode
	}
	return hintSocks
}

// A commandError is that there is no such command; it has the exit status of env(1).
type commandError struct {
	error
	errno syscall.Errno
}

func (e *commandError) Unwrap() error { return e.error }

// ExitStatus is what the program exits with.
func (e *commandError) ExitStatus() int {
	if errors.Is(e.errno, fs.ErrPermission) {
		return StatusCannotRun
	}
	return StatusNotFound
}
