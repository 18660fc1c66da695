package ssh

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/carrier/farhalf"
)

func TestCarrier(t *testing.T) {
	server := startServer(t)
	carriertest.Test(t, func(t *testing.T) carrier.Stream {
		s, info := dial(t, server.client("exec "+os.Args[0]+" serve"))
		if !info.Direct {
			t.Error("ssh connected by itself")
		}
		return s
	})
}

// TestOurSocket wants sshd to see the connection that Dial made, and nothing left
// of the way it took to ssh.
func TestOurSocket(t *testing.T) {
	server := startServer(t)
	t.Setenv("TMPDIR", t.TempDir())
	for _, shell := range []string{"/bin/sh", "/usr/bin/fish", "/usr/bin/tcsh", "/usr/bin/zsh"} {
		t.Setenv("SHELL", shell) // runs the ProxyCommand
		c := server.client("echo $SSH_CONNECTION; exec cat")
		var used func() []string
		c.Dial, used = dialer()
		s, info := dial(t, c)
		said := make([]byte, 200)
		n, err := s.Read(said)
		if err != nil {
			t.Fatalf("%s: %v", shell, err)
		}
		f := strings.Fields(string(said[:n]))
		if len(f) != 4 || net.JoinHostPort(f[0], f[1]) != used()[0] || len(used()) != 1 {
			t.Errorf("%s: sshd sees %q, we connected from %q", shell, said[:n], used())
		}
		want := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(server.port))
		if peers, err := info.Peers(); err != nil || !slices.Equal(peers, []netip.AddrPort{want}) {
			t.Errorf("peers %v, %v", peers, err)
		}
		if info.Host != "127.0.0.1" || int(info.Port) != server.port || info.User != "root" || info.Notes != nil {
			t.Errorf("%+v", info)
		}
		if left, _ := os.ReadDir(os.TempDir()); len(left) != 0 {
			t.Errorf("%s: left in the temporary directory: %v", shell, left)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestOfferWithdrawn: an ssh that never fetches the socket leaves nothing behind.
func TestOfferWithdrawn(t *testing.T) {
	server := startServer(t)
	t.Setenv("TMPDIR", t.TempDir())
	c := server.client("true")
	c.FdpassCommand = []string{"false"}
	err := fails(t, c)
	if kind, _, _ := kindOf(err); kind != Other || !strings.Contains(err.Error(), "proxy dialer did not pass back a connection") {
		t.Error(err)
	}
	if left, _ := os.ReadDir(os.TempDir()); len(left) != 0 {
		t.Errorf("left in the temporary directory: %v", left)
	}
}

// TestSSHConnects goes by the user's jump host and proxy, where ssh connects, and
// finds what it is connected to.
func TestSSHConnects(t *testing.T) {
	server := startServer(t)
	config, err := os.ReadFile(server.config)
	if err != nil {
		t.Fatal(err)
	}
	server.write(t, "config", string(config)+fmt.Sprintf(`
Host jumped
 ProxyJump gw
Host proxied
 ProxyCommand nc %%h %%p
Host jumped proxied
 HostName 127.0.0.1
 Port %d
 User root
 IdentityFile %[2]s/client_key
 UserKnownHostsFile %[2]s/known_hosts
`, server.port, server.dir))
	for _, c := range []struct {
		host string
		dial bool
	}{{"jumped", true}, {"proxied", true}, {"gw", false}} {
		config := server.client("exec cat")
		config.Target.Host = c.host
		if !c.dial {
			config.Dial = nil
		}
		if c.host == "jumped" { // ssh starts another for the jump, which needs -F as well
			config.Program = append(config.Program, "-J", "gw")
		}
		s, info := dial(t, config)
		if info.Direct {
			t.Errorf("%s: the socket is ours", c.host)
		}
		s.Write([]byte("x"))
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatalf("%s: %v", c.host, err)
		}
		want := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(server.port))
		if peers, err := info.Peers(); err != nil || !slices.Equal(peers, []netip.AddrPort{want}) {
			t.Errorf("%s: peers %v, %v; want %v", c.host, peers, err, want)
		}
		s.Close()
		if peers, err := info.Peers(); err == nil {
			t.Errorf("%s: peers after Close: %v", c.host, peers)
		}
	}
}

