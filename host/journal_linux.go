package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// reached is called wherever a kill would leave the machine in another state
// than before. Tests end the process there.
var reached = func(point string) {}

// suffix of the journals' file names.
const suffix = ".journal"

// lockWait bounds the wait for another process that is at work on the machine:
// its dialogues are bounded by busWait, and a stopped process must not stop us.
const lockWait = 10 * time.Second

// A store is the directory of the journals, locked: one process at a time plans,
// sets and undoes.
type store struct {
	dir  *os.File
	root *os.Root
}

// openStore makes dir (0700) if it is missing. It refuses one that others could
// write: a journal says what root is to do.
func openStore(dir string) (*store, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("host: journal: %w", err)
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("host: journal: %w", err)
	}
	if err = private(f); err == nil {
		err = lockWithin(f, lockWait)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("host: journal: %s: %w", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("host: journal: %w", err)
	}
	return &store{f, root}, nil
}

// private refuses what others could write, and what is neither file nor
// directory.
func private(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if t := st.Mode & unix.S_IFMT; t != unix.S_IFREG && t != unix.S_IFDIR {
		return errors.New("neither a file nor a directory")
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("belongs to user %d with mode %#o: others could write what we undo", st.Uid, st.Mode&0o7777)
	}
	return nil
}

// lockWithin takes the lock that flock(2) has no time limit for.
func lockWithin(f *os.File, wait time.Duration) error {
	for deadline := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("another bodkin has been changing this machine for %v", wait)
		}
	}
}

// close gives the lock back.
func (s *store) close() {
	s.root.Close()
	s.dir.Close()
}

// names returns the tunnels that have a journal, sorted.
func (s *store) names() ([]string, error) {
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("host: journal: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok && validName(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// A journal is one tunnel's, open and locked: whoever holds it is the tunnel's
// owner, and when the process ends, however it ends, the kernel lets go.
type journal struct {
	name string // the tunnel's
	file *os.File
	record
	changes []change
}

// open returns the tunnel's journal, empty if there was none. ErrBusy says that
// its owner lives.
func (s *store) open(name string) (*journal, error) {
	f, err := s.root.OpenFile(name+suffix, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("host: journal: %w", err)
	}
	j := &journal{name: name, file: f}
	if err := j.take(); err != nil {
		f.Close()
		return nil, fmt.Errorf("host: %s %w", name, err)
	}
	return j, nil
}

func (j *journal) take() error {
	err := unix.Flock(int(j.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return ErrBusy
	}
	if err == nil {
		err = j.read(j.file)
	}
	if err != nil {
		return fmt.Errorf("journal %s: %w", j.file.Name(), err)
	}
	return nil
}

func (j *journal) read(f *os.File) error {
	if err := private(f); err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxJournal+1))
	if err != nil {
		return err
	}
	r, err := parseJournal(text)
	if err != nil {
		return err
	}
	j.record = *r
	for i, l := range r.lines {
		c, err := decodeChange(l.Kind, l.Change)
		if err != nil {
			return fmt.Errorf("line %d: %w", i+2, err)
		}
		j.changes = append(j.changes, c)
	}
	return nil
}

// others returns the journals of the other tunnels, to be looked at only.
func (s *store) others(name string) ([]*journal, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	var all []*journal
	for _, n := range names {
		if n == name {
			continue
		}
		f, err := s.root.OpenFile(n+suffix, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, fmt.Errorf("host: journal: %w", err)
		}
		j := &journal{name: n}
		err = j.read(f)
		f.Close()
		if err == nil && j.here() { // one that cannot be read says nothing
			all = append(all, j)
		}
	}
	return all, nil
}

// write makes the journal say that nothing of changes has begun, on the disk.
func (j *journal) write(s *store, changes []change) error {
	j.record = record{header: journalHeader{journalVersion, j.name, bootID(), namespace()}, whole: true}
	j.changes = changes
	for _, c := range changes {
		data, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("host: journal: %w", err)
		}
		j.lines = append(j.lines, journalLine{Kind: kindOf(c), Change: data})
	}
	text, err := j.encode()
	if err == nil {
		err = j.file.Truncate(0)
	}
	if err == nil {
		_, err = j.file.WriteAt(text, 0)
	}
	if err == nil {
		err = j.file.Sync()
	}
	if err == nil {
		err = s.dir.Sync()
	}
	if err != nil {
		return fmt.Errorf("host: journal: nothing was changed: %w", err)
	}
	reached("journal written")
	return nil
}

// begin marks the change as begun.
func (j *journal) begin(i int) error {
	j.lines[i].Begun = true
	_, err := j.file.WriteAt([]byte(markTrue), int64(j.marks[i]))
	if err == nil && j.changes[i].lasts() {
		err = j.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// here reports whether the journal is of this boot and this network namespace.
func (j *journal) here() bool {
	return j.header.Boot == bootID() && !j.elsewhere()
}

func (j *journal) elsewhere() bool {
	ns := namespace()
	return j.header.Boot == bootID() && ns != 0 && j.header.Namespace != 0 && j.header.Namespace != ns
}

// takeBack undoes what has begun, the last first, and says what it did. It goes
// on after an error, and returns all of them.
func (j *journal) takeBack(m *machine, others []*journal) (did []string, err error) {
	var errs []error
	rebooted := j.header.Boot != bootID()
	for i := len(j.changes) - 1; i >= 0; i-- {
		c := j.changes[i]
		if !j.whole || !j.lines[i].Begun || rebooted && !c.lasts() || shared(c, others) {
			continue
		}
		what, err := c.undo(m)
		if err != nil {
			errs = append(errs, fmt.Errorf("host: taking back %q: %w", firstLine(c), err))
		} else if what != "" {
			did = append(did, what)
		}
		reached("undid " + firstLine(c))
	}
	return did, errors.Join(errs...)
}

// shared reports whether another tunnel wants the same of the kernel: then the
// last of them gives it back. Each has the same old value in its journal.
func shared(c change, others []*journal) bool {
	s, ok := c.(*sysctlChange)
	return ok && wanted(others, s.Path) != nil
}

// wanted returns another tunnel's change of that kernel parameter, or nil.
func wanted(others []*journal, path string) *sysctlChange {
	for _, j := range others {
		for i, c := range j.changes {
			if s, ok := c.(*sysctlChange); ok && j.whole && j.lines[i].Begun && s.Path == path {
				return s
			}
		}
	}
	return nil
}

// remove ends the tunnel's ownership. The name goes first: whoever opens it
// afterwards makes a new file.
func (j *journal) remove(s *store) error {
	err := s.root.Remove(j.name + suffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("host: journal: %w", err)
	}
	j.file.Close()
	return nil
}

func firstLine(c change) string {
	line, _, _ := strings.Cut(c.String(), "\n")
	return line
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// namespace returns the calling thread's network namespace's cookie, which is
// never given to another; 0 before Linux 5.14.
func namespace() uint64 {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return cookie
}
