package cotty

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/pty"
)

// actAs names, for this test binary, the program to be instead of the tests.
const actAs = "BODKIN_TEST_ACT_AS"

func init() {
	switch os.Getenv(actAs) {
	case "bodkin": // and so is the copy of itself that -d starts
		os.Exit(bodkin())
	case "exchange":
		os.Exit(exchange(os.Args[1], os.Args[2]))
	case "typewriter":
		os.Exit(typewriter())
	}
}

// bodkin is the program, as far as it concerns this package, under whatever name.
func bodkin() int {
	args := os.Args[1:]
	if len(args) == 0 || args[0] != "cotty" {
		args = append([]string{"cotty"}, args...)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return run(ctx, args, os.Stdout, os.Stderr)
}

// run executes the command as the program does.
func run(ctx context.Context, args []string, out, errw io.Writer) int {
	root := &cobra.Command{Use: "bodkin"}
	root.SetOut(out)
	root.SetErr(errw)
	root.AddCommand(Command())
	return report.Execute(ctx, root, args)
}

// call runs the command in this process.
func call(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	status = run(t.Context(), args, &o, &e)
	return status, o.String(), e.String()
}

// exchanged is how many octets exchange writes, and how many it reads.
const exchanged = 100 << 20

// octets are exchanged octets made from a seed.
func octets(seed string) io.Reader {
	return io.LimitReader(rand.NewChaCha8(sha256.Sum256([]byte(seed))), exchanged)
}

// exchange writes octets made from the seed ours to its terminal while it reads as
// many made from theirs, and then says to the other side whether it had all of them,
// each of the 256 values among them. The status is 0 if both sides had.
func exchange(ours, theirs string) int {
	var writing sync.WaitGroup
	writing.Go(func() { io.Copy(struct{ io.Writer }{os.Stdout}, octets(ours)) })
	got, want, values := sha256.New(), sha256.New(), map[byte]bool{}
	io.CopyBuffer(struct{ io.Writer }{got}, io.TeeReader(io.LimitReader(os.Stdin, exchanged), valuesIn(values)), make([]byte, 64<<10))
	io.Copy(want, octets(theirs))
	writing.Wait()
	verdict := []byte("n")
	if bytes.Equal(got.Sum(nil), want.Sum(nil)) && len(values) == 256 {
		verdict = []byte("y")
	}
	os.Stdout.Write(verdict)
	other := make([]byte, 1)
	if _, err := io.ReadFull(os.Stdin, other); err != nil || other[0] != 'y' || verdict[0] != 'y' {
		return 3
	}
	return 0
}

// valuesIn notes which octets there are in the first MiB.
func valuesIn(values map[byte]bool) io.Writer {
	left := 1 << 20
	return writerFunc(func(b []byte) (int, error) {
		for _, v := range b[:min(left, len(b))] {
			values[v] = true
		}
		left -= min(left, len(b))
		return len(b), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// typewriter prints the size of its terminal, again whenever that changes, and each
// octet that it reads, until a q.
func typewriter() int {
	size := func() {
		s, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err != nil {
			os.Exit(4)
		}
		fmt.Printf("%d x %d\n", s.Row, s.Col)
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	size()
	go func() {
		for range changed {
			size()
		}
	}()
	for b := make([]byte, 1); ; {
		if _, err := os.Stdin.Read(b); err != nil {
			return 5
		}
		if b[0] == 'q' {
			return 0
		}
		fmt.Printf("%02x\n", b)
	}
}

// TestCarriesMuch: 100 MiB each way at once, unchanged.
func TestCarriesMuch(t *testing.T) {
	t.Setenv(actAs, "exchange")
	began := time.Now()
	status, _, errs := call(t, "cotty", "--", os.Args[0], "left", "right", "--", os.Args[0], "right", "left")
	if status != 0 {
		t.Errorf("exit status %d, said\n%s", status, errs)
	}
	t.Logf("%.0f MB/s each way", exchanged/1e6/time.Since(began).Seconds())
}

// TestStatus is how a session ends, and what is said.
func TestStatus(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"true", "--", "cat"}, 0, "bodkin: true ended first\n"},
		{[]string{"cat", "--", "sh", "-c", "exit 7"}, 7, "bodkin: sh ended first: exit status 7\n"},
		{[]string{"sh", "-c", "kill -9 $$", "--", "cat"}, 137, "bodkin: sh ended first: signal: killed\n"},
		{[]string{"cat", "--", "no-such-program"}, 127, "not found in $PATH"},
		{[]string{"cat", "--", "./no-such-program"}, 127, "no such file"},
		{[]string{"ssh -t gw", "--", "cat"}, 127, "hint: no shell is used"},
		{[]string{"/etc/passwd", "--", "cat"}, 126, "permission denied"},
		{[]string{"cat", "--", "dev:/dev/null"}, 125, "/dev/null"},
		{[]string{"cat", "--", "unix:/nowhere"}, 125, "/nowhere"},
		{[]string{"cat"}, 2, "there is one"},
		{[]string{"cat", "--"}, 2, "is empty"},
		{[]string{"--", "cat"}, 2, "is empty"},
		{[]string{"a", "--", "b", "--", "c"}, 2, "more"},
		{[]string{"-", "--", "-"}, 2, "both sides"},
		{[]string{"tcp:gw", "--", "cat"}, 2, "not a host and a port"},
		{[]string{"dev:", "--", "cat"}, 2, "names no path"},
		{[]string{"dev:/dev/null", "x", "--", "cat"}, 2, "takes no arguments"},
		{[]string{"", "--", "cat"}, 2, "is empty"},
	} {
		status, _, errs := call(t, append([]string{"cotty", "--"}, c.args...)...)
		if status != c.status || !strings.Contains(errs, c.says) {
			t.Errorf("%q: exit status %d, want %d; said\n%s", c.args, status, c.status, errs)
		}
	}
	for flags, says := range map[string]string{"--stderr both": "stream and pass", "-d -- tty": "-d leaves", "-d -- -": "-d leaves", "--detour": "unknown flag"} {
		args := append([]string{"cotty"}, strings.Fields(flags)...)
		if status, _, errs := call(t, append(args, "--", "cat")...); status != report.StatusUsage || !strings.Contains(errs, says) && !strings.Contains(errs, "there is one") {
			t.Errorf("%s: exit status %d, said\n%s", flags, status, errs)
		}
	}
}

// TestWords: a word is one argument, whatever is in it, and options end at the
// first side.
func TestWords(t *testing.T) {
	heard := filepath.Join(t.TempDir(), "heard")
	status, _, errs := call(t, "cotty", "printf", "%s|", "a b", "$HOME", "*", "-d", "'", "--", "sh", "-c", `trap "" HUP; cat >"$0"`, heard)
	if got, _ := os.ReadFile(heard); status != 0 || string(got) != "a b|$HOME|*|-d|'|" {
		t.Errorf("exit status %d, heard %q, said\n%s", status, got, errs)
	}
}

// TestLastWords: all that the first to end has said is read by the other, then
// that is told of the end by SIGHUP.
func TestLastWords(t *testing.T) {
	dir := t.TempDir()
	heard, told := filepath.Join(dir, "heard"), filepath.Join(dir, "told")
	listen := `trap 'echo hangup >"$1"' HUP; sleep 0.3; (trap "" HUP; exec cat >"$0") <&3 & wait $! || wait $!`
	status, _, errs := call(t, "cotty", "--", "sh", "-c", "head -c 60000 /dev/zero; exit 5", "--", "sh", "-c", "exec 3<&0; "+listen, heard, told)
	words, _ := os.ReadFile(heard)
	hup, _ := os.ReadFile(told)
	if status != 5 || len(words) != 60000 || string(hup) != "hangup\n" {
		t.Errorf("exit status %d, %d octets heard, told %q; said\n%s", status, len(words), hup, errs)
	}
}

// TestPatience: last words that the other side does not take do not keep the
// session for ever, though nothing more moves.
func TestPatience(t *testing.T) {
	said := filepath.Join(t.TempDir(), "said")
	c := session{
		sides:  [2][]string{{"sh", "-c", `head -c 20000 /dev/zero; : >"$0"; exit 5`, said}, {"sleep", "1000"}},
		stderr: stderrStream, patience: 100 * time.Millisecond,
	}
	var errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := c.run(ctx, io.Discard, &errs, func() {})
	if _, missing := os.Stat(said); missing != nil {
		t.Fatal("the buffers on the way do not hold what this test assumes")
	}
	if report.Status(err) != 5 || errs.String() != "bodkin: sh ended first: exit status 5\n" {
		t.Errorf("%v, said %s", err, errs.String())
	}
}

func TestStderr(t *testing.T) {
	heard := filepath.Join(t.TempDir(), "heard")
	for mode, want := range map[string]string{"stream": "aside\nstream\n", "pass": "stream\n"} {
		_, _, errs := call(t, "cotty", "--stderr", mode, "--", "sh", "-c", "echo aside >&2; echo stream", "--", "sh", "-c", `trap "" HUP; cat >"$0"`, heard)
		got, _ := os.ReadFile(heard)
		if string(got) != want || strings.Contains(errs, "aside") != (mode == "pass") {
			t.Errorf("%s: the other side heard %q, and we\n%s", mode, got, errs)
		}
	}
}

// asProgram returns a command that runs this binary as bodkin, under a name.
func asProgram(t *testing.T, name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Args[0] = name
	cmd.Env = append(os.Environ(), actAs+"=bodkin")
	return cmd
}

// TestDetach: it returns when both sides run, or with what kept them from it.
func TestDetach(t *testing.T) {
	dir := t.TempDir()
	start := func(second ...string) (string, error) {
		cmd := asProgram(t, "/somewhere/cotty", append([]string{"-d", "--pid-file", "pid", "--log", "log", "--stderr", "pass", "--",
			"sh", "-c", "echo aside >&2; echo word; read x; exit $x", "--"}, second...)...)
		cmd.Dir = dir
		said, err := cmd.CombinedOutput()
		return string(said), err
	}
	said, err := start("no-such-program")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 127 || !strings.Contains(said, "no-such-program") {
		t.Errorf("%v, said %s", err, said)
	}
	if _, err := os.Stat(filepath.Join(dir, "pid")); err == nil {
		t.Error("a pid file of what does not run")
	}

	status := filepath.Join(dir, "status") // what the first is told to exit with, when we say so
	if err := unix.Mkfifo(status, 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := start("sh", "-c", `read x; cat "$0"; read y`, status); err != nil || said != "" {
		t.Fatalf("%v, said %s", err, said)
	}
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	handle, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(handle)
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("it is in session %d, %v; want its own, %d", sid, err, pid)
	}
	for fd := range 3 {
		if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); to != os.DevNull {
			t.Errorf("descriptor %d is %s", fd, to)
		}
	}
	if err := os.WriteFile(status, []byte("9\n"), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(handle), Events: unix.POLLIN}}, 10000); n != 1 {
		unix.Kill(pid, unix.SIGKILL)
		t.Fatalf("it does not end: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "pid")); err == nil {
		t.Error("the pid file is still there")
	}
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	for _, want := range []string{"no-such-program", " sh: aside\n", " bodkin: sh ended first: exit status 9\n"} {
		if !bytes.Contains(log, []byte(want)) {
			t.Errorf("%q is not in the log:\n%s", want, log)
		}
	}
}

