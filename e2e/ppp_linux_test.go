package e2e_test

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/lab"
)

// A pppProcess is a `bodkin ppp` in the foreground.
type pppProcess struct {
	w   *world
	cmd *lab.Cmd

	mu   sync.Mutex
	said bytes.Buffer
	more chan struct{} // closed, and made anew, when something is said or it ends
	over bool
}

func (p *pppProcess) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said.Write(b)
	close(p.more)
	p.more = make(chan struct{})
	return len(b), nil
}

func (p *pppProcess) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// newPPP prepares `bodkin ppp` on a machine as an account.
func (w *world) newPPP(m *lab.Machine, account string, options ...string) *pppProcess {
	p := &pppProcess{w: w, more: make(chan struct{})}
	p.cmd = m.Command(w.t.Context(), "bodkin", append([]string{"ppp"}, options...)...).As(account)
	p.cmd.Stderr = p
	return p
}

// ppp starts it.
func (w *world) startPPP(m *lab.Machine, account string, options ...string) *pppProcess {
	w.t.Helper()
	p := w.newPPP(m, account, options...)
	p.start()
	return p
}

// start starts it, and has it end with the test.
func (p *pppProcess) start() {
	w := p.w
	w.t.Helper()
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		p.mu.Lock()
		p.over = true
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}()
	w.t.Cleanup(func() {
		p.cmd.Process.Signal(syscall.SIGTERM)
		p.end()
	})
}

// await waits until it has said text n times.
func (p *pppProcess) await(text string, n int) {
	p.w.t.Helper()
	late := time.After(patience)
	for {
		p.mu.Lock()
		said, more, over := p.said.String(), p.more, p.over
		p.mu.Unlock()
		if strings.Count(said, text) >= n {
			return
		}
		if over {
			p.w.t.Fatalf("bodkin ppp ended without saying %q %d times:\n%s", text, n, said)
		}
		select {
		case <-more:
		case <-late:
			p.w.t.Fatalf("bodkin ppp does not say %q %d times:\n%s", text, n, said)
		}
	}
}

// up waits until packets pass for the n-th time.
func (p *pppProcess) up(n int) {
	p.w.t.Helper()
	p.await("Script /etc/ppp/ip-up started", n)
}

// end waits for its end and returns its exit status.
func (p *pppProcess) end() int {
	p.w.t.Helper()
	done := make(chan struct{})
	go func() {
		p.cmd.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		p.cmd.Process.Kill()
		p.w.t.Fatalf("bodkin ppp does not end:\n%s", p.text())
	}
	return p.cmd.ProcessState.ExitCode()
}

// newScriptWorld has bodkin on the gateway too, as one would a slirp, and scripts in
// the laptop's /etc/ppp that note how they are called.
func newScriptWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, lab.Options{})
	if err := w.Gateway.Install(program); err != nil {
		t.Fatal(err)
	}
	const script = `#!/bin/sh
{ echo "${0##*/} as $(/usr/bin/id -un) $*"; /usr/bin/env | /usr/bin/grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= | /usr/bin/sort; } >>/tmp/scripts
`
	for _, name := range []string{"ip-pre-up", "ip-up", "ip-down", "ipv6-up", "ipv6-down", "auth-up", "auth-down"} {
		if err := w.Laptop.WriteFile("/etc/ppp/"+name, []byte(script), 0o755, "root"); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) fetch() {
	w.t.Helper()
	w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", "http://web.example/")
}

