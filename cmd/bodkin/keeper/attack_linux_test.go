package keeper

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/cmd/bodkin/passing"
	"github.com/bodkin-net/bodkin/session"
)

// ann and eve are ordinary users.
var ann, eve = &command.User{UID: 4321, GID: 4321}, &command.User{UID: 4322, GID: 4322}

// runtimeOf makes the directory that a user's session has, as systemd-logind does.
func runtimeOf(t testing.TB, who *command.User) string {
	t.Helper()
	session, _ := places(t, who)
	if err := os.MkdirAll(session, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(session, int(who.UID), int(who.GID)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(session) })
	return session
}

func places(t testing.TB, who *command.User) (session, temporary string) {
	t.Helper()
	name := "4321"
	if who == eve {
		name = "4322"
	}
	return filepath.Join("/run/user", name), filepath.Join(os.TempDir(), "bodkin-"+name)
}

// TestStrangers: another user of the machine gets nothing of a keeper, even where the
// directory is left open; and root finds what anybody has held, and ends it.
func TestStrangers(t *testing.T) {
	runtimeOf(t, ann)
	s, _, l := begin(t, ann, asked{Hold: long}, long)
	h := heldOf(t, s)
	if h.UID != int(ann.UID) || !strings.HasPrefix(h.path, "/run/user/4321/bodkin/far/") {
		t.Fatalf("root sees %+v", h)
	}
	for _, dir := range []string{h.path, "/run/user/4321/bodkin/far", "/run/user/4321/bodkin", "/run/user/4321"} {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, verb := range []string{verbStatus, verbEnd, verbAttach} {
		said, err := as(eve, t, "ask", h.path, verb)
		if err == nil {
			t.Errorf("%s by a stranger: %s", verb, said)
		}
	}
	thereAndBack(t, s, "undisturbed")

	// What others may have changed is not believed by root either.
	if list := List(); len(list) != 0 {
		t.Errorf("in an open directory: %+v", list)
	}
	for _, dir := range []string{"/run/user/4321/bodkin/far", "/run/user/4321/bodkin"} {
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := End(heldOf(t, s)); err != nil {
		t.Error(err)
	}
	l.ended(t)
}

// as runs this program as another user, and returns what it said.
func as(who *command.User, t testing.TB, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: who.UID, Gid: who.GID}}
	cmd.Env = []string{}
	said, err := cmd.CombinedOutput()
	return string(said), err
}

// asStranger is what another user does: it connects to a socket and asks.
func asStranger(path, verb string) error {
	conn, err := net.DialUnix(network, nil, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if err := passing.Send(conn, request{Verb: verb}); err != nil {
		return err
	}
	_, _, err = passing.Receive[map[string]any](conn)
	return err
}

// asPlanter is what another user does: it listens in the place of a keeper.
func asPlanter(path string) error {
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		return err
	}
	os.Chmod(path, 0o777)
	os.Stdout.WriteString("listening\n")
	conn, err := l.AcceptUnix()
	if err != nil {
		return err
	}
	_, files, err := passing.Receive[request](conn)
	if len(files) > 0 {
		os.Stdout.WriteString("got the connection\n")
	}
	return err
}

// TestPlanted: nobody's connection is handed to a socket that another user has put where
// a keeper's would be.
func TestPlanted(t *testing.T) {
	s, _, l := begin(t, nil, asked{Hold: long}, long)
	h := heldOf(t, s)
	l.kill(t)
	dir := filepath.Dir(h.path)
	if err := errors.Join(os.Chmod(dir, 0o777), os.Chmod(filepath.Dir(dir), 0o755), os.Rename(h.path, h.path+".aside")); err != nil {
		t.Fatal(err)
	}
	planted, err := command.Start(command.Config{Args: []string{program, "plant", h.path}, User: eve})
	if err != nil {
		t.Fatal(err)
	}
	defer planted.Close()
	said := make([]byte, 64)
	if n, err := planted.Read(said); err != nil || string(said[:n]) != "listening\n" {
		t.Fatalf("%q, %v", said[:n], err)
	}
	for _, mode := range []os.FileMode{0o777, 0o700} { // open still, or once, before it was set right
		if err := errors.Join(os.Chmod(dir, mode), os.Chmod(filepath.Dir(dir), 0o700)); err != nil {
			t.Fatal(err)
		}
		next := enter(t, nil, asked{Hold: long})
		if err := s.Attach(soon(t), next.Stream()); !errors.Is(err, session.ErrUnknown) {
			t.Errorf("mode %v: %v", mode, err)
		}
		next.ended(t)
	}
	if err := os.Rename(h.path+".aside", h.path); err != nil {
		t.Fatal(err)
	}
	attach(t, s, nil, asked{Hold: long})
	thereAndBack(t, s, "the true one")
	planted.Close()
	if n, _ := planted.Read(said); n > 0 {
		t.Errorf("who planted it said %q", said[:n])
	}
}

