package socks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
	"github.com/bodkin-net/bodkin/carrier/tcp"
)

// A program is a real proxy that runs on a port of 127.0.0.1.
type program struct {
	address string
	said    *words
}

// words keeps what a program prints.
type words struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(b)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// start runs a proxy in namespaces of its own, of processes and mounts, until the test ends, and waits for it to take a connection. PORT and
// DIR, a directory with those files, are replaced in the files and the arguments.
func start(t *testing.T, files map[string]string, arguments ...string) *program {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: proxies change to accounts of their own")
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free now
	if err != nil {
		t.Fatal(err)
	}
	p := &program{address: l.Addr().String(), said: new(words)}
	l.Close()
	_, port, _ := net.SplitHostPort(p.address)
	fill := strings.NewReplacer("PORT", port, "DIR", dir)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fill.Replace(text)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range arguments {
		arguments[i] = fill.Replace(arguments[i])
	}
	cmd := exec.Command(arguments[0], arguments[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, p.said, p.said
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill() // the first process of its namespace: all others end with it
		<-ended
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.Dial("tcp", p.address)
		if err == nil {
			c.Close()
			return p
		}
		select {
		case <-tick.C:
		case <-ended:
			t.Fatalf("%s ended: %s", arguments[0], p.said)
		case <-ctx.Done():
			t.Fatalf("%s does not listen: %s", arguments[0], p.said)
		}
	}
}

func (p *program) dial(t *testing.T, h carrier.Hop) (carrier.Stream, error) {
	reach := carrier.Dial(func(ctx context.Context) (carrier.Stream, error) { return tcp.Dial(ctx, p.address, nil) })
	return reach.Then(h)(t.Context())
}

// far is what a target runs: carriertest.Serve on each connection.
func far(t *testing.T, address string) string {
	t.Helper()
	l, err := tcp.Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer s.Close()
				carriertest.Serve(ctx, s)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// both moves 20 MiB each way at once, made from seeds, and compares hashes. An echo
// would not do: microsocks holds up one way while the other is full.
func both(t *testing.T, s carrier.Stream) {
	t.Helper()
	const n = 20 << 20
	made := func(seed byte) io.Reader { // as the far side makes them
		var key [32]byte
		for i := 0; i < len(key); i += 8 {
			key[i] = seed
		}
		return io.LimitReader(rand.NewChaCha8(key), n)
	}
	sum := func(r io.Reader) []byte {
		hash := sha256.New()
		io.Copy(hash, r)
		return hash.Sum(nil)
	}
	fmt.Fprintf(s, "both %d 7\n", n)
	var sending error
	var all sync.WaitGroup
	all.Go(func() { _, sending = io.Copy(struct{ io.Writer }{s}, made(8)) })
	got := sum(io.LimitReader(s, n))
	theirs := make([]byte, sha256.Size) // of what they got
	_, err := io.ReadFull(s, theirs)
	all.Wait()
	if err != nil || sending != nil || !bytes.Equal(got, sum(made(7))) || !bytes.Equal(theirs, sum(made(8))) {
		t.Errorf("20 MiB each way: %v, %v; arrived here %v, there %v", sending, err, bytes.Equal(got, sum(made(7))), bytes.Equal(theirs, sum(made(8))))
	}
}

// shut is an address that nobody listens on.
const shut = "127.0.0.1:1"

const password = `pass "word": \ 1`

func isRefused(err error) bool { return errors.As(err, new(*carrier.RefusedError)) }

const dante = `
logoutput: stderr
internal: 127.0.0.1 port = PORT
external: lo
user.privileged: root
user.unprivileged: nobody
clientmethod: none
socksmethod: METHOD
client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks block { from: 0.0.0.0/0 to: 127.0.0.1/32 port = 22 }
socks pass {
	from: 0.0.0.0/0 to: 127.0.0.0/8
	command: connect
}
`

// startDante starts danted in a mount namespace of its own, where there is an account me
// with the password, and a host that only the proxy knows.
func startDante(t *testing.T, method string) *program {
	hash, err := exec.Command("openssl", "passwd", "-6", password).Output()
	if err != nil {
		t.Fatal(err)
	}
	accounts, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	return start(t, map[string]string{
		"config": strings.ReplaceAll(dante, "METHOD", method),
		"hosts":  "127.0.0.1 gw.example.org\n",
		"passwd": string(accounts) + "me:x:31337:31337::/:/bin/false\n",
		"shadow": "me:" + strings.TrimSpace(string(hash)) + ":19000:0:99999:7:::\n",
	}, "sh", "-c", "for f in hosts passwd shadow; do mount --bind DIR/$f /etc/$f || exit; done; exec danted -f DIR/config")
}

func TestDante(t *testing.T) {
	target := far(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(target)
	t.Run("without", func(t *testing.T) {
		p := startDante(t, "none")
		for name, hop := range map[string]carrier.Hop{
			"5, address": V5(target, Auth{}), "5, name": V5("gw.example.org:"+port, Auth{}), "5, user not asked for": V5(target, Auth{User: "me"}),
			"4": V4a(target, Auth{}), // it takes a name of 4a for an address, 0.0.0.1
		} {
			s, err := p.dial(t, hop)
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, p.said)
				continue
			}
			both(t, s)
			s.Close()
		}
		_, err := p.dial(t, V5("127.0.0.1:22", Auth{}))
		if !isRefused(err) || !strings.Contains(err.Error(), "not allowed by its rules") {
			t.Errorf("a forbidden target: %v", err)
		}
		_, err = p.dial(t, V5(shut, Auth{}))
		if err == nil || isRefused(err) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("a shut port: %v", err)
		}
		if _, err = p.dial(t, V4a("127.0.0.1:22", Auth{})); !isRefused(err) {
			t.Errorf("a forbidden target by 4: %v", err)
		}
	})
	t.Run("password", func(t *testing.T) {
		p := startDante(t, "username")
		withPassword(t, p, target)
		if _, err := p.dial(t, V4a(target, Auth{})); !isRefused(err) {
			t.Errorf("by 4, which knows no password: %v", err)
		}
	})
	t.Run("suite", func(t *testing.T) {
		p := startDante(t, "none")
		carriertest.Test(t, func(t *testing.T) carrier.Stream {
			s, err := p.dial(t, V5(target, Auth{}))
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
}

// withPassword tries a proxy that wants me and password.
func withPassword(t *testing.T, p *program, target string) {
	t.Helper()
	auth := func(password string) Auth {
		return Auth{User: "me", Proxy: p.address, Secret: func(context.Context, string) (string, error) { return password, nil }}
	}
	s, err := p.dial(t, V5(target, auth(password)))
	if err != nil {
		t.Fatalf("%v\n%s", err, p.said)
	}
	both(t, s)
	s.Close()
	if _, err := p.dial(t, V5(target, auth("other"))); !isRefused(err) || !strings.Contains(err.Error(), `wrong user or password for "me"`) {
		t.Errorf("a wrong password: %v", err)
	}
	if _, err := p.dial(t, V5(target, Auth{Proxy: p.address})); !isRefused(err) || !strings.Contains(err.Error(), "wants a user") {
		t.Errorf("no password: %v", err)
	}
	if _, err := p.dial(t, V5(shut, auth(password))); err == nil || isRefused(err) {
		t.Errorf("a shut port: %v", err)
	}
}

func TestMicrosocks(t *testing.T) {
	target := far(t, "[::1]:0")
	t.Run("without", func(t *testing.T) {
		p := start(t, nil, "microsocks", "-i", "127.0.0.1", "-p", "PORT")
		for _, a := range []Auth{{}, {User: "me"}} {
			s, err := p.dial(t, V5(target, a))
			if err != nil {
				t.Fatalf("%v\n%s", err, p.said)
			}
			both(t, s)
			s.Close()
		}
		if _, err := p.dial(t, V5(shut, Auth{})); err == nil || isRefused(err) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("a shut port: %v", err)
		}
		if _, err := p.dial(t, V4a("gw:22", Auth{})); err == nil {
			t.Error("a tunnel by a version that it does not know")
		}
	})
	t.Run("password", func(t *testing.T) {
		p := start(t, nil, "microsocks", "-i", "127.0.0.1", "-p", "PORT", "-u", "me", "-P", password)
		withPassword(t, p, target)
	})
}

// TestOpenSSH: ssh -D, which is a proxy of either version, in front of an sshd of its own.
func TestOpenSSH(t *testing.T) {
	target := far(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(target)
	p := start(t, map[string]string{
		"hosts": "127.0.0.1 gw.example.org\n",
		"sshd":  "HostKey DIR/key\nAuthorizedKeysFile DIR/key.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n",
	}, "sh", "-c", `
		mount --bind DIR/hosts /etc/hosts && mount -t tmpfs none /run && mkdir /run/sshd &&
		ssh-keygen -q -t ed25519 -N "" -f DIR/key &&
		exec ssh -F none -N -D 127.0.0.1:PORT -o ExitOnForwardFailure=yes -o BatchMode=yes -o UserKnownHostsFile=/dev/null \
			-o StrictHostKeyChecking=no -o ProxyCommand="/usr/sbin/sshd -i -e -f DIR/sshd" -i DIR/key root@localhost`)
	for name, hop := range map[string]carrier.Hop{
		"5": V5(target, Auth{}), "5, name": V5("gw.example.org:"+port, Auth{}),
		"4": V4a(target, Auth{}), "4a": V4a("gw.example.org:"+port, Auth{User: "me"}),
	} {
		s, err := p.dial(t, hop)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, p.said)
			continue
		}
		both(t, s)
		s.Close()
	}
	for _, hop := range []carrier.Hop{V5(shut, Auth{}), V4a(shut, Auth{})} {
		if _, err := p.dial(t, hop); !errors.As(err, new(*carrier.HangUpError)) {
			t.Errorf("a shut port, of which ssh says nothing: %v", err)
		}
	}
}
