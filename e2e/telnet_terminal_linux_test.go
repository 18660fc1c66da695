package e2e_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/lab"
)

// A terminal is one on which a program of the laptop runs, as the account me.
type terminal struct {
	w       *world
	control *os.File
	tty     *os.File // kept open, for its modes
	cmd     *lab.Cmd
	before  unix.Termios

	mu    sync.Mutex
	shown bytes.Buffer
	all   chan struct{} // closed when nothing more can be shown
}

// onTerminal starts a program on a terminal of its own.
func (w *world) onTerminal(name string, args ...string) *terminal {
	w.t.Helper()
	control, tty, err := lab.TTY()
	if err != nil {
		w.t.Fatal(err)
	}
	t := &terminal{w: w, control: control, tty: tty, all: make(chan struct{})}
	t.before = t.modes()
	t.cmd = w.Laptop.Command(w.t.Context(), name, args...).As("me")
	t.cmd.Stdin, t.cmd.Stdout, t.cmd.Stderr = tty, tty, tty
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := t.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(t.all)
		buf := make([]byte, 4096)
		for {
			n, err := control.Read(buf)
			t.mu.Lock()
			t.shown.Write(buf[:n])
			t.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	w.t.Cleanup(func() {
		tty.Close()
		control.Close()
		<-t.all
	})
	return t
}

func (t *terminal) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shown.String()
}

// sees waits until the terminal shows something.
func (t *terminal) sees(text string) {
	t.w.t.Helper()
	t.w.eventually("the terminal shows "+text, func() bool { return strings.Contains(t.text(), text) })
}

// types sends what a key, or several, would.
func (t *terminal) types(keys string) {
	t.w.t.Helper()
	if _, err := t.control.WriteString(keys); err != nil {
		t.w.t.Fatal(err)
	}
}

func (t *terminal) modes() unix.Termios {
	t.w.t.Helper()
	modes, err := unix.IoctlGetTermios(int(t.tty.Fd()), unix.TCGETS)
	if err != nil {
		t.w.t.Fatal(err)
	}
	return *modes
}

// lastOnTerminal is what a terminal shows after all that its program wrote.
const lastOnTerminal = "[the program has ended]"

// end waits for the program's end, and wants the terminal's modes as they were.
func (t *terminal) end() (status int) {
	t.w.t.Helper()
	late := time.AfterFunc(patience, func() { t.cmd.Process.Kill() })
	err := t.cmd.Wait()
	if !late.Stop() {
		t.w.t.Errorf("%q ran for more than %v", t.cmd.Args, patience)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		t.w.t.Fatal(err)
	}
	if after := t.modes(); after != t.before {
		t.w.t.Errorf("the terminal was %+v and is %+v", t.before, after)
	}
	// What the program wrote last may be on its way through the kernel: this comes after it.
	if _, err := t.tty.WriteString(lastOnTerminal); err != nil {
		t.w.t.Fatal(err)
	}
	t.sees(lastOnTerminal)
	return status
}

// TestTelnetPasswordOnTerminal types the passwords that a way asks for, on the
// terminal, which shows whose they are and not what they are.
func TestTelnetPasswordOnTerminal(t *testing.T) {
	t.Parallel()
	w := telnetWorld(t, lab.TelnetProxyOptions{Echo: true, User: "visitor", Password: "let me out"}, lab.TelnetdOptions{})
	w.pair("home")
	before := w.snapshot()
	asking := func() *terminal {
		tty := w.onTerminal("bodkin", "up", "--via", "telnet://visitor@tn-gw", "telnet://me@home")
		tty.sees("visitor@tn-gw: proxy: Password: ")
		return tty
	}
	ended := func(tty *terminal, what string, status int) {
		t.Helper()
		if got := tty.end(); got != status {
			t.Errorf("%s: exit status %d, want %d\n%s", what, got, status, tty.text())
		}
		for _, secret := range []string{password, "let me out", "wrong"} {
			if strings.Contains(tty.text(), secret) {
				t.Errorf("%s: the terminal shows a password:\n%s", what, tty.text())
			}
		}
		w.asBefore(before, what)
		w.noProcesses()
	}

	tty := asking()
	tty.types("\x03")
	ended(tty, "Ctrl-C at the proxy's password", 20)
	w.says(tty.text(), "bodkin: error: proxy: ", "nothing was entered")

	tty = asking()
	tty.types("wrong\r")
	ended(tty, "a wrong password for the proxy", 20)
	w.says(tty.text(), "bodkin: error: proxy: the proxy said", "Login incorrect")

	tty = asking()
	tty.types("let me out\r")
	tty.sees("me@home: Password: ")
	tty.types("wrong\r")
	ended(tty, "a wrong password for the login", 21)
	w.says(tty.text(), "bodkin: error: login: the host said", "Login incorrect", "bodkin: hint: ")

	tty = asking()
	tty.types("let me out\r")
	tty.sees("me@home: Password: ")
	tty.types("\x04") // the end of input, where a line was asked for
	ended(tty, "Ctrl-D at the login's password", 21)
	w.says(tty.text(), "bodkin: error: login: ", "nothing was entered")

	tty = asking()
	tty.types("let me out\r")
	tty.sees("me@home: Password: ")
	tty.types(password + "\r")
	tty.sees("is up in")
	w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", "http://web.example/")
	tty.types("\x03")
	ended(tty, "Ctrl-C while up", 0)
}