// TestOtherLogins: a login with another key, or where other things are permitted, does
// not continue a session, whoever knows its secret; and the session is undisturbed.
func TestOtherLogins(t *testing.T) {
	a := asked{Hold: long, Key: "one", Relay: true}
	s, _, l := begin(t, nil, a, long)
	l.kill(t)
	for _, other := range []asked{
		{Hold: long, Key: "another", Relay: true},
		{Hold: long},
		{Hold: long, Key: "one", Settings: "another"},
	} {
		next := enter(t, nil, other)
		if err := s.Attach(soon(t), next.Stream()); !errors.Is(err, session.ErrUnknown) {
			t.Errorf("%+v: %v", other, err)
		}
		if next.ended(t) == nil {
			t.Errorf("%+v: the login ended well", other)
		}
	}
	attach(t, s, nil, a)
	thereAndBack(t, s, "undisturbed")
}

// TestForeignSession: who names another's session, but knows nothing of it, is turned
// away; so is one who names none that could be.
func TestForeignSession(t *testing.T) {
	victim, _, _ := begin(t, nil, asked{Hold: long}, long)
	id := victim.ID()
	for _, name := range []session.ID{id, {}, session.ID([]byte("../../../../etc/"))} {
		l := enter(t, nil, asked{Hold: long})
		// RESUME of session's spec.md: versions, ID, a nonce of 32 octets.
		greeting := append([]byte{0x12, 0, 0, 2 + 16 + 32, 1, 1}, name[:]...)
		if _, err := l.Write(append(greeting, make([]byte, 32)...)); err != nil {
			t.Fatal(err)
		}
		var answer [4]byte
		if _, err := io.ReadFull(l, answer[:]); err != nil {
			t.Fatalf("%v; %q", err, l.words.Lines())
		}
		if name == id {
			if answer[0] != 0x14 {
				t.Fatalf("not a CHALLENGE: %x", answer)
			}
			// A PROOF of nothing: a count, and 32 octets.
			if _, err := l.Write(append([]byte{0x15, 0, 0, 8 + 32}, make([]byte, 8+32)...)); err != nil {
				t.Fatal(err)
			}
		} else if answer[0] != 0x17 {
			t.Errorf("not a REFUSE: %x", answer)
		}
		if l.ended(t) == nil {
			t.Errorf("the login for session %v ended well", name)
		}
	}
	thereAndBack(t, victim, "undisturbed")
}

// TestImpossible: where nothing can outlive a login, the far half runs in it, and the near half
// is told why.
func TestImpossible(t *testing.T) {
	session, temporary := places(t, ann)
	for _, c := range []struct {
		what    string
		prepare func() error
		asked   asked
		want    string
	}{
		{"no process more", func() error { return nil }, asked{Hold: long, Full: true}, "resource temporarily unavailable"},
		{"somebody else's directory", func() error { return os.MkdirAll(temporary, 0o700) }, asked{Hold: long}, "not a directory of this user's alone"},
		{"an open directory", func() error {
			return errors.Join(os.MkdirAll(temporary, 0o777), os.Chmod(temporary, 0o777), os.Chown(temporary, int(ann.UID), int(ann.GID)))
		}, asked{Hold: long}, "not a directory of this user's alone"},
		{"a file in its place", func() error {
			return errors.Join(os.WriteFile(temporary, nil, 0o600), os.Chown(temporary, int(ann.UID), int(ann.GID)))
		}, asked{Hold: long}, "not a directory of this user's alone"},
	} {
		t.Run(c.what, func(t *testing.T) {
			os.RemoveAll(session)
			os.RemoveAll(temporary)
			defer os.RemoveAll(temporary)
			if err := c.prepare(); err != nil {
				t.Fatal(err)
			}
			s, terms, l := begin(t, ann, c.asked, long)
			if terms.Grace != 0 || !strings.Contains(terms.Note, c.want) {
				t.Errorf("%+v", terms)
			}
			thereAndBack(t, s, "in the login's process")
			s.Close()
			if err := l.ended(t); err != nil {
				t.Errorf("%v, %q", err, l.words.Lines())
			}
			eventually(t, "no keeper is left", func() bool { return len(keepers(t)) == 0 })
		})
	}
}
