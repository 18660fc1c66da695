package e2e_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/bodkin-net/bodkin/lab"
)

// enclosed runs a shell's line inside bodkin exec on the laptop, as its ordinary account.
func (w *world) enclosed(line string) result {
	w.t.Helper()
	return w.bodkin("exec", "me@gw", "--", "sh", "-c", line)
}

// gitPort is where the web host serves git, in the tests that want it.
const gitPort = 9418

// gitDaemon serves a repository at the web host.
func (w *world) gitDaemon() {
	w.t.Helper()
	line := "git init -q /srv/git/repo && cd /srv/git/repo && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m first"
	if r := w.on(w.Internet, "root", "sh", "-c", "mkdir -p /home/git && mount --bind /home/git /srv && "+line); r.status != 0 {
		w.t.Fatalf("making a repository: %s", r.out)
	}
	cmd := w.Internet.Command(w.t.Context(), "git", "daemon", "--export-all", "--base-path=/srv/git", "--listen="+lab.Web4.String(), fmt.Sprint("--port=", gitPort))
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	w.eventually("git daemon listens", func() bool {
		c, err := w.Internet.Dial(w.t.Context(), "tcp", netip.AddrPortFrom(lab.Web4, gitPort).String())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// TestExec is bodkin exec as an ordinary user without sudo: all programs work inside, and
// nothing but the carrier leaves the laptop.
func TestExec(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{ResolvConf: lab.ResolvDangling})
	w.gitDaemon()
	if r := w.on(w.Laptop, "root", "rm", "-f", "/etc/sudoers.d/me"); r.status != 0 {
		t.Fatal(r.out)
	}
	before := w.snapshot()

	for _, tt := range []struct{ line, want string }{
		{"curl -sS -f -m 10 http://web.example/", ""},
		{"curl -sS -f -6 -m 10 -o /dev/null http://web.example/ && echo six", "six"},
		{"dig +short web.example", lab.Web4.String()},
		{"ping -c 2 -i 0.2 web.example", "2 received"},
		{"ping -4 -c 2 -i 0.2 web.example", "2 received"},
		{"git clone -q git://203.0.113.100/repo copy && git -C copy log --oneline", "first"},
		{"ls /sys/class/net | tr '\\n' ' '", "bodkin0 lo "},
		{"id -un", "me\n"},
		// What asks the laptop's own resolver, or goes around, gets nowhere.
		{"dig +time=1 +tries=1 @192.0.2.1 web.example || echo no", "no\n"},
		{"ping -c 1 -W 1 192.0.2.1 || echo no", "no\n"},
	} {
		w.clean(tt.line, func() {
			r := w.enclosed(tt.line)
			if r.status != 0 {
				t.Errorf("%s: exit status %d\n%s", tt.line, r.status, r.out)
			}
			w.says(r.out, tt.want)
		})
	}
	if r := w.enclosed("exit 7"); r.status != 7 || r.out != "" {
		t.Errorf("exit status %d, want 7; said %q", r.status, r.out)
	}
	if r := w.bodkin("exec", "me@gw", "--", "no-such-program"); r.status != 127 {
		t.Errorf("exit status %d of no program\n%s", r.status, r.out)
	}
	if r := w.bodkin("exec", "me@gw", "10.20.0.0/24", "--", "sh", "-c", "curl -sS -f -m 10 -o /dev/null "+url(lab.Office4, "/")+" && ! ping -c 1 -W 1 203.0.113.100"); r.status != 0 {
		t.Errorf("with one prefix: exit status %d\n%s", r.status, r.out)
	} else {
		w.says(r.out, "Network is unreachable")
	}
	w.asBefore(before, "bodkin exec")
}

// TestExecDies: whatever ends, the command has no other way, and nothing is left.
func TestExecDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	sleepers := func() string {
		return strings.TrimSpace(w.on(w.Laptop, "root", "pgrep", "-fc", "^sleep 12345").out) // in whatever namespace
	}
	start := func() (*lab.Cmd, *bytes.Buffer) {
		cmd := w.Laptop.Command(t.Context(), "bodkin", "exec", "--once", "me@gw", "--", "sh", "-c", "setsid sleep 12345 & sleep 12345").As("me")
		out := new(bytes.Buffer)
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.eventually("the command runs", func() bool { return sleepers() == "2" })
		return cmd, out
	}

	cmd, _ := start()
	cmd.Process.Kill()
	w.clean("bodkin was killed", func() {
		w.eventually("nothing is left of a killed bodkin", func() bool { return sleepers() == "0" })
	})
	cmd.Wait()

	cmd, out := start()
	w.killSSH()
	began := time.Now()
	cmd.Wait()
	if took := time.Since(began); cmd.ProcessState.ExitCode() != 19 || sleepers() != "0" || took > 10*time.Second {
		t.Errorf("when the tunnel broke: exit status %d, %s left after %v\n%s", cmd.ProcessState.ExitCode(), sleepers(), took, out)
	}
	w.says(out.String(), "bodkin: error: tunnel: ")
}

// killSSH ends the laptop's ssh programs.
func (w *world) killSSH() {
	w.t.Helper()
	all, err := w.Laptop.Processes()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range all {
		if len(p.Args) > 0 && p.Args[0] == "ssh" {
			syscall.Kill(p.PID, syscall.SIGKILL)
		}
	}
}

// TestExecKeys: Ctrl-C is the command's. The ssh that carries its network, though in the
// same process group, lives on.
func TestExecKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{ResolvConf: lab.ResolvBind})
	line := "trap 'echo one' INT; echo ready; read x; echo $x; curl -sS -f -m 10 -o /dev/null http://web.example/ && echo works; exit 5"
	cmd := w.Laptop.Command(t.Context(), "bodkin", "exec", "me@gw", "--", "bash", "-c", line).As("me")
	tty, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = cmd.Start()
	slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(2*patience, func() { cmd.Process.Signal(syscall.SIGTERM) }).Stop()
	var seen bytes.Buffer
	expect := func(text string) {
		t.Helper()
		tty.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 4096)
		for !strings.Contains(seen.String(), text) {
			n, err := tty.Read(b)
			seen.Write(b[:n])
			if err != nil {
				t.Fatalf("waiting for %q: %v after %q", text, err, seen.String())
			}
		}
	}
	expect("ready\r\n")
	tty.WriteString("\x03")
	expect("^C")
	tty.WriteString("word\n") // bash that was about to read runs the trap when it has read
	expect("one\r\n")
	expect("works\r\n")
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 5 || strings.Count(seen.String(), "one\r\n") != 1 {
		t.Errorf("exit status %d\n%s", status, seen.String())
	}
}

// TestExecForbidden: what the laptop forbids is said before anything is dialled.
func TestExecForbidden(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	if r := w.on(w.Laptop, "root", "chmod", "600", "/dev/net/tun"); r.status != 0 {
		t.Fatal(r.out)
	}
	r := w.enclosed("true")
	if r.status != 16 {
		t.Errorf("exit status %d, want 16", r.status)
	}
	w.says(r.out, "bodkin: error: device: ", "/dev/net/tun: permission denied", "bodkin up --near socks")
	if log := w.SSHLog(); strings.Contains(log, "Accepted") {
		t.Errorf("there was a login nevertheless:\n%s", log)
	}
}
