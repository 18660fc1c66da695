package sshd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// testKey returns a key that is the same in every run; each n has its own.
func testKey(n byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed)
}

// The keys of the tests.
const (
	hostKey byte = iota
	goodKey
	expiredKey
	strangeKey
)

var errExpired = errors.New("it has expired")

// patience is for what happens at once, on a machine that does much else.
const patience = 2 * time.Minute

// A house is a server for the tests, and what it has heard.
type house struct {
	Config
	addr net.Addr

	mu      sync.Mutex
	logins  []Login
	refused []Refusal
	ended   []error // what each Serve returned
	seen    *sync.Cond
}

// serve starts a server on loopback which ends with the test.
func serve(t testing.TB, change ...func(*Config)) *house {
	t.Helper()
	h := &house{}
	h.seen = sync.NewCond(&h.mu)
	h.Config = Config{
		Key: testKey(hostKey),
		Check: func(_ string, key ed25519.PublicKey, _ net.Addr) (any, error) {
			switch {
			case key.Equal(testKey(goodKey).Public()):
				return "good", nil
			case key.Equal(testKey(expiredKey).Public()):
				return nil, errExpired
			}
			return nil, errors.New("it is strange")
		},
		Handle: play,
		LoggedIn: func(l Login) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.logins = append(h.logins, l)
		},
		Refused: func(r Refusal) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.refused = append(h.refused, r)
		},
	}
	for _, c := range change {
		c(&h.Config)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = l.Addr()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				err := Serve(ctx, conn, &h.Config)
				h.mu.Lock()
				defer h.mu.Unlock()
				h.ended = append(h.ended, err)
				h.seen.Broadcast()
			})
		}
	})
	t.Cleanup(func() { cancel(); l.Close(); all.Wait() })
	return h
}

// end waits for the n-th connection's end, and returns why.
func (h *house) end(n int) error {
	deadline := time.Now().Add(patience)
	wake := time.AfterFunc(patience, h.seen.Broadcast)
	defer wake.Stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.ended) < n {
		if !time.Now().Before(deadline) {
			return fmt.Errorf("connection %d has not ended after %v", n, patience)
		}
		h.seen.Wait()
	}
	return h.ended[n-1]
}

// play is the tests' Handler: the command says what to do.
func play(ctx context.Context, s *Session) int {
	verb, arg, _ := strings.Cut(s.Command, " ")
	n, _ := strconv.Atoi(arg)
	switch verb {
	case "cat":
		io.Copy(s, s)
	case "sum": // of what comes, until its end; then the same amount back
		h := sha256.New()
		size, _ := io.Copy(h, s)
		fmt.Fprintf(s, "%d %x", size, h.Sum(nil))
	case "sink":
		size, _ := io.CopyBuffer(io.Discard, struct{ io.Reader }{s}, make([]byte, 64<<10))
		fmt.Fprint(s, size)
	case "flood":
		io.CopyBuffer(struct{ io.Writer }{s}, io.LimitReader(zeros{}, int64(n)), make([]byte, 64<<10))
	case "status":
		return n
	case "stderr":
		io.WriteString(s, "out\n")
		io.WriteString(s.Stderr(), "err\n")
		s.CloseWrite()
		io.Copy(io.Discard, s)
	case "env":
		fmt.Fprintf(s, "%s %v %q", s.Environment["BODKIN"], s.Terminal, s.Who)
	case "wait":
		<-ctx.Done()
	default:
		io.WriteString(s.Stderr(), "what?\n")
		return 2
	}
	return 0
}

// pattern returns a Reader without end whose octets repeat nowhere, and are the same in
// every run.
func pattern() io.Reader { return rand.NewChaCha8([32]byte{}) }

// A user is an OpenSSH client with its files.
type user struct {
	t    testing.TB
	h    *house
	dir  string
	args []string
}

