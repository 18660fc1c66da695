package enclosure

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// What the command sees of the files is what its user sees outside, but for:
//
//	/proc                 the processes inside, the network inside
//	/sys                  the network inside
//	/run                  a directory of ours, in which everything is that was there,
//	                      but for those who resolve names
//	/etc/resolv.conf      ours
//	/etc/nsswitch.conf    its hosts: line
//
// A mount over a file or directory goes when somebody outside puts another in its place,
// as those do who rewrite resolv.conf, or start nscd anew. So we cover what nobody
// replaces, /run and /etc themselves, where we can.
const (
	runDir = "/run"
	etcDir = "/etc"
	ownDir = runDir + "/bodkin-enclosure" // our files inside
	ownEtc = ownDir + "/etc"              // what is ours of /etc
)

const ordinary = unix.MS_NOSUID | unix.MS_NODEV

// Where systemd-resolved has its files.
const (
	resolved    = "systemd/resolve"
	resolvedDir = runDir + "/" + resolved
)

// hidden are what lies below /run and resolves names for others, or leads to who does.
var hidden = map[string]bool{
	"nscd":         true, // glibc asks it before nsswitch.conf
	resolved:       true, // systemd-resolved: nss-resolve, by varlink
	"dbus":         true, // the system bus, and so systemd-resolved and avahi
	"avahi-daemon": true, // nss-mdns: it asks the network outside
}

// makeMounts makes the mounts of the namespace, which no other has.
func makeMounts() *failure {
	// What is mounted outside later shall come in here, and nothing go out.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return at(stepMounts, fmt.Errorf("mounts of our own: %w", err))
	}
	if os.Getpid() == 1 {
		if err := unix.Mount("proc", "/proc", "proc", ordinary|unix.MS_NOEXEC, ""); err != nil {
			return at(stepProc, fmt.Errorf("mounting /proc: %w", err))
		}
	}
	coverSys()
	if err := coverRun(); err != nil {
		return at(stepMounts, err)
	}
	return at(stepNames, coverEtc())
}

