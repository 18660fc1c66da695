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
	busy := make(chan struct{}, 32) // most of them wait
	var running sync.WaitGroup
	defer running.Wait()
	for _, c := range conversations {
		if c.ours {
			continue
		}
		running.Go(func() {
			busy <- struct{}{}
			defer func() { <-busy }()
			sends, rest, code, err := runProgram(t.Context(), c.comes, append([]string{"-S"}, c.words...))
			switch {
			case err != nil:
				t.Errorf("%s: %v", c.name, err)
			case sends != c.sends || code != c.code:
				t.Errorf("%s: it sends %q, exit code %d; ours %q, %d", c.name, sends, code, c.sends, c.code)
			case code == 0 && rest != c.rest:
				t.Errorf("%s: it leaves %q, ours %q", c.name, rest, c.rest)
			}
		})
	}
}

// runProgram runs chat(8) on a terminal where comes is all that comes. rest is what it
// has not read.
func runProgram(ctx context.Context, comes string, args []string) (sends, rest string, code int, err error) {
	master, slave, err := pty.Open()
	if err != nil {
		return "", "", 0, err
	}
	defer master.Close()
	defer slave.Close()
	if _, err := pty.Raw(slave); err != nil {
		return "", "", 0, err
	}
	if _, err := master.WriteString(comes); err != nil {
		return "", "", 0, err
	}
	var heard bytes.Buffer
	var hearing sync.WaitGroup
	hearing.Go(func() { heard.ReadFrom(master) })
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin, cmd.Stdout = slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		err = nil
	}
	waiting := []unix.PollFd{{Fd: int32(slave.Fd()), Events: unix.POLLIN}}
	if n, _ := unix.Poll(waiting, 0); n == 1 {
		var left [4096]byte
		n, _ := unix.Read(int(slave.Fd()), left[:])
		rest = string(left[:max(n, 0)])
	}
	slave.Close() // ends what is heard
	hearing.Wait()
	return heard.String(), rest, cmd.ProcessState.ExitCode(), err
}
