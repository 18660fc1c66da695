package ssh

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/carrier/farhalf"
	"github.com/bodkin-net/bodkin/carrier/tcp"
)

// TestMain lets the test binary be the programs that ssh and sshd start.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	far := func(nonce string, ok bool) {
		s, err := command.Stdio()
		if err != nil || !ok || farhalf.Announce(s, nonce) != nil {
			os.Exit(3)
		}
		io.Copy(struct{ io.Writer }{s}, s)
		s.Close()
	}
	switch os.Args[1] {
	case "serve":
		s, err := command.Stdio()
		if err != nil {
			os.Exit(3)
		}
		carriertest.Serve(context.Background(), s)
		s.Close()
	case "fdpass":
		if err := ReceiveAndPass(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
	case "far":
		far(os.Args[3], true)
	case "forced":
		far(farhalf.NonceFromEnv())
	default:
		os.Exit(m.Run())
	}
}

// A server is a real sshd on loopback, with keys and a client's config of its own.
type server struct {
	dir    string
	port   int
	config string // the client's config file

	mu  sync.Mutex
	log []string
}

// startServer starts sshd with more lines in its config, until the test ends.
func startServer(t testing.TB, lines ...string) *server {
	t.Helper()
	s := &server{dir: t.TempDir(), port: freePort(t)}
	hostKey := s.newKey(t, "host_key")
	clientKey := s.newKey(t, "client_key")
	s.newKey(t, "other_key")
	s.write(t, "authorized_keys", clientKey)
	s.write(t, "known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", s.port, hostKey))
	s.config = s.write(t, "config", fmt.Sprintf(`Host gw
 HostName 127.0.0.1
 Port %d
 User root
 IdentityFile %[2]s/client_key
 IdentitiesOnly yes
 UserKnownHostsFile %[2]s/known_hosts
 GlobalKnownHostsFile none
`, s.port, s.dir))
	sshd := s.write(t, "sshd_config", fmt.Sprintf(`Port %d
ListenAddress 127.0.0.1
HostKey %[2]s/host_key
AuthorizedKeysFile %[2]s/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
LogLevel DEBUG1
%s
`, s.port, s.dir, strings.Join(lines, "\n")))

	ready := make(chan struct{})
	words := &carrier.Words{Line: func(line string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.log = append(s.log, line)
		if strings.HasPrefix(line, "Server listening") {
			close(ready)
		}
	}}
	// sshd insists on /run/sshd: it gets a /run of its own
	p, err := command.Start(command.Config{
		Args:   []string{"unshare", "-m", "sh", "-c", `mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -e -f "$1"`, "sh", sshd},
		Stderr: words,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(p.PID(), syscall.SIGTERM)
		p.Close()
		if t.Failed() {
			t.Logf("sshd: %s", strings.Join(words.Lines(), "\n"))
		}
	})
	select {
	case <-ready:
	case <-time.After(10 * time.Second):
		t.Fatalf("sshd does not listen: %q", words.Lines())
	}
	return s
}

// logged reports whether sshd has logged text.
func (s *server) logged(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.log {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}

func (s *server) write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newKey makes an Ed25519 key in OpenSSH's format and returns the public half as
// a line (PROTOCOL.key of OpenSSH).
func (s *server) newKey(t testing.TB, name string) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := func(b []byte, fields ...[]byte) []byte {
		for _, f := range fields {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
		}
		return b
	}
	kind := []byte("ssh-ed25519")
	blob := text(nil, kind, public)
	secret := text(make([]byte, 8), kind, public, private, nil) // two equal check words first
	for i := byte(1); len(secret)%8 != 0; i++ {
		secret = append(secret, i)
	}
	file := text([]byte("openssh-key-v1\x00"), []byte("none"), []byte("none"), nil)
	file = binary.BigEndian.AppendUint32(file, 1)
	file = text(file, blob, secret)
	s.write(t, name, string(pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: file})))
	return "ssh-ed25519 " + base64.StdEncoding.EncodeToString(blob) + "\n"
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// dialer returns a Config.Dial without marks, and the local addresses it used.
func dialer() (dial func(context.Context, string, string) (carrier.Stream, error), used func() []string) {
	var local []string
	return func(ctx context.Context, _, address string) (carrier.Stream, error) {
		s, err := tcp.Dial(ctx, address, nil)
		if err == nil {
			local = append(local, s.ReadWriteCloser.(interface{ LocalAddr() net.Addr }).LocalAddr().String())
		}
		return s, err
	}, func() []string { return local }
}

// client returns a Config for the server's Host gw.
func (s *server) client(remote string) Config {
	dial, _ := dialer()
	return Config{
		Program:       []string{"ssh", "-F", s.config},
		Target:        Target{Host: "gw"},
		RemoteCommand: remote,
		Dial:          dial,
		FdpassCommand: []string{os.Args[0], "fdpass"},
		Batch:         true,
	}
}

// dial logs in, and wants it to work.
func dial(t testing.TB, c Config) (carrier.Stream, Info) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, info, err := Dial(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, info
}

// fails logs in and returns the error of Dial or of the first Read.
func fails(t testing.TB, c Config) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, _, err := Dial(ctx, c)
	if err != nil {
		return err
	}
	defer s.Close()
	n, err := s.Read(make([]byte, 1))
	if err == nil {
		t.Fatalf("read %d octets where a failure was due", n)
	}
	return err
}
