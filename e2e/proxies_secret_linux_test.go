package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	neturl "net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

// forms are those in which a secret may be met: as it is, for URLs, in hexadecimal, and in
// base 64 wherever it stands among other octets.
func forms(secret string) (all [][]byte) {
	for _, form := range []string{secret, neturl.QueryEscape(secret), neturl.PathEscape(secret), hex.EncodeToString([]byte(secret))} {
		all = append(all, []byte(form))
	}
	for shift := range 3 {
		// What depends on its neighbours at either end is left out.
		text := base64.RawStdEncoding.EncodeToString([]byte("???"[:shift] + secret))
		all = append(all, []byte(text[(shift*8+5)/6:len(text)-1]))
	}
	return all
}

// holds reports whether text has one of the forms in it.
func holds(text []byte, forms [][]byte) bool {
	return slices.ContainsFunc(forms, func(form []byte) bool { return bytes.Contains(text, form) })
}

// A lookout reads again and again what everybody on the laptop may read of its processes, and
// root besides: their arguments and their environment.
type lookout struct {
	stop  chan struct{}
	ended chan struct{}
	looks int
	seen  map[string]bool // the programs that held a secret, and where
}

// lookOut begins to look for secrets.
func (w *world) lookOut(forms [][]byte) *lookout {
	l := &lookout{stop: make(chan struct{}), ended: make(chan struct{}), seen: map[string]bool{}}
	go func() {
		defer close(l.ended)
		for {
			select {
			case <-l.stop:
				return
			default:
			}
			all, err := w.Laptop.Processes()
			if err != nil {
				l.seen[err.Error()] = true
				return
			}
			for _, p := range all {
				for _, file := range []string{"cmdline", "environ"} {
					text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.PID, file))
					if err == nil && len(p.Args) > 0 && holds(text, forms) {
						l.seen[strings.Join(append([]string{filepath.Base(p.Args[0])}, p.Args[1:min(2, len(p.Args))]...), " ")+", "+file] = true
					}
				}
			}
			l.looks++
		}
	}()
	return l
}

// end ends the lookout and returns who held a secret.
func (l *lookout) end() (seen []string) {
	close(l.stop)
	<-l.ended
	for who := range l.seen {
		seen = append(seen, who)
	}
	slices.Sort(seen)
	return seen
}

// TestProxyPasswordIsNowhere goes by three proxies that want a password each, saying all
// there is to say, and looks for it: in the arguments and the environment of every process,
// in what bodkin says, also when it is killed with a trace of its stacks, and in every file.
func TestProxyPasswordIsNowhere(t *testing.T) {
	t.Parallel()
	w := proxyWorld(t)
	w.microsocks(asked)
	w.squid(lab.SquidOptions{ProxyOptions: asked})
	w.telnetProxy(lab.TelnetProxyOptions{User: proxyUser, Password: proxyPassword})
	secret := forms(proxyPassword)

	// First the lookout itself.
	l := w.lookOut(secret)
	plain := w.Laptop.Command(t.Context(), "sleep", "60").As("me")
	plain.Env = []string{"WORD=" + base64.StdEncoding.EncodeToString([]byte("wilma:"+proxyPassword))}
	if err := plain.Start(); err != nil {
		t.Fatal(err)
	}
	said := w.on(w.Laptop, "me", "sh", "-c", "sleep 1; : "+neturl.QueryEscape(proxyPassword))
	plain.Process.Kill()
	plain.Wait()
	if seen := l.end(); !slices.Equal(seen, []string{"sh -c, cmdline", "sleep 60, environ"}) {
		t.Fatalf("the lookout saw %q in %d looks, of a password that was there: %s", seen, l.looks, said.out)
	}

	way := viaAll([]string{"socks5://wilma@proxy", "http://wilma@firewall?auth=basic", "telnet://wilma@firewall"}, overSSH)
	for _, tt := range []struct {
		name   string
		source []string
		env    string
		has    []string // who may hold it: who was given it by the user
	}{
		{"from a file", []string{"--password", "@/home/me/proxy-password"}, "", nil},
		{"from a program", []string{"--password", "run:cat /home/me/proxy-password"}, "", nil},
		{"from the environment", []string{"--password", "env:PROXY_PASSWORD"}, "PROXY_PASSWORD=" + proxyPassword, []string{"bodkin up, environ"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := w.in(t)
			l := w.lookOut(secret)
			cmd := w.Laptop.Command(t.Context(), "bodkin", slices.Concat([]string{"up", "-d", "-vv"}, tt.source, way)...).As("me")
			if tt.env != "" {
				cmd.Env = []string{tt.env}
			}
			r := w.finish(cmd)
			text := w.laptop("bodkin", "status") + w.laptop("bodkin", "status", "--json")
			seen := l.end()
			if r.status != 0 || strings.Count(r.out, "ok proxy") != 3 {
				t.Fatalf("exit status %d:\n%s", r.status, r.out)
			}
			if !slices.Equal(seen, tt.has) {
				t.Errorf("in %d looks it was with %q, want %q", l.looks, seen, tt.has)
			}
			if holds([]byte(r.out+text), secret) {
				t.Errorf("it is shown:\n%s\n%s", r.out, text)
			}
			w.noFile(secret)
			w.down()
			w.noFile(secret)
		})
	}

	t.Run("with a trace of its stacks", func(t *testing.T) {
		w := w.in(t)
		before := w.snapshot()
		cmd := w.Laptop.Command(t.Context(), "bodkin", slices.Concat([]string{"up", "-vv", "--password", "@/home/me/proxy-password"}, way)...).As("me")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.eventually("the tunnel is up", func() bool { return strings.Contains(w.laptop("bodkin", "status"), "  up  ") })
		if err := cmd.Process.Signal(syscall.SIGQUIT); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		w.says(out.String(), "SIGQUIT", "goroutine ")
		if holds(out.Bytes(), secret) {
			t.Error("it is in what a killed bodkin says")
		}
		w.noFile(secret)
		w.noProcesses()
		w.asBefore(before, "a kill with SIGQUIT")
	})
}

// noFile wants none of the forms in a file of the laptop but the one where the user has it.
func (w *world) noFile(forms [][]byte) {
	w.t.Helper()
	args := []string{"-rlaF", "--devices=skip", "--exclude=proxy-password"}
	for _, form := range forms {
		args = append(args, "-e", string(form))
	}
	r := w.on(w.Laptop, "root", "grep", append(args, "/home", "/root", "/run", "/tmp", "/var")...)
	if r.status != 1 {
		w.t.Errorf("grep found it, or failed (%d):\n%s", r.status, r.out)
	}
}
