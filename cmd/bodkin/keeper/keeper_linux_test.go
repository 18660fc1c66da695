package keeper

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/session"
)

const long = time.Hour

// TestKilledLogins: login after login is killed in the middle of a transfer, and all of it
// arrives, both where the keeper has the login's descriptors and where the login
// relays.
func TestKilledLogins(t *testing.T) {
	for _, relay := range []bool{false, true} {
		t.Run(fmt.Sprintf("relay=%v", relay), func(t *testing.T) {
			t.Parallel()
			a := asked{Hold: long, Relay: relay}
			s, terms, l := begin(t, nil, a, long)
			if terms.Grace != long {
				t.Errorf("granted are %v", terms.Grace)
			}
			const size = 24 << 20
			sent := make([]byte, size)
			rand.Read(sent)
			wrote := make(chan error, 1)
			go func() {
				_, err := s.Write(sent)
				wrote <- err
			}()
			got := make([]byte, 0, size)
			buf := make([]byte, 64<<10)
			for kills := 0; len(got) < size; {
				n, err := s.Read(buf)
				if err != nil {
					t.Fatalf("after %d octets: %v", len(got), err)
				}
				got = append(got, buf[:n]...)
				if len(got) > (kills+1)*size/12 && kills < 10 {
					kills++
					l.kill(t)
					l = attach(t, s, nil, a)
				}
			}
			if err := <-wrote; err != nil {
				t.Fatal(err)
			}
			if sha256.Sum256(got) != sha256.Sum256(sent) {
				t.Error("what came back is not what was sent")
			}
			h := heldOf(t, s)
			s.Close()
			if err := l.ended(t); err != nil {
				t.Errorf("the last login: %v, %q", err, l.words.Lines())
			}
			ended(t, h.PID)
			if _, err := os.Lstat(h.path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("its socket is still there: %v", err)
			}
		})
	}
}

// TestProcess: what outlives a login has nothing of it, and says what it is.
func TestProcess(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	unix.FcntlInt(w.Fd(), unix.F_SETFD, 0) // the login's parent left it open, and so it goes to the login
	s, _, l := begin(t, nil, asked{Hold: long}, long)
	w.Close()
	h := heldOf(t, s)
	read := func(name string) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", h.PID, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := read("cmdline"); got != "bodkin\x00far\x00--held\x00" {
		t.Errorf("it is called %q", got)
	}
	if got := read("comm"); got != "bodkin\n" {
		t.Errorf("its process is called %q", got)
	}
	if env := read("environ"); strings.Contains(env, "LEAKED") || !strings.Contains(env, "PATH=") {
		t.Errorf("its environment is %q", env)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", h.PID)); cwd != "/" {
		t.Errorf("it is in %q: %v", cwd, err)
	}
	if id, err := unix.Getsid(h.PID); err != nil || id != h.PID {
		t.Errorf("its session is %d: %v", id, err)
	}
	if got := read("status"); !strings.Contains(got, "Umask:\t0077\n") {
		t.Error("its umask is not 077")
	}
	for fd := range 3 {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", h.PID, fd)); to != os.DevNull {
			t.Errorf("its descriptor %d is %q: %v", fd, to, err)
		}
	}
	l.kill(t)
	eventually(t, "the keeper lets go of what it was given", func() bool { return !heldOf(t, s).Attached })
	for _, to := range descriptors(t, h.PID) {
		if strings.HasPrefix(to, "pipe:") {
			t.Errorf("it still has %s", to)
		}
	}
	if err := unix.Kill(h.PID, unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	attach(t, s, nil, asked{Hold: long})
	thereAndBack(t, s, "after a hang-up")
	if now := heldOf(t, s); now.PID != h.PID || !now.Attached || now.Left() != 0 {
		t.Errorf("it is %+v", now)
	}
}

// descriptors returns what the descriptors of a process lead to.
func descriptors(t testing.TB, pid int) (all []string) {
	t.Helper()
	found, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if len(found) == 0 {
		t.Fatalf("process %d has no descriptors", pid)
	}
	for _, fd := range found {
		if to, err := os.Readlink(fd); err == nil {
			all = append(all, to)
		}
	}
	return all
}

