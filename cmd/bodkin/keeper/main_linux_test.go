package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/session"
)

// The tests run on a machine with a /run of its own. This program is all there is: the
// near half is the test, a login is this very program as "login", started as sshd would,
// and the keepers that logins start are processes of it, too.
const movedEnv = "KEEPER_TEST_IN_NAMESPACE"

// An asked is what a login is to do, in its environment: what the flags of a forced
// command say, and how things are at the far side.
type asked struct {
	Settings string        // "": echo; else what the far half fails with
	Key      string        // the peer's
	Hold     time.Duration // the most it grants
	Relay    bool          // as if there were TLS inside
	Full     bool          // no process more may be started for this user
}

const askedEnv = "KEEPER_TEST_LOGIN"

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 1+len(Args) && os.Args[1] == Args[0] && os.Args[2] == Args[1]:
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		if Serve(ctx, echo) != nil {
			os.Exit(1)
		}
		return
	case len(os.Args) == 2 && os.Args[1] == "login":
		os.Exit(login())
	case len(os.Args) > 2 && (os.Args[1] == "ask" || os.Args[1] == "plant"):
		err := asPlanter(os.Args[2])
		if os.Args[1] == "ask" {
			err = asStranger(os.Args[2], os.Args[3])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	for _, arg := range os.Args {
		if strings.HasPrefix(arg, "-test.fuzzworker") {
			os.Exit(m.Run()) // fuzz targets need no machine, and workers no move
		}
	}
	if os.Getenv(movedEnv) == "" {
		os.Exit(move())
	}
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "building the test's machine:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// move runs this program again in namespaces of its own, and returns its exit status:
// whatever a test leaves there ends with it.
func move() int {
	runtime.LockOSThread() // whose end is the other's
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), movedEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintf(os.Stderr, "these tests make namespaces and need root: %v\n", err)
		return 1
	}
	return 0
}

// program is this program where everybody can execute it.
const program = "/run/tester/program"

func build() error {
	if err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"),
		os.Mkdir("/run/tester", 0o755), os.Mkdir("/run/user", 0o755),
	); err != nil {
		return err
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return os.WriteFile(program, self, 0o755)
}

// echo is the far half proper: what comes goes back, until it ends. Like a tunnel it
// reads on while it writes.
func echo(ctx context.Context, settings json.RawMessage, s carrier.Stream) error {
	defer context.AfterFunc(ctx, func() { s.Close() })()
	came := make(chan []byte, 1<<12) // each of 64 KiB at most: more than a test sends
	wrote := make(chan error, 1)
	go func() {
		var err error
		for b := range came {
			if err == nil {
				_, err = s.Write(b)
			}
		}
		wrote <- err
	}()
	var err error
	for err == nil {
		b := make([]byte, 64<<10)
		var n int
		n, err = s.Read(b)
		came <- b[:n]
	}
	close(came)
	if failed := <-wrote; err == io.EOF && failed != nil && !errors.Is(failed, io.ErrClosedPipe) {
		err = failed
	}
	var words string
	json.Unmarshal(settings, &words)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != io.EOF:
		return err
	case words != "":
		return errors.New(words)
	}
	return nil
}

// login is the far command, at a login.
func login() int {
	var a asked
	if err := json.Unmarshal([]byte(os.Getenv(askedEnv)), &a); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := meet(ctx, a)
	if err != nil {
		fmt.Fprintln(os.Stderr, "failed:", err)
	}
	var own interface{ ExitStatus() int }
	switch {
	case errors.As(err, &own):
		return own.ExitStatus()
	case err != nil:
		return 1
	}
	return 0
}

func meet(ctx context.Context, a asked) error {
	s, err := command.Stdio()
	if err != nil {
		return err
	}
	if a.Relay {
		s.ReadWriteCloser = struct{ io.ReadWriteCloser }{s.ReadWriteCloser}
	}
	caller, err := session.Greet(ctx, s)
	if err != nil {
		return err
	}
	text, err := json.Marshal(a.Settings)
	if err != nil {
		return err
	}
	l := Login{Settings: text, Key: []byte(a.Key), Hold: a.Hold}
	if id, resumes := caller.Resumes(); resumes {
		return Continue(ctx, caller, id, l)
	}
	if a.Full {
		fill()
	}
	err = Begin(ctx, caller, l)
	var impossible *ImpossibleError
	if !errors.As(err, &impossible) {
		return err
	}
	held, err := caller.Accept(ctx, session.Terms{Note: impossible.Reason}, session.Options{})
	if err != nil {
		return err
	}
	defer held.Close()
	return echo(ctx, text, held.Stream())
}