func TestFailures(t *testing.T) {
	server := startServer(t)
	closed := freePort(t)
	for _, c := range []struct {
		name    string
		change  func(*Config)
		kind    Kind
		refused bool
		hint    string
	}{
		{"bad key", func(c *Config) {
			c.Target = Target{Host: "127.0.0.1", Port: uint16(server.port), User: "root"}
			c.Program = append(c.Program, "-i", server.dir+"/other_key", "-o", "UserKnownHostsFile="+server.dir+"/known_hosts")
		}, PermissionDenied, true, "other_key"},
		{"unknown host key", func(c *Config) { c.Program = append(c.Program, "-o", "UserKnownHostsFile=/dev/null") }, HostKeyUnknown, true, "fingerprint"},
		{"not checked by the user", func(c *Config) {
			c.Program = append(c.Program, "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no")
		}, HostKeyUnknown, true, "fingerprint"},
		{"refused", func(c *Config) { c.Target.Port = uint16(closed) }, ConnectionRefused, false, "nothing listens"},
		{"refused, ssh connects", func(c *Config) { c.Target.Port = uint16(closed); c.Dial = nil }, ConnectionRefused, false, "nothing listens"},
		{"name not found", func(c *Config) { c.Target.Host = "no-such-host.invalid" }, NameNotFound, false, "check the name"},
		{"no program", func(c *Config) { c.Program = []string{"no-such-ssh"} }, NoProgram, true, "-e"},
		{"not an ssh", func(c *Config) { c.Program = []string{"false"} }, BadConfig, true, "OpenSSH"},
		{"killed", func(c *Config) { c.Program = []string{"sh", "-c", "kill -9 $$"} }, CommandEnded, false, ""},
		{"bad option", func(c *Config) { c.Program = append(c.Program, "-o", "Nonsense=yes") }, BadConfig, true, "correct"},
		{"no config", func(c *Config) { c.Program = []string{"ssh", "-F", "/nowhere"} }, BadConfig, true, "after -F"},
		{"no common algorithm", func(c *Config) { c.Program = append(c.Program, "-o", "KexAlgorithms=diffie-hellman-group1-sha1") }, NoCommonAlgorithm, true, "old server"},
		{"command not found", func(c *Config) { c.RemoteCommand = "exec no-such-command" }, CommandEnded, false, ""},
		{"command's status", func(c *Config) { c.RemoteCommand = "exit 3" }, CommandEnded, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := server.client("exec cat")
			c.change(&config)
			err := fails(t, config)
			t.Log(err)
			kind, hint, refused := kindOf(err)
			if kind != c.kind || refused != c.refused || !strings.Contains(hint, c.hint) {
				t.Errorf("%v: kind %q, refused %v, hint %q", err, kind, refused, hint)
			}
		})
	}
}

// TestHostKeyChanged: neither key nor password goes to a server that is not the
// known one.
func TestHostKeyChanged(t *testing.T) {
	server := startServer(t)
	server.write(t, "known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", server.port, server.newKey(t, "impostor")))
	for _, options := range [][]string{nil, {"-o", "StrictHostKeyChecking=no"}, {"-o", "StrictHostKeyChecking=accept-new"}} {
		c := server.client("exec cat")
		c.Program = append(c.Program, options...)
		err := fails(t, c)
		kind, hint, refused := kindOf(err)
		if kind != HostKeyChanged || !refused || !strings.Contains(hint, fmt.Sprintf("ssh-keygen -R '[127.0.0.1]:%d'", server.port)) {
			t.Errorf("%q: %v; hint %q", options, err, hint)
		}
	}
	if server.logged("userauth-request") {
		t.Error("an attempt to log in was made")
	}
}

// TestUsersConfig has a config that would break the way or open another, were it
// followed.
func TestUsersConfig(t *testing.T) {
	server := startServer(t)
	mark := filepath.Join(server.dir, "local-command-ran")
	forward := freePort(t)
	config, err := os.ReadFile(server.config)
	if err != nil {
		t.Fatal(err)
	}
	server.write(t, "config", string(config)+fmt.Sprintf(` PermitLocalCommand yes
 LocalCommand touch %s
 LocalForward 127.0.0.1:%d 127.0.0.1:22
 ForwardAgent yes
 RequestTTY force
 RemoteCommand true
 SessionType none
 StdinNull yes
 ControlMaster auto
 ControlPath %s/control
 ControlPersist yes
 EscapeChar ~
 LogLevel QUIET
 StrictHostKeyChecking accept-new
 VerifyHostKeyDNS yes
`, mark, forward, server.dir))
	c := server.client(`echo "agent=$SSH_AUTH_SOCK"; tty; exec cat`)
	c.Program = append(c.Program, "-A", "-t", "-M", "-S", server.dir+"/control")
	s, info := dial(t, c)
	want := "agent=\nnot a tty\n~.\r\n\x00\xff"
	s.Write([]byte(want[len("agent=\nnot a tty\n"):]))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s, got); err != nil || string(got) != want {
		t.Errorf("came back: %q, %v", got, err)
	}
	if len(info.Notes) != 2 || !strings.Contains(info.Notes[0], "accept-new") || !strings.Contains(info.Notes[1], "VerifyHostKeyDNS") {
		t.Errorf("notes: %q", info.Notes)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("LocalCommand ran")
	}
	if _, err := os.Stat(filepath.Join(server.dir, "control")); err == nil {
		t.Error("there is a control socket")
	}
	if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", forward)); err == nil {
		c.Close()
		t.Error("the forwarding is open")
	}
	s.Close()

	server.write(t, "config", strings.ReplaceAll(string(config), "client_key", "other_key")+" LogLevel QUIET\n")
	err = fails(t, server.client("exec cat"))
	if kind, _, _ := kindOf(err); kind != PermissionDenied {
		t.Errorf("LogLevel QUIET hides the reason: %v", err)
	}
}