// openssh returns a client with key n.
func (h *house) openssh(t testing.TB, n byte) *user {
	t.Helper()
	dir := t.TempDir()
	block, err := ssh.MarshalPrivateKey(testKey(n), "")
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewPublicKey(testKey(hostKey).Public())
	if err != nil {
		t.Fatal(err)
	}
	port := h.addr.(*net.TCPAddr).Port
	known := fmt.Sprintf("[127.0.0.1]:%d %s", port, ssh.MarshalAuthorizedKey(host))
	for name, text := range map[string][]byte{"key": pem.EncodeToMemory(block), "known": []byte(known)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &user{t, h, dir, []string{"-F", "/dev/null", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
		"-o", "UserKnownHostsFile=" + filepath.Join(dir, "known"), "-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes",
		"-o", "ConnectTimeout=60", "-o", "LogLevel=INFO", "-o", "User=me", "-o", "Port=" + strconv.Itoa(port), "-i", filepath.Join(dir, "key")}}
}

// command returns a program of OpenSSH with the client's options and args.
func (u *user) command(program string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(u.t.Context(), patience)
	u.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, append(slices.Clone(u.args), args...)...)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK=", "BODKIN=set", "LC_ALL=C")
	cmd.WaitDelay = time.Second
	return cmd
}

