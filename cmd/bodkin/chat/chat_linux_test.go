package chat

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/pty"
)

// actAs names, for this test binary, the program to be instead of the tests.
const actAs = "BODKIN_TEST_ACT_AS"

func init() {
	if os.Getenv(actAs) == "bodkin" {
		root := &cobra.Command{Use: "bodkin"}
		root.AddCommand(Command())
		os.Exit(report.Execute(context.Background(), root, os.Args[1:]))
	}
}

// program is chat(8), of Debian's package ppp.
const program = "/usr/sbin/chat"

// A result is what a run of the command did.
type result struct {
	sends, rest, stderr, report string
	code                        int
}

// times hides the times of REPORT.
var times = regexp.MustCompile(`[A-Z][a-z][a-z] [ \d]\d \d\d:\d\d:\d\d`)

// on runs the command, ours or the real one, on a terminal where comes is all that
// comes.
func on(t *testing.T, args []string, comes string) result {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	modes := cook(t, slave)
	if _, err := master.WriteString(comes); err != nil {
		t.Fatal(err)
	}
	var heard, said bytes.Buffer
	var hearing sync.WaitGroup
	hearing.Go(func() { heard.ReadFrom(master) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), actAs+"=bodkin", "SECRET=gehe\\\\im")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, &said
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	os.WriteFile(filepath.Join(dir, "script"), []byte(fileScript), 0o600)
	os.WriteFile(filepath.Join(dir, "secret"), []byte("gehe im\n"), 0o600)
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%q: %v", args, err)
	}
	if after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); (err != nil || *after != modes) && args[0] != program {
		t.Errorf("%q: the terminal is not as before", args)
	}
	r := result{code: cmd.ProcessState.ExitCode()}
	if _, err := pty.Raw(slave); err != nil {
		t.Fatal(err)
	}
	waiting := []unix.PollFd{{Fd: int32(slave.Fd()), Events: unix.POLLIN}}
	for b := make([]byte, 100); ; {
		if n, _ := unix.Poll(waiting, 0); n != 1 {
			break
		}
		n, _ := unix.Read(int(slave.Fd()), b)
		r.rest += string(b[:max(n, 0)])
	}
	slave.Close()
	hearing.Wait()
	text, _ := os.ReadFile(filepath.Join(dir, "report"))
	r.sends, r.stderr, r.report = heard.String(), times.ReplaceAllString(said.String(), "TIME"), times.ReplaceAllString(string(text), "TIME")
	return r
}

// cook gives a terminal modes like those of a modem's line before pppd has it: no
// editing, but other than those that chat sets.
func cook(t *testing.T, tty *os.File) unix.Termios {
	t.Helper()
	if _, err := pty.Raw(tty); err != nil {
		t.Fatal(err)
	}
	modes, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	modes.Lflag |= unix.ISIG
	modes.Oflag |= unix.OPOST | unix.ONLCR
	if err := unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, modes); err != nil {
		t.Fatal(err)
	}
	return *modes
}

const fileScript = `# dial
ABORT BUSY	ABORT 'NO CARRIER'
REPORT CONNECT
SAY "Dialling\n\c"
'' "AT\"Z" OK\r\n 'ATDT\T'
CONNECT "" ogin:--ogin: it's
word: @secret
'# ' \c
`

// TestLikeChat runs the real program and ours.
func TestLikeChat(t *testing.T) {
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: install the package ppp", err)
	}
	for _, c := range []struct {
		args  []string
		comes string
		loud  bool // what is on standard error counts
	}{
		{[]string{"-f", "script", "-T", "5551", "-r", "report"}, "OK\r\nCONNECT 9600\r\ngw login: it's\r\nPassword: \r\n# \x7e\xff\x7d\x23", true},
		{[]string{"-f", "script"}, "OK\r\nBUSY\r\n", false},
		{[]string{"-e", "ogin:", "me", "x"}, "hello\r\n\x01login: x", true},
		{[]string{"-V", "ogin:", "me"}, "hello\r\n\x01\xe1login: ", true},
		{[]string{"ECHO", "ON", "a\\n", "", "ECHO", "OFF", "b", ""}, "a\nb.", true},
		{[]string{"-E", "", "$SECRET-$NONE!"}, "", true},
		{[]string{"-T1", "-U", "2", "", `\T\U`}, "", true},
		{[]string{"-t", "1", "a"}, "b", false},
		{[]string{"-t1", "a-x"}, "b", false},
		{[]string{"-Z"}, "", false},
		{[]string{"-f"}, "", false},
		{[]string{"-f", "script", "x"}, "", false},
		{[]string{"-f", "nowhere"}, "", false},
		{[]string{"", "@nowhere"}, "", false},
		{[]string{"--", "a", "-b"}, "a.", true},
		{nil, "", true},
	} {
		theirs := on(t, append([]string{program, "-S"}, c.args...), c.comes)
		ours := on(t, append([]string{os.Args[0], "chat", "-S"}, c.args...), c.comes)
		if !c.loud {
			theirs.stderr, ours.stderr = "", ""
		}
		if ours != theirs {
			t.Errorf("%q:\nours   %#v\ntheirs %#v", c.args, ours, theirs)
		}
	}
}

