package pty_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/pty"
)

// TestMain lets the test binary be the programs that the tests start.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "background" {
		os.Exit(background())
	}
	os.Exit(m.Run())
}

// background sets its controlling terminal raw and back, says what it saw, and exits.
func background() int {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if pty.Foreground(tty) {
		fmt.Fprintln(os.Stderr, "in the foreground")
		return 1
	}
	restore, err := pty.Raw(tty)
	if err == nil {
		err = errors.Join(pty.CopySize(tty, tty), restore())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func open(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	return master, slave
}

func modes(t *testing.T, tty *os.File) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}

// everyOctet holds all values, the ones that terminals act upon more than once: ^S
// without a ^Q after it, ^C, ^D, ^Z, DEL, CR, LF, 0xff.
func everyOctet() []byte {
	all := make([]byte, 0, 300)
	for b := range 256 {
		all = append(all, byte(b))
	}
	return append(all, "\x13\x03\x04\x1a\x1c\x7f\r\n\xff\xff\x00\x13"...)
}

func TestEveryOctetPasses(t *testing.T) {
	master, slave := open(t)
	want := everyOctet()
	for _, way := range []struct {
		name     string
		from, to *os.File
	}{{"master to slave", master, slave}, {"slave to master", slave, master}} {
		if _, err := way.from.Write(want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(way.to, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q, %v", way.name, got, err)
		}
	}
	// Neither came back: the next octet read is the next one written.
	for _, way := range [][2]*os.File{{master, slave}, {slave, master}} {
		way[0].Write([]byte{'!'})
		one := make([]byte, 1)
		if _, err := way[1].Read(one); err != nil || one[0] != '!' {
			t.Errorf("an echo: %q, %v", one, err)
		}
	}
}

// TestCloseWakes: the master does not block, so that Close ends what waits.
func TestCloseWakes(t *testing.T) {
	master, _ := open(t)
	read := make(chan error)
	go func() {
		_, err := master.Read(make([]byte, 1))
		read <- err
	}()
	written := make(chan error)
	go func() {
		for {
			if _, err := master.Write(make([]byte, 4096)); err != nil {
				written <- err
				return
			}
		}
	}()
	// Nobody reads the slave: once it holds something, the writer is on its way to
	// standing still; Close must find it there or before.
	for !pty.Unread(master) {
		time.Sleep(time.Millisecond)
	}
	master.Close()
	for name, ended := range map[string]chan error{"Read": read, "Write": written} {
		select {
		case err := <-ended:
			if !errors.Is(err, os.ErrClosed) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("Close did not wake %s", name)
		}
	}
}

func TestHeldAndUnread(t *testing.T) {
	master, slave := open(t)
	if !pty.Held(master) || pty.Unread(master) {
		t.Error("new: not held, or unread octets")
	}
	master.Write(make([]byte, 10000)) // more than a line discipline's 4096
	for left := 10000; left > 0; {
		if !pty.Unread(master) {
			t.Fatalf("%d octets are left, and Unread is false", left)
		}
		n, err := slave.Read(make([]byte, 1000))
		if err != nil {
			t.Fatal(err)
		}
		left -= n
	}
	if pty.Unread(master) {
		t.Error("all is read, and Unread is true")
	}
	slave.Write([]byte("last words"))
	slave.Close()
	if pty.Held(master) {
		t.Error("held after the slave was closed")
	}
	words, err := io.ReadAll(master)
	if string(words) != "last words" || !errors.Is(err, unix.EIO) {
		t.Errorf("read %q, %v", words, err)
	}
}

func TestRawAndBack(t *testing.T) {
	master, slave := open(t)
	cooked := modes(t, slave)
	cooked.Lflag |= unix.ICANON | unix.ECHO | unix.ISIG
	cooked.Iflag |= unix.ICRNL | unix.IXON | unix.ISTRIP
	cooked.Oflag |= unix.OPOST | unix.ONLCR
	cooked.Cc[unix.VMIN] = 4
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, &cooked); err != nil {
		t.Fatal(err)
	}
	before := modes(t, slave)
	restore, err := pty.Raw(slave)
	if err != nil {
		t.Fatal(err)
	}
	if modes(t, slave) == before {
		t.Error("Raw changed nothing")
	}
	master.Write([]byte("\x13\r"))
	got := make([]byte, 2)
	if _, err := io.ReadFull(slave, got); err != nil || string(got) != "\x13\r" {
		t.Errorf("raw: %q, %v", got, err)
	}
	if err := restore(); err != nil || modes(t, slave) != before {
		t.Errorf("restored: %v, the same modes: %v", err, modes(t, slave) == before)
	}
	if _, err := pty.Raw(slave); err != nil {
		t.Fatal(err)
	}
	raw := modes(t, slave)
	if err := restore(); err != nil || modes(t, slave) != raw {
		t.Errorf("a second restore: %v, or changed what somebody else set", err)
	}
}

// TestBackground: a process in the background of a terminal that stops background
// writers (TOSTOP) sets modes and is not stopped.
func TestBackground(t *testing.T) {
	_, slave := open(t)
	stopping := modes(t, slave)
	stopping.Lflag |= unix.TOSTOP | unix.ISIG
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, &stopping); err != nil {
		t.Fatal(err)
	}
	before := modes(t, slave)
	// The shell leads the session in the foreground; with job control on, what it
	// starts with & has a process group of its own. Its wait also ends when the job stops.
	shell := exec.Command("bash", "-c", `set -m; "$0" background 0<&0 & wait $!`, os.Args[0])
	shell.Stdin = slave
	var said bytes.Buffer
	shell.Stderr = &said
	shell.WaitDelay = time.Second
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := shell.Run(); err != nil {
		t.Errorf("%v, it said %q", err, said.String())
	}
	if modes(t, slave) != before {
		t.Error("the modes are not as before")
	}
}

func TestCopySize(t *testing.T) {
	from, _ := open(t)
	master, slave := open(t)
	want := unix.Winsize{Row: 41, Col: 117, Xpixel: 3, Ypixel: 4}
	if err := unix.IoctlSetWinsize(int(from.Fd()), unix.TIOCSWINSZ, &want); err != nil {
		t.Fatal(err)
	}
	if err := pty.CopySize(master, from); err != nil {
		t.Fatal(err)
	}
	if got, err := unix.IoctlGetWinsize(int(slave.Fd()), unix.TIOCGWINSZ); err != nil || *got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestNoTerminal(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	master, slave := open(t)
	if pty.IsTerminal(file) || !pty.IsTerminal(slave) || !pty.IsTerminal(master) {
		t.Error("IsTerminal")
	}
	if pty.Foreground(file) || pty.Foreground(slave) {
		t.Error("Foreground of what is not our controlling terminal")
	}
	if _, err := pty.Raw(file); err == nil || err.Error() != "pty: setting /dev/null raw: inappropriate ioctl for device" {
		t.Errorf("Raw: %v", err)
	}
	if err := pty.CopySize(slave, file); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("CopySize: %v", err)
	}
}
