package e2e_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// TestPPPDWithOurSlirp is the real pppd on the laptop, and `bodkin slirp` as an
// ordinary account of the gateway where slirp was: either may call.
func TestPPPDWithOurSlirp(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Laptop.InstallPPPD(); err != nil {
		t.Fatal(err)
	}
	if err := w.Gateway.InstallAs(program, "slirp"); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name        string
		slirp, pppd []string
		bulk        bool
		end         func(slirp *lab.Cmd, pppd *lab.PPPD) error
		status      []int // pppd's, any of them
	}{
		{"pppd calls", []string{"ppp"}, nil, true,
			func(_ *lab.Cmd, p *lab.PPPD) error { return p.Signal(syscall.SIGTERM) }, []int{5}},
		{"slirp calls, and says goodbye", []string{"ppp", "initiate-options"}, []string{"silent"}, false,
			func(s *lab.Cmd, _ *lab.PPPD) error { return s.Process.Signal(syscall.SIGTERM) }, []int{16}},
		// A busy guest may miss the hangup of its line, and finds that nobody answers.
		{"slirp is killed", []string{"ppp"}, []string{"lcp-echo-interval", "2", "lcp-echo-failure", "3"}, false,
			func(s *lab.Cmd, _ *lab.PPPD) error { return s.Process.Kill() }, []int{16, 15}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := w.in(t)
			ctx := within(t, 2*patience)
			one, other, err := lab.Line()
			if err != nil {
				t.Fatal(err)
			}
			slirp := w.Gateway.Command(ctx, "slirp", row.slirp...).As("me")
			slirp.Stdin, slirp.Stdout = one, one
			words := new(said)
			slirp.Stderr = words
			err = slirp.Start()
			one.Close()
			if err != nil {
				other.Close()
				t.Fatal(err)
			}
			defer slirp.Wait()
			defer slirp.Process.Kill()
			p, err := w.Laptop.PPPD(ctx, other, append([]string{"noauth", "noipdefault", "usepeerdns", "defaultroute", "lcp-restart", "1"}, row.pppd...)...)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			defer func() {
				if t.Failed() {
					t.Logf("slirp said:\n%s\npppd said:\n%s", words, p.Log())
				}
			}()

			local, remote, err := p.AwaitUp(ctx, "ipv4")
			if err != nil {
				t.Fatal(err)
			}
			if local != "10.0.2.15" || remote != "10.0.2.2" {
				t.Errorf("pppd has %s, and %s at the other end", local, remote)
			}
			w.says(w.inGuest(p, "cat", "/etc/ppp/resolv.conf"), "nameserver 10.0.2.3")
			if page := w.inGuest(p, "curl", "-sS", "-m", "20", url(lab.Web4, "/")); page != "bodkin lab\n" {
				t.Errorf("the page is %q", page)
			}
			if row.bulk {
				w.inGuest(p, "ping", "-c", "1", "-W", "5", lab.Web4.String())
				if got := w.inGuest(p, "dig", "+short", "+time=5", "@10.0.2.3", "web.example", "A"); strings.TrimSpace(got) != lab.Web4.String() {
					t.Errorf("the name server says %q", got)
				}
				// Refused there is refused here: curl's status for that is 7.
				if _, err := p.Run(ctx, "curl", "-sS", "-m", "10", "http://"+netip.AddrPortFrom(lab.Web4, 81).String()); err == nil || !strings.Contains(err.Error(), "exit status 7") {
					t.Errorf("a closed port: %v", err)
				}
				w.bulkOfGuest(p)
			}
			if err := row.end(slirp, p); err != nil {
				t.Error(err)
			}
			if status, err := p.Exit(ctx); err != nil || !slices.Contains(row.status, status) {
				t.Errorf("pppd ended with %d, %v, want one of %d", status, err, row.status)
			}
			slirp.Wait()
		})
	}
}

// bulkOfGuest fetches and sends much over HTTP at once from a guest on the laptop,
// and compares hashes.
func (w *world) bulkOfGuest(p *lab.PPPD) {
	w.t.Helper()
	octets, err := io.ReadAll(lab.Bytes(bulkOnALine, 9))
	if err != nil {
		w.t.Fatal(err)
	}
	hash := fmt.Sprintf("%x", sha256.Sum256(octets))
	w.write(w.Laptop, "/tmp/bulk", string(octets), "root")
	began := time.Now()
	var both sync.WaitGroup
	both.Go(func() {
		got := w.inGuest(p, "sh", "-c", "curl -sS -f '"+url(lab.Web4, fmt.Sprintf("/bytes/%d?seed=9", bulkOnALine))+"' | sha256sum")
		if !strings.HasPrefix(got, hash) {
			w.t.Errorf("what came has the hash %q, want %s", got, hash)
		}
	})
	both.Go(func() {
		got := w.inGuest(p, "curl", "-sS", "-f", "-X", "POST", "-T", "/tmp/bulk", url(lab.Web4, "/upload"))
		if !strings.Contains(got, hash) {
			w.t.Errorf("what went out came as %q, want %s", got, hash)
		}
	})
	both.Wait()
	w.t.Logf("%d octets each way at once in %.1f s", bulkOnALine, time.Since(began).Seconds())
}
