package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// resolvConf is where the C library reads its name servers; resolv.conf(5).
const resolvConf = "/etc/resolv.conf"

// A resolvConfChange puts our own resolv.conf in the place of whatever is there.
//
// As a rule the old one, be it a file or a link, is kept beside it under a second
// name, and ours takes its place by rename(2): readers see the one or the other,
// the way back needs no space on the disk, and gives back the very same inode. A
// mount point (containers, ip-netns(8)) cannot be renamed; it is written in place.
type resolvConfChange struct {
	Path  string    `json:"path"`
	Aside string    `json:"aside"` // the old one's second name; "" to write in place
	Old   fileState `json:"old"`
	New   []byte    `json:"new"`
}

// NameServers returns those whom this machine's programs ask now, as the C library
// finds them: the first three of resolv.conf, or, where it names none or is
// missing, 127.0.0.1.
func NameServers() ([]netip.Addr, error) {
	f, err := os.Open(resolvConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("host: DNS: %w", err)
	}
	var servers []netip.Addr
	if err == nil {
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxResolvConf))
		if err != nil {
			return nil, fmt.Errorf("host: DNS: %w", err)
		}
		servers = nameServers(text)
	}
	if len(servers) == 0 {
		servers = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return servers[:min(len(servers), maxNameServers)], nil
}

// A fileState is what a path held.
type fileState struct {
	Kind   string `json:"kind"` // "missing", "file", "link"
	Target string `json:"target,omitempty"`
	Text   []byte `json:"text,omitempty"`
	Mode   uint32 `json:"mode,omitempty"` // permission bits
	UID    uint32 `json:"uid,omitempty"`
	GID    uint32 `json:"gid,omitempty"`
}

// lookAt returns what path holds, and whether something is mounted there.
func lookAt(path string) (s fileState, mounted bool, err error) {
	var st unix.Statx_t
	err = unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st)
	if err == unix.ENOENT {
		return fileState{Kind: "missing"}, false, nil
	}
	if err != nil {
		return s, false, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	s = fileState{Mode: uint32(st.Mode) & 0o7777, UID: st.Uid, GID: st.Gid}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		s.Kind = "file"
		s.Text, err = readBounded(path)
	case unix.S_IFLNK:
		s.Kind, s.Mode = "link", 0
		s.Target, err = os.Readlink(path)
	default:
		err = fmt.Errorf("%s is neither a file nor a link", path)
	}
	return s, st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, err
}

func readBounded(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxResolvConf+1))
	if len(b) > maxResolvConf {
		return nil, fmt.Errorf("%s is larger than %d octets", path, maxResolvConf)
	}
	return b, err
}

func (s fileState) String() string {
	switch s.Kind {
	case "link":
		return fmt.Sprintf("a link to %q", s.Target)
	case "file":
		return fmt.Sprintf("a file of %d octets", len(s.Text))
	}
	return s.Kind
}

func (s fileState) equal(o fileState) bool {
	return s.Kind == o.Kind && s.Target == o.Target && bytes.Equal(s.Text, o.Text)
}

func (c *resolvConfChange) String() string {
	how := fmt.Sprintf("now %v, kept as %s", c.Old, c.Aside)
	switch {
	case c.Aside == "":
		how = fmt.Sprintf("now %v, a mount point: written in place", c.Old)
	case c.Old.Kind == "missing":
		how = "now missing"
	}
	s := fmt.Sprintf("write %s (%s):", c.Path, how)
	for _, server := range nameServers(c.New) {
		s += fmt.Sprintf(" nameserver %v", server)
	}
	return s
}

func (c *resolvConfChange) do(m *machine) error {
	now, _, err := lookAt(c.Path)
	if err != nil {
		return err
	}
	if !now.equal(c.Old) {
		return fmt.Errorf("%s changed while we looked", c.Path)
	}
	if c.Aside == "" {
		return overwrite(c.Path, c.New)
	}
	if c.Old.Kind != "missing" {
		if err := os.Link(c.Path, c.Aside); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		} // without a second name the journal alone holds the old one
		reached("kept " + c.Path)
	}
	return c.replace(func(temp string) error {
		return writeFile(temp, fileState{Text: c.New, Mode: 0o644})
	})
}

// replace makes a new thing under a name of its own and gives it Path's.
func (c *resolvConfChange) replace(create func(temp string) error) error {
	temp := c.temp()
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := create(temp); err != nil {
		os.Remove(temp)
		return err
	}
	reached("made " + temp)
	if err := os.Rename(temp, c.Path); err != nil {
		os.Remove(temp)
		return err
	}
	return nil
}

func (c *resolvConfChange) temp() string { return c.Aside + ".new" }

// writeFile makes a file that must not be there yet, whole on the disk when it
// returns.
func writeFile(path string, s fileState) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(s.Text)
	err = errors.Join(err, f.Chown(int(s.UID), int(s.GID)), unix.Fchmod(int(f.Fd()), s.Mode), f.Sync())
	return errors.Join(err, f.Close())
}

// overwrite replaces the text of a file in place: one write, as long as the
// longer of the two, then the file's end. torn knows every state in between.
func overwrite(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	reached("wrote " + path)
	if err == nil {
		err = f.Truncate(int64(len(text)))
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func (c *resolvConfChange) undo(m *machine) (string, error) {
	if c.Aside != "" {
		os.Remove(c.temp()) // ours whatever it is: a killed process's half-made file
	}
	now, _, err := lookAt(c.Path)
	if err != nil {
		return "", err
	}
	if !c.ours(now) {
		return c.leave(m, now)
	}
	switch {
	case c.Aside == "":
		err = overwrite(c.Path, c.Old.Text)
	case c.Old.Kind == "missing":
		err = os.Remove(c.Path)
	case exists(c.Aside):
		err = os.Rename(c.Aside, c.Path)
	case c.Old.Kind == "link":
		err = c.replace(func(temp string) error { return os.Symlink(c.Old.Target, temp) })
	default:
		err = c.replace(func(temp string) error { return writeFile(temp, c.Old) })
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is again %v", c.Path, c.Old), nil
}

// ours reports whether the path holds what do wrote, or a part of it.
func (c *resolvConfChange) ours(now fileState) bool {
	if now.Kind != "file" {
		return false
	}
	if c.Aside != "" {
		return bytes.Equal(now.Text, c.New)
	}
	return !bytes.Equal(now.Text, c.Old.Text) && (torn(now.Text, c.Old.Text, c.New) || torn(now.Text, c.New, c.Old.Text))
}

// leave removes the second name of the old file, and nothing else: the path
// holds the old one already, or a stranger's.
func (c *resolvConfChange) leave(m *machine, now fileState) (did string, err error) {
	if !now.equal(c.Old) {
		m.note("%s was changed by another program, to %v: left as it is", c.Path, now)
	}
	if c.Aside == "" {
		return "", nil
	}
	if err := os.Remove(c.Aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return "", nil
}

func (c *resolvConfChange) present(m *machine) (bool, error) {
	now, _, err := lookAt(c.Path)
	return now.Kind == "file" && bytes.Equal(now.Text, c.New), err
}

func (c *resolvConfChange) lasts() bool { return true }
