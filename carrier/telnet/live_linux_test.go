package telnet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
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
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/tcp"
)

var (
	update  = flag.Bool("update", false, "record the real servers to testdata")
	busybox = flag.String("busybox", "", "with -update: a busybox that has telnetd (Debian's package busybox-static)")
)

// livePatience bounds one session with a real server, which takes a second.
const livePatience = 30 * time.Second

// account is what the servers run in place of a login: it asks who is there in a
// cooked terminal, as login does, and then is an echo in a raw one.
const account = `#!/bin/sh
printf 'login: '
read -r user
stty raw -echo
printf 'ready for %s\n' "$user"
exec cat
`

// A server is a telnetd that serves the one connection on its standard input, as
// inetd starts it. Its recording is testdata/<name>.txt.
type server struct {
	name    string
	command func(account string) []string
	modes   Modes
	clean   bool // carries CR NUL without BINARY both ways
}

var servers = []server{
	// It agrees to BINARY both ways, and takes its own back when it finds that the
	// terminal maps line ends. What it then sends still is what the terminal said.
	{"inetutils-2.4", func(account string) []string {
		return []string{"/usr/sbin/telnetd", "-h", "-E", account}
	}, Modes{BinaryOut: true, SGA: true, Echo: true}, true},
	// It answers no request at all, reads CR NUL as CR, and sends CR as it is.
	{"busybox-1.35", func(account string) []string {
		return []string{*busybox, "telnetd", "-i", "-f", "/dev/null", "-l", account}
	}, Modes{SGA: true, Echo: true}, false},
}

// session logs in and has all octets, and each before and after a CR, echoed.
func (s server) session(c *Conn) error {
	if err := readTo(c, "login: "); err != nil {
		return err
	}
	if _, err := c.Write([]byte("me\r")); err != nil {
		return err
	}
	if err := readTo(c, "me\r\nready for me\n"); err != nil {
		return err
	}
	var data []byte
	for b := range 256 {
		if data = append(data, byte(b), cr, byte(b)); b == nul && !s.clean {
			data = data[:1]
		}
	}
	if _, err := c.Write(data); err != nil {
		return err
	}
	got := make([]byte, len(data))
	if n, err := io.ReadFull(c, got); err != nil {
		return fmt.Errorf("after %d octets of %d: %w", n, len(data), err)
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("% x came back as % x", data, got)
	}
	if m := c.Modes(); m != s.modes {
		return fmt.Errorf("modes %+v, want %+v", m, s.modes)
	}
	return nil
}

// readTo reads octet by octet until want has come, as a dialogue does.
func readTo(r io.Reader, want string) error {
	var got []byte
	for !strings.HasSuffix(string(got), want) {
		b := make([]byte, 1)
		if _, err := r.Read(b); err != nil {
			return fmt.Errorf("waiting for %q after %q: %w", want, got, err)
		}
		if got = append(got, b...); len(got) > 1000 {
			return fmt.Errorf("waiting for %q: %q", want, got)
		}
	}
	return nil
}