// coverSys shows the network inside in /sys/class/net. A container that covers parts of
// its /sys lets nobody mount another: then the names of the devices outside are seen,
// and nothing more than that.
func coverSys() {
	cgroup, err := unix.Open("/sys/fs/cgroup", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(cgroup)
	if unix.Mount("sysfs", "/sys", "sysfs", ordinary|unix.MS_NOEXEC, "") == nil {
		unix.Mount(descriptor(cgroup), "/sys/fs/cgroup", "", unix.MS_BIND|unix.MS_REC, "")
	}
}

// descriptor is the path of an open file, whatever covers it by now.
func descriptor(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// coverRun puts a directory of ours over /run, and into it all that was there, bit by
// bit, without what is hidden. What comes into /run later stays outside.
func coverRun() error {
	old, err := unix.Open(runDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening %s: %w", runDir, err)
	}
	defer unix.Close(old)
	if err := unix.Mount("tmpfs", runDir, "tmpfs", ordinary, "mode=0755"); err != nil {
		return fmt.Errorf("mounting on %s: %w", runDir, err)
	}
	if err := os.MkdirAll(ownEtc, 0o755); err != nil {
		return err
	}
	for _, name := range []string{resolvPath, nsswitchPath} {
		if err := os.WriteFile(ownOf(name), nil, 0o644); err != nil {
			return err
		}
	}
	if err := bringIn(descriptor(old), ""); err != nil {
		return err
	}
	// Where systemd-resolved is, or was, this is where /etc/resolv.conf leads.
	if err := os.MkdirAll(resolvedDir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"stub-resolv.conf", "resolv.conf"} {
		if err := os.Symlink(ownOf(resolvPath), filepath.Join(resolvedDir, name)); err != nil {
			return err
		}
	}
	// As before, nobody but root puts anything there.
	for _, dir := range []string{runDir, ownDir, ownEtc} {
		if err := os.Chmod(dir, 0o555); err != nil {
			return err
		}
	}
	// Older systems have no link there.
	if link, err := os.Lstat("/var/run"); err == nil && link.IsDir() {
		for name := range hidden {
			dir := filepath.Join("/var/run", name)
			if err := unix.Mount("tmpfs", dir, "tmpfs", ordinary|unix.MS_RDONLY, ""); err != nil && err != unix.ENOENT {
				return fmt.Errorf("mounting on %s: %w", dir, err)
			}
		}
	}
	return nil
}

// bringIn puts what is in a directory of the old /run into the new one.
func bringIn(old, dir string) error {
	entries, err := os.ReadDir(filepath.Join(old, dir))
	if err != nil {
		return fmt.Errorf("reading %s: %w", filepath.Join(runDir, dir), err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		from, to := filepath.Join(old, name), filepath.Join(runDir, name)
		switch {
		case hidden[name]:
			err = os.Mkdir(to, 0o755)
		case e.Type()&os.ModeSymlink != 0:
			var target string
			if target, err = os.Readlink(from); err == nil {
				err = os.Symlink(target, to)
			}
		case e.IsDir() && hides(name):
			if err = os.Mkdir(to, 0o755); err == nil {
				err = bringIn(old, name)
			}
		case e.IsDir():
			if err = os.Mkdir(to, 0o755); err == nil {
				err = unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
			}
		default:
			if err = os.WriteFile(to, nil, 0o644); err == nil {
				err = unix.Mount(from, to, "", unix.MS_BIND, "")
			}
		}
		// What went meanwhile, or what we put there ourselves, is no loss, nor is what
		// cannot be mounted twice.
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrExist) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("bringing in %s: %w", to, err)
		}
	}
	return nil
}

// hides reports whether something hidden lies in that directory.
func hides(dir string) bool {
	for name := range hidden {
		if strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}

// What is ours of /etc.
const (
	resolvPath   = etcDir + "/resolv.conf"
	nsswitchPath = etcDir + "/nsswitch.conf"
)

// ownOf is where our file for one of /etc lies.
func ownOf(path string) string { return filepath.Join(ownEtc, filepath.Base(path)) }

// coverEtc puts our files in the place of those in /etc.
//
// An ordinary user, who can write nothing there, gets an overlay that nobody can write.
// Root writes there, and a container has mounts there of its own: for them each file is
// covered by itself.
func coverEtc() error {
	text, err := os.ReadFile(nsswitchPath)
	if errors.Is(err, os.ErrNotExist) {
		os.Remove(ownOf(nsswitchPath)) // a C library that knows nothing of it
	} else if err != nil {
		return err
	} else if err = os.WriteFile(ownOf(nsswitchPath), []byte(nsswitch(string(text))), 0o644); err != nil {
		return err
	}
	if os.Geteuid() != 0 && !hasMountsBelow(etcDir) {
		err := unix.Mount("overlay", etcDir, "overlay", ordinary|unix.MS_RDONLY, "lowerdir="+ownEtc+":"+etcDir)
		if err == nil {
			return nil // Linux before 5.11 lets no user do that
		}
	}
	for _, path := range []string{resolvPath, nsswitchPath} {
		if _, err := os.Stat(ownOf(path)); err != nil {
			continue
		}
		if place, err := filepath.EvalSymlinks(path); err != nil {
			return fmt.Errorf("there is none to put the tunnel's in the place of: %w", err)
		} else if place == ownOf(path) {
			continue
		}
		if err := unix.Mount(ownOf(path), path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("covering %s: %w", path, err)
		}
	}
	return nil
}

// hasMountsBelow reports whether anything is mounted below dir.
func hasMountsBelow(dir string) bool {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(b)) {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime ... (proc(5))
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			return true
		}
	}
	return false
}

// writeResolvConf names the resolvers.
func writeResolvConf(s Settings) error {
	if err := os.WriteFile(ownOf(resolvPath), []byte(resolvConf(s.DNS, s.Search)), 0o644); err != nil {
		return fmt.Errorf("naming the resolvers: %w", err)
	}
	return nil
}
