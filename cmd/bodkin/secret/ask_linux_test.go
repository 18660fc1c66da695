package secret

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/pty"
)

// askHere tells this test binary to ask instead of testing.
const askHere = "SECRET_TEST_ASK"

func TestMain(m *testing.M) {
	if question := os.Getenv(askHere); question != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		answer, err := Ask(ctx, question)
		fmt.Printf("%q %v", answer, err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestTerminal asks a user at a real terminal, which shows nothing of the answer, and
// is afterwards as it was, however it ends.
func TestTerminal(t *testing.T) {
	const question = "Passphrase for a key"
	for _, c := range []struct {
		about, types string
		signal       os.Signal
		want         string
	}{
		{"an answer", "open s\x7fsesame\r", nil, `"open sesame" <nil>`},
		{"an empty one", "\r", nil, `"" <nil>`},
		{"Ctrl-C", "open\x03", nil, `"" nothing was entered`},
		{"Ctrl-D", "\x04", nil, `"" nothing was entered`},
		{"SIGTERM", "", syscall.SIGTERM, `"" terminated signal received`},
	} {
		master, slave, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "SSH_ASKPASS=", askHere+"="+question)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
		cmd.ExtraFiles = []*os.File{slave}
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var shown []byte
		buf := make([]byte, 1024)
		for !bytes.Contains(shown, []byte(question+": ")) {
			n, err := master.Read(buf)
			if err != nil {
				t.Fatalf("%s: %q, %v", c.about, shown, err)
			}
			shown = append(shown, buf[:n]...)
		}
		if c.signal != nil {
			err = cmd.Process.Signal(c.signal)
		} else {
			_, err = master.WriteString(c.types)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if out.String() != c.want {
			t.Errorf("%s: %s, want %s", c.about, out.String(), c.want)
		}
		after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		if err != nil || *after != *before {
			t.Errorf("%s: the terminal is another now, %v", c.about, err)
		}
		slave.Close()
		for { // until it hangs up
			n, err := master.Read(buf)
			shown = append(shown, buf[:n]...)
			if err != nil {
				break
			}
		}
		master.Close()
		if strings.Contains(string(shown), "sesame") || strings.Contains(string(shown), "op") {
			t.Errorf("%s: the terminal shows %q", c.about, shown)
		}
	}
}

// TestNobodyToAsk: without a terminal and a program, that is said.
func TestNobodyToAsk(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), askHere+"=Passphrase for a key")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "no terminal to ask on: Passphrase for a key") {
		t.Errorf("%q, %v", out, err)
	}
}
