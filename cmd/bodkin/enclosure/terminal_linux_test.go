package enclosure

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// A terminal is one at which a program runs, and somebody types.
type terminal struct {
	t    *testing.T
	cmd  *exec.Cmd
	tty  *os.File
	seen bytes.Buffer
}

// atTerminal starts a shell's line of the ordinary user on a terminal.
func atTerminal(t *testing.T, line string) *terminal {
	t.Helper()
	cmd := asUser(t, "bash", "--norc", "-c", line, driver)
	attrs := *cmd.SysProcAttr
	attrs.Setsid, attrs.Setctty = true, true
	tty, err := pty.StartWithAttrs(cmd, &pty.Winsize{Rows: 24, Cols: 80}, &attrs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return &terminal{t: t, cmd: cmd, tty: tty}
}

// expect reads until the text is there, and forgets all up to it.
func (e *terminal) expect(text string) {
	e.t.Helper()
	e.tty.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4096)
	for !strings.Contains(e.seen.String(), text) {
		n, err := e.tty.Read(b)
		e.seen.Write(b[:n])
		if err != nil {
			e.t.Fatalf("waiting for %q: %v after %q", text, err, e.seen.String())
		}
	}
	e.seen.Next(strings.Index(e.seen.String(), text) + len(text))
}

func (e *terminal) types(keys string) {
	e.t.Helper()
	if _, err := e.tty.WriteString(keys); err != nil {
		e.t.Fatal(err)
	}
}

// ends waits for the end and returns what was still seen, and the exit status.
func (e *terminal) ends() (string, int) {
	e.t.Helper()
	e.tty.SetReadDeadline(time.Now().Add(patience))
	e.seen.ReadFrom(e.tty) // until EIO: nobody has it open
	e.cmd.Wait()
	return e.seen.String(), e.cmd.ProcessState.ExitCode()
}

// TestKeys: the keys of the terminal, and its size, are the command's; each reaches it
// once, and nothing else ends by them.
func TestKeys(t *testing.T) {
	e := atTerminal(t, `"$0" drive bash --norc -c 'trap "echo int" INT; trap "stty size" WINCH; trap "echo quit; exit 5" QUIT; tty; echo ready; while :; do sleep 0.02; done'; echo status $?; exit 6`)
	e.expect("ready\r\n")
	e.types("\x03")
	e.expect("int\r\n")
	if err := pty.Setsize(e.tty, &pty.Winsize{Rows: 25, Cols: 81}); err != nil {
		t.Fatal(err)
	}
	e.expect("25 81\r\n")
	e.types("\x1c")
	rest, status := e.ends()
	if strings.Contains(rest, "int") || !strings.Contains(rest, "quit\r\nstatus 5\r\n") && !strings.Contains(rest, "quit\r\n") || status != 6 {
		t.Errorf("%q, status %d", rest, status)
	}
}

// TestInterrupt: Ctrl-C ends the command, and bodkin with it, in order.
func TestInterrupt(t *testing.T) {
	e := atTerminal(t, `trap : INT; "$0" drive sh -c 'echo ready; exec sleep 1000'; echo status $?`)
	e.expect("ready\r\n")
	e.types("\x03")
	e.expect("status 130\r\n")
}

// TestInterruptedLogin: before there is a command Ctrl-C is ours alone. A login in the
// same process group, which has to ask for passwords, does not see it.
func TestInterruptedLogin(t *testing.T) {
	e := atTerminal(t, `trap : INT; "$0" drive -slow true; echo status $?`)
	e.expect("logging in\r\n")
	e.types("\x03")
	e.expect("interrupted\r\nthe login ended by itself: false\r\nstatus 9\r\n")
}

// TestStop: Ctrl-Z stops the whole, and the shell outside goes on; fg continues.
func TestStop(t *testing.T) {
	e := atTerminal(t, `set -m; "$0" drive sh -c 'echo ready; read x; echo read $x'; echo stopped $?; fg >/dev/null; echo status $?`)
	e.expect("ready\r\n")
	e.types("\x1a")
	e.expect("stopped 148\r\n") // SIGTSTP
	e.types("word\n")
	e.expect("read word\r\n")
	e.expect("status 0\r\n")
}

// TestShell: a shell inside has its job control, and afterwards the terminal is the
// outer script's again.
func TestShell(t *testing.T) {
	for _, shell := range []string{"bash --norc", "dash", "zsh -f", "busybox ash"} {
		t.Run(shell, func(t *testing.T) {
			e := atTerminal(t, `"$0" drive env PS1='inside> ' `+shell+` -i; read x; echo read $x`)
			e.expect("inside> ")
			e.types("sleep 1000\n")
			eventually(t, "sleep in the foreground", func() bool { _, name := foreground(e.tty); return name == "sleep" })
			e.types("\x1a")
			e.expect("inside> ")
			e.types("kill %1; fg\n")
			e.expect("inside> ")
			e.types("exit\n")
			eventually(t, "the terminal back", func() bool { group, _ := foreground(e.tty); return group == e.cmd.Process.Pid })
			e.types("word\n")
			e.expect("read word\r\n")
			e.ends()
		})
	}
}

// foreground is the terminal's process group in front, and the name of the program that
// leads it.
func foreground(tty *os.File) (group int, name string) {
	raw, err := tty.SyscallConn()
	if err != nil {
		return 0, err.Error()
	}
	raw.Control(func(fd uintptr) { group, _ = unix.IoctlGetInt(int(fd), unix.TIOCGPGRP) })
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", group))
	return group, strings.TrimSpace(string(b))
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
