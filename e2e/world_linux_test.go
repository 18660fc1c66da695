package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// patience is the limit of one program in a test: far more than any needs.
const patience = 60 * time.Second

// A world is a lab whose laptop has bodkin.
type world struct {
	*lab.Lab
	t *testing.T
}

// newWorld builds a lab for the time of a test.
func newWorld(t *testing.T, o lab.Options) *world {
	t.Helper()
	l, err := lab.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("sshd said:\n%s", l.SSHLog())
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := l.Laptop.Install(program); err != nil {
		t.Fatal(err)
	}
	return &world{l, t}
}

// in is the same world for a subtest.
func (w *world) in(t *testing.T) *world { return &world{w.Lab, t} }

// A result is how a program ended.
type result struct {
	status int
	out    string // standard output and error, as they came
	took   time.Duration
}

// on runs a program to its end on a machine as an account.
func (w *world) on(m *lab.Machine, account, name string, args ...string) result {
	w.t.Helper()
	return w.finish(m.Command(w.t.Context(), name, args...).As(account))
}

// finish runs a command to its end, with patience.
func (w *world) finish(cmd *lab.Cmd) result {
	w.t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	if !late.Stop() {
		w.t.Errorf("%q ran for more than %v", cmd.Args, patience)
	}
	r := result{out: out.String(), took: time.Since(began)}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.status = exit.ExitCode()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay): // a daemon may keep the output open
		w.t.Fatalf("%q: %v", cmd.Args, err)
	}
	return r
}

// laptop runs a program on the laptop as its ordinary account, and fails the
// test unless it exits 0.
func (w *world) laptop(name string, args ...string) string {
	w.t.Helper()
	r := w.on(w.Laptop, "me", name, args...)
	if r.status != 0 {
		w.t.Fatalf("%s %s: exit status %d\n%s", name, strings.Join(args, " "), r.status, r.out)
	}
	return r.out
}

// bodkin runs bodkin on the laptop as its ordinary account.
func (w *world) bodkin(args ...string) result {
	w.t.Helper()
	return w.on(w.Laptop, "me", "bodkin", args...)
}

// up brings a tunnel up in the background, and takes it down when the test ends.
func (w *world) up(args ...string) {
	w.t.Helper()
	w.upAs("me", args...)
}

func (w *world) upAs(account string, args ...string) result {
	w.t.Helper()
	r := w.on(w.Laptop, account, "bodkin", append([]string{"up", "--detach"}, args...)...)
	if r.status != 0 {
		w.t.Fatalf("bodkin up %s: exit status %d\n%s", strings.Join(args, " "), r.status, r.out)
	}
	return r
}

// down takes the tunnel down.
func (w *world) down() {
	w.t.Helper()
	w.laptop("bodkin", "down")
}

// says fails the test unless text contains each of the wanted pieces.
func (w *world) says(text string, want ...string) {
	w.t.Helper()
	for _, piece := range want {
		if !strings.Contains(text, piece) {
			w.t.Errorf("%q is missing from:\n%s", piece, text)
		}
	}
}

// within makes a context that ends after d.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