// A desk is a terminal with programs on it, as a user's.
type desk struct {
	t             *testing.T
	master, slave *os.File
	before        unix.Termios
}

func newDesk(t *testing.T) *desk {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	d := &desk{t: t, master: master, slave: slave}
	cooked := d.modes()
	cooked.Lflag |= unix.ICANON | unix.ECHO | unix.ISIG | unix.TOSTOP
	cooked.Iflag |= unix.ICRNL | unix.IXON
	cooked.Oflag |= unix.OPOST | unix.ONLCR
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, &cooked); err != nil {
		t.Fatal(err)
	}
	d.before = d.modes()
	return d
}

func (d *desk) modes() unix.Termios {
	d.t.Helper()
	m, err := unix.IoctlGetTermios(int(d.slave.Fd()), unix.TCGETS)
	if err != nil {
		d.t.Fatal(err)
	}
	return *m
}

// lead makes a command the leader of the desk's session.
func (d *desk) lead(cmd *exec.Cmd) {
	cmd.Stdin, cmd.Stdout = d.slave, d.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	cmd.WaitDelay = time.Second
}

// reads fails the test unless want comes next.
func (d *desk) reads(want string) {
	d.t.Helper()
	d.master.SetReadDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(d.master, got); err != nil || string(got) != want {
		d.t.Fatalf("the terminal shows %q, %v; want %q", got[:n], err, want)
	}
}

