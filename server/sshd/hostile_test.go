package sshd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

// dial logs in with key n by the ssh package, which does what it is told.
func dial(t testing.TB, conn net.Conn, n byte) (ssh.Conn, error) {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(testKey(n))
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewPublicKey(testKey(hostKey).Public())
	if err != nil {
		t.Fatal(err)
	}
	c, channels, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{User: "me\x1b[2J\n", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(host)})
	if err != nil {
		return nil, err
	}
	go ssh.DiscardRequests(requests)
	go func() {
		for c := range channels {
			c.Reject(ssh.Prohibited, "")
		}
	}()
	return c, nil
}

// login dials the house, and goes with the test.
func (h *house) login(t testing.TB) ssh.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", h.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(t, conn, goodKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// session opens a session's channel.
func session(t testing.TB, c ssh.Conn) ssh.Channel {
	t.Helper()
	channel, requests, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	return channel
}

// text is the payload of requests that carry strings.
func text(words ...string) (payload []byte) {
	for _, w := range words {
		payload = append(payload, ssh.Marshal(struct{ S string }{w})...)
	}
	return payload
}

// TestWhatIsAnswered is every request and channel there is, and what the answer is.
func TestWhatIsAnswered(t *testing.T) {
	t.Parallel()
	h := serve(t)
	c := h.login(t)
	for name, want := range map[string]bool{"keepalive@openssh.com": true, "tcpip-forward": false, "cancel-tcpip-forward": false,
		"streamlocal-forward@openssh.com": false, "hostkeys-prove-00@openssh.com": false, "": false} {
		if ok, payload, err := c.SendRequest(name, true, []byte("x")); ok != want || len(payload) > 0 || err != nil {
			t.Errorf("request %q: %v, %q, %v", name, ok, payload, err)
		}
	}
	for name, want := range map[string]ssh.RejectionReason{"direct-tcpip": ssh.Prohibited, "direct-streamlocal@openssh.com": ssh.Prohibited,
		"tun@openssh.com": ssh.Prohibited, "x11": ssh.Prohibited, "auth-agent@openssh.com": ssh.Prohibited, "forwarded-tcpip": ssh.Prohibited, "": ssh.UnknownChannelType} {
		var refused *ssh.OpenChannelError
		if _, _, err := c.OpenChannel(name, []byte("x")); !errors.As(err, &refused) || refused.Reason != want || refused.Message != TunnelsOnly {
			t.Errorf("channel %q: %v", name, err)
		}
	}
	channel := session(t, c)
	var refused *ssh.OpenChannelError
	if _, _, err := c.OpenChannel("session", nil); !errors.As(err, &refused) || refused.Reason != ssh.ResourceShortage {
		t.Errorf("a second session: %v", err)
	}
	for _, r := range []struct {
		name    string
		payload []byte
		want    bool
	}{
		{"env", text("BODKIN", "set"), true},
		{"env", text("BOD=KIN", "set"), false},
		{"env", text("", "set"), false},
		{"env", text("BODKIN"), false},
		{"env", text("BODKIN", strings.Repeat("x", maxVariable)), false},
		{"pty-req", nil, true},
		{"x11-req", nil, false},
		{"auth-agent-req@openssh.com", nil, false},
		{"subsystem", text("sftp"), false},
		{"window-change", nil, false},
		{"keepalive@openssh.com", nil, false},
		{"exec", []byte("x"), false},
		{"exec", text("env", "more"), false},
		{"exec", text(strings.Repeat("x", MaxCommand+1)), false},
		{"exec", text("env"), true},
		{"exec", text("env"), false}, // once
		{"shell", nil, false},
		{"env", text("BODKIN", "late"), false},
	} {
		if ok, err := channel.SendRequest(r.name, true, r.payload); ok != r.want || err != nil && err != io.EOF {
			t.Errorf("%s %.40q: %v, %v", r.name, r.payload, ok, err)
		}
	}
	if out, err := io.ReadAll(channel); string(out) != `set true "good"` {
		t.Errorf("%q, %v", out, err)
	}
	h.mu.Lock()
	if h.logins[0].User != "me?[2J " {
		t.Errorf("the user is %q", h.logins[0].User)
	}
	h.mu.Unlock()

	for range 3 { // one after the other; the one before may not be gone yet at both ends
		channel, _, err := c.OpenChannel("session", nil)
		for errors.As(err, &refused) && refused.Reason == ssh.ResourceShortage {
			time.Sleep(time.Second / perSecond) // so as not to be cut off
			channel, _, err = c.OpenChannel("session", nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		channel.Close()
	}
	if ok, _, err := c.SendRequest("no-more-sessions@openssh.com", true, nil); !ok || err != nil {
		t.Error(ok, err)
	}
	if _, _, err := c.OpenChannel("session", nil); err == nil {
		t.Error("a session after there were to be no more")
	}
}

// TestEnvironmentBounded: what is too much is refused, and the rest stays.
func TestEnvironmentBounded(t *testing.T) {
	t.Parallel()
	channel := session(t, serve(t).login(t))
	for i := range maxEnvironment + 2 {
		if ok, err := channel.SendRequest("env", true, text(fmt.Sprint("V", i), "x")); ok != (i < maxEnvironment) || err != nil {
			t.Fatalf("variable %d: %v, %v", i, ok, err)
		}
	}
}

// TestFlood: who asks without end is cut off, and nobody else is the worse for it.
func TestFlood(t *testing.T) {
	t.Parallel()
	for name, flood := range map[string]func(c ssh.Conn, channel ssh.Channel) error{
		"channels": func(c ssh.Conn, _ ssh.Channel) error {
			_, _, err := c.OpenChannel("direct-tcpip", bytes.Repeat([]byte("x"), 30000))
			var refused *ssh.OpenChannelError
			if errors.As(err, &refused) {
				return nil
			}
			return err
		},
		"requests": func(c ssh.Conn, _ ssh.Channel) error {
			_, _, err := c.SendRequest("tcpip-forward", true, nil)
			return err
		},
		"requests without an answer": func(c ssh.Conn, _ ssh.Channel) error {
			_, _, err := c.SendRequest("x", false, bytes.Repeat([]byte("x"), 200000))
			return err
		},
		"requests of a session": func(_ ssh.Conn, channel ssh.Channel) error {
			_, err := channel.SendRequest("env", true, text("A", "b"))
			return err
		},
		"requests of a session without an answer": func(_ ssh.Conn, channel ssh.Channel) error {
			_, err := channel.SendRequest("signal", false, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := serve(t)
			other := session(t, h.login(t)) // its connection is the first
			if ok, err := other.SendRequest("exec", true, text("cat")); !ok {
				t.Fatal(err)
			}
			c := h.login(t)
			channel := session(t, c)
			done := make(chan error, 1)
			go func() {
				for {
					if err := flood(c, channel); err != nil {
						done <- err
						return
					}
				}
			}()
			if err := h.end(1); !errors.Is(err, ErrFlood) {
				t.Errorf("it ended as %v", err)
			}
			<-done
			if _, err := other.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(other, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestBudget: a steady client is never cut off, and a fast one after its burst.
func TestBudget(t *testing.T) {
	now := time.Now()
	b := newBudget(now)
	for range 100_000 {
		now = now.Add(time.Second / perSecond)
		if !b.spend(now) {
			t.Fatal("a steady client is cut off")
		}
	}
	n := 0
	for b.spend(now) {
		n++
	}
	if n < burst-2 || n > burst {
		t.Errorf("a burst of %d", n)
	}
}

// A stranger writes raw octets after it has read the version and what else is there.
func stranger(t *testing.T, h *house, octets ...[]byte) {
	t.Helper()
	conn, err := net.Dial("tcp", h.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go io.Copy(io.Discard, conn)
	for _, o := range octets {
		if _, err := conn.Write(o); err != nil {
			return
		}
	}
	h.mu.Lock()
	n := len(h.ended)
	h.mu.Unlock()
	h.end(n + 1)
}

// packet is a packet in clear.
func packet(payload []byte) []byte {
	padding := 16 - (5+len(payload))%8
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding))
	b = append(append(b, byte(padding)), payload...)
	return append(b, make([]byte, padding)...)
}

func hello(strict bool, cipher ...string) kexInit {
	k := kexInit{KeyExchanges: []string{ssh.KeyExchangeCurve25519}, HostKeys: []string{ssh.KeyAlgoED25519}, CiphersToUs: cipher, CiphersFromUs: cipher,
		MACsToUs: macs, MACsFromUs: macs, PackersToUs: []string{"none"}, PackersFromUs: []string{"none"}}
	if strict {
		k.KeyExchanges = append(k.KeyExchanges, strictClient)
	}
	return k
}

// TestStrangers: whatever comes before a login ends with an error that can be shown, and
// keeps little memory.
func TestStrangers(t *testing.T) {
	t.Parallel()
	version := []byte("SSH-2.0-x\r\n")
	k := hello(true, ssh.CipherAES128GCM)
	init := packet(ssh.Marshal(&k))
	ignore := packet(append([]byte{2}, text(strings.Repeat("x", 30000))...))
	for _, c := range []struct {
		about  string
		octets [][]byte
		want   string
	}{
		{"another protocol", [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}, "it does not speak SSH 2"},
		{"SSH 1", [][]byte{[]byte("SSH-1.5-x\r\n")}, "it does not speak SSH 2"},
		{"an endless line", [][]byte{[]byte("SSH-2.0-" + strings.Repeat("x", 300))}, "overflow"},
		{"lines before it", [][]byte{[]byte("hello\r\n"), version}, "it does not speak SSH 2"},
		{"random octets", [][]byte{version, bytes.Repeat([]byte{0xa5}, 1000)}, "no possible length"},
		{"a huge packet", [][]byte{version, {0, 3, 0, 0, 4}, make([]byte, 200_000)}, "no possible length"},
		{"a packet of nothing but padding", [][]byte{version, {0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0}}, "no possible length"},
		{"IGNORE first", [][]byte{version, ignore, init}, "not SSH_MSG_KEXINIT"},
		{"a broken KEXINIT", [][]byte{version, packet([]byte{20, 1, 2, 3})}, "not SSH_MSG_KEXINIT"},
		{"IGNORE before the keys", [][]byte{version, init, ignore, ignore}, "ssh: "}, // strict: what Terrapin begins with
		{"a huge packet, later", [][]byte{version, init, {0, 3, 0, 0, 4}, make([]byte, 200_000)}, "before a login"},
		{"a login before the keys", [][]byte{version, init, packet(append([]byte{5}, text("ssh-userauth")...))}, "ssh: "},
		{"nothing in common", [][]byte{version, packet(ssh.Marshal(ptr(hello(true, "aes256-ctr"))))}, "no common algorithm"},
		{"an escape sequence", [][]byte{version, packet(ssh.Marshal(ptr(hello(true, "\x1b[2J\x9b\xff"+strings.Repeat("x", 1000)))))}, "no common algorithm"},
	} {
		h := serve(t)
		stranger(t, h, c.octets...)
		err := h.end(1)
		if !errors.Is(err, ErrNoLogin) || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\x1b\u009b\n") || !utf8.ValidString(err.Error()) {
			t.Errorf("%s: %v; want %q", c.about, err, c.want)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// TestTerrapin: by whom a cipher that could be cut may be used.
func TestTerrapin(t *testing.T) {
	const chacha, gcm = ssh.CipherChaCha20Poly1305, ssh.CipherAES256GCM
	for _, c := range []struct {
		about string
		k     kexInit
		weak  bool
	}{
		{"strict", hello(true, chacha, gcm), false},
		{"not strict, AES-GCM", hello(false, gcm, chacha), false},
		{"not strict, something before it that we do not speak", hello(false, "aes256-ctr", gcm, chacha), false},
		{"not strict", hello(false, chacha, gcm), true},
		{"not strict, something before it that we do not speak", hello(false, "aes256-ctr", chacha), true},
		{"not strict one way", func() kexInit { k := hello(false, gcm); k.CiphersFromUs = []string{chacha}; return k }(), true},
		{"not strict, said by the server's word", func() kexInit {
			k := hello(false, chacha)
			k.KeyExchanges = append(k.KeyExchanges, "kex-strict-s-v00@openssh.com")
			return k
		}(), true},
	} {
		first, err := readFirst(slices.Concat([]byte("SSH-2.0-x\n"), packet(ssh.Marshal(&c.k)), []byte("more")))
		if err != nil || first == nil {
			t.Fatal(err)
		}
		weak := first.weakness()
		if (weak != nil) != c.weak {
			t.Errorf("%s: %v", c.about, weak)
		}
		// That is asked before whose key it is.
		var reason error
		l := &login{stranger: &early{weak: weak}, config: &Config{
			Check:   func(string, ed25519PublicKey, net.Addr) (any, error) { return nil, nil },
			Refused: func(r Refusal) { reason = r.Reason },
		}}
		key, _ := ssh.NewPublicKey(testKey(goodKey).Public())
		if permissions, err := l.offered(nobody{}, key); (permissions == nil) != c.weak || (err != nil) != c.weak || c.weak && !strings.Contains(reason.Error(), "Terrapin") {
			t.Errorf("%s: %v, %v, %v", c.about, permissions, err, reason)
		}
	}
}

// FuzzFirst: what a stranger sends first is understood however it is cut up, and as
// what it is.
func FuzzFirst(f *testing.F) {
	k := hello(false, ssh.CipherChaCha20Poly1305)
	f.Add(append([]byte("SSH-2.0-x\r\n"), packet(ssh.Marshal(&k))...))
	f.Add([]byte("SSH-2.0-x\n\x00\x00\x00\x0c\x0a\x14"))
	f.Fuzz(func(t *testing.T, octets []byte) {
		whole, err := readFirst(octets)
		for i := range min(len(octets), 400) {
			k, early := readFirst(octets[:i])
			if early != nil && (err == nil || early.Error() != err.Error()) {
				t.Fatalf("after %d octets %v, after all %v", i, early, err)
			}
			if k != nil && (whole == nil || k.Cookie != whole.Cookie) {
				t.Fatalf("after %d octets another packet", i)
			}
		}
		if err == nil && whole == nil && len(octets) > maxVersionLine+maxFirstPacket+8 {
			t.Fatal("it waits for more without end")
		}
		if whole != nil {
			again, err := readFirst(append([]byte("SSH-2.0-x\n"), packet(ssh.Marshal(whole))...))
			if err != nil || (again.weakness() == nil) != (whole.weakness() == nil) {
				t.Fatalf("%+v came back as %+v, %v", whole, again, err)
			}
		}
	})
}

// An eager conn is the end of a pipe whose Write does not wait: of the ssh package both
// ends write first.
type eager struct {
	net.Conn
	queue chan []byte
}

func (e eager) Write(b []byte) (int, error) {
	e.queue <- bytes.Clone(b)
	return len(b), nil
}

// pipe returns the two ends of a connection; all waits for it to be closed.
func pipe(all *sync.WaitGroup) (near, far net.Conn) {
	near, far = net.Pipe()
	e := eager{near, make(chan []byte, 1000)}
	closed := make(chan struct{})
	all.Go(func() {
		for {
			select {
			case b := <-e.queue:
				e.Conn.Write(b)
			case <-closed:
				return
			}
		}
	})
	return &closer{e, sync.OnceFunc(func() { close(closed) })}, far
}

// A closer calls a function when it is closed.
type closer struct {
	net.Conn
	closed func()
}

func (c *closer) Close() error {
	c.closed()
	return c.Conn.Close()
}

// TestTimes: nobody stays who does not log in, or wants nothing; a minute of waiting
// takes no time here.
func TestTimes(t *testing.T) {
	for _, c := range []struct {
		about string
		play  func(t *testing.T, conn net.Conn)
		after time.Duration
		login bool
	}{
		{"silence", func(_ *testing.T, conn net.Conn) { io.Copy(io.Discard, conn) }, DefaultGrace, false},
		{"a slow login", func(_ *testing.T, conn net.Conn) {
			gone := make(chan struct{})
			go func() { io.Copy(io.Discard, conn); close(gone) }()
			for _, b := range []byte("SSH-2.0-" + strings.Repeat("x", 200)) {
				conn.Write([]byte{b})
				select {
				case <-gone:
					return
				case <-time.After(time.Second):
				}
			}
		}, DefaultGrace, false},
		{"no reading", func(_ *testing.T, conn net.Conn) { time.Sleep(time.Hour) }, DefaultGrace, false},
		{"no session", func(t *testing.T, conn net.Conn) {
			c, err := dial(t, conn, goodKey)
			if err != nil {
				t.Fatal(err)
			}
			c.Wait()
		}, idleTime, true},
		{"a session without a command", func(t *testing.T, conn net.Conn) {
			c, err := dial(t, conn, goodKey)
			if err != nil {
				t.Fatal(err)
			}
			session(t, c)
			c.Wait()
		}, idleTime, true},
		{"a session, an hour, and no leave", func(t *testing.T, conn net.Conn) {
			c, err := dial(t, conn, goodKey)
			if err != nil {
				t.Fatal(err)
			}
			s := session(t, c)
			s.SendRequest("exec", true, text("cat"))
			time.Sleep(time.Hour)
			s.CloseWrite()
			io.Copy(io.Discard, s)
			c.Wait()
		}, time.Hour + idleTime, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var all sync.WaitGroup
			near, far := pipe(&all)
			start := time.Now()
			all.Go(func() { c.play(t, near) })
			logins := 0
			err := Serve(t.Context(), far, &Config{Key: testKey(hostKey), Handle: play,
				Check:    func(string, ed25519PublicKey, net.Addr) (any, error) { return nil, nil },
				LoggedIn: func(Login) { logins++ }})
			if took := time.Since(start); took != c.after || (err == nil) != c.login || (logins == 1) != c.login {
				t.Errorf("%s: %v, %v, %d logins; want %v", c.about, took, err, logins, c.after)
			}
			near.Close()
			all.Wait()
		})
	}
}

// TestCause: the end of ctx ends all, at once, even where the client does not read.
func TestCause(t *testing.T) {
	t.Parallel()
	revoked := errors.New("revoked")
	var all sync.WaitGroup
	near, far := pipe(&all)
	defer all.Wait()
	defer near.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	handled := make(chan error, 1)
	go func() {
		c, err := dial(t, near, goodKey)
		if err != nil {
			t.Error(err)
			return
		}
		s := session(t, c)
		s.SendRequest("exec", true, text("x"))
	}()
	err := Serve(ctx, far, &Config{Key: testKey(hostKey), Check: func(string, ed25519PublicKey, net.Addr) (any, error) { return nil, nil },
		Handle: func(ctx context.Context, s *Session) int {
			cancel(revoked)
			for {
				if _, err := s.Write(make([]byte, 100_000)); err != nil {
					handled <- ctx.Err()
					return 0
				}
			}
		}})
	if !errors.Is(err, revoked) || <-handled == nil {
		t.Errorf("it ended as %v", err)
	}
}

// TestClose wakes who reads and who writes, even where the client has stopped to read
// what says so; a client that reads hears an exit status.
func TestClose(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		about string
		stall bool
		wait  func(s *Session) error
	}{
		{"a reader", false, func(s *Session) error { _, err := s.Read(make([]byte, 1)); return err }},
		{"a reader, and a client that is gone", true, func(s *Session) error { _, err := s.Read(make([]byte, 1)); return err }},
		{"a writer", false, writeOn},
		{"a writer, and a client that is gone", true, writeOn},
	} {
		t.Run(c.about, func(t *testing.T) {
			t.Parallel()
			stalled, woken := make(chan struct{}), make(chan error, 1)
			var took time.Duration
			h := serve(t, func(config *Config) {
				config.Handle = func(_ context.Context, s *Session) int {
					<-stalled
					go func() { woken <- c.wait(s) }()
					time.Sleep(50 * time.Millisecond) // as a rule it waits by then; if not, the same is wanted
					start := time.Now()
					s.Close()
					if err := <-woken; !errors.Is(err, net.ErrClosed) {
						t.Errorf("woken by %v", err)
					}
					took = time.Since(start)
					return 1
				}
			})
			conn, err := net.Dial("tcp", h.addr.String())
			if err != nil {
				t.Fatal(err)
			}
			deaf := &deaf{Conn: conn, stopped: make(chan struct{}), closed: make(chan struct{})}
			client, err := dial(t, deaf, goodKey)
			if err != nil {
				t.Fatal(err)
			}
			defer close(deaf.closed)
			channel, requests, err := client.OpenChannel("session", nil)
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := channel.SendRequest("exec", true, text("x")); !ok {
				t.Fatal(err)
			}
			if c.stall {
				close(deaf.stopped)
			}
			close(stalled)
			if !c.stall {
				status := ""
				for r := range requests {
					status += fmt.Sprint(r.Type, r.Payload)
				}
				if status != "exit-status[0 0 0 0]" {
					t.Errorf("the client hears %q", status)
				}
				client.Close()
			}
			h.end(1)
			if took > closeTime+time.Second {
				t.Errorf("woken after %v", took)
			}
		})
	}
}

func writeOn(s *Session) error {
	for {
		if _, err := s.Write(make([]byte, 100_000)); err != nil {
			return err
		}
	}
}

// A deaf conn reads nothing more from when stopped is closed.
type deaf struct {
	net.Conn
	stopped, closed chan struct{}
}

func (d *deaf) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	select {
	case <-d.stopped:
		<-d.closed
		return 0, io.ErrUnexpectedEOF
	default:
		return n, err
	}
}

// TestTriesBounded: who tries many keys is cut off, and told of so often and no more.
func TestTriesBounded(t *testing.T) {
	t.Parallel()
	h := serve(t)
	conn, err := net.Dial("tcp", h.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var signers []ssh.Signer
	for n := range byte(20) {
		s, _ := ssh.NewSignerFromKey(testKey(100 + n))
		signers = append(signers, s)
	}
	_, _, _, err = ssh.NewClientConn(conn, "", &ssh.ClientConfig{User: strings.Repeat("long", 1000), Auth: []ssh.AuthMethod{ssh.PublicKeys(signers...)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err == nil || !strings.Contains(err.Error(), "too many authentication failures") {
		t.Errorf("the client hears %v", err)
	}
	if err := h.end(1); !errors.Is(err, ErrNoLogin) {
		t.Error(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.refused) == 0 || len(h.refused) > maxTries || len(h.refused[0].User) > maxWord+3 {
		t.Errorf("%d refusals", len(h.refused))
	}
}

// TestMemory: two hundred strangers that send as much as they can keep little.
func TestMemory(t *testing.T) {
	h := serve(t)
	k := hello(true, ssh.CipherAES128GCM)
	octets := slices.Concat([]byte("SSH-2.0-x\r\n"), packet(ssh.Marshal(&k)), []byte{0, 1, 0x80, 0, 4}, make([]byte, 90_000))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 200 {
		conn, err := net.Dial("tcp", h.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(octets); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse)) / 200
	t.Logf("%d octets each", each)
	if each > 300<<10 {
		t.Errorf("a stranger keeps %d octets", each)
	}
}
