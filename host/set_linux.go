package host

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// Plan says, one line each, what Set would do: in the words of ip(8), nft(8) and
// sysctl(8), with the notes last, each after "# ". It changes nothing, and the
// device need not be there yet.
//
// Plan, Set, State's methods and CleanUp act on the calling thread's network and
// mount namespaces.
func Plan(w Wish) ([]string, error) {
	if err := w.Check(); err != nil {
		return nil, err
	}
	m, err := openMachine()
	if err != nil {
		return nil, err
	}
	defer m.close()
	p, err := makePlan(m, w, nil)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, c := range p.changes {
		lines = append(lines, strings.Split(c.String(), "\n")...)
	}
	for _, n := range p.notes {
		lines = append(lines, "# "+n)
	}
	return lines, nil
}

// A State is a Wish come true. Its methods may be called from several
// goroutines.
type State struct {
	dir  string
	wish Wish

	mu      sync.Mutex
	m       *machine
	journal *journal // nil once undone
}

// Set makes the wish true, all of it, or undoes what it did and says what was in
// the way. It keeps the journal, and with it the tunnel's name, until Undo or the
// process's end; dir, made if it is missing, is where: /var/lib/bodkin. What a
// killed process left under the same name is taken back first.
func Set(w Wish, dir string) (*State, error) {
	if err := w.Check(); err != nil {
		return nil, err
	}
	st, err := openStore(dir)
	if err != nil {
		return nil, err
	}
	defer st.close()
	j, err := st.open(w.Name)
	if err != nil {
		return nil, err
	}
	m, err := openMachine()
	if err != nil {
		j.file.Close()
		return nil, err
	}
	s := &State{dir: dir, m: m, journal: j}
	if err := s.set(w, st); err != nil {
		m.close()
		j.file.Close()
		return nil, err
	}
	return s, nil
}

func (s *State) set(w Wish, st *store) error {
	j := s.journal
	others, err := st.others(w.Name)
	if err != nil {
		return err
	}
	if j.elsewhere() {
		return fmt.Errorf("host: %s: its journal belongs to another network namespace; if that is gone, remove %s", w.Name, j.file.Name())
	}
	if _, err := j.takeBack(s.m, others); err != nil {
		return err
	}
	p, err := makePlan(s.m, w, others)
	if err == nil && p.link == nil {
		err = fmt.Errorf("host: device %s: no such device", w.Device)
	}
	if err == nil {
		err = j.write(st, p.changes)
	}
	if err != nil {
		return errors.Join(err, j.remove(st))
	}
	s.wish = p.wish
	s.m.notes = append(s.m.notes, p.notes...)
	for i, c := range j.changes {
		if err := s.make(i, c); err != nil {
			_, undo := j.takeBack(s.m, others)
			if undo == nil {
				undo = j.remove(st)
			}
			return errors.Join(err, undo)
		}
	}
	return nil
}

func (s *State) make(i int, c change) error {
	if there, err := c.present(s.m); err == nil && there && !sharedValue(c) {
		return fmt.Errorf("host: %s: is there already, and not ours", firstLine(c))
	}
	if err := s.journal.begin(i); err != nil {
		return fmt.Errorf("host: %w", err)
	}
	reached("begun " + firstLine(c))
	if err := c.do(s.m); err != nil {
		return fmt.Errorf("host: %s: %w", firstLine(c), err)
	}
	reached("done " + firstLine(c))
	return nil
}

// sharedValue reports whether it is no wonder that the change stands before it
// is made.
func sharedValue(c change) bool {
	switch c.(type) {
	case *sysctlChange, *linkChange, *resolvedChange, *connectionsChange:
		return true
	}
	return false
}

// Undo takes everything back, but for what somebody else has changed since;
// Notes says what that was. After an error it may be called again; after success
// it does nothing.
func (s *State) Undo() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal == nil {
		return nil
	}
	st, err := openStore(s.dir)
	if err != nil {
		return err
	}
	defer st.close()
	others, err := st.others(s.journal.name)
	if err != nil {
		return err
	}
	if _, err := s.journal.takeBack(s.m, others); err != nil {
		return err
	}
	if err := s.journal.remove(st); err != nil {
		return err
	}
	s.journal = nil
	s.m.close()
	return nil
}

// Notes says, one line each, what could not be had on this machine and what was
// left to others.
func (s *State) Notes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.m.notes...)
}

// Mark returns the fwmark in use.
func (s *State) Mark() uint32 { return s.wish.Mark }

// Table returns the number of the tunnel's routing table.
func (s *State) Table() int { return s.wish.Table }

// CleanUp takes back what killed processes left, and says what it did, one line
// each. Tunnels whose process lives are left alone; so are those of another
// network namespace, which is said. After a restart of the machine only files are
// left to be taken back. If dir is missing there is nothing to do.
func CleanUp(dir string) (did []string, err error) {
	if !exists(dir) {
		return nil, nil
	}
	st, err := openStore(dir)
	if err != nil {
		return nil, err
	}
	defer st.close()
	names, err := st.names()
	if err != nil {
		return nil, err
	}
	m, err := openMachine()
	if err != nil {
		return nil, err
	}
	defer m.close()
	var errs []error
	for _, name := range names {
		what, err := st.cleanUp(m, name)
		did = append(did, what...)
		if err != nil && !errors.Is(err, ErrBusy) {
			errs = append(errs, err)
		}
	}
	return did, errors.Join(errs...)
}

func (st *store) cleanUp(m *machine, name string) (did []string, err error) {
	j, err := st.open(name)
	if err != nil {
		return nil, err
	}
	defer j.file.Close()
	if j.elsewhere() {
		return []string{name + ": belongs to another network namespace: left alone"}, nil
	}
	others, err := st.others(name)
	if err != nil {
		return nil, err
	}
	m.notes = nil
	what, err := j.takeBack(m, others)
	for _, line := range append(what, m.notes...) {
		did = append(did, name+": "+line)
	}
	if err != nil {
		return did, err
	}
	return did, j.remove(st)
}