// TestInBackground: a job in the background of a terminal that stops background
// writers runs to its end, and the terminal is as before. So it does without one.
func TestInBackground(t *testing.T) {
	d := newDesk(t)
	shell := exec.Command("bash", "-c", `set -m; "$0" cotty -- echo hello -- sh -c 'read x; test "$x" = hello && exit 9' 2>said & wait $!`, os.Args[0])
	shell.Env = append(os.Environ(), actAs+"=bodkin")
	shell.Dir = t.TempDir()
	d.lead(shell)
	err := shell.Run()
	var exit *exec.ExitError
	said, _ := os.ReadFile(filepath.Join(shell.Dir, "said"))
	if errors.As(err, &exit) && exit.ExitCode() == 9 || err == nil && string(said) == "bodkin: echo ended first\n" {
		err = nil // either may be the first
	} else {
		t.Errorf("%v, said %s", err, said)
	}
	if d.modes() != d.before {
		t.Error("the terminal is not as before")
	}

	background := exec.Command("bash", "-c", `set -m; "$0" cotty -- tty -- cat 2>said & wait $!`, os.Args[0])
	background.Env, background.Dir = shell.Env, shell.Dir
	d2 := newDesk(t)
	d2.lead(background)
	err = background.Run()
	said, _ = os.ReadFile(filepath.Join(shell.Dir, "said"))
	if !errors.As(err, &exit) || exit.ExitCode() != 125 || !bytes.Contains(said, []byte("in use by another job")) || d2.modes() != d2.before {
		t.Errorf("the terminal as a side, from the background: %v, said %s", err, said)
	}

	alone := asProgram(t, "cotty", "--", "true", "--", "cat")
	alone.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if said, err := alone.CombinedOutput(); err != nil || string(said) != "bodkin: true ended first\n" {
		t.Errorf("without a terminal: %v, said %s", err, said)
	}
}

