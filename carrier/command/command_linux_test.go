package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
)

// TestMain lets the test binary be the programs that the tests start.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case "serve": // the far side of the suite, on our own Stdio
		s, err := Stdio()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		fmt.Println("a stray print that must not get into the Stream")
		carriertest.Serve(context.Background(), s)
		s.Close()
	case "stubborn": // ignores SIGTERM and the end of its input
		signal.Ignore(unix.SIGTERM)
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "parent": // starts "sleeper" and is killed
		p, err := Start(Config{Args: []string{os.Args[0], "sleeper"}})
		if err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
		fmt.Println(p.PID())
		time.Sleep(time.Hour)
	case "sleeper":
		time.Sleep(time.Hour)
	case "stdio": // takes over a terminal, says so, and gives it back
		s, err := Stdio()
		if err != nil {
			os.Exit(3)
		}
		s.Write([]byte("mine"))
		io.ReadFull(s, make([]byte, 1))
		s.Close()
	default:
		os.Exit(m.Run())
	}
}

func start(t testing.TB, c Config) *Process {
	t.Helper()
	p, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestCarrier(t *testing.T) {
	carriertest.Test(t, func(t *testing.T) carrier.Stream {
		return start(t, Config{Args: []string{os.Args[0], "serve"}, Stderr: os.Stderr}).Stream()
	})
}

func TestReadSaysHowItEnded(t *testing.T) {
	for _, c := range []struct {
		script string
		status int
		want   string
	}{
		{"exit 0", 0, "EOF"},
		{"exit 255", 255, "command: sh: exit status 255"},
		{"kill -9 $$", -1, "command: sh: signal: killed"},
	} {
		p := start(t, Config{Args: []string{"sh", "-c", c.script}})
		_, err := p.Read(make([]byte, 1))
		var exit *ExitError
		if err.Error() != c.want || errors.As(err, &exit) && exit.ExitCode() != c.status {
			t.Errorf("%s: Read: %v, want %s", c.script, err, c.want)
		}
		for err = nil; err == nil; { // the pipe may take some before the system notices
			_, err = p.Write(make([]byte, 4096))
		}
		if c.status != 0 && err.Error() != c.want {
			t.Errorf("%s: Write: %v, want %s", c.script, err, c.want)
		}
		if c.status == 0 && !carrier.IsClosed(err) {
			t.Errorf("%s: Write: %v, want a closed pipe", c.script, err)
		}
	}
}

func TestStartErrors(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   error
	}{
		{Config{Args: []string{"no-such-program-here"}}, exec.ErrNotFound},
		{Config{Args: []string{"/etc/passwd"}}, os.ErrPermission},
		{Config{Args: []string{"true"}, Dir: "/nowhere"}, os.ErrNotExist},
	} {
		if _, err := Start(c.config); !errors.Is(err, c.want) {
			t.Errorf("%v: %v, want %v", c.config.Args, err, c.want)
		}
	}
	if _, err := Start(Config{}); err == nil {
		t.Error("started nothing")
	}
}

// TestCloseLetsItFinish wants what was written last to be dealt with, though
// Close follows at once.
func TestCloseLetsItFinish(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	p := start(t, Config{Args: []string{"sh", "-c", `exec cat >"$1"`, "sh", out}})
	want := bytes.Repeat([]byte("x"), pipeSize/2)
	if _, err := p.Write(want); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	p.Close()
	if took := time.Since(begin); took > leaveTime {
		t.Errorf("Close took %v", took)
	}
	if got, _ := os.ReadFile(out); !bytes.Equal(got, want) {
		t.Errorf("%d octets arrived of %d", len(got), len(want))
	}
}

