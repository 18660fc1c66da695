package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Nothing is left after Close, not even of a program that left its session.
func TestCloseLeavesNothing(t *testing.T) {
	state := func() string {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		temp, err := os.ReadDir(os.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		var links []string
		ls, err := netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range ls {
			links = append(links, l.Attrs().Name)
		}
		var names []string
		for _, e := range temp {
			if strings.Contains(e.Name(), "lab") {
				names = append(names, e.Name())
			}
		}
		return fmt.Sprintf("%s\n%q\n%q\n", mounts, names, links)
	}
	before := state()
	l, err := New(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Gateway.Command(t.Context(), "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & setsid sh -c 'trap : TERM HUP; sleep 1000' >/dev/null 2>&1 &").As("me").Run(); err != nil {
		t.Fatal(err)
	}
	if err := l.Laptop.Command(context.Background(), "sleep", "1000").Start(); err != nil { // nobody waits for it
		t.Fatal(err)
	}
	busy(t, l)
	// Process 1 of each, sshd, what sh left behind, sleep, telnetd and login, squid and its helper.
	const wanted = 4 + 1 + 3 + 1 + 2 + 2
	pids := processes(t, l)
	for end := time.Now().Add(5 * time.Second); len(pids) < wanted; pids = processes(t, l) {
		if time.Now().After(end) {
			t.Fatalf("only %d processes in the lab", len(pids))
		}
		time.Sleep(10 * time.Millisecond) // what sh left behind is still starting
	}
	inodes := make(map[string]bool)
	for _, m := range []*Machine{l.Laptop, l.Firewall, l.Gateway, l.Internet} {
		name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", m.ns.net))
		if err != nil {
			t.Fatal(err)
		}
		inodes[name] = true
	}
	l.Close()
	l.Close() // again, which does nothing
	for _, pid := range pids {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			t.Errorf("process %d is left: %s", pid, b)
		}
	}
	if after := state(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && inodes[name] {
			t.Errorf("descriptor %s still holds %s", fd.Name(), name)
		}
	}
	if err := l.Laptop.Command(t.Context(), "true").Run(); err == nil {
		t.Error("a closed machine ran a command")
	}
}

// busy starts what a closed firewall has, and leaves a login open through it.
func busy(t *testing.T, l *Lab) {
	t.Helper()
	if _, err := l.Gateway.Telnetd(t.Context(), TelnetdOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Gateway.TelnetProxy(TelnetProxyOptions{Port: 2300}); err != nil {
		t.Fatal(err)
	}
	slow := Faults{Rate: 1e5, Delay: time.Millisecond}
	if _, err := (Chaos{slow, slow}).Listen(l.Gateway, 2400, loopback(2300)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Gateway.Squid(t.Context(), SquidOptions{ProxyOptions: ProxyOptions{User: "a", Password: "b"}}); err != nil {
		t.Fatal(err)
	}
	y := typistAt(t, l.Gateway, loopback(2400))
	y.see(proxyPrompt)
	y.types("c 127.0.0.1")
	y.see("login: ")
}

// processes lists every process of the lab.
func processes(t *testing.T, l *Lab) (pids []int) {
	t.Helper()
	for _, m := range []*Machine{l.Laptop, l.Firewall, l.Gateway, l.Internet} {
		pids = append(pids, m.init.Process.Pid)
		ps, err := m.Processes()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ps {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

// hold is another process that makes a lab, says who is in it and waits for death.
func hold() {
	l, err := New(context.Background(), Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	l.Laptop.Command(context.Background(), "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &").Run()
	for _, m := range []*Machine{l.Laptop, l.Firewall, l.Gateway, l.Internet} {
		fmt.Println(m.init.Process.Pid)
		ps, _ := m.Processes()
		for _, p := range ps {
			fmt.Println(p.PID)
		}
	}
	fmt.Println("end")
	select {}
}

// The lab dies with the process that made it, however that dies.
func TestKilled(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), "LAB_TEST_HOLD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var fds []unix.PollFd
	for {
		var word string
		if _, err := fmt.Fscan(out, &word); err != nil {
			t.Fatal(err)
		}
		if word == "end" {
			break
		}
		var pid int
		if _, err := fmt.Sscan(word, &pid); err != nil {
			t.Fatal(word)
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	if len(fds) < 6 {
		t.Fatalf("only %d processes", len(fds))
	}
	cmd.Process.Signal(syscall.SIGKILL)
	cmd.Wait()
	for _, fd := range fds {
		// A descriptor of a process is readable when it has ended.
		n, err := 0, error(unix.EINTR)
		for err == unix.EINTR {
			n, err = unix.Poll([]unix.PollFd{fd}, 10_000)
		}
		if n != 1 {
			t.Errorf("a process is left: %v", err)
		}
	}
}
