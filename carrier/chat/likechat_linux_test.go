package chat

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/pty"
)

// program is chat(8), of Debian's package ppp.
const program = "/usr/sbin/chat"

// TestLikeChat has the real program follow the scripts: it must do what ours does.
func TestLikeChat(t *testing.T) {
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: install the package ppp", err)
	}
	busy := make(chan struct{}, 16) // most of them wait
	for _, c := range conversations {
		if c.ours {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			busy <- struct{}{}
			defer func() { <-busy }()
			sends, rest, code := runProgram(t, c.comes, append([]string{"-S"}, c.words...))
			if sends != c.sends || code != c.code {
				t.Errorf("it sends %q, exit code %d; ours %q, %d", sends, code, c.sends, c.code)
			}
			if code == 0 && rest != c.rest {
				t.Errorf("it leaves %q, ours %q", rest, c.rest)
			}
		})
	}
}

// runProgram runs chat(8) on a terminal where comes is all that comes. rest is what it
// has not read.
func runProgram(t *testing.T, comes string, args []string) (sends, rest string, code int) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	if _, err := pty.Raw(slave); err != nil {
		t.Fatal(err)
	}
	if _, err := master.WriteString(comes); err != nil {
		t.Fatal(err)
	}
	var heard bytes.Buffer
	var hearing sync.WaitGroup
	hearing.Go(func() { heard.ReadFrom(master) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin, cmd.Stdout = slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%s: %v", program, err)
	}
	var left [4096]byte
	waiting := []unix.PollFd{{Fd: int32(slave.Fd()), Events: unix.POLLIN}}
	if n, _ := unix.Poll(waiting, 0); n == 1 {
		n, _ := unix.Read(int(slave.Fd()), left[:])
		rest = string(left[:max(n, 0)])
	}
	slave.Close() // ends what is heard
	hearing.Wait()
	master.Close()
	return heard.String(), rest, cmd.ProcessState.ExitCode()
}