// TestManyLogins: after 200 logins there is no more of anything than after a few.
func TestManyLogins(t *testing.T) {
	a := asked{Hold: long}
	s, _, l := begin(t, nil, a, long)
	h := heldOf(t, s)
	count := func() (fds, threads int) {
		eventually(t, "it is at rest", func() bool {
			fds, threads = len(descriptors(t, h.PID)), tasks(t, h.PID)
			return heldOf(t, s).Attached && fds == len(descriptors(t, h.PID))
		})
		return fds, threads
	}
	names := func() int {
		entries, err := os.ReadDir(filepath.Dir(h.path))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	var fds, threads, files int
	for i := range 200 {
		if i == 10 {
			fds, threads = count()
			files = names()
		}
		if i%2 == 0 {
			l.kill(t)
		}
		next := attach(t, s, nil, a)
		thereAndBack(t, s, fmt.Sprint("login ", i))
		if i%2 != 0 { // the newer takes over, and the older is told to go
			if err := l.ended(t); err != nil {
				t.Errorf("a login that was followed by another: %v, %q", err, l.words.Lines())
			}
		}
		l = next
	}
	fds2, threads2 := count()
	if fds2 > fds || threads2 > threads+3 {
		t.Errorf("descriptors: %d, then %d; threads: %d, then %d", fds, fds2, threads, threads2)
	}
	if n := len(keepers(t)); n != 1 {
		t.Errorf("%d keepers", n)
	}
	if n := names(); n != files {
		t.Errorf("%d files where its socket is, and then %d", files, n)
	}
}

func tasks(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestLoginSleeps: the login's process costs nothing while what it handed over carries
// octets.
func TestLoginSleeps(t *testing.T) {
	s, _, l := begin(t, nil, asked{Hold: long}, long)
	thereAndBack(t, s, "now it has handed over")
	before := switches(t, l.PID())
	for i := range 500 {
		thereAndBack(t, s, fmt.Sprint("packet ", i))
	}
	if n := switches(t, l.PID()) - before; n > 100 {
		t.Errorf("it was woken %d times", n)
	}
}

// switches returns how often the threads of a process went to sleep by themselves.
func switches(t testing.TB, pid int) (n int) {
	t.Helper()
	found, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(found) == 0 {
		t.Fatalf("process %d: %v", pid, err)
	}
	for _, file := range found {
		text, _ := os.ReadFile(file)
		_, after, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
		var of int
		fmt.Sscan(after, &of)
		n += of
	}
	return n
}

// TestExpiry: who does not come back within the lesser of what was asked for and what is
// granted finds nothing any more.
func TestExpiry(t *testing.T) {
	const grace = 700 * time.Millisecond
	s, terms, l := begin(t, nil, asked{Hold: grace}, long)
	if terms.Grace != grace {
		t.Errorf("granted are %v", terms.Grace)
	}
	h := heldOf(t, s)
	began := time.Now()
	l.kill(t)
	ended(t, h.PID)
	if took := time.Since(began); took < grace || took > grace+5*time.Second {
		t.Errorf("it was held for %v", took)
	}
	if _, err := os.Lstat(h.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its socket is still there: %v", err)
	}
	late := enter(t, nil, asked{Hold: grace})
	if err := s.Attach(soon(t), late.Stream()); !errors.Is(err, session.ErrUnknown) {
		t.Errorf("coming back too late: %v", err)
	}
	if late.ended(t) == nil {
		t.Error("the login that came too late ended well")
	}
}

// TestEnd: what is held is found, and ends when told so, whether somebody is there or
// not.
func TestEnd(t *testing.T) {
	attached, _, l := begin(t, nil, asked{Hold: long}, long)
	alone, _, gone := begin(t, nil, asked{Hold: long}, long)
	gone.kill(t)
	eventually(t, "it is alone", func() bool { return !heldOf(t, alone).Attached })
	if h := heldOf(t, alone); h.Left() < long-time.Minute || h.Left() > long {
		t.Errorf("held for %v", h.Left())
	}
	for _, s := range []*session.Session{attached, alone} {
		h := heldOf(t, s)
		began := time.Now()
		if err := End(h); err != nil {
			t.Error(err)
		}
		ended(t, h.PID)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("ending it took %v", took)
		}
	}
	if _, err := attached.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the near half of what was ended reads: %v", err)
	}
	l.ended(t)
	if list := List(); len(list) != 0 {
		t.Errorf("still held: %+v", list)
	}
}