// TestThisTerminal: it is raw while it is a side, its window size is passed on,
// and it is given back at the end, whoever ends it.
func TestThisTerminal(t *testing.T) {
	for _, end := range []string{"command", "signal"} {
		d := newDesk(t)
		size := &unix.Winsize{Row: 31, Col: 91}
		if err := unix.IoctlSetWinsize(int(d.master.Fd()), unix.TIOCSWINSZ, size); err != nil {
			t.Fatal(err)
		}
		unix.SetNonblock(int(d.master.Fd()), true)
		cmd := asProgram(t, "cotty", "--", "tty", "--", "env", actAs+"=typewriter", os.Args[0])
		d.lead(cmd)
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		d.reads("31 x 91\n")
		size.Row = 32
		if err := unix.IoctlSetWinsize(int(d.slave.Fd()), unix.TIOCSWINSZ, size); err != nil {
			t.Fatal(err)
		}
		d.reads("32 x 91\n")
		d.master.Write([]byte("\x03"))
		d.reads("03\n")
		d.master.Write([]byte("\x13"))
		d.reads("13\n")
		if d.modes() == d.before {
			t.Error("the terminal was not set raw")
		}
		if end == "command" {
			d.master.Write([]byte("q"))
		} else {
			cmd.Process.Signal(syscall.SIGTERM)
		}
		err := cmd.Wait()
		if err != nil || d.modes() != d.before {
			t.Errorf("%s: %v, said %s; the terminal as before: %v", end, err, said.String(), d.modes() == d.before)
		}
	}
}

// TestSockets: a client on the standard input and output, half-close included.
func TestSockets(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "socket")
		}
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		served := make(chan error, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				served <- err
				return
			}
			defer conn.Close()
			question, err := io.ReadAll(conn) // ends by the half-close
			if err == nil {
				_, err = fmt.Fprintf(conn, "you said %s", question)
			}
			served <- err
		}()
		cmd := asProgram(t, "bodkin", "cotty", "--", "-", "--", network+":"+l.Addr().String())
		cmd.Stdin = strings.NewReader("hello")
		out, err := cmd.Output()
		if err := errors.Join(err, <-served); err != nil || string(out) != "you said hello" {
			t.Errorf("%s: %q, %v", network, out, err)
		}
	}
}

// TestOffer: a terminal for a program that is started by hand, at a path of the
// user's choice, and on the other side a device.
func TestOffer(t *testing.T) {
	device, err := command.NewOffer() // for the other side, in the place of a device
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	link := filepath.Join(t.TempDir(), "modem")
	if err := os.Symlink("/dev/pts/999999", link); err != nil { // a killed one left it
		t.Fatal(err)
	}
	cmd := asProgram(t, "bodkin", "cotty", "--", "pty:"+link, "--", "dev:"+device.Path())
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != link+"\n" {
		t.Fatalf("printed %q, %v", line, err)
	}
	tty, err := os.OpenFile(link, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	old := exec.Command("sh", "-c", `echo CONNECT; read x; echo "got $x"`) // a program that knows devices only
	old.Stdin, old.Stdout = tty, tty
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	far := bufio.NewReader(device)
	if line, err := far.ReadString('\n'); err != nil || line != "CONNECT\n" {
		t.Fatalf("%q, %v", line, err)
	}
	device.Write([]byte("this\n"))
	if line, err := far.ReadString('\n'); err != nil || line != "got this\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := errors.Join(old.Wait(), cmd.Wait()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	if status, _, errs := call(t, "cotty", "--", "pty:"+file, "--", "cat"); status != statusSide || !strings.Contains(errs, "exists") {
		t.Errorf("a file in the way: exit status %d, said\n%s", status, errs)
	}
}
