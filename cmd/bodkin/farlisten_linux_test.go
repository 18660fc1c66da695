package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/tcp"
	"github.com/bodkin-net/bodkin/carrier/tls"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/session"
	"github.com/bodkin-net/bodkin/trust"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A listening is a `bodkin far --listen` in a process of its own.
type listening struct {
	t       *testing.T
	cmd     *exec.Cmd
	said    bytes.Buffer
	address string
	key     ed25519.PublicKey
	ended   chan error
}

// listen starts one that lets in the holders of the keys.
func listen(t *testing.T, clients []trust.Key, flags ...string) *listening {
	t.Helper()
	home := t.TempDir()
	dir := filepath.Join(home, "bodkin")
	key := trust.Generate()
	if err := key.Save(filepath.Join(dir, trust.KeyFile), "", ""); err != nil {
		t.Fatal(err)
	}
	var lines []byte
	for _, k := range clients {
		lines = append(lines, trust.FormatPublic(k.Public(), "")+"\n"...)
	}
	if err := os.WriteFile(filepath.Join(dir, trust.ClientsFile), lines, 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	l := &listening{t: t, address: address, key: key.Public(), ended: make(chan error, 1)}
	l.cmd = asProgram(t, "bodkin", append([]string{"far", "--listen", address}, flags...)...)
	l.cmd.Env = append(l.cmd.Env, "XDG_CONFIG_HOME="+home)
	l.cmd.Stderr = &l.said
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { l.ended <- l.cmd.Wait() }()
	t.Cleanup(func() { l.cmd.Process.Kill() })
	return l
}

// dial connects as the holder of a key.
func (l *listening) dial(ctx context.Context, k trust.Key) (carrier.Stream, error) {
	l.t.Helper()
	var s carrier.Stream
	for { // until it listens
		var err error
		if s, err = tcp.Dial(ctx, l.address, nil); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			l.t.Fatalf("%v; it said %s", err, l.said.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
	s, _, err := tls.Client(ctx, s, tls.Config{Key: k.Private, Verify: func(key ed25519.PublicKey) error {
		if !key.Equal(l.key) {
			return errors.New("that is another")
		}
		return nil
	}})
	return s, err
}

// open begins a session and a tunnel in it.
func (l *listening) open(ctx context.Context, k trust.Key) (*session.Session, session.Terms, *native.Link) {
	l.t.Helper()
	stream, err := l.dial(ctx, k)
	if err != nil {
		l.t.Fatal(err)
	}
	s, terms, err := session.Open(ctx, stream, session.Options{Grace: time.Hour})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { s.Close() })
	link, _, _, err := native.Open(ctx, s.Stream(), native.Hello{
		Software: "test", Emulator: native.EmulatorKernel, Receives: tunnel.Caps{MTU: 65535},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.0.2.0/24")},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	go func() {
		for p := make([]tunnel.Packet, tunnel.BatchSize); ; {
			if _, err := link.ReadPackets(p); err != nil {
				return
			}
		}
	}()
	return s, terms, link
}

// answers waits until the far half answers in the tunnel.
func answers(t *testing.T, link *native.Link) {
	t.Helper()
	before := link.Stats().RoundTrip
	if err := link.Echo(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); link.Stats().RoundTrip == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the far half does not answer")
		}
	}
}

// TestListenHolds: a far half that listens for one near half waits for the same again,
// whoever else comes, and ends with it.
func TestListenHolds(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 40*time.Second)
	defer stop()
	ours, others := trust.Generate(), trust.Generate()
	l := listen(t, []trust.Key{ours, others}, "--hold", "30m")
	s, terms, link := l.open(ctx, ours)
	if terms.Grace != 30*time.Minute {
		t.Errorf("granted are %v", terms.Grace)
	}
	answers(t, link)
	for range 3 {
		s.Drop(errors.New("cut"))

		// A stranger, another who is let in, and one who wants a session of its own.
		if _, err := l.dial(ctx, trust.Generate()); err == nil {
			t.Error("a stranger was let in")
		}
		stream, err := l.dial(ctx, others)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Attach(ctx, stream); !errors.Is(err, session.ErrUnknown) {
			t.Errorf("with another key: %v", err)
		}
		if stream, err = l.dial(ctx, others); err != nil {
			t.Fatal(err)
		}
		if second, _, err := session.Open(ctx, stream, session.Options{}); err == nil {
			second.Close()
			t.Error("a second session was begun")
		}

		if stream, err = l.dial(ctx, ours); err != nil {
			t.Fatal(err)
		}
		if err := s.Attach(ctx, stream); err != nil {
			t.Fatal(err)
		}
		answers(t, link)
	}
	link.Close()
	select {
	case err := <-l.ended:
		if err != nil {
			t.Errorf("it ended by %v, and said %s", err, l.said.String())
		}
	case <-ctx.Done():
		t.Error("it does not end with the tunnel")
	}
}

// TestListenAnew: a near half that was killed, and begins anew, need not wait until it is
// forgotten.
func TestListenAnew(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 40*time.Second)
	defer stop()
	ours := trust.Generate()
	l := listen(t, []trust.Key{ours})
	first, _, link := l.open(ctx, ours)
	answers(t, link)
	for range 3 {
		_, _, link = l.open(ctx, ours)
		answers(t, link)
	}
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Error("the first session goes on")
	}
	link.Close()
	select {
	case err := <-l.ended:
		if err != nil {
			t.Errorf("it ended by %v, and said %s", err, l.said.String())
		}
	case <-ctx.Done():
		t.Error("it does not end with the tunnel")
	}
}

// TestListenExpires: nobody comes back.
func TestListenExpires(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 40*time.Second)
	defer stop()
	ours := trust.Generate()
	l := listen(t, []trust.Key{ours}, "--hold", "300ms")
	s, _, link := l.open(ctx, ours)
	answers(t, link)
	s.Drop(errors.New("cut"))
	select {
	case <-l.ended:
	case <-time.After(10 * time.Second):
		t.Error("it waits for longer than it said")
	}
}
