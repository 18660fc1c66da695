package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
	"github.com/bodkin-net/bodkin/pty"
)

func TestTTYCarrier(t *testing.T) {
	carriertest.Test(t, func(t *testing.T) carrier.Stream {
		s := start(t, Config{Args: []string{os.Args[0], "serve"}, TTY: true}).Stream()
		if !s.Unsafe.Empty() {
			t.Errorf("a raw terminal eats octets? %v", s.Unsafe)
		}
		return s
	})
}

// TestOfferCarrier has the program open the terminal's path, a while after it was
// offered.
func TestOfferCarrier(t *testing.T) {
	carriertest.Test(t, func(t *testing.T) carrier.Stream {
		o, err := NewOffer()
		if err != nil {
			t.Fatal(err)
		}
		slave, err := os.OpenFile(o.Path(), os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "serve")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, os.Stderr
		started := make(chan error, 1)
		time.AfterFunc(20*time.Millisecond, func() {
			started <- cmd.Start()
			slave.Close()
		})
		t.Cleanup(func() {
			o.Close()
			if err := <-started; err != nil {
				t.Fatal(err)
			}
			cmd.Process.Kill() // the one that hangs has no controlling terminal to tell it
			cmd.Wait()
		})
		return o.Stream()
	})
}

// TestTerminalCarrier joins two Terminals, the serving one in this process.
func TestTerminalCarrier(t *testing.T) {
	carriertest.Test(t, func(t *testing.T) carrier.Stream {
		o, err := NewOffer()
		if err != nil {
			t.Fatal(err)
		}
		far, err := OpenTerminal(o.Path())
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			carriertest.Serve(t.Context(), o.Stream())
			o.Close()
		}()
		t.Cleanup(func() {
			far.Close()
			o.Close()
			<-served
		})
		return far.Stream()
	})
}

// TestTTYReadSaysHowItEnded: all that the program wrote comes first, though it is
// gone by then.
func TestTTYReadSaysHowItEnded(t *testing.T) {
	for _, c := range []struct{ script, out, want string }{
		{"printf words", "words", "EOF"},
		{"printf words; exit 7", "words", "command: sh: exit status 7"},
		{"printf 'error\\n' >&2; kill -9 $$", "error\n", "command: sh: signal: killed"},
		{"exit 0", "", "EOF"},
	} {
		p := start(t, Config{Args: []string{"sh", "-c", c.script}, TTY: true})
		<-p.exited
		var out []byte
		var err error
		for b := make([]byte, 100); err == nil; {
			var n int
			n, err = p.Read(b)
			out = append(out, b[:n]...)
		}
		if string(out) != c.out || err.Error() != c.want {
			t.Errorf("%s: %q, %v; want %q, %s", c.script, out, err, c.out, c.want)
		}
		if _, err := p.Write([]byte("x")); err == nil || c.want != "EOF" && err.Error() != c.want || c.want == "EOF" && !carrier.IsClosed(err) {
			t.Errorf("%s: Write: %v", c.script, err)
		}
	}
}

// TestTTYEarlyExit starts what ends at once, many times: neither its octets nor its
// end are ever missed, whichever comes first.
func TestTTYEarlyExit(t *testing.T) {
	for i := range 300 {
		p := start(t, Config{Args: []string{"echo", "here"}, TTY: true})
		out, err := io.ReadAll(p)
		if string(out) != "here\n" || err != nil {
			t.Fatalf("start %d: %q, %v", i, out, err)
		}
		p.Close()
	}
}

// TestTTYProgramsView is what a program finds: its own session, a raw terminal as
// all three descriptors and as /dev/tty, nothing inherited, no signal blocked.
func TestTTYProgramsView(t *testing.T) {
	inherited, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	if _, err := unix.FcntlInt(inherited.Fd(), unix.F_SETFD, 0); err != nil { // as if our parent had left it open
		t.Fatal(err)
	}
	look := `readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2 | uniq | wc -l
	ps -o sid=,pgid=,tpgid= $$ | tr -s ' ' '\n' | sed "s/^$$\$/self/" | tr '\n' ' '; echo
	stty -F /dev/tty -a | tr ' ;' '\n\n' | grep -E '^-?(echo|icanon|isig|ixon|ixoff|opost|icrnl|istrip|iexten)$' | sort | tr '\n' ' '`
	p := start(t, Config{Args: []string{"sh", "-c", look}, TTY: true})
	out, err := io.ReadAll(p)
	if err != nil {
		t.Fatal(err)
	}
	want := "1\n self self self \n-echo -icanon -icrnl -iexten -isig -istrip -ixoff -ixon -opost "
	if got := string(out); strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}

	// Without the shell, which opens files and blocks signals for moments of its own.
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"grep", "SigBlk", "/proc/self/status"}, "SigBlk:\t0000000000000000\n"},
		{[]string{"ls", "-1", "/proc/self/fd"}, "0\n1\n2\n3\n"}, // 3 is ls's own
	} {
		p := start(t, Config{Args: c.args, TTY: true})
		if out, err := io.ReadAll(p); string(out) != c.want || err != nil {
			t.Errorf("%q: %q, %v", c.args, out, err)
		}
	}
}