func TestCloseEndsTheStubborn(t *testing.T) {
	p := start(t, Config{Args: []string{os.Args[0], "stubborn"}})
	if _, err := io.ReadFull(p, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	p.Close()
	if took := time.Since(begin); took < leaveTime+termTime || took > leaveTime+termTime+2*time.Second {
		t.Errorf("Close took %v", took)
	}
	if err := unix.Kill(p.PID(), 0); err != unix.ESRCH {
		t.Errorf("process %d after Close: %v; want it gone and reaped", p.PID(), err)
	}
	if _, err := p.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
}

// TestKilledParent wants no orphan: a program whose parent gets SIGKILL ends.
func TestKilledParent(t *testing.T) {
	parent := start(t, Config{Args: []string{os.Args[0], "parent"}, Stderr: os.Stderr})
	line := make([]byte, 32)
	n, err := parent.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatalf("parent said %q", line[:n])
	}
	handle, err := unix.PidfdOpen(child, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(handle)
	unix.Kill(parent.PID(), unix.SIGKILL)
	polled := []unix.PollFd{{Fd: int32(handle), Events: unix.POLLIN}}
	if n, err := unix.Poll(polled, 5000); n != 1 {
		unix.Kill(child, unix.SIGKILL)
		t.Fatalf("the child outlives its parent: %d, %v", n, err)
	}
}

func TestStandardError(t *testing.T) {
	var words carrier.Words
	p := start(t, Config{Args: []string{"sh", "-c", "echo to the user >&2; exit 3"}, Stderr: &words})
	if _, err := p.Read(make([]byte, 1)); err.Error() != "command: sh: exit status 3" {
		t.Fatal(err)
	}
	if words.Last() != "to the user" {
		t.Errorf("standard error: %q", words.Lines())
	}
}

// TestStderrHeldOpen: a descendant that keeps the standard error open does not
// keep the exit status from us.
func TestStderrHeldOpen(t *testing.T) {
	var words carrier.Words
	p := start(t, Config{Args: []string{"sh", "-c", "sleep 3 >/dev/null </dev/null & echo gone >&2; exit 0"}, Stderr: &words})
	if _, err := p.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read: %v, want EOF", err)
	}
	if words.Last() != "gone" {
		t.Errorf("standard error: %q", words.Lines())
	}
}

func TestUser(t *testing.T) {
	p := start(t, Config{Args: []string{"sh", "-c", "id -u; id -g; id -G"}, User: &User{UID: 65534, GID: 65533, Groups: []uint32{65533}}})
	if said, err := io.ReadAll(p); err != nil || string(said) != "65534\n65533\n65533\n" {
		t.Errorf("the program ran as %q, %v", said, err)
	}
}

// TestStdioTerminal: a terminal that was lent to us has its flags and modes back
// afterwards, and while we read it, too.
func TestStdioTerminal(t *testing.T) {
	master, slave := openTerminal(t)
	flags := func() int {
		n, err := unix.FcntlInt(slave.Fd(), unix.F_GETFL, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	modes := func() unix.Termios {
		m, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return *m
	}
	flagsBefore, modesBefore := flags(), modes()
	cmd := exec.Command(os.Args[0], "stdio")
	cmd.Stdin, cmd.Stdout = slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(master, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if flags() != flagsBefore {
		t.Errorf("flags during: %x, before: %x", flags(), flagsBefore)
	}
	master.Write([]byte("q\n"))
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if flags() != flagsBefore || modes() != modesBefore {
		t.Errorf("flags after: %x, before: %x; modes equal: %v", flags(), flagsBefore, modes() == modesBefore)
	}
}

// TestStdioSocket: a socket's flag is set while we use it and set back after.
func TestStdioSocket(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	defer near.Close()
	defer far.Close()
	cmd := exec.Command(os.Args[0], "stdio")
	cmd.Stdin, cmd.Stdout = far, far
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(near, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	near.Write([]byte("q"))
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if flags, err := unix.FcntlInt(uintptr(fds[1]), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags after: %x, %v; want blocking", flags, err)
	}
}

func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	var number int
	control(master, func(fd int) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("/dev/pts/%d", number)
	fd, err := syscall.Open(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	slave = os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { slave.Close() })
	return master, slave
}
