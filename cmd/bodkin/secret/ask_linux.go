package secret

import (
	"bufio"
	"context"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/pty"
)

// askTerminal asks on the controlling terminal, with echo off meanwhile.
func askTerminal(ctx context.Context, question string) (secret string, err error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil || !pty.Foreground(tty) {
		tty.Close()
		return "", errNobody
	}
	defer tty.Close()
	raw, err := tty.SyscallConn()
	if err != nil {
		return "", err
	}
	set := func(t *unix.Termios) (err error) {
		if failed := raw.Control(func(fd uintptr) { err = unix.IoctlSetTermios(int(fd), unix.TCSETS, t) }); failed != nil {
			return failed
		}
		return err
	}
	var before *unix.Termios
	raw.Control(func(fd uintptr) { before, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) })
	if err != nil {
		return "", err
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ICANON | unix.ISIG | unix.ECHONL
	quiet.Iflag |= unix.ICRNL
	if err := set(&quiet); err != nil {
		return "", err
	}
	defer set(before)
	defer context.AfterFunc(ctx, func() { tty.SetReadDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(tty, question); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(io.LimitReader(tty, maxSecret)).ReadString('\n')
	if ctx.Err() != nil {
		io.WriteString(tty, "\r\n")
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}