func TestTTYStderr(t *testing.T) {
	var words carrier.Words
	p := start(t, Config{Args: []string{"sh", "-c", "echo aside >&2; echo stream"}, TTY: true, Stderr: &words})
	if out, err := io.ReadAll(p); string(out) != "stream\n" || err != nil || words.Last() != "aside" {
		t.Errorf("stream %q, %v; aside %q", out, err, words.Lines())
	}
}

func TestTTYStartErrors(t *testing.T) {
	before, _ := os.ReadDir("/proc/self/fd")
	for _, c := range []struct {
		args string
		want error
	}{{"no-such-program-here", exec.ErrNotFound}, {"/etc/passwd", os.ErrPermission}} {
		if _, err := Start(Config{Args: []string{c.args}, TTY: true}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.args, err)
		}
	}
	if after, _ := os.ReadDir("/proc/self/fd"); len(after) != len(before) {
		t.Errorf("%d descriptors were open, %d are", len(before), len(after))
	}
}

// TestTTYUser: the terminal belongs to the user, who can open it by its name.
func TestTTYUser(t *testing.T) {
	p := start(t, Config{Args: []string{"sh", "-c", "id -u >$(tty); stat -c %u $(tty)"}, TTY: true, User: &User{UID: 65534, GID: 65533, Groups: []uint32{65533}}})
	if said, err := io.ReadAll(p); err != nil || string(said) != "65534\n65534\n" {
		t.Errorf("the program ran as %q, %v", said, err)
	}
}

// TestTTYCloseLetsItRead wants what was written last to be read before the hang-up, by
// a program that is slow to begin and sees the hang-up as the end.
func TestTTYCloseLetsItRead(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	p := start(t, Config{Args: []string{"sh", "-c", `trap '' HUP; printf r; sleep 0.2; exec cat >"$1"`, "sh", out}, TTY: true})
	if _, err := p.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("x"), 20000) // 4096 fit into the line discipline, the rest waits behind it
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

