package httpproxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
	"github.com/bodkin-net/bodkin/carrier/tcp"
)

func TestMain(m *testing.M) {
	// Squid puts parentheses around the name in the arguments.
	if name, err := os.Executable(); err == nil && filepath.Base(name) == helper {
		help(os.Stdin, os.Stdout)
		return
	}
	os.Exit(m.Run())
}

// helper is the name by which this test is a program that squid asks about NTLM. Its own
// ntlm_fake_auth sends a challenge whose fields lie beyond its end, and verifies nothing.
const helper = "ntlm-helper"

// help answers squid's questions (its wiki, "NTLM Authentication helper"): YR for a
// challenge, KK with the answer to it.
func help(in io.Reader, out io.Writer) {
	server := [8]byte{8, 7, 6, 5, 4, 3, 2, 1}
	info := append(append([]byte{2, 0, 6, 0}, unicode16("LAB")...), 0, 0, 0, 0)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		kind, text, _ := strings.Cut(lines.Text(), " ")
		message, err := base64.StdEncoding.DecodeString(text)
		switch {
		case kind == "YR":
			fmt.Fprintln(out, "TT", base64.StdEncoding.EncodeToString(ntlmChallenge(server, "LAB", info)))
		case kind == "KK" && err == nil:
			if err = ntlmGood(message, server, "LAB", "me", stored, info); err == nil {
				fmt.Fprintln(out, "AF me")
			} else {
				fmt.Fprintln(out, "NA", err)
			}
		default:
			fmt.Fprintln(out, "BH what is that?")
		}
	}
}