// TestLastWords: an error of the far half's is the login's that is there then.
func TestLastWords(t *testing.T) {
	a := asked{Hold: long, Settings: "the cable is cut"}
	s, _, l := begin(t, nil, a, long)
	l.kill(t)
	l = attach(t, s, nil, a)
	s.Close()
	if err := l.ended(t); err == nil || l.words.Last() != "failed: the cable is cut" {
		t.Errorf("%v, %q", err, l.words.Lines())
	}
}

// TestKilledKeeper: the login says so, the next one finds nothing, and what was left is
// removed.
func TestKilledKeeper(t *testing.T) {
	s, _, l := begin(t, nil, asked{Hold: long}, long)
	h := heldOf(t, s)
	unix.Kill(h.PID, unix.SIGKILL)
	if l.ended(t) == nil || !strings.Contains(l.words.Last(), errGone.Error()) {
		t.Errorf("the login said %q", l.words.Lines())
	}
	next := enter(t, nil, asked{Hold: long})
	if err := s.Attach(soon(t), next.Stream()); !errors.Is(err, session.ErrUnknown) {
		t.Errorf("to continue what is gone: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(h.path)); err != nil || len(left) > 0 {
		t.Errorf("what is still there: %v, %v", left, err)
	}
}

// TestTerminated: SIGTERM ends the far half in order.
func TestTerminated(t *testing.T) {
	s, _, l := begin(t, nil, asked{Hold: long}, long)
	unix.Kill(heldOf(t, s).PID, unix.SIGTERM)
	if _, err := s.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the near half reads: %v", err)
	}
	l.ended(t)
	eventually(t, "no keeper is left", func() bool { return len(keepers(t)) == 0 })
}

// TestRoom: of those whom nobody comes back to there are never many, and the oldest
// makes room.
func TestRoom(t *testing.T) {
	var all []*session.Session
	for range maxDetached + 2 {
		s, _, l := begin(t, nil, asked{Hold: long}, long)
		all = append(all, s)
		l.kill(t)
		eventually(t, "it is alone", func() bool { return !slices.ContainsFunc(List(), func(h Held) bool { return h.Attached }) })
		eventually(t, "there are not too many", func() bool { return len(List()) <= maxDetached })
	}
	list := List()
	for i, h := range list {
		if want := all[i+2].ID().String(); h.ID != want {
			t.Errorf("%d: %s is held, and not %s", i, h.ID, want)
		}
		End(h)
	}
	if len(list) != maxDetached {
		t.Errorf("%d are held", len(list))
	}
	eventually(t, "all end", func() bool { return len(keepers(t)) == 0 })
}

// TestSessionMoves: a session begun by a login whose octets are relayed goes on by
// descriptors, and back.
func TestSessionMoves(t *testing.T) {
	s, _, _ := begin(t, nil, asked{Hold: long, Relay: true}, long)
	for i := range 4 {
		attach(t, s, nil, asked{Hold: long, Relay: i%2 != 0})
		thereAndBack(t, s, fmt.Sprint("way ", i))
	}
}

// TestRelayEnds: the login that relays notices when its own connection dies.
func TestRelayEnds(t *testing.T) {
	s, _, l := begin(t, nil, asked{Hold: long, Relay: true}, long)
	l.Close()
	eventually(t, "the session has lost it", func() bool { return !heldOf(t, s).Attached })
	if err := l.ended(t); err != nil {
		t.Errorf("the login that lost its connection: %v, %q", err, l.words.Lines())
	}
}