// TestPPPTakesEverything: the far end of a login is a userspace NAT, this end takes
// the default route and the names, ssh stays outside, and nothing is left.
func TestPPPTakesEverything(t *testing.T) {
	for _, c := range []struct {
		name string
		line []string
	}{
		{"pipe", []string{"pipe", "ssh -T gw exec bodkin ppp nat"}},
		{"terminals", []string{"pty", "ssh -tt gw exec bodkin ppp nat"}},
		{"chat with a shell", []string{"pty", "ssh -tt gw", "connect", `exec /usr/sbin/chat -t 20 '' '\n\c' '$ ' 'exec bodkin ppp nat\n\c'`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newScriptWorld(t)
			before := w.snapshot()
			p := w.startPPP(w.Laptop, "me", append(c.line, "debug", "noauth", "defaultroute", "usepeerdns")...)
			p.up(1)
			w.fetch()
			w.laptop("ping", "-c", "1", "-W", "5", lab.Web4.String())
			if r := w.on(w.Laptop, "me", "curl", "-sS", "-m", "10", "http://["+lab.Web6.String()+"]/"); r.status == 0 {
				t.Error("IPv6 went around the link")
			}
			if leaks := w.Leaks(); len(leaks) > 0 {
				t.Errorf("outside of the link went: %q", leaks)
			}
			p.cmd.Process.Signal(syscall.SIGTERM)
			if status := p.end(); status != 5 {
				t.Errorf("SIGTERM: exit status %d, pppd's is 5\n%s", status, p.text())
			}
			w.says(p.text(), "local  IP address 10.0.2.15", "remote IP address 10.0.2.2", "primary   DNS address 10.0.2.3",
				"Terminating on signal 15", "Connection terminated.")
			w.asBefore(before, "ppp, SIGTERM")
		})
	}
}

// TestPPPPersist: SIGHUP ends the link and not the program; so does the far end's
// death. What was set is taken back in between, and packets pass again afterwards.
func TestPPPPersist(t *testing.T) {
	w := newScriptWorld(t)
	before := w.snapshot()
	p := w.startPPP(w.Laptop, "me", "debug", "noauth", "defaultroute", "usepeerdns", "persist", "holdoff", "0",
		"pipe", "ssh -T gw exec bodkin ppp nat")
	p.up(1)
	p.cmd.Process.Signal(syscall.SIGHUP)
	p.up(2)
	w.fetch()
	if r := w.on(w.Gateway, "root", "pkill", "-KILL", "-x", "bodkin"); r.status != 0 {
		t.Fatalf("pkill: %d %s", r.status, r.out)
	}
	p.up(3)
	w.fetch()
	p.cmd.Process.Signal(syscall.SIGTERM)
	if status := p.end(); status != 5 {
		t.Errorf("exit status %d, pppd's is 5\n%s", status, p.text())
	}
	w.asBefore(before, "ppp persist")
	w.noProcesses()
}

// TestPPPKilled: what a killed `bodkin ppp` leaves, `bodkin clean` takes back.
func TestPPPKilled(t *testing.T) {
	w := newScriptWorld(t)
	before := w.snapshot()
	w.startPPP(w.Laptop, "me", "debug", "noauth", "defaultroute", "usepeerdns", "pipe", "ssh -T gw exec bodkin ppp nat").up(1)
	w.changed(before)
	w.killAll()
	if r := w.on(w.Laptop, "me", "curl", "-sS", "-m", "2", url(lab.Web4, "/")); r.status == 0 {
		t.Error("the web is reached without a link")
	}
	w.laptop("sudo", "bodkin", "clean")
	w.asBefore(before, "ppp, kill -9 of every process, clean")
}

// TestPPPUpDetach: it returns once packets pass; a socket of its own stays outside
// of the default route.
func TestPPPUpDetach(t *testing.T) {
	w := newWorld(t, lab.Options{AllowTCP: []uint16{7000}})
	if err := w.Gateway.Install(program); err != nil {
		t.Fatal(err)
	}
	server := w.Gateway.Command(t.Context(), "busybox", "nc", "-l", "-p", "7000", "-e", "bodkin", "ppp", "nat")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	before := w.snapshot()
	w.eventually("somebody listens", func() bool {
		return strings.Contains(w.on(w.Gateway, "root", "ss", "-ltn").out, ":7000 ")
	})
	r := w.on(w.Laptop, "me", "bodkin", "ppp", "updetach", "noauth", "defaultroute", "usepeerdns", "logfile", "/tmp/log",
		"socket", lab.Gateway4.String()+":7000")
	if r.status != 0 {
		t.Fatalf("exit status %d\n%s", r.status, r.out)
	}
	w.fetch()
	w.laptop("pkill", "-TERM", "-u", "me", "-x", "bodkin")
	w.eventually("it has ended", func() bool {
		log, _ := w.Laptop.ReadFile("/tmp/log")
		return strings.Contains(string(log), "Connection terminated.")
	})
	w.asBefore(before, "ppp updetach")
	server.Wait()
}

