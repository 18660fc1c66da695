package enclosure

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestExitStatus(t *testing.T) {
	for _, test := range []struct {
		command []string
		status  int
		says    string
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "exit 3"}, 3, ""},
		{[]string{"sh", "-c", "kill -TERM $$"}, 128 + 15, ""},
		{[]string{"sh", "-c", "kill -KILL $$"}, 128 + 9, ""},
		{[]string{"no-such-program"}, StatusNotFound, `"no-such-program": executable file not found`},
		{[]string{"/etc/passwd"}, StatusCannotRun, "permission denied"},
	} {
		r := finish(t, asUser(t, driver, append([]string{"drive"}, test.command...)...))
		if r.status != test.status || !strings.Contains(r.err, test.says) || test.says == "" && r.err != "" {
			t.Errorf("%q: status %d, want %d; %q", test.command, r.status, test.status, r.err)
		}
	}
}

// TestInheritance: standard files, further descriptors, arguments and the directory are
// the command's as they were ours.
func TestInheritance(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	line := []string{"sh", "-c", `pwd; cat; echo err >&2; echo three >&3; printf '%s|' "$0" "$@"; ls /proc/self/fd | tr '\n' ' '`, "a b", "\xff", "--", ""}
	var got, want result
	for _, run := range []struct {
		cmd *exec.Cmd
		r   *result
	}{
		{asUser(t, line[0], line[1:]...), &want},
		{asUser(t, driver, append([]string{"drive"}, line...)...), &got},
	} {
		run.cmd.Stdin = strings.NewReader("in\n")
		run.cmd.ExtraFiles = []*os.File{w}
		*run.r = finish(t, run.cmd)
	}
	w.Close()
	three, _ := io.ReadAll(r)
	if got != want || !strings.HasPrefix(got.out, home+"\nin\na b|\xff|--||0 1 ") || string(three) != "three\nthree\n" {
		t.Errorf("inside %+v, outside %+v; descriptor 3 %q", got, want, three)
	}
}

// A held is a driver whose command holds the write end of a pipe, as all that the
// command starts do: while one of them lives the pipe does not end.
type held struct {
	*exec.Cmd
	t    *testing.T
	out  *bufio.Reader
	pipe *os.File
}

// hold starts a command and waits until it says "ready".
func hold(t *testing.T, cmd *exec.Cmd) *held {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	h := &held{cmd, t, bufio.NewReader(r), r}
	r.SetReadDeadline(time.Now().Add(patience))
	if line, err := h.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return h
}

// rest waits until everybody is gone, for so long at most, and returns what was said.
func (h *held) rest(limit time.Duration) (text string, status int) {
	h.t.Helper()
	h.pipe.SetReadDeadline(time.Now().Add(limit))
	b, err := io.ReadAll(h.out)
	if err != nil {
		h.t.Errorf("somebody is still there after %v: %v", limit, err)
		h.Process.Kill()
	}
	err = h.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Error(err)
	}
	return string(b), h.ProcessState.ExitCode()
}

// stubborn is a shell's line that leaves daemons, deaf to all but SIGKILL, and waits.
const stubborn = `trap '' HUP TERM; for i in 1 2 3; do setsid sh -c 'trap "" HUP TERM; (sleep 1000 & sleep 1000); sleep 1000' & done; echo ready; sleep 1000; sleep 1000`

// drivers are the two ways to keep processes together: a process namespace, and, where
// /proc may not be mounted, looking for them.
var drivers = []struct {
	name string
	cmd  func(t *testing.T, line string) *exec.Cmd
}{
	{"process 1", func(t *testing.T, line string) *exec.Cmd { return asUser(t, driver, "drive", "sh", "-c", line) }},
	{"subreaper", func(t *testing.T, line string) *exec.Cmd { return masked(t, "drive", "sh", "-c", line) }},
}

// masked makes a command that runs as the ordinary user, where parts of /proc are
// covered as in a container.
func masked(t *testing.T, args ...string) *exec.Cmd {
	cmd := asUser(t, "sh", append([]string{"-c", `mount -t tmpfs none /proc/tty && mount -t tmpfs none /sys/kernel && exec setpriv --reuid 4321 --regid 4321 --clear-groups "$0" "$@"`, driver}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	return cmd
}

// TestWithoutProc: in a container that covers parts of /proc all works but the process
// namespace.
func TestWithoutProc(t *testing.T) {
	r := finish(t, masked(t, "drive", "sh", "-c", "curl -sS http://web.example/whoami && ping -c 1 -W 5 web.example && awk 'NR>1 {print $1}' /proc/net/route | sort -u && test $$ -gt 20"))
	if r.status != 0 || !strings.Contains(r.out, "1 received") || !strings.HasSuffix(r.out, "\nbodkin0\n") {
		t.Errorf("status %d\n%s%s", r.status, r.out, r.err)
	}
}

// TestKilled: nothing outlives a killed bodkin.
func TestKilled(t *testing.T) {
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			h := hold(t, d.cmd(t, stubborn))
			h.Process.Kill()
			h.rest(5 * time.Second)
		})
	}
}

