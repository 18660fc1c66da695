package e2e_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/farhalf"
	"github.com/bodkin-net/bodkin/lab"
	"github.com/bodkin-net/bodkin/link/ppp"
)

// killTheOnly kills the one program of a machine whose arguments begin so.
func (w *world) killTheOnly(m *lab.Machine, args ...string) {
	w.t.Helper()
	all, err := m.Processes()
	if err != nil {
		w.t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(p lab.Process) bool {
		return len(p.Args) < len(args) || !slices.Equal(p.Args[:len(args)], args)
	})
	if len(all) != 1 {
		w.t.Fatalf("%d run %q, want 1", len(all), args)
	}
	if err := syscall.Kill(all[0].PID, syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
}

// TestPPPWithRealSlirp is `bodkin ppp` in pppd's place, and the real slirp at the end of
// a real login, as a script has it.
func TestPPPWithRealSlirp(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Gateway.InstallSlirp(); err != nil {
		t.Fatal(err)
	}
	before := w.snapshot()
	ctx := within(t, 2*patience)
	start := func(options ...string) *pppLink {
		t.Helper()
		l := &pppLink{w: w, said: new(said)}
		l.start(ctx, nil, append([]string{
			"pty", "ssh -tt -i /home/me/.ssh/id_ed25519 -o BatchMode=yes me@gw exec slirp ppp", "connect-delay", "1000",
			"noauth", "noipdefault", ":10.0.2.2", "usepeerdns",
		}, options...))
		return l
	}
	// Its routes are the script's business, as with pppd: one to the web, for a time.
	throughSlirp := func() bool {
		if w.on(w.Laptop, "root", "ip", "route", "replace", lab.Web4.String(), "dev", "ppp0").status != 0 {
			return false
		}
		r := w.on(w.Laptop, "me", "curl", "-sS", "-m", "2", url(lab.Web4, "/"))
		return r.out == "bodkin lab\n"
	}

	l := start()
	w.eventually("the web is reached through slirp", throughSlirp)
	w.laptop("ping", "-c", "1", "-W", "5", "10.0.2.2")
	w.says(l.said.String(), "local  IP address 10.0.2.15", "remote IP address 10.0.2.2", "primary   DNS address "+lab.DNS4.String())
	w.both(20_000_000)
	l.bodkin.Process.Signal(syscall.SIGTERM)
	l.exits(ctx, 5, -1)
	w.says(l.said.String(), "rcvd [LCP TermAck")
	w.asBefore(before, "bodkin ppp")
	w.eventually("slirp has gone with the login", func() bool {
		return !strings.Contains(w.on(w.Gateway, "root", "ps", "-eo", "args").out, "slirp ppp")
	})

	l = start()
	w.eventually("the web is reached through slirp", throughSlirp)
	w.killTheOnly(w.Gateway, "slirp", "ppp")
	l.exits(ctx, 16, -1)
	w.asBefore(before, "slirp's death")

	l = start("persist", "holdoff", "1")
	w.eventually("the web is reached through slirp", throughSlirp)
	w.killTheOnly(w.Gateway, "slirp", "ppp")
	w.eventually("the web is reached through another slirp", throughSlirp)
	l.bodkin.Process.Signal(syscall.SIGTERM)
	l.exits(ctx, 5, -1)
	w.asBefore(before, "bodkin ppp with persist")
}

// both fetches and sends n octets over HTTP at the same time, and compares hashes.
func (w *world) both(n int64) {
	w.t.Helper()
	began := time.Now()
	var both sync.WaitGroup
	both.Go(func() {
		got, want := sha256.New(), sha256.New()
		io.Copy(want, lab.Bytes(n, 7))
		cmd := w.Laptop.Command(within(w.t, patience), "curl", "-sS", "-f", url(lab.Web4, fmt.Sprintf("/bytes/%d?seed=7", n))).As("me")
		cmd.Stdout = got
		if err := cmd.Run(); err != nil || string(got.Sum(nil)) != string(want.Sum(nil)) {
			w.t.Errorf("down: not the same octets, %v", err)
		}
	})
	both.Go(func() {
		sent := sha256.New()
		cmd := w.Laptop.Command(within(w.t, patience), "curl", "-sS", "-f", "-X", "POST", "-T", "-", url(lab.Web4, "/upload")).As("me")
		cmd.Stdin = io.TeeReader(lab.Bytes(n, 8), sent)
		out, err := cmd.Output()
		var came lab.Upload
		json.Unmarshal(out, &came)
		if err != nil || came.SHA256 != hex.EncodeToString(sent.Sum(nil)) {
			w.t.Errorf("up: %d octets came, not the same, %v", came.Length, err)
		}
	})
	both.Wait()
	w.t.Logf("%d octets each way at once in %.1f s", n, time.Since(began).Seconds())
}

// A tiny hands on one octet per read, as a slow line does.
type tiny struct{ io.ReadWriteCloser }

func (t tiny) Read(b []byte) (int, error) { return t.ReadWriteCloser.Read(b[:min(len(b), 1)]) }

// TestThousandSlirps starts the real slirp a thousand times as `bodkin up --far
// slirp` does, on a login's terminal, where all is as slow as can be: one octet per
// read, one processor for all of it, a hundred at once, and slirp two seconds late
// with the terminal silent until then. Not one may fail.
func TestThousandSlirps(t *testing.T) {
	const runs, atOnce = 1000, 100
	w := newWorld(t, lab.Options{})
	if err := w.Gateway.InstallSlirp(); err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	began := time.Now()
	var started, failed atomic.Int64
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for started.Add(1) <= runs && failed.Load() < 10 {
				if err := w.slirpOnce(within(t, 2*patience)); err != nil {
					failed.Add(1)
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d bring-ups of slirp, %d failures, in %.0f s", runs, failed.Load(), time.Since(began).Seconds())
}

// slirpOnce is one of them.
func (w *world) slirpOnce(ctx context.Context) error {
	control, tty, err := lab.TTY()
	if err != nil {
		return err
	}
	nonce := farhalf.NewNonce()
	// What sshd does with a command and a terminal.
	shell := w.Gateway.Command(ctx, "/bin/sh", "-c", farhalf.Program(nonce, true)).As("me")
	shell.Stdin, shell.Stdout, shell.Stderr = tty, tty, tty
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = shell.Start()
	tty.Close()
	if err != nil {
		control.Close()
		return err
	}
	defer shell.Wait()
	defer shell.Process.Kill()

	s, err := farhalf.StartProgram(ctx, carrier.Stream{ReadWriteCloser: tiny{control}}, nonce, "(sleep 2); exec slirp ppp")
	if err != nil {
		control.Close()
		return err
	}
	link, err := ppp.Open(ctx, s, ppp.Config{
		IPv4: ppp.IPv4{AcceptLocal: true, AcceptRemote: true, Remote: netip.MustParseAddr("10.0.2.2"), AskDNS: true},
		IPv6: ppp.IPv6{Off: true},
	})
	if err != nil {
		return err
	}
	defer link.Close()
	if a := link.Agreed(); len(a.Local) != 1 || a.Local[0].Addr().String() != "10.0.2.15" {
		return fmt.Errorf("slirp agreed on %+v", a)
	}
	return nil
}
