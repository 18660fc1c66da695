package secret

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/pty"
)

// terminal is where people are asked, whatever standard input is.
const terminal = "/dev/tty"

// hintSource is the next thing to try where nobody can be asked.
const hintSource = "SSH_ASKPASS names a program that asks, and SSH_ASKPASS_REQUIRE=force has it asked; --password, where there is one, says where else a secret comes from"

// Ask asks the user for a secret and returns it: on the terminal, unseen, or by the
// program SSH_ASKPASS where there is no terminal and a display, or where
// SSH_ASKPASS_REQUIRE has it so, all as with ssh. It gives up when ctx ends, and leaves
// the terminal as it was.
func Ask(ctx context.Context, question string) (string, error) {
	program, require := os.Getenv("SSH_ASKPASS"), os.Getenv("SSH_ASKPASS_REQUIRE")
	display := os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
	possible := program != "" && require != "never" && (display || require == "force")
	if possible && (require == "force" || require == "prefer") {
		return askProgram(ctx, program, question)
	}
	tty, err := os.OpenFile(terminal, os.O_RDWR, 0)
	if err != nil {
		if possible {
			return askProgram(ctx, program, question)
		}
		return "", report.WithHint(fmt.Errorf("there is no terminal to ask on: %s", question), hintSource)
	}
	defer tty.Close()
	if !pty.Foreground(tty) {
		return "", report.WithHint(fmt.Errorf("in the background there is nobody to ask: %s", question), hintSource)
	}
	return askTerminal(ctx, tty, question)
}

// askTerminal asks on a terminal, which is in raw mode meanwhile.
func askTerminal(ctx context.Context, tty *os.File, question string) (secret string, err error) {
	raw, err := tty.SyscallConn() // not Fd, after which no deadline ends a Read
	if err != nil {
		return "", err
	}
	var before *term.State
	controlErr := raw.Control(func(fd uintptr) { before, err = term.MakeRaw(int(fd)) })
	if err := errors.Join(controlErr, err); err != nil {
		return "", fmt.Errorf("asking on %s: %w", terminal, err)
	}
	defer raw.Control(func(fd uintptr) { term.Restore(int(fd), before) })
	stop := context.AfterFunc(ctx, func() { tty.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	secret, err = term.NewTerminal(tty, "").ReadPassword(question + ": ")
	switch {
	case err == nil:
		return secret, nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, io.EOF): // Ctrl-C, Ctrl-D
		err = errors.New("nothing was entered")
	}
	io.WriteString(tty, "\r\n")
	return "", err
}

// askProgram asks by the user's own program, which prints the answer.
func askProgram(ctx context.Context, program, question string) (string, error) {
	cmd := exec.CommandContext(ctx, program, question)
	cmd.Stderr = os.Stderr
	answer, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("SSH_ASKPASS: %s: %w", program, err)
	}
	line, _, _ := strings.Cut(string(answer), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}