// joined starts two `bodkin ppp` as root, on the laptop and on the gateway, each
// with one end of a socket as its standard input and output.
func (w *world) joined(laptop, gateway string) (l, g *pppProcess) {
	w.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	start := func(m *lab.Machine, fd int, options string) *pppProcess {
		f := os.NewFile(uintptr(fd), "line")
		defer f.Close()
		p := w.newPPP(m, "root", strings.Fields(options)...)
		p.cmd.Stdin, p.cmd.Stdout = f, f
		p.start()
		return p
	}
	return start(w.Laptop, fds[0], laptop), start(w.Gateway, fds[1], gateway)
}

// TestPPPBothTUN: two kernel interfaces, each with its end's addresses of both
// families; the scripts are told what pppd tells them.
func TestPPPBothTUN(t *testing.T) {
	w := newScriptWorld(t)
	w.writeSecrets(w.Laptop, "chap-secrets", "gateway laptop s3cret 10.9.0.2\n")
	w.writeSecrets(w.Gateway, "chap-secrets", "gateway * s3cret *\n")
	before := w.snapshot()
	l, g := w.joined(
		"debug notty name laptop require-chap 10.9.0.1:10.9.0.2 ipv6 ::1,::2 linkname x ipparam it set MORE=yes ms-dns 9.9.9.9 unit 7",
		"debug notty noauth user gateway usepeerdns")
	l.up(1)
	g.up(1)
	w.laptop("ping", "-c", "1", "-W", "5", "10.9.0.2")
	w.laptop("ping", "-6", "-c", "1", "-W", "5", "fe80::2%ppp7")
	pid, err := w.Laptop.ReadFile("/run/ppp-x.pid")
	if err != nil || strings.TrimSpace(string(pid)) == "" {
		t.Errorf("linkname's file: %q, %v", pid, err)
	}
	l.cmd.Process.Signal(syscall.SIGINT)
	if status := l.end(); status != 5 {
		t.Errorf("SIGINT: exit status %d, pppd's is 5\n%s", status, l.text())
	}
	if status := g.end(); status != 0 {
		t.Errorf("the other end: exit status %d, pppd's is 0\n%s", status, g.text())
	}
	w.says(g.text(), "primary   DNS address 9.9.9.9", "LCP terminated by peer")
	w.asBefore(before, "ppp, SIGINT")

	told, err := w.Laptop.ReadFile("/tmp/scripts")
	if err != nil {
		t.Fatal(err)
	}
	text := string(told)
	for _, want := range []string{
		"auth-up as root ppp7 gateway root stdio 0\n",
		"ip-pre-up as root ppp7 stdio 0 10.9.0.1 10.9.0.2 it\n",
		"ip-up as root ppp7 stdio 0 10.9.0.1 10.9.0.2 it\n",
		"ipv6-up as root ppp7 stdio 0 fe80::1 fe80::2 it\n",
		"ip-down as root ppp7 stdio 0 10.9.0.1 10.9.0.2 it\n",
		"ipv6-down as root ppp7 stdio 0 fe80::1 fe80::2 it\n",
		"auth-down as root ppp7 gateway root stdio 0\n",
		"BYTES_RCVD=", "BYTES_SENT=", "CONNECT_TIME=", "IPLOCAL=10.9.0.1\n", "IPREMOTE=10.9.0.2\n", "LINKNAME=x\n", "PEERNAME=gateway\n",
		"MORE=yes\n", "DEVICE=stdio\n", "SPEED=0\n", "ORIG_UID=0\n", "PPPLOGNAME=root\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no script was told %q; they were told\n%s", want, told)
		}
	}
	if strings.Contains(text, "HOME=") || strings.Contains(text, "PATH=") {
		t.Errorf("scripts have our environment:\n%s", told)
	}
}

