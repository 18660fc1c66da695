package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// searchPath is where a machine looks for programs. Machine.Install puts them
// into the first directory.
const searchPath = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"

// outputGrace is how long Wait keeps reading the output of a process that ended
// while its children hold the pipe open. A detached tunnel does so for ever.
const outputGrace = 2 * time.Second

// A Cmd is an exec.Cmd that runs inside a machine: in its namespaces, with its
// environment and none of ours. It belongs to one goroutine but for Wait, which
// may be called from several.
type Cmd struct {
	*exec.Cmd
	machine *Machine
	name    string
	account string

	wait    sync.Once
	waitErr error
}

// Command prepares a program of the machine, run as root unless As says
// otherwise. Name is looked up in the machine's own path. When ctx ends the
// process is killed; when the Lab closes, it and all its children are.
func (m *Machine) Command(ctx context.Context, name string, args ...string) *Cmd {
	c := &Cmd{machine: m, name: name, account: "root"}
	c.Cmd = exec.CommandContext(ctx, "/", args...) // Start fills in the path
	c.Args = append([]string{name}, args...)
	c.WaitDelay = outputGrace
	return c
}

// As makes the program run as an account of the machine, in its home directory.
func (c *Cmd) As(account string) *Cmd {
	c.account = account
	return c
}

// Start is exec.Cmd's, inside the machine. Env is added to the account's own:
// HOME, USER, LOGNAME, SHELL, PATH, LANG and TERM.
func (c *Cmd) Start() error {
	m := c.machine
	err := m.Do(func() error {
		a, err := lookupAccount(c.account)
		if err != nil {
			return err
		}
		if c.Path, err = lookPath(c.name); err != nil {
			return err
		}
		c.Err = nil
		if c.Dir == "" {
			c.Dir = a.home
		}
		c.Env = append([]string{
			"HOME=" + a.home, "USER=" + a.name, "LOGNAME=" + a.name, "SHELL=" + a.shell,
			"PATH=" + searchPath, "LANG=C.UTF-8", "TERM=dumb",
		}, c.Env...)
		if c.SysProcAttr == nil {
			c.SysProcAttr = new(syscall.SysProcAttr)
		}
		if a.uid != 0 {
			c.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
		}

		m.mu.Lock() // held until c is in the list, so that stop cannot miss it
		defer m.mu.Unlock()
		if m.stopped {
			return errors.New("the machine is closed")
		}
		if err := c.Cmd.Start(); err != nil {
			return err
		}
		m.cmds[c] = true
		return nil
	})
	if err != nil {
		return fmt.Errorf("lab: %s: starting %s as %s: %w", m.Name, c.name, c.account, err)
	}
	return nil
}

// Wait is exec.Cmd's. Every call returns the same.
func (c *Cmd) Wait() error {
	c.wait.Do(func() {
		if c.Process == nil {
			c.waitErr = errors.New("lab: waiting for a command that was not started")
			return
		}
		c.waitErr = c.Cmd.Wait()
		c.machine.mu.Lock()
		delete(c.machine.cmds, c)
		c.machine.mu.Unlock()
	})
	return c.waitErr
}

// Run is Start and Wait.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns what it wrote to its standard output. On
// failure an unclaimed standard error is in the *exec.ExitError.
func (c *Cmd) Output() ([]byte, error) {
	var out, errs bytes.Buffer
	c.Stdout = &out
	if c.Stderr == nil {
		c.Stderr = &errs
	}
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		exit.Stderr = errs.Bytes()
	}
	return out.Bytes(), err
}

// CombinedOutput runs the command and returns its standard output and error as
// they came.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// lookPath finds a program in the file system of the calling thread.
func lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(searchPath) {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// quote makes a shell's line of words.
func quote(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}