// fill lets no process of this user's be started any more. What threads this process
// will need it has before.
func fill() {
	var threads sync.WaitGroup
	for range 16 {
		threads.Go(func() { unix.Nanosleep(&unix.Timespec{Nsec: 20e6}, nil) })
	}
	threads.Wait()
	unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 1, Max: 1})
}

// A from is whose login it is; nil: root's.
type from = *command.User

// enter logs in.
func enter(t testing.TB, who from, a asked) *login_ {
	t.Helper()
	text, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	l := &login_{}
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/", "LEAKED=secret", askedEnv + "=" + string(text),
		"GORACE=atexit_sleep_ms=0", // with the race detector a program's end takes a second, and is taken for a refusal to end
	}
	l.Process, err = command.Start(command.Config{Args: []string{program, "login"}, Env: env, User: who, Stderr: &l.words})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// A login_ is a login's process.
type login_ struct {
	*command.Process
	words carrier.Words // its standard error
}

// kill kills it, as sshd does not: nothing of it has a last word.
func (l *login_) kill(t testing.TB) {
	t.Helper()
	if err := unix.Kill(l.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-l.Exited()
	l.Close()
}

// ended waits until it has ended, and returns how.
func (l *login_) ended(t testing.TB) error {
	t.Helper()
	select {
	case <-l.Exited():
		return l.Exit()
	case <-time.After(15 * time.Second):
		t.Fatal("the login's process does not end")
		return nil
	}
}

// begin begins a session, which ends with the test.
func begin(t testing.TB, who from, a asked, grace time.Duration) (*session.Session, session.Terms, *login_) {
	t.Helper()
	l := enter(t, who, a)
	s, terms, err := session.Open(soon(t), l.Stream(), session.Options{Grace: grace})
	if err != nil {
		t.Fatalf("%v; the login said %q", err, l.words.Lines())
	}
	t.Cleanup(func() {
		s.Close()
		for _, h := range List() {
			if h.ID == s.ID().String() {
				End(h)
			}
		}
	})
	return s, terms, l
}

// soon is a context that ends before the test's patience does.
func soon(t testing.TB) context.Context {
	ctx, stop := context.WithTimeout(t.Context(), 15*time.Second)
	t.Cleanup(stop)
	return ctx
}

// attach continues the session by another login.
func attach(t testing.TB, s *session.Session, who from, a asked) *login_ {
	t.Helper()
	l := enter(t, who, a)
	if err := s.Attach(soon(t), l.Stream()); err != nil {
		t.Fatalf("%v; the login said %q", err, l.words.Lines())
	}
	return l
}

// there and back says whether the far half is there.
func thereAndBack(t testing.TB, s *session.Session, words string) {
	t.Helper()
	got := make([]byte, len(words))
	late := time.AfterFunc(15*time.Second, func() { s.Close() })
	defer late.Stop()
	if _, err := io.WriteString(s, words); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, got); err != nil || string(got) != words {
		t.Fatalf("%q came back for %q: %v", got, words, err)
	}
}

// heldOf returns what is held of a session.
func heldOf(t testing.TB, s *session.Session) Held {
	t.Helper()
	for _, h := range List() {
		if h.ID == s.ID().String() {
			return h
		}
	}
	t.Fatalf("session %v is not held", s.ID())
	return Held{}
}

// eventually waits until f reports true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 seconds: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// gone waits until a process has ended.
func ended(t testing.TB, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d ends", pid), func() bool { return !runs(pid) })
}

// runs reports whether a process runs, and is no zombie: the machine's first process may reap
// none.
func runs(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.HasPrefix(text[bytes.LastIndexByte(text, ')')+1:], []byte(" Z"))
}

// keepers returns the numbers of all keepers' processes.
func keepers(t testing.TB) (pids []int) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		text, _ := os.ReadFile(file)
		if string(text) == "bodkin\x00"+strings.Join(Args, "\x00")+"\x00" {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && runs(pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