// TestTTYCloseHangsUp: the program is told, and its children in the group are when
// it leaves.
func TestTTYCloseHangsUp(t *testing.T) {
	script := `sh -c 'trap "kill \$!; exit 0" HUP; sleep 1000 & echo $$; wait' & wait`
	p := start(t, Config{Args: []string{"sh", "-c", script}, TTY: true})
	var child int
	if _, err := fmt.Fscan(p, &child); err != nil {
		t.Fatal(err)
	}
	handle, err := unix.PidfdOpen(child, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(handle)
	begin := time.Now()
	p.Close()
	if took := time.Since(begin); took > leaveTime {
		t.Errorf("Close took %v", took)
	}
	polled := []unix.PollFd{{Fd: int32(handle), Events: unix.POLLIN}}
	if n, err := unix.Poll(polled, 5000); n != 1 {
		unix.Kill(child, unix.SIGKILL)
		t.Errorf("the child outlives the terminal: %d, %v", n, err)
	}
}

func TestTTYCloseEndsTheStubborn(t *testing.T) {
	p := start(t, Config{Args: []string{"sh", "-c", `trap '' HUP TERM; printf ready; exec sleep 1000`}, TTY: true})
	if _, err := io.ReadFull(p, make([]byte, 5)); err != nil {
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
}

// TestTTYChildStays: a program that leaves a child on the terminal and exits, as one
// does that goes into the background, has not ended.
func TestTTYChildStays(t *testing.T) {
	p := start(t, Config{Args: []string{"sh", "-c", `trap '' HUP; exec 3<&0; (read x; echo "got $x") <&3 & exit 0`}, TTY: true})
	<-p.exited
	if _, err := p.Write([]byte("word\n")); err != nil {
		t.Fatal(err)
	}
	if out, err := io.ReadAll(p); string(out) != "got word\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

// TestOfferLookedAt: stty on the offered terminal does not begin, and does not end,
// anything.
func TestOfferLookedAt(t *testing.T) {
	o, err := NewOffer()
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	out := make(chan string)
	go func() {
		b, err := io.ReadAll(o)
		out <- fmt.Sprintf("%q, %v", b, err)
	}()
	for range 3 {
		if said, err := exec.Command("stty", "-F", o.Path(), "-a").CombinedOutput(); err != nil || !bytes.Contains(said, []byte("-echo ")) {
			t.Errorf("stty: %s, %v", said, err)
		}
	}
	wrote := make(chan error)
	go func() { _, err := o.Write([]byte("hello\n")); wrote <- err }()
	cmd := exec.Command("sh", "-c", "read x; echo $x $x")
	tty, err := os.OpenFile(o.Path(), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout = tty, tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	if err := errors.Join(<-wrote, cmd.Wait()); err != nil {
		t.Error(err)
	}
	if got := <-out; got != `"hello hello\n", <nil>` {
		t.Error(got)
	}
	if _, err := o.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Write after the program left: %v", err)
	}
}

// TestOfferComesAndGoes: what a program says that is gone before anybody looks is
// heard.
func TestOfferComesAndGoes(t *testing.T) {
	for range 20 {
		o, err := NewOffer()
		if err != nil {
			t.Fatal(err)
		}
		out := make(chan string, 1)
		go func() {
			b, err := io.ReadAll(o)
			out <- fmt.Sprintf("%q, %v", b, err)
		}()
		time.Sleep(rand.N(2 * pollTime)) // anywhere between two looks
		tty, err := os.OpenFile(o.Path(), os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		tty.WriteString("was here")
		tty.Close()
		select {
		case got := <-out:
			if got != `"was here", <nil>` {
				t.Fatal(got)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nothing was heard")
		}
		o.Close()
	}
}

// TestTerminalGivesBack: modes during and after.
func TestTerminalGivesBack(t *testing.T) {
	master, slave := openTerminal(t)
	modes := func() unix.Termios {
		m, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return *m
	}
	before := modes()
	term, err := OpenTerminal(slave.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !pty.IsTerminal(term.File()) || modes() == before {
		t.Error("not raw")
	}
	master.Write([]byte("\x03\r"))
	b := make([]byte, 2)
	if _, err := io.ReadFull(term, b); err != nil || string(b) != "\x03\r" {
		t.Errorf("%q, %v", b, err)
	}
	if err := term.Close(); err != nil || modes() != before {
		t.Errorf("Close: %v; the same modes: %v", err, modes() == before)
	}

	// A terminal that hangs up is at its end, and owes nobody its modes.
	term, err = OpenTerminal(slave.Name())
	if err != nil {
		t.Fatal(err)
	}
	master.Close()
	if _, err := term.Read(b); err != io.EOF {
		t.Errorf("Read after the hang-up: %v", err)
	}
	if err := term.Close(); err != nil {
		t.Errorf("Close after the hang-up: %v", err)
	}
	if _, err := OpenTerminal(os.DevNull); err == nil || !strings.Contains(err.Error(), "/dev/null") {
		t.Errorf("OpenTerminal of what is none: %v", err)
	}
}

func TestResize(t *testing.T) {
	_, like := openTerminal(t)
	size := unix.Winsize{Row: 33, Col: 99}
	if err := unix.IoctlSetWinsize(int(like.Fd()), unix.TIOCSWINSZ, &size); err != nil {
		t.Fatal(err)
	}
	p := start(t, Config{Args: []string{"sh", "-c", `trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done`}, TTY: true})
	if _, err := io.ReadFull(p, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := p.Resize(like); err != nil {
		t.Fatal(err)
	}
	if out, err := io.ReadAll(p); string(out) != "33 99\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

// BenchmarkTTY is one way through a terminal, and the same way back by cat.
func BenchmarkTTY(b *testing.B) {
	p := start(b, Config{Args: []string{"cat"}, TTY: true})
	block := make([]byte, 64<<10)
	rand.NewChaCha8([32]byte{}).Read(block)
	b.SetBytes(int64(len(block)))
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(io.Discard, p)
	}()
	for b.Loop() {
		if _, err := p.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	p.Close()
	<-done
}