// start starts ours with pipes, and returns what to write to and to read from.
func start(t *testing.T, args ...string) (cmd *exec.Cmd, in io.WriteCloser, out io.ReadCloser, errs *bytes.Buffer) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Args[0], append([]string{"chat", "-S"}, args...)...)
	cmd.Env = append(os.Environ(), actAs+"=bodkin")
	errs = new(bytes.Buffer)
	cmd.Stderr = errs
	var err1, err2 error
	in, err1 = cmd.StdinPipe()
	out, err2 = cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return cmd, in, out, errs
}

// reads fails the test unless want comes next.
func reads(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got[:n], err, want)
	}
}

// TestRest: on a pipe, what follows is for the program that comes next.
func TestRest(t *testing.T) {
	cmd := exec.Command("sh", "-c", `"$0" chat -S "" hello ogin: me && cat`, os.Args[0])
	cmd.Env = append(os.Environ(), actAs+"=bodkin")
	cmd.Stdin = strings.NewReader("login:\xff\x00 all that follows")
	if out, err := cmd.Output(); err != nil || string(out) != "hello\rme\r\xff\x00 all that follows" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestSignals: SIGTERM and SIGHUP end a script with 2; SIGHUP is borne after HANGUP OFF.
func TestSignals(t *testing.T) {
	for _, c := range []struct {
		words   []string
		signals []os.Signal
		code    int
	}{
		{[]string{"", "go", "x"}, []os.Signal{syscall.SIGTERM}, 2},
		{[]string{"", "go", "x"}, []os.Signal{syscall.SIGHUP}, 2},
		{[]string{"HANGUP", "OFF", "", "go", "x"}, []os.Signal{syscall.SIGHUP, syscall.SIGHUP}, 0},
		{[]string{"HANGUP", "OFF", "", "go", "x"}, []os.Signal{syscall.SIGHUP, syscall.SIGINT}, 2},
		{[]string{"HANGUP", "OFF", "HANGUP", "ON", "", "go", "x"}, []os.Signal{syscall.SIGHUP}, 2},
	} {
		cmd, in, out, errs := start(t, c.words...)
		reads(t, out, "go\r")
		for _, s := range c.signals {
			cmd.Process.Signal(s)
		}
		if c.code == 0 {
			in.Write([]byte("x"))
		}
		if cmd.Wait(); cmd.ProcessState.ExitCode() != c.code {
			t.Errorf("%q, %v: %v, said %s", c.words, c.signals, cmd.ProcessState, errs)
		}
	}
}

// TestNotTaken: an output that takes nothing ends it in time.
func TestNotTaken(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096)
	if _, err := w.Write(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "chat", "-S", "-t", "1", "", "hello")
	cmd.Env = append(os.Environ(), actAs+"=bodkin")
	cmd.Stdout = w
	said := new(bytes.Buffer)
	cmd.Stderr = said
	if cmd.Run(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said.String(), "not taken") {
		t.Errorf("%v, said %s", cmd.ProcessState, said)
	}
}

// TestAskpass: a program answers, and nobody else learns what.
func TestAskpass(t *testing.T) {
	helper := filepath.Join(t.TempDir(), "helper")
	if err := os.WriteFile(helper, []byte("#!/bin/sh\necho \"answer<$1>\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd, in, out, errs := start(t, "-v", "-s", "--askpass", helper, "MATCH", `otp-md5 \d+ \S+\s`, "ASK", "{0}", "ok", "")
	io.WriteString(in, "otp-md5 95 pi\x07`id`1234 ")
	reads(t, out, "answer<otp-md5 95 pi?`id`1234>\r")
	io.WriteString(in, "answer<otp-md5 95 pi?`id`1234> ok")
	if err := cmd.Wait(); err != nil || strings.Contains(errs.String(), "answer<") || !strings.Contains(errs.String(), "send (??????)") {
		t.Errorf("%v, said %s", err, errs)
	}
	cmd, _, _, errs = start(t, "--askpass", "false", "ASK", "who?")
	if cmd.Wait(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(errs.String(), "false: exit status 1") {
		t.Errorf("%v, said %s", cmd.ProcessState, errs)
	}
}

// TestPipeOfSecrets: @file waits for a pipe's writer, and SIGTERM ends the wait.
func TestPipeOfSecrets(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, _, out, errs := start(t, "", "go", "", "@"+fifo)
	reads(t, out, "go\r")
	if err := os.WriteFile(fifo, []byte("geheim\n"), 0); err != nil {
		t.Fatal(err)
	}
	reads(t, out, "geheim\r")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v, said %s", err, errs)
	}
	for _, held := range []bool{false, true} {
		cmd, _, out, errs = start(t, "", "go", "", "@"+fifo)
		reads(t, out, "go\r")
		if held {
			w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
		}
		cmd.Process.Signal(syscall.SIGTERM)
		if cmd.Wait(); cmd.ProcessState.ExitCode() != 2 {
			t.Errorf("%v, said %s", cmd.ProcessState, errs)
		}
	}
}