func (w *world) writeSecrets(m *lab.Machine, name, text string) {
	w.t.Helper()
	if err := m.WriteFile("/etc/ppp/"+name, []byte(text), 0o600, "root"); err != nil {
		w.t.Fatal(err)
	}
}

// TestPPPExitStatuses: a script that knows pppd's statuses knows ours.
func TestPPPExitStatuses(t *testing.T) {
	w := newScriptWorld(t)
	w.writeSecrets(w.Laptop, "chap-secrets", "gateway laptop right *\nlimited laptop right 10.8.0.0/24\n")
	for _, c := range []struct {
		name            string
		laptop, gateway string
		statusL         int
		statusG         int
	}{
		{"wrong secret", "notty auth name laptop 10.9.0.1:10.9.0.2", "notty nat noauth user gateway file /etc/ppp/wrong", 11, 19},
		{"no secret", "notty auth name laptop 10.9.0.1:10.9.0.2", "notty nat noauth user nobody refuse-pap", 11, 19},
		{"address not its own", "notty auth name laptop 10.9.0.1:10.9.0.2 lcp-restart 1", "notty nat noauth user limited file /etc/ppp/right 10.9.0.2:", 10, 10},
		{"idle", "notty noauth idle 1", "notty nat noauth", 12, 0},
		{"maxconnect", "notty noauth maxconnect 1", "notty nat noauth", 13, 0},
		{"no agreement", "notty noauth 10.9.0.1:10.9.0.2 noipv6", "notty noauth noip", 10, 10},
		{"nobody speaks", "notty noauth lcp-max-configure 2 lcp-restart 1 silent maxconnect 1", "notty noauth lcp-max-configure 2 lcp-restart 1 mru 300 noip noipv6", 16, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			for name, text := range map[string]string{"right": "password right", "wrong": "password wrong"} {
				if err := w.Gateway.WriteFile("/etc/ppp/"+name, []byte(text), 0o600, "root"); err != nil {
					t.Fatal(err)
				}
			}
			l, g := w.joined(c.laptop, c.gateway)
			if status := l.end(); status != c.statusL {
				t.Errorf("%s: exit status %d, pppd's is %d\n%s", c.laptop, status, c.statusL, l.text())
			}
			if status := g.end(); status != c.statusG {
				t.Errorf("%s: exit status %d, pppd's is %d\n%s", c.gateway, status, c.statusG, g.text())
			}
		})
	}
	for _, c := range []struct {
		name, options string
		status        int
		says          string
	}{
		{"options", "mru 12", 2, "bodkin: error: mru 12: want 128 to 16384"},
		{"device", "/dev/nothing nat", 7, "no such file"},
		{"connect", "nat pipe cat connect 'echo sorry >&2; exit 3'", 8, "sorry"},
		{"init", "nat pipe cat init false", 18, "init"},
		{"command", "nat pipe /no/such/program", 9, "/no/such/program"},
		{"loop", "nat pipe cat", 17, "comes back"},
		{"hangup", "nat pipe 'exit 1'", 16, "exit status 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			r := w.on(w.Laptop, "me", "sh", "-c", "exec bodkin ppp "+c.options+" </dev/null")
			if r.status != c.status {
				t.Errorf("%s: exit status %d, pppd's is %d\n%s", c.options, r.status, c.status, r.out)
			}
			w.says(r.out, c.says)
		})
	}
}