func TestCipher(t *testing.T) {
	if !hasAES() {
		t.Log("this CPU has no AES: ssh's own choice is kept")
	}
	for _, c := range []struct {
		options []string
		fast    bool
	}{
		{nil, hasAES()},
		{[]string{"-c", "aes256-ctr,aes128-gcm@openssh.com"}, false},
		{[]string{"-o", "Ciphers=chacha20-poly1305@openssh.com"}, false},
	} {
		server := startServer(t)
		config := server.client("exec true")
		config.Program = append(config.Program, c.options...)
		if err := fails(t, config); err != io.EOF {
			t.Fatal(err)
		}
		if server.logged("kex: client->server cipher: "+fastCipher) != c.fast {
			t.Errorf("%q: fast cipher used: %v", c.options, !c.fast)
		}
	}
}

// TestFarHalf starts a far half through sshd: uploaded, found again, and forced.
func TestFarHalf(t *testing.T) {
	cache := t.TempDir()
	first := startServer(t, "SetEnv XDG_CACHE_HOME="+cache)
	builds, err := farhalf.Find("")
	if err != nil {
		t.Fatal(err)
	}
	run := func(at *server) farhalf.Result {
		t.Helper()
		nonce := farhalf.NewNonce()
		s, _ := dial(t, at.client(farhalf.Command(nonce, builds.Hashes()...)))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		s, result, err := farhalf.Start(ctx, s, farhalf.Options{Nonce: nonce, Builds: builds})
		if err != nil {
			t.Fatal(err)
		}
		s.Write([]byte("link"))
		if _, err := io.ReadFull(s, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		s.Close()
		return result
	}
	if r := run(first); !r.Uploaded || r.Directory != cache+"/bodkin" {
		t.Errorf("first: %+v", r)
	}
	if r := run(first); r.Uploaded {
		t.Errorf("second: %+v", r)
	}
	if r := run(startServer(t, "ForceCommand "+os.Args[0]+" forced")); r.Uploaded {
		t.Errorf("forced: %+v", r)
	}

	refusing := startServer(t, "ForceCommand /usr/sbin/nologin")
	nonce := farhalf.NewNonce()
	s, _ := dial(t, refusing.client(farhalf.Command(nonce)))
	_, _, err = farhalf.Start(t.Context(), s, farhalf.Options{Nonce: nonce, Builds: builds})
	if _, _, refused := kindOf(err); !refused || !strings.Contains(err.Error(), "currently not available") {
		t.Error(err)
	}

	c := first.client(farhalf.Command(nonce))
	c.Program = append(c.Program, "-o", "UserKnownHostsFile=/dev/null")
	s, _ = dial(t, c)
	_, _, err = farhalf.Start(t.Context(), s, farhalf.Options{Nonce: nonce, Builds: builds})
	if kind, _, refused := kindOf(err); kind != HostKeyUnknown || !refused {
		t.Errorf("ssh's own reason is lost: %v", err)
	}
}

// TestStandardError passes on what the far side writes there, made printable.
func TestStandardError(t *testing.T) {
	server := startServer(t)
	lines := make(chan string, 10)
	c := server.client(`printf "\033]0;x\007hello\n" >&2; exec cat`)
	c.Log = func(line string) {
		if !strings.HasPrefix(line, "debug1: ") { // sshd's own
			lines <- line
		}
	}
	dial(t, c)
	select {
	case line := <-lines:
		if line != "?]0;x?hello" {
			t.Errorf("got %q", line)
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing came")
	}
}

// TestServerDies: the reason reaches the reader of a running connection.
func TestServerDies(t *testing.T) {
	server := startServer(t)
	s, _ := dial(t, server.client(`echo up; read x; kill -9 $PPID; exec cat`))
	if _, err := io.ReadFull(s, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	s.Write([]byte("\n"))
	_, err := s.Read(make([]byte, 1))
	if kind, _, refused := kindOf(err); kind != Closed || refused {
		t.Errorf("%v", err)
	}
}

// TestSocketIsWatched: whoever asks the Stream has the socket asked that ssh got, and is
// told nothing. It is let go at the end.
func TestSocketIsWatched(t *testing.T) {
	server := startServer(t)
	c := server.client("exec cat")
	own := new(watchedSocket)
	inner := c.Dial
	c.Dial = func(ctx context.Context, network, address string) (carrier.Stream, error) {
		s, err := inner(ctx, network, address)
		if err == nil {
			own.ReadWriteCloser, own.socket = s.ReadWriteCloser, s.ReadWriteCloser.(socket)
		}
		return carrier.Stream{ReadWriteCloser: own}, err
	}
	s, _ := dial(t, c)
	if p := s.Socket.Path(); p != (carrier.Path{}) || own.asked != 1 {
		t.Errorf("it says %+v, and asked %d times", p, own.asked)
	}
	s.Close()
	if own.released != 1 {
		t.Errorf("released %d times", own.released)
	}
}

// A watchedSocket counts who watches it.
type watchedSocket struct {
	io.ReadWriteCloser
	socket
	asked, released int
}

func (w *watchedSocket) Watch() (carrier.Socket, func()) { return w, func() { w.released++ } }

func (w *watchedSocket) Path() carrier.Path {
	w.asked++
	return carrier.Path{Lost: 1}
}

// TestDialEnds: ctx ends a Dial that waits for an address that never answers.
func TestDialEnds(t *testing.T) {
	server := startServer(t)
	c := server.client("exec cat")
	c.Dial = func(ctx context.Context, _, _ string) (carrier.Stream, error) {
		<-ctx.Done()
		return carrier.Stream{}, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := Dial(ctx, c); err == nil || ctx.Err() == nil {
		t.Error(err)
	}
}

// TestConnectErrors names each address with its own reason.
func TestConnectErrors(t *testing.T) {
	c := Config{Target: Target{Host: "gw"}}
	c.Dial, _ = dialer()
	closed := freePort(t)
	c.Lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}, nil
	}
	s := settings{"hostname": {"gw"}, "port": {fmt.Sprint(closed)}}
	_, _, err := c.connect(t.Context(), s)
	if kind, _, _ := kindOf(err); kind != ConnectionRefused || !strings.Contains(err.Error(), fmt.Sprintf("127.0.0.1:%d: connection refused; [::1]:%[1]d: ", closed)) {
		t.Error(err)
	}
}

// TestOfferChecksUser: a process of another user gets no socket.
func TestOfferChecksUser(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "socket")
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	o := &offer{path: path, file: file, l: u, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.serve(os.Getuid() + 1)
		o.remove()
	}()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if fd, err := receive(c); err == nil {
		t.Errorf("received descriptor %d", fd)
	}
	o.close()
	o.close()
	if err := ReceiveAndPass(path); err == nil {
		t.Error("passed on what is gone")
	}
}

// BenchmarkUpload sends through ssh and sshd to a program that drops what comes.
func BenchmarkUpload(b *testing.B) {
	server := startServer(b)
	for _, direct := range []bool{true, false} {
		b.Run(fmt.Sprintf("direct=%v", direct), func(b *testing.B) {
			c := server.client("cat >/dev/null")
			if !direct {
				c.Dial = nil
			}
			s, _ := dial(b, c)
			block := make([]byte, 60<<10)
			head := make([]byte, 8)
			b.SetBytes(int64(len(block) + len(head)))
			for b.Loop() {
				if err := s.WriteBuffers(net.Buffers{head, block}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAnswer measures the time from a small write to its echo.
func BenchmarkAnswer(b *testing.B) {
	server := startServer(b)
	s, _ := dial(b, server.client("exec cat"))
	packet := make([]byte, 84)
	for b.Loop() {
		s.Write(packet)
		if _, err := io.ReadFull(s, packet); err != nil {
			b.Fatal(err)
		}
	}
}

// TestAsUser runs ssh as another user than we are: as root for the one who called
// sudo. The socket is that user's to fetch.
func TestAsUser(t *testing.T) {
	const nobody = 65534
	server := startServer(t)
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(filepath.Dir(server.dir), 0o755) // 0700 otherwise
	helper := filepath.Join(server.dir, "helper")
	if err := os.WriteFile(helper, program, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config", "client_key", "known_hosts"} {
		if err := os.Chown(filepath.Join(server.dir, name), nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	c := server.client("exec cat")
	c.User = &command.User{UID: nobody, GID: nobody}
	c.FdpassCommand = []string{helper, "fdpass"}
	s, info := dial(t, c)
	s.Write([]byte("x"))
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if owner, err := os.Stat(fmt.Sprintf("/proc/%d", info.pid)); err != nil || owner.Sys().(*syscall.Stat_t).Uid != nobody {
		t.Errorf("ssh runs as %+v, %v", owner, err)
	}
	if !info.Direct {
		t.Error("ssh connected by itself")
	}
}