// start runs the server on one end of a TCP connection and returns the other.
func (s server) start(t *testing.T) carrier.Stream {
	t.Helper()
	program := filepath.Join(t.TempDir(), "account")
	if err := os.WriteFile(program, []byte(account), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stream, err := tcp.Dial(t.Context(), l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	socket, err := accepted.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	accepted.Close()
	defer socket.Close()
	ctx, cancel := context.WithTimeout(context.Background(), livePatience)
	argv := s.command(program)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = socket, socket, socket
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v (scripts/setup test installs it)", argv[0], err)
	}
	t.Cleanup(func() {
		stream.Close() // ends the server
		cmd.Wait()
		cancel()
	})
	return stream
}

// TestLive has the real telnetd: a login, all octets, a Synch, and 1 MiB both ways at
// once.
func TestLive(t *testing.T) {
	s := servers[0]
	stream := s.start(t)
	c := Open(stream, Options{})
	defer time.AfterFunc(livePatience, func() { c.Close() }).Stop()
	if err := s.session(c); err != nil {
		t.Fatal(err)
	}
	// It answers Abort Output by IAC DM, with the DM as urgent data, and types a ^O.
	if _, err := stream.Write(octets("fff5 'synch' 0a")); err != nil {
		t.Fatal(err)
	}
	if err := readTo(c, "synch\n"); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	var wrote sync.WaitGroup
	wrote.Go(func() {
		if _, err := c.Write(data); err != nil {
			t.Error(err)
		}
	})
	hash := sha256.New()
	if n, err := io.CopyN(hash, c, int64(len(data))); err != nil {
		t.Fatalf("after %d octets: %v", n, err)
	}
	wrote.Wait()
	if want := sha256.Sum256(data); !bytes.Equal(hash.Sum(nil), want[:]) {
		t.Error("1 MiB came back changed")
	}
}

// TestUrgent has a server that sends its Synch as RFC 854, page 9, has it: the DM is
// TCP urgent data, and must not be lost from between the octets around it.
func TestUrgent(t *testing.T) {
	address := serve(t, func(_ context.Context, s carrier.Stream) {
		raw, err := s.ReadWriteCloser.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Error(err)
			return
		}
		s.Read(make([]byte, 1)) // the client has its socket as it likes it
		s.Write([]byte("before "))
		raw.Control(func(fd uintptr) {
			if err := syscall.Sendto(int(fd), octets("fff2"), syscall.MSG_OOB, nil); err != nil {
				t.Error(err)
			}
		})
		s.Write([]byte("after"))
	})
	s, err := tcp.Dial(t.Context(), address, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := Open(s, Options{Passive: true})
	defer c.Close()
	c.Write([]byte{0})
	if got, err := io.ReadAll(c); string(got) != "before after" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestRecordings plays what the real servers said, and wants to be answered as then.
func TestRecordings(t *testing.T) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			file := filepath.Join("testdata", s.name+".txt")
			if *update && (s.command("")[0] != "") {
				r := &recorder{Stream: s.start(t)}
				c := Open(carrier.Stream{ReadWriteCloser: r}, Options{})
				err := s.session(c)
				c.Close()
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(r.text()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, piece := range []int{1, 7, 1 << 10} {
				synctest.Test(t, func(t *testing.T) {
					near, far := ends()
					c := Open(near, Options{})
					defer c.Close()
					go func() {
						defer far.Close()
						if err := play(far, string(text), piece); err != nil {
							t.Errorf("in pieces of %d: %v", piece, err)
						}
					}()
					if err := s.session(c); err != nil {
						t.Errorf("in pieces of %d: %v", piece, err)
					}
				})
			}
		})
	}
}

// A recorder is a Stream that keeps what it carries, and in which order.
type recorder struct {
	carrier.Stream
	mu    sync.Mutex
	turns []recorded
}

type recorded struct {
	who    string
	octets []byte
}

func (r *recorder) keep(who string, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.turns); n == 0 || r.turns[n-1].who != who {
		r.turns = append(r.turns, recorded{who: who})
	}
	last := &r.turns[len(r.turns)-1]
	last.octets = append(last.octets, b...)
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Stream.Read(b)
	r.keep("server", b[:n])
	return n, err
}

func (r *recorder) Write(b []byte) (int, error) {
	r.keep("client", b)
	return r.Stream.Write(b)
}

// text returns what was kept, 24 octets a line, each turn with its name.
func (r *recorder) text() string {
	var text strings.Builder
	for _, turn := range r.turns {
		for b := turn.octets; len(b) > 0; b = b[min(24, len(b)):] {
			fmt.Fprintf(&text, "%s % x\n", turn.who, b[:min(24, len(b))])
		}
	}
	return text.String()
}

// play says the server's octets, in pieces, and wants the client's in between.
func play(s carrier.Stream, text string, piece int) error {
	number := 0
	for line := range strings.Lines(text) {
		number++
		who, hex, _ := strings.Cut(strings.TrimSpace(line), " ")
		want := octets(hex)
		if who == "server" {
			for ; len(want) > 0; want = want[min(piece, len(want)):] {
				if _, err := s.Write(want[:min(piece, len(want))]); err != nil {
					return err
				}
			}
			continue
		}
		got := make([]byte, len(want))
		if n, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("line %d: the client says % x, %v; then it said % x", number, got[:n], err, want)
		}
	}
	return nil
}
