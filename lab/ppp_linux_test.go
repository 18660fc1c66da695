package lab

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds what takes a second on an idle machine.
func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// Two real pppds meet: one guest at each end of a line.
func TestPPPD(t *testing.T) {
	l := sharedLab(t)
	ctx := patience(t)
	for _, m := range []*Machine{l.Laptop, l.Gateway} {
		if err := m.InstallPPPD(); err != nil {
			t.Fatal(err)
		}
	}
	one, other, err := Line()
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Laptop.PPPD(ctx, one, "noauth", "lcp-restart", "1", "10.9.0.1:10.9.0.2")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := l.Gateway.PPPD(ctx, other, "notty", "noauth", "ipparam", "it's\n'quoted'")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, p := range []*PPPD{a, b} {
		for _, n := range []string{"ipv4", "ipv6"} {
			local, remote, err := p.AwaitUp(ctx, n)
			if err != nil {
				t.Fatal(err)
			}
			ping := []string{"-c", "1", "-W", "5", remote}
			if n == "ipv6" {
				ping = append(ping, "-I", "ppp0")
			}
			if out, err := p.Run(ctx, "ping", ping...); err != nil {
				t.Errorf("%s to %s: %v: %s", local, remote, err, out)
			}
		}
	}
	if local, remote, _ := b.AwaitUp(ctx, "ipv4"); local != "10.9.0.2" || remote != "10.9.0.1" {
		t.Errorf("addresses %s and %s", local, remote)
	}
	if _, err := a.Run(ctx, "sh", "-c", "echo it is so >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "3: it is so") {
		t.Errorf("what failed says %v", err)
	}
	if err := a.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status, err := a.Exit(ctx); err != nil || status != 5 { // ended by a signal
		t.Errorf("status %d, %v: %s", status, err, a.Log())
	}
	if status, err := b.Exit(ctx); err != nil || status != 16 { // told to terminate, it waits for the hangup
		t.Errorf("the peer's status %d, %v: %s", status, err, b.Log())
	}
}

// The real pppd and the real slirp, joined as cotty did it.
func TestSlirp(t *testing.T) {
	l := sharedLab(t)
	ctx := patience(t)
	if err := errors.Join(l.Laptop.InstallPPPD(), l.Gateway.InstallSlirp()); err != nil {
		t.Fatal(err)
	}
	control, tty, err := TTYLine()
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	slirp, err := l.Gateway.Slirp(ctx, "me", tty, "ppp")
	if err != nil {
		t.Fatal(err)
	}
	defer slirp.Wait()
	defer slirp.Process.Kill()
	one, other, err := Line()
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	var copies sync.WaitGroup
	defer copies.Wait()
	copies.Go(func() { io.Copy(control, one) })
	copies.Go(func() { io.Copy(one, control) })
	defer control.SetDeadline(time.Unix(1, 0))
	defer one.SetDeadline(time.Unix(1, 0))

	p, err := l.Laptop.PPPD(ctx, other, "noauth", "noipdefault", "usepeerdns", "defaultroute", "lcp-restart", "1", ":10.0.2.2") // slirp itself asks for none
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	local, remote, err := p.AwaitUp(ctx, "ipv4")
	if err != nil {
		t.Fatal(err)
	}
	if local != "10.0.2.15" {
		t.Errorf("slirp gave the address %s", local)
	}
	if _, err := p.Run(ctx, "ping", "-c", "1", "-W", "5", "10.0.2.2"); err != nil {
		t.Errorf("%s: %v", remote, err)
	}
	page, err := p.Run(ctx, "busybox", "wget", "-q", "-O", "-", "http://"+Web4.String()+"/")
	if err != nil || string(page) != "bodkin lab\n" {
		t.Errorf("through slirp: %q, %v", page, err)
	}
	servers, err := p.Run(ctx, "cat", "/etc/ppp/resolv.conf")
	if err != nil || !strings.Contains(string(servers), "nameserver "+DNS4.String()) {
		t.Errorf("slirp gave the resolvers %q, %v", servers, err)
	}
}

// Killed, it leaves no process; refused options are pppd's own words and status.
func TestPPPDEnds(t *testing.T) {
	l := sharedLab(t)
	ctx := patience(t)
	if err := l.Laptop.InstallPPPD(); err != nil {
		t.Fatal(err)
	}
	start := func(options ...string) (*PPPD, *os.File) {
		one, other, err := Line()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { one.Close() })
		p, err := l.Laptop.PPPD(ctx, other, options...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p, one
	}
	p, _ := start("nosuchoption")
	if status, err := p.Exit(ctx); err != nil || status != 2 || !strings.Contains(p.Log(), "nosuchoption") {
		t.Errorf("status %d, %v: %s", status, err, p.Log())
	}

	p, line := start("noauth", "local")
	if _, err := line.Read(make([]byte, 1)); err != nil { // it speaks: the guest is there
		t.Fatal(err)
	}
	p.Kill9()
	line.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, line); err != nil {
		t.Errorf("the line after its death: %v", err)
	}
	ps, err := l.Laptop.Processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if len(p.Args) > 0 && strings.Contains(p.Args[0], "linux.uml") {
			t.Errorf("left: %v", p)
		}
	}
}