// run runs it.
func (u *user) run(in io.Reader, program string, args ...string) (status int, out, errs string) {
	u.t.Helper()
	var o, e bytes.Buffer
	cmd := u.command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		u.t.Fatalf("%s %q: %v", program, args, err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

// TestOpenSSH is what users of the real client see.
func TestOpenSSH(t *testing.T) {
	t.Parallel()
	h := serve(t)
	u := h.openssh(t, goodKey)
	const denied = "administratively prohibited: " + TunnelsOnly
	for _, c := range []struct {
		about  string
		args   string // 127.0.0.1 is the server
		status int
		out    string // all of it
		errs   string // in it
	}{
		{"a command", "127.0.0.1 status 42", 42, "", ""},
		{"a command that is not known", "127.0.0.1 ls -l", 2, "", "what?"},
		{"both ways out", "127.0.0.1 stderr", 0, "out\n", "err\n"},
		{"its environment", "-o SendEnv=BODKIN 127.0.0.1 env", 0, `set false "good"`, ""},
		{"a shell", "127.0.0.1", 1, "", TunnelsOnly},
		{"a shell with a terminal", "-tt 127.0.0.1", 1, "", TunnelsOnly + ": there is no shell here\r\n"},
		{"a command with a terminal", "-tt 127.0.0.1 env", 0, ` true "good"`, ""},
		{"a subsystem", "-s 127.0.0.1 sftp", 255, "", "subsystem request failed on channel 0"},
		{"forwarding of its input", "-W 127.0.0.1:22 127.0.0.1", 255, "", "open failed: " + denied},
		{"forwarding back", "-o ExitOnForwardFailure=yes -R 127.0.0.1:0:127.0.0.1:22 127.0.0.1 status 0", 255, "", "remote port forwarding failed"},
		{"a socket forwarded back", "-o ExitOnForwardFailure=yes -R /tmp/x:127.0.0.1:22 127.0.0.1 status 0", 255, "", "remote port forwarding failed"},
		{"its agent, its display", "-A -X 127.0.0.1 status 7", 7, "", ""},
		{"the best key exchange it knows", "-o KexAlgorithms=curve25519-sha256 -c chacha20-poly1305@openssh.com 127.0.0.1 status 3", 3, "", ""},
		{"an older name of it", "-o KexAlgorithms=curve25519-sha256@libssh.org -c aes256-gcm@openssh.com 127.0.0.1 status 3", 3, "", ""},
		{"strict key exchange", "-vvv 127.0.0.1 status 3", 3, "", "will use strict KEX ordering"},
		{"no Diffie-Hellman of old", "-o KexAlgorithms=diffie-hellman-group14-sha256 127.0.0.1 status 0", 255, "", "no matching key exchange method"},
		{"no elliptic curves of NIST", "-o KexAlgorithms=ecdh-sha2-nistp256 127.0.0.1 status 0", 255, "", "no matching key exchange method"},
		{"no SHA-1", "-o KexAlgorithms=diffie-hellman-group14-sha1 127.0.0.1 status 0", 255, "", "no matching key exchange method"},
		{"no CBC", "-c aes128-cbc 127.0.0.1 status 0", 255, "", "no matching cipher"},
		{"no CTR", "-c aes256-ctr 127.0.0.1 status 0", 255, "", "no matching cipher"},
		{"no MAC with SHA-1", "-m hmac-sha1 -c aes256-ctr 127.0.0.1 status 0", 255, "", "no matching"},
		{"no RSA of the host", "-o HostKeyAlgorithms=rsa-sha2-512 127.0.0.1 status 0", 255, "", "no matching host key type"},
	} {
		status, out, errs := u.run(nil, "ssh", strings.Fields(c.args)...)
		if status != c.status || out != c.out || !strings.Contains(errs, c.errs) || strings.Contains(errs, "PTY allocation") {
			t.Errorf("%s: ssh %s: status %d, %q, %q; want %d, %q, %q", c.about, c.args, status, out, errs, c.status, c.out, c.errs)
		}
	}
	if status, _, errs := u.run(strings.NewReader("ls\n"), "sftp", "127.0.0.1"); status == 0 || !strings.Contains(errs, "subsystem request failed") {
		t.Errorf("sftp: %d, %q", status, errs)
	}
	out, err := exec.Command("ssh-keyscan", "-t", "ed25519,rsa,ecdsa", "-p", strconv.Itoa(h.addr.(*net.TCPAddr).Port), "127.0.0.1").Output()
	known, _ := os.ReadFile(filepath.Join(u.dir, "known"))
	if err != nil || string(out) != string(known) {
		t.Errorf("ssh-keyscan: %q, %v; want %q", out, err, known)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.logins) < 10 || len(h.refused) > 0 {
		t.Fatalf("%d logins, refused %+v", len(h.logins), h.refused)
	}
	l := h.logins[0]
	if l.Who != "good" || l.User != "me" || !l.Key.Equal(testKey(goodKey).Public()) || !strings.HasPrefix(l.Program, "SSH-2.0-OpenSSH") || l.From.(*net.TCPAddr).Port == 0 {
		t.Errorf("%+v", l)
	}
}

// TestLocalForwarding: ssh -L listens, and what connects there is turned away.
func TestLocalForwarding(t *testing.T) {
	t.Parallel()
	h := serve(t)
	u := h.openssh(t, goodKey)
	socket := filepath.Join(u.dir, "socket")
	cmd := u.command("ssh", "-N", "-L", socket+":127.0.0.1:22", "127.0.0.1")
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	conn, err := net.Dial("unix", socket)
	for deadline := time.Now().Add(patience); err != nil; conn, err = net.Dial("unix", socket) {
		if time.Now().After(deadline) {
			t.Fatalf("ssh does not listen: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("something is at the other end")
	}
	said := make([]byte, 200)
	n, _ := errs.Read(said)
	if want := "open failed: administratively prohibited: " + TunnelsOnly; !strings.Contains(string(said[:n]), want) {
		t.Errorf("said %q; want %q", said[:n], want)
	}
}

// TestRefused: who is not let in hears the same whatever the reason, which is told here.
func TestRefused(t *testing.T) {
	t.Parallel()
	h := serve(t)
	words := map[string]string{}
	for name, n := range map[string]byte{"expired": expiredKey, "strange": strangeKey} {
		status, _, errs := h.openssh(t, n).run(nil, "ssh", "127.0.0.1", "status", "0")
		if words[name] = errs; status != 255 || !strings.Contains(errs, "me@127.0.0.1: Permission denied (publickey).") {
			t.Errorf("%s: %d, %q", name, status, errs)
		}
	}
	if words["expired"] != words["strange"] {
		t.Errorf("the reason is to be told: %q", words)
	}
	u := h.openssh(t, goodKey)
	for _, kind := range []string{"rsa", "ecdsa"} {
		file := filepath.Join(u.dir, kind)
		if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", file).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if status, _, errs := u.run(nil, "ssh", "-o", "IdentityFile=none", "-i", file, "127.0.0.1", "status", "0"); status != 0 {
			t.Errorf("%s and a good key: %d, %q", kind, status, errs)
		}
		if err := os.Rename(file, filepath.Join(u.dir, "key")); err != nil {
			t.Fatal(err)
		}
		if status, _, errs := u.run(nil, "ssh", "127.0.0.1", "status", "0"); status != 255 || !strings.Contains(errs, "Permission denied (publickey).") {
			t.Errorf("%s: %d, %q", kind, status, errs)
		}
		u = h.openssh(t, goodKey)
	}
	for _, method := range []string{"password", "keyboard-interactive", "none", "hostbased", "gssapi-with-mic"} {
		if status, _, errs := u.run(nil, "ssh", "-o", "PreferredAuthentications="+method, "127.0.0.1", "status", "0"); status != 255 || !strings.Contains(errs, "Permission denied (publickey).") {
			t.Errorf("%s: %d, %q", method, status, errs)
		}
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.refused) != 2 {
		t.Fatalf("refused %+v", h.refused)
	}
	for _, r := range h.refused {
		public, _ := ssh.NewPublicKey(testKey(strangeKey).Public())
		want := "it is strange"
		if errors.Is(r.Reason, errExpired) {
			public, _ = ssh.NewPublicKey(testKey(expiredKey).Public())
			want = errExpired.Error()
		}
		if r.Reason.Error() != want || r.Fingerprint != ssh.FingerprintSHA256(public) || r.User != "me" || r.From == nil {
			t.Errorf("%+v", r)
		}
	}
}

// TestCertificate: a certificate lets nobody in, not even for a key that would.
func TestCertificate(t *testing.T) {
	t.Parallel()
	h := serve(t)
	u := h.openssh(t, strangeKey)
	good := h.openssh(t, goodKey)
	for _, args := range [][]string{
		{"-q", "-y", "-f", filepath.Join(u.dir, "key")},
		{"-q", "-s", filepath.Join(good.dir, "key"), "-I", "x", "-n", "me", filepath.Join(u.dir, "key.pub")},
	} {
		out, err := exec.Command("ssh-keygen", args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		if args[1] == "-y" {
			if err := os.WriteFile(filepath.Join(u.dir, "key.pub"), out, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	status, _, errs := u.run(nil, "ssh", "-o", "CertificateFile="+filepath.Join(u.dir, "key-cert.pub"), "127.0.0.1", "status", "0")
	if status != 255 || !strings.Contains(errs, "Permission denied (publickey).") {
		t.Errorf("%d, %q", status, errs)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.logins) > 0 || len(h.refused) == 0 || !strings.Contains(fmt.Sprint(h.refused), "or a certificate") {
		t.Errorf("logins %v, refused %v", h.logins, h.refused)
	}
}

// TestSharedConnection: sessions of one connection, one after the other (ControlMaster).
func TestSharedConnection(t *testing.T) {
	t.Parallel()
	h := serve(t)
	u := h.openssh(t, goodKey)
	path := filepath.Join(u.dir, "control")
	master := u.command("ssh", "-M", "-S", path, "127.0.0.1", "cat")
	in, _ := master.StdinPipe()
	out, err := master.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := master.Start(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "x")
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	// One beside it is refused, and the client dials anew by itself.
	if status, _, errs := u.run(nil, "ssh", "-S", path, "127.0.0.1", "status", "5"); status != 5 || !strings.Contains(errs, "session request failed: Session open refused by peer") {
		t.Errorf("beside it: %d, %q", status, errs)
	}
	in.Close()
	if err := master.Wait(); err != nil {
		t.Error(err)
	}

	second := u.command("ssh", "-M", "-N", "-f", "-S", path, "127.0.0.1")
	if err := second.Run(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if status, _, errs := u.run(nil, "ssh", "-S", path, "127.0.0.1", "status", strconv.Itoa(i)); status != i {
			t.Errorf("session %d: %d, %q", i, status, errs)
		}
	}
	if status, _, errs := u.run(nil, "ssh", "-S", path, "-O", "exit", "127.0.0.1"); status != 0 {
		t.Error(errs)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.logins) != 3 {
		t.Errorf("%d logins", len(h.logins))
	}
}