// A program is a real proxy that runs on a port of 127.0.0.1.
type program struct {
	address string
	dir     string // its own, which its user may write to
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

// start runs a proxy as the account, in a namespace of its own, until the test ends, and waits for it to take a
// connection. settings is its configuration, in which PORT and DIR are replaced;
// arguments the command, with CONFIG for the configuration's file.
func start(t *testing.T, account string, files map[string]string, settings string, arguments ...string) *program {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: proxies change to accounts of their own")
	}
	dir, err := os.MkdirTemp("", "proxy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	owner, err := user.Lookup(account)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free now
	if err != nil {
		t.Fatal(err)
	}
	p := &program{address: l.Addr().String(), dir: dir, said: new(words)}
	l.Close()
	_, port, _ := net.SplitHostPort(p.address)
	fill := strings.NewReplacer("PORT", port, "DIR", dir, "CONFIG", filepath.Join(dir, "config"))
	files["config"] = settings
	for name, text := range files {
		path := filepath.Join(dir, name)
		if name == helper {
			program, err := os.ReadFile("/proc/self/exe")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, program, 0o700); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, []byte(fill.Replace(text)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
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

func (p *program) reach(ctx context.Context) (carrier.Stream, error) {
	return tcp.Dial(ctx, p.address, nil)
}

// far is what a target runs: carriertest.Serve on each connection.
func far(t *testing.T) (address string) {
	t.Helper()
	l, err := tcp.Listen(t.Context(), "127.0.0.1:0")
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

// both moves 20 MiB each way at once, made from seeds, and compares hashes.
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

// squid has in common what every squid below has. It allows CONNECT to one port alone.
const squid = `
http_port 127.0.0.1:PORT
visible_hostname proxy.example.org
cache_effective_user proxy
pid_filename DIR/pid
coredump_dir DIR
cache_log /dev/null
access_log none
cache_store_log none
netdb_filename none
cache deny all
max_filedescriptors 1024
icp_port 0
pinger_enable off
shutdown_lifetime 0 seconds
connect_timeout 5 seconds
acl tunnels port TARGET
acl CONNECT method CONNECT
http_access deny !tunnels
`

func startSquid(t *testing.T, target string, files map[string]string, settings string) *program {
	_, port, _ := net.SplitHostPort(target)
	if files == nil {
		files = map[string]string{}
	}
	settings = strings.ReplaceAll(squid, "TARGET", port+" 1") + settings // nobody listens on port 1
	name := fmt.Sprintf("bodkin%d", rand.Uint32())
	return start(t, "proxy", files, settings, "/usr/sbin/squid", "-N", "-d", "1", "-n", name, "-f", "CONFIG")
}

// shut is an address that squid allows and nobody listens on.
const shut = "127.0.0.1:1"

func crypt(t *testing.T, password string) string {
	t.Helper()
	out, err := exec.Command("openssl", "passwd", "-apr1", password).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

const password = `pass "word": \ 1`

// stored is MD4 of password in UTF-16, as Windows stores it.
const stored = "797ae1db511f8bcf0fb9391b41d43909"

func TestSquid(t *testing.T) {
	target := far(t)
	const require = "acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n"
	methods := []struct {
		name     string
		user     string
		files    map[string]string
		settings string
		anybody  bool // any password is good
	}{
		{"without", "", nil, "http_access allow all\n", true},
		{"Basic", "me", map[string]string{"users": "me:" + crypt(t, password) + "\n"},
			"auth_param basic program /usr/lib/squid/basic_ncsa_auth DIR/users\nauth_param basic realm lab\n" + require, false},
		{"Digest", "me", map[string]string{"users": fmt.Sprintf("me:lab:%x\n", md5.Sum([]byte("me:lab:"+password)))},
			"auth_param digest program /usr/lib/squid/digest_file_auth -c DIR/users\nauth_param digest realm lab\n" +
				"auth_param basic program /usr/lib/squid/basic_ncsa_auth /dev/null\n" + require, false},
		{"NTLM", `LAB\me`, map[string]string{helper: ""}, "auth_param ntlm program DIR/" + helper + "\n" + require, false},
	}
	for _, m := range methods {
		t.Run(m.name, func(t *testing.T) {
			p := startSquid(t, target, m.files, m.settings)
			dial := func(target, with string) (_ carrier.Stream, asked int, _ error) {
				c := as(m.user, with, &asked)
				c.Proxy, c.Target, c.Basic = p.address, target, true
				s, err := Dial(p.reach, c)(t.Context())
				return s, asked, err
			}
			s, asked, err := dial(target, password)
			if err != nil {
				t.Fatalf("%v\n%s", err, p.said)
			}
			defer s.Close()
			if wanted := m.user != ""; wanted != (asked == 1) {
				t.Errorf("asked %d times for the password", asked)
			}
			both(t, s)

			if !m.anybody {
				_, _, err := dial(target, "other")
				mustBeRefused(t, err, "wrong user or password")
			}
			_, _, err = dial("127.0.0.1:22", password)
			mustBeRefused(t, err, "403 Forbidden", "ERR_ACCESS_DENIED")
			_, _, err = dial(shut, password)
			if err == nil || errors.As(err, new(*carrier.RefusedError)) || !strings.Contains(err.Error(), "503 Service Unavailable, ERR_CONNECT_FAIL 111") {
				t.Errorf("a shut port: %v", err)
			}
			if m.user != "" {
				_, err = Dial(p.reach, Config{Proxy: p.address, Target: target})(t.Context())
				mustBeRefused(t, err, "wants a user")
			}
		})
	}
}

// TestSquidSuite: a tunnel is a carrier like any other.
func TestSquidSuite(t *testing.T) {
	target := far(t)
	p := startSquid(t, target, nil, "http_access allow all\n")
	carriertest.Test(t, func(t *testing.T) carrier.Stream {
		s, err := Dial(p.reach, Config{Proxy: p.address, Target: target})(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestTinyproxy(t *testing.T) {
	target := far(t)
	_, port, _ := net.SplitHostPort(target)
	for _, user := range []string{"", "me"} {
		t.Run("user "+user, func(t *testing.T) {
			const secret = "password-1" // its configuration takes letters, digits and -
			settings := "Port PORT\nListen 127.0.0.1\nUser tinyproxy\nGroup tinyproxy\nTimeout 60\nMaxClients 20\nConnectPort " + port + "\nConnectPort 1\n"
			if user != "" {
				settings += "BasicAuth me " + secret + "\n"
			}
			p := start(t, "tinyproxy", map[string]string{}, settings, "/usr/bin/tinyproxy", "-d", "-c", "CONFIG")
			dial := func(target, with string) (carrier.Stream, error) {
				var asked int
				c := as(user, with, &asked)
				c.Proxy, c.Target, c.Basic = p.address, target, true
				return Dial(p.reach, c)(t.Context())
			}
			s, err := dial(target, secret)
			if err != nil {
				t.Fatalf("%v\n%s", err, p.said)
			}
			defer s.Close()
			both(t, s)
			if user != "" {
				_, err = dial(target, "other")
				mustBeRefused(t, err, "wrong user or password")
			}
			_, err = dial("127.0.0.1:22", secret)
			mustBeRefused(t, err, "403")
			if _, err = dial(shut, secret); err == nil || errors.As(err, new(*carrier.RefusedError)) {
				t.Errorf("a shut port: %v", err)
			}
		})
	}
}

// TestNotAProxy: what other servers say to CONNECT.
func TestNotAProxy(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve func(c net.Conn)
	}{
		{"sshd", func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n"); io.Copy(io.Discard, c) }},
		{"TLS", func(c net.Conn) { tls.Server(c, &tls.Config{}).Handshake() }},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		running.Go(func() {
			if conn, err := l.Accept(); err == nil {
				c.serve(conn)
				conn.Close()
			}
		})
		address := l.Addr().String()
		reach := func(ctx context.Context) (carrier.Stream, error) { return tcp.Dial(ctx, address, nil) }
		s, err := Dial(reach, Config{Proxy: address, Target: "gw:22"})(t.Context())
		var hint string
		if refused := new(carrier.RefusedError); errors.As(err, &refused) {
			hint = refused.Hint
		} else if hungUp := new(carrier.HangUpError); errors.As(err, &hungUp) {
			hint = hungUp.Hint
		}
		if err == nil || !strings.Contains(hint, "is a web proxy") {
			t.Errorf("%s: %v, %q", c.name, err, hint)
		}
		if s.ReadWriteCloser != nil {
			s.Close()
		}
		l.Close()
		running.Wait()
	}
}
