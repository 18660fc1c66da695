package e2e_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/chat"
	"github.com/bodkin-net/bodkin/carrier/farhalf"
	"github.com/bodkin-net/bodkin/carrier/line"
	"github.com/bodkin-net/bodkin/carrier/telnet"
	"github.com/bodkin-net/bodkin/carrier/tls"
	"github.com/bodkin-net/bodkin/lab"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/trust"
	"github.com/bodkin-net/bodkin/tunnel"
)

// lateLogin is a login on a terminal that is up to two seconds late with each of the
// things that it says, and with the shell in the end.
const lateLogin = `#!/bin/sh
late() {
	n=$(od -An -N2 -tu2 /dev/urandom)
	n=$((n %% 2000))
	sleep "$((n / 1000)).$(printf %%03d $((n %% 1000)))"
}
late
printf 'gw login: '
read -r user
late
stty -echo
printf 'Password: '
read -r password
stty echo
echo
late
if [ "$user/$password" != 'me/%s' ]; then
	echo 'Login incorrect'
	exit 1
fi
echo 'The far side is slow today.'
cd /home/me
exec env -i HOME=/home/me USER=me PATH=/usr/local/bin:/usr/bin:/bin TERM=dumb PS1='me@gw:~$ ' setpriv --reuid=me --regid=me --clear-groups /bin/sh -i
`

// TestThousandTelnets brings up a thousand tunnels by telnet, from the login to what
// the far half says of itself, where all is as slow as can be: one octet per read, one
// processor for this side of all of them, a hundred at once, and a far side that is up
// to two seconds late with each word. Not one may fail.
func TestThousandTelnets(t *testing.T) {
	const runs = 1000
	w := closedWorld(t)
	w.put(w.Gateway, "/usr/local/bin/late-login", fmt.Sprintf(lateLogin, password))
	for i, start := range []func(context.Context, lab.TelnetdOptions) (*lab.Inetd, error){w.Gateway.Telnetd, w.Gateway.BusyboxTelnetd} {
		if _, err := start(t.Context(), lab.TelnetdOptions{Port: telnetdPorts[i], Program: []string{"/usr/local/bin/late-login"}}); err != nil {
			t.Fatal(err)
		}
	}
	near := w.newBringUp()
	if err := near.run(within(t, patience), telnetdPorts[0]); err != nil { // puts the far half there
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	began := time.Now()
	var started, failed atomic.Int64
	var all sync.WaitGroup
	for i := range atOnce {
		all.Go(func() {
			for started.Add(1) <= runs && failed.Load() < 10 {
				if err := near.run(within(t, 2*patience), telnetdPorts[i%2]); err != nil {
					failed.Add(1)
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d bring-ups, %d failures, in %.0f s", runs, failed.Load(), time.Since(began).Seconds())
}

const atOnce = 100

// A bringUp is the near half of many tunnels.
type bringUp struct {
	w        *world
	builds   farhalf.Builds
	identity tls.Config
}

// newBringUp makes keys, which the gateway and it know of each other.
func (w *world) newBringUp() *bringUp {
	w.t.Helper()
	builds, err := farhalf.Find(program)
	if err != nil {
		w.t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	far, _, err := trust.ParsePublic(w.newKey(w.Gateway))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(w.Gateway, "/home/me/.config/bodkin/authorized_clients", trust.FormatPublic(public, "")+"\n", "me")
	return &bringUp{w, builds, tls.Config{Key: private, Verify: func(peer ed25519.PublicKey) error {
		if !peer.Equal(far) {
			return errors.New("another key")
		}
		return nil
	}}}
}

// run is one of them: what `bodkin up telnet://me@gw` does before it touches the machine.
func (b *bringUp) run(ctx context.Context, port uint16) (err error) {
	step := "dialling"
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", step, err)
		}
	}()
	conn, err := b.w.Firewall.Dial(ctx, "tcp", fmt.Sprintf("%v:%d", lab.Gateway4, port))
	if err != nil {
		return err
	}
	defer conn.Close()
	s := telnet.Open(carrier.Stream{ReadWriteCloser: tiny{conn}}, telnet.Options{}).Stream()
	below := s.ReadWriteCloser.(*telnet.Conn)

	step = "login"
	secret := func(context.Context, string) (string, error) { return password, nil }
	if s, err = chat.Login(ctx, s, chat.LoginOptions{User: "me", Secret: secret}); err != nil {
		return err
	}
	s.Unsafe = below.Stream().Unsafe

	step = "far half"
	if s, _, err = farhalf.StartInShell(ctx, s, farhalf.Options{Builds: b.builds}); err != nil {
		return err
	}
	step = "line"
	if s, _, err = line.Dial(ctx, s, line.Options{}); err != nil {
		return err
	}
	step = "key"
	if s, _, err = tls.Client(ctx, s, b.identity); err != nil {
		return err
	}
	step = "link"
	l, peer, _, err := native.Open(ctx, s, native.Hello{Software: "a test", Receives: tunnel.Caps{MTU: 1500}, Emulator: native.EmulatorKernel})
	if err != nil {
		return err
	}
	l.CloseWith(native.CloseUser, "")
	if !strings.HasPrefix(peer.Software, "bodkin e2e") || peer.Emulator != native.EmulatorNAT {
		return fmt.Errorf("the far half says of itself: %+v", peer)
	}
	return nil
}

// put writes a program.
func (w *world) put(m *lab.Machine, path, text string) {
	w.t.Helper()
	if err := m.WriteFile(path, []byte(text), 0o755, "root"); err != nil {
		w.t.Fatal(err)
	}
}
