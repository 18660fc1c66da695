//go:build unix

package detach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

// detachedEnv names, for the process that stays, the descriptor on which it
// says that the tunnel carries packets.
const detachedEnv = "BODKIN_DETACHED"

// Run runs this same command once more in a process that stays, and returns as soon
// as that one says that it is ready, or with its exit status. Until then that is on
// the same terminal, so that ssh and sudo can ask there, and says on errw what it has
// to say. In that process the same call runs run, which calls ready once.
func Run(ctx context.Context, errw io.Writer, run func(ctx context.Context, ready func()) error) error {
	if fd, err := strconv.Atoi(os.Getenv(detachedEnv)); err == nil && fd > 2 {
		return stay(ctx, os.NewFile(uintptr(fd), "ready"), run)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, errw
	cmd.ExtraFiles = []*os.File{w}
	cmd.Env = append(os.Environ(), detachedEnv+"=3")
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	// One octet says ready; an end without it, that there will be no tunnel.
	if n, _ := r.Read(make([]byte, 1)); n == 1 {
		return nil
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status := exit.ExitCode()
		if status < 0 {
			status = report.StatusFailed
		}
		return report.Silent(report.At(report.Layer{Status: status}, err, ""))
	}
	return fmt.Errorf("the tunnel ended before it was up: %w", err)
}

// stay is the process that stays: once ready it leaves the terminal.
func stay(ctx context.Context, ready *os.File, run func(ctx context.Context, ready func()) error) error {
	os.Unsetenv(detachedEnv)
	syscall.CloseOnExec(int(ready.Fd()))
	return run(ctx, func() {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err == nil {
			for fd := range 3 {
				dupTo(int(null.Fd()), fd)
			}
			null.Close()
		}
		os.Chdir("/")
		syscall.Setsid()
		ready.Write([]byte{1})
		ready.Close()
	})
}
