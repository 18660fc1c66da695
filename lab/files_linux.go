package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// account is a line of passwd(5).
type account struct {
	name     string
	uid, gid uint32
	home     string
	shell    string
}

// lookupAccount reads the /etc/passwd of the calling thread.
func lookupAccount(name string) (account, error) {
	b, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return account{}, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) != 7 || f[0] != name {
			continue
		}
		uid, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("uid of %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(f[3], 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("gid of %s: %w", name, err)
		}
		return account{name, uint32(uid), uint32(gid), f[5], f[6]}, nil
	}
	return account{}, fmt.Errorf("no account %q", name)
}

// addAccount adds an ordinary account to the calling thread's /etc, in place of
// all ordinary accounts of the real machine.
func addAccount(name string, uid int, shell string) error {
	id, home := strconv.Itoa(uid), "/home/"+name
	for _, file := range []struct {
		path, line string
		mode       os.FileMode
	}{
		{"/etc/passwd", fmt.Sprintf("%s:x:%s:%s:%s:%s:%s\n", name, id, id, name, home, shell), 0o644},
		{"/etc/group", fmt.Sprintf("%s:x:%s:\n", name, id), 0o644},
		// No password fits "*"; to sshd that is not a locked account, as "!" is.
		{"/etc/shadow", name + ":*:20000:0:99999:7:::\n", 0o640},
	} {
		b, err := os.ReadFile(file.path)
		if err != nil {
			return err
		}
		var kept strings.Builder
		for line := range strings.Lines(string(b)) {
			if f := strings.Split(line, ":"); f[0] != name && !(len(f) > 3 && ordinary(f[2]) && file.path != "/etc/shadow") {
				kept.WriteString(line)
			}
		}
		if err := replaceFile(file.path, []byte(kept.String()+file.line), file.mode); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(home+"/.ssh", 0o700); err != nil {
		return err
	}
	for _, dir := range []string{home, home + "/.ssh"} {
		if err := os.Chown(dir, uid, uid); err != nil {
			return err
		}
	}
	return nil
}

// ordinary reports whether an id is that of a person (Debian policy, section 9.2.2).
func ordinary(id string) bool {
	n, err := strconv.Atoi(id)
	return err == nil && n >= 1000 && n < 60000
}

// replaceFile puts a new file in the place of whatever is there.
func replaceFile(path string, data []byte, mode os.FileMode) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return whileNobodyForks(func() error {
		if err := os.WriteFile(path, data, mode); err != nil {
			return err
		}
		return os.Chmod(path, mode)
	})
}

// whileNobodyForks writes a file that may be started next. A process that this one
// forks has its open descriptors until it becomes another program, and while any of
// them may write to a program nobody can start it (ETXTBSY; see execve(2)).
func whileNobodyForks(write func() error) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return write()
}

// WriteFile writes a file of the machine, in place of what is there, with its
// directories. The account owns the file and the directories that were missing.
func (m *Machine) WriteFile(path string, data []byte, mode fs.FileMode, account string) error {
	err := m.Do(func() error {
		a, err := lookupAccount(account)
		if err != nil {
			return err
		}
		if err := makeDirs(filepath.Dir(path), a); err != nil {
			return err
		}
		if err := replaceFile(path, data, mode); err != nil {
			return err
		}
		return os.Chown(path, int(a.uid), int(a.gid))
	})
	if err != nil {
		return fmt.Errorf("lab: %s: writing %s: %w", m.Name, path, err)
	}
	return nil
}

// makeDirs is os.MkdirAll with an owner for what it makes.
func makeDirs(dir string, owner account) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := makeDirs(filepath.Dir(dir), owner); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.Chown(dir, int(owner.uid), int(owner.gid))
}

// ReadFile reads a file of the machine.
func (m *Machine) ReadFile(path string) (data []byte, err error) {
	err = m.Do(func() error {
		data, err = os.ReadFile(path)
		return err
	})
	return data, err
}

// Install copies a program of the real machine into the machine's /usr/local/bin,
// which is in every account's path and in sudo's.
func (m *Machine) Install(program string) error {
	return m.InstallAs(program, filepath.Base(program))
}

// InstallAs is Install under another name.
func (m *Machine) InstallAs(program, name string) error {
	src, err := os.Open(program)
	if err != nil {
		return err
	}
	defer src.Close()
	return m.Do(func() error {
		path := filepath.Join("/usr/local/bin", name)
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		return whileNobodyForks(func() error {
			dst, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
			if err != nil {
				return err
			}
			_, err = io.Copy(dst, src)
			return errors.Join(err, dst.Close())
		})
	})
}

// SetShell makes shell the login shell of an account.
func (m *Machine) SetShell(name, shell string) error {
	return m.Do(func() error {
		b, err := os.ReadFile("/etc/passwd")
		if err != nil {
			return err
		}
		var passwd strings.Builder
		for line := range strings.Lines(string(b)) {
			if f := strings.Split(line, ":"); f[0] == name && len(f) == 7 {
				f[6] = shell + "\n"
				line = strings.Join(f, ":")
			}
			passwd.WriteString(line)
		}
		return replaceFile("/etc/passwd", []byte(passwd.String()), 0o644)
	})
}

// A ResolvConf is a shape that /etc/resolv.conf has on real machines.
type ResolvConf int

// The shapes of /etc/resolv.conf.
const (
	ResolvFile     ResolvConf = iota // an ordinary file
	ResolvSymlink                    // a link to another manager's file, under /run
	ResolvDangling                   // a link to a file that is not there
	ResolvBind                       // a file mounted from elsewhere: rename gives EBUSY
	ResolvMissing                    // nothing
)

// SetResolvConf gives the machine's /etc/resolv.conf a shape, with these
// nameservers in it.
func (m *Machine) SetResolvConf(shape ResolvConf, servers ...string) error {
	var text bytes.Buffer
	for _, s := range servers {
		fmt.Fprintf(&text, "nameserver %s\n", s)
	}
	const path = "/etc/resolv.conf"
	err := m.Do(func() error {
		unix.Unmount(path, unix.MNT_DETACH) // of an earlier ResolvBind; there may be none
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		switch shape {
		case ResolvFile:
			return replaceFile(path, text.Bytes(), 0o644)
		case ResolvSymlink:
			if err := os.MkdirAll("/run/manager", 0o755); err != nil {
				return err
			}
			if err := replaceFile("/run/manager/resolv.conf", text.Bytes(), 0o644); err != nil {
				return err
			}
			return os.Symlink("../run/manager/resolv.conf", path)
		case ResolvDangling:
			return os.Symlink("../run/gone/resolv.conf", path)
		case ResolvBind:
			if err := replaceFile("/run/mounted-resolv.conf", text.Bytes(), 0o644); err != nil {
				return err
			}
			if err := replaceFile(path, nil, 0o644); err != nil {
				return err
			}
			return unix.Mount("/run/mounted-resolv.conf", path, "", unix.MS_BIND, "")
		case ResolvMissing:
			return nil
		}
		return fmt.Errorf("no shape %d", shape)
	})
	if err != nil {
		return fmt.Errorf("lab: %s: making %s: %w", m.Name, path, err)
	}
	return nil
}
