package keeper

import (
	"context"
	"errors"
	"math"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/cmd/bodkin/passing"
)

// Args are how a keeper is called, after the program's name.
var Args = []string{"far", "--held"}

// startTime is how long a keeper may take until it is ready, on a machine that is busy.
const startTime = 20 * time.Second

// environment is what a keeper needs of a login's: where the user's files are and the
// programs that the host's settings are made with, and where the near half comes from.
var environment = []string{
	"HOME", "USER", "LOGNAME", "PATH", "TMPDIR", "TZ", "LANG",
	"XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "SSH_CONNECTION",
}

// scrub returns what of an environment a keeper needs.
func scrub(env []string) []string {
	kept := []string{} // nil would be all
	for _, e := range env {
		if name, _, _ := strings.Cut(e, "="); slices.Contains(environment, name) {
			kept = append(kept, e)
		}
	}
	return kept
}

// A child is a keeper that this process has started, and the connection to it.
type child struct {
	cmd  *exec.Cmd
	conn *net.UnixConn
}

// start starts a keeper, and waits until it is ready. Its error is an *ImpossibleError.
func start(ctx context.Context) (*child, error) {
	impossible := func(reason string, err error) (*child, error) {
		if err != nil {
			reason += ": " + err.Error()
		}
		return nil, &ImpossibleError{reason, err}
	}
	who := strconv.Itoa(os.Geteuid())
	if u, err := user.LookupId(who); err == nil {
		who = u.Username
	}
	if why := forbidden(os.DirFS("/"), who); why != "" {
		return impossible(why, nil)
	}
	conn, theirs, err := passing.Pair()
	if err != nil {
		return impossible("no socket", err)
	}
	defer theirs.Close()
	if err := closeOnExec(); err != nil {
		conn.Close()
		return impossible("what the login has open cannot be kept from it", err)
	}
	// The program's file may have been removed, or replaced by another version's.
	cmd := exec.Command("/proc/self/exe", Args...)
	cmd.Args[0] = "bodkin"
	cmd.Dir, cmd.Env = "/", scrub(os.Environ())
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return impossible("its process cannot be started", err)
	}
	theirs.Close()
	c := &child{cmd, conn}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetReadDeadline(time.Now().Add(startTime))
	ready, files, err := passing.Receive[ending](conn)
	passing.CloseAll(files)
	conn.SetReadDeadline(time.Time{})
	switch {
	case err == nil && ready.Error == "":
		return c, nil
	case err == nil:
		err = errors.New(ready.Error)
	}
	c.discard()
	return impossible("its process ended at once", err)
}

// closeOnExec keeps from the programs that we start what our own parent left open in us.
func closeOnExec() error {
	err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	fds, err := filepath.Glob("/proc/self/fd/*") // before Linux 5.11
	if err != nil || len(fds) == 0 {
		return errors.New("/proc is not there")
	}
	for _, path := range fds {
		if fd, err := strconv.Atoi(filepath.Base(path)); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// discard ends a keeper that holds nothing.
func (c *child) discard() {
	c.conn.Close()
	c.cmd.Process.Kill()
	c.cmd.Wait()
}