// TestTunnelGone: when the tunnel ends, the command is told by SIGHUP, then SIGTERM, and
// what does not heed them is killed.
func TestTunnelGone(t *testing.T) {
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			for _, test := range []struct {
				name, line, says string
				status           int
				least, most      time.Duration
			}{
				{"heeds SIGHUP", "echo ready; exec sleep 1000", "", 128 + 1, 0, time.Second},
				{"heeds SIGTERM", "trap 'echo hup' HUP; trap 'echo term; exit 7' TERM; echo ready; while :; do sleep 0.05; done", "hup\nterm\n", 7, time.Second, 4 * time.Second},
				{"is stopped", "echo ready; kill -STOP $$", "", 128 + 1, 0, time.Second},
				{"heeds nothing", stubborn, "", 128 + 9, 5 * time.Second, 9 * time.Second},
			} {
				t.Run(test.name, func(t *testing.T) {
					t.Parallel()
					h := hold(t, d.cmd(t, test.line))
					began := time.Now()
					h.Process.Signal(syscall.SIGTERM)
					says, status := h.rest(15 * time.Second)
					if took := time.Since(began); says != test.says || status != test.status || took < test.least || took > test.most+2*time.Second {
						t.Errorf("%q, status %d after %v; want %q, %d after %v", says, status, took, test.says, test.status, test.least)
					}
				})
			}
		})
	}
}

// TestWithoutTunnel: a command that goes on when the tunnel is gone has no network.
func TestWithoutTunnel(t *testing.T) {
	cmd := asUser(t, driver, "drive", "sh", "-c", "echo ready; while ls /sys/class/net/bodkin0 >/dev/null 2>&1; do sleep 0.02; done; ping -c 1 -W 1 198.51.100.10 2>&1; ls /sys/class/net; exit 8")
	h := hold(t, cmd)
	h.Process.Signal(syscall.SIGUSR1)
	if says, status := h.rest(5 * time.Second); status != 8 || !strings.Contains(says, "Network is unreachable") || !strings.HasSuffix(says, "\nlo\n") {
		t.Errorf("%q, status %d", says, status)
	}
}

// TestLeftBehind: what a command leaves behind ends with it.
func TestLeftBehind(t *testing.T) {
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			h := hold(t, d.cmd(t, "setsid sh -c 'sleep 1000; sleep 1000' & setsid sleep 1000 & echo ready; exit 4"))
			if says, status := h.rest(4 * time.Second); says != "" || status != 4 {
				t.Errorf("%q, status %d", says, status)
			}
		})
	}
}

// TestNested: an enclosure in an enclosure, by the inner one's tunnel through the outer.
func TestNested(t *testing.T) {
	r := finish(t, asUser(t, driver, "drive", driver, "drive", driver, "drive", "sh", "-c", "grep -c nameserver /etc/resolv.conf && ls /sys/class/net | tr '\\n' ' '"))
	if r.status != 0 || r.out != "2\nbodkin0 lo " {
		t.Errorf("status %d: %q\n%s", r.status, r.out, r.err)
	}
}

// TestOtherBeginnings: a process that gave up root, and a program with capabilities of
// its file.
func TestOtherBeginnings(t *testing.T) {
	t.Run("gave up root", func(t *testing.T) {
		r := finish(t, exec.CommandContext(t.Context(), driver, "drive", "-become", "4321", "sh", "-c", "id -u && curl -sS http://web.example/whoami"))
		if r.status != 0 || !strings.HasPrefix(r.out, "4321\nweb.example for") {
			t.Errorf("status %d: %q\n%s", r.status, r.out, r.err)
		}
	})
	t.Run("file capabilities", func(t *testing.T) {
		able := driver + "-able"
		self, err := os.ReadFile(driver)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(able, self, 0o755); err != nil {
			t.Fatal(err)
		}
		// struct vfs_cap_data: revision 2, effective; CAP_NET_ADMIN permitted.
		if err := unix.Setxattr(able, "security.capability", []byte{1, 0, 0, 2, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0); err != nil {
			t.Fatal(err)
		}
		r := finish(t, asUser(t, able, "drive", "sh", "-c", "grep CapEff /proc/self/status && curl -sS http://web.example/whoami"))
		if r.status != 0 || !strings.HasPrefix(r.out, "CapEff:\t0000000000000000\nweb.example for") {
			t.Errorf("status %d: %q\n%s", r.status, r.out, r.err)
		}
	})
}
