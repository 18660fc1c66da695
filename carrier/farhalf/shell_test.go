package farhalf

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// A fakeShell is a far side in memory, on a terminal that echoes until it is told not
// to. It takes its time before each thing it says, and fails if anything comes ahead of
// what it says.
type fakeShell struct {
	banner string
	late   func() time.Duration
	eol    string // what it ends a line with
	need   bool   // it has no build yet
	stop   string // the verb it does not get to
	leave  bool   // instead, it hangs up; else it is silent

	conn     net.Conn
	line     string // the one that the shell read
	received []byte // the build
}

var typedPattern = regexp.MustCompile(`^ exec /bin/sh -c '[^']+' ([0-9a-f]{32}) "'" \.$`)

// errStopped is how a fakeShell ends that was to.
var errStopped = errors.New("stopped here")

// run plays the far side until the near half hangs up.
func (f *fakeShell) run() error {
	defer f.conn.Close()
	f.conn.Write([]byte(f.banner))
	line, err := f.read(true)
	if err != nil {
		return err
	}
	f.line = line
	m := typedPattern.FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("typed: %q", line)
	}
	nonce := m[1]
	say := func(text string) error {
		if time.Sleep(f.late()); f.late() > 0 {
			f.conn.SetReadDeadline(time.Now().Add(1))
			if n, err := f.conn.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("before %s, an octet came ahead of need: %v", text, err)
			}
			f.conn.SetReadDeadline(time.Time{})
		}
		if verb, _, _ := strings.Cut(text, " "); verb == f.stop {
			if !f.leave {
				io.Copy(io.Discard, f.conn)
			}
			return errStopped
		}
		_, err := f.conn.Write([]byte("BODKIN " + nonce + " " + text + f.eol))
		return err
	}
	if err := say("SHELL tty"); err != nil {
		return err
	}
	for {
		line, err := f.read(false)
		if err != nil {
			return err
		}
		if line == ":" {
			break
		}
		if !strings.HasPrefix(line, ": '") || !strings.HasSuffix(line, "'") {
			return fmt.Errorf("script: %q", line)
		}
	}
	if f.need {
		if err := f.upload(say); err != nil {
			return err
		}
	}
	if err := say("READY 1"); err != nil {
		return err
	}
	_, err = io.Copy(f.conn, f.conn)
	return err
}

// read reads a line, by octets, and echoes them.
func (f *fakeShell) read(echo bool) (string, error) {
	var line []byte
	for one := make([]byte, 1); ; {
		if _, err := io.ReadFull(f.conn, one); err != nil {
			return "", err
		}
		if echo {
			f.conn.Write(bytes.Replace(one, []byte("\r"), []byte("\r\n"), 1))
		}
		if one[0] == '\r' {
			return string(line), nil
		}
		if line = append(line, one...); len(line) > 250 {
			return "", fmt.Errorf("a line of more than 250 octets: %q", line)
		}
	}
}

func (f *fakeShell) upload(say func(string) error) error {
	if err := say("NEED Linux x86_64 gzip"); err != nil {
		return err
	}
	header, err := f.read(false)
	if err != nil {
		return err
	}
	var size, octets int
	var hash string
	if _, err := fmt.Sscanf(header, ": gzip %d %d %s .", &octets, &size, &hash); err != nil {
		return fmt.Errorf("header %q: %w", header, err)
	}
	if err := say("SEND /home/me"); err != nil {
		return err
	}
	var text strings.Builder
	for {
		line, err := f.read(false)
		switch {
		case err != nil:
			return err
		case line == ": --":
			z, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(text.String())))
			if err != nil {
				return err
			}
			if f.received, err = io.ReadAll(z); err != nil {
				return err
			}
			if got := sha256.Sum256(f.received); hex.EncodeToString(got[:]) != hash || len(f.received) != size {
				return fmt.Errorf("%d octets of %d received, another hash", len(f.received), size)
			}
			return nil
		case line == ": -", line == ": .":
		case line == ":": // passed over by all but some
			if err := say("GOT"); err != nil {
				return err
			}
		case len(line) > 76:
			return fmt.Errorf("%d octets in a line", len(line))
		default:
			text.WriteString(line[2:])
		}
	}
}

// begin runs f, and returns the near end, which reads one octet at a time.
func (f *fakeShell) begin() (near carrier.Stream, ended chan error) {
	var a net.Conn
	a, f.conn = net.Pipe()
	ended = make(chan error, 1)
	go func() { ended <- f.run() }()
	return carrier.Stream{ReadWriteCloser: struct {
		io.Reader
		io.WriteCloser
	}{iotest.OneByteReader(a), a}}, ended
}

func noiseBuild(t *testing.T, size int) Builds {
	t.Helper()
	text := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(text)
	path := filepath.Join(t.TempDir(), "far")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	builds, err := Find(path)
	if err != nil {
		t.Fatal(err)
	}
	return builds
}

// TestThousandStarts: no order of what happens on the two sides loses or invents an
// octet, however slow the far side is, on one processor.
func TestThousandStarts(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	builds := noiseBuild(t, 3000)
	for i := range 1000 {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(i), 4))
			f := &fakeShell{
				banner: strings.Repeat("Welcome.\r\n", random.IntN(20)) + "$ ",
				eol:    []string{"\r\n", "\n", "\r"}[i%3],
				need:   i%4 == 0,
				late:   func() time.Duration { return time.Duration(random.Int64N(int64(2 * time.Second))) },
			}
			if i%10 == 0 {
				f.late = func() time.Duration { return 30 * time.Second }
			}
			s, ended := f.begin()
			s, result, err := StartInShell(t.Context(), s, Options{Builds: builds})
			if err != nil {
				t.Fatal(i, err, <-ended)
			}
			want := "\x00\x01 first octets \r\n\xff"
			go s.Write([]byte(want))
			got := make([]byte, len(want))
			if _, err := io.ReadFull(s, got); err != nil || string(got) != want {
				t.Fatalf("%d: the far half answered %q, %v", i, got, err)
			}
			s.Close()
			if err := <-ended; err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(i, err)
			}
			if result.Uploaded != f.need || f.need && len(f.received) != 3000 {
				t.Fatalf("%d: %+v, %d octets", i, result, len(f.received))
			}
		})
	}
}

// TestShellSilent: whatever the far side does not say is missed after a minute, or as
// long as is wished, from the last octet that it said.
func TestShellSilent(t *testing.T) {
	builds := noiseBuild(t, 3000)
	for _, c := range []struct{ stop, reason string }{
		{"SHELL", `waiting for the shell to run our line: nothing came for 1m0s, and`},
		{"READY", "waiting for it to start: nothing came for 1m0s"},
		{"SEND", "waiting for the far side to make room for it: nothing came"},
		{"GOT", "sending it: nothing came"},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			f := &fakeShell{banner: "\x1b[2Jlogin ok", eol: "\n", need: c.stop != "READY", stop: c.stop, late: func() time.Duration { return 50 * time.Second }}
			s, ended := f.begin()
			_, _, err := StartInShell(t.Context(), s, Options{Builds: builds})
			var silence *carrier.SilenceError
			if !errors.As(err, &silence) || !strings.Contains(silence.Reason, c.reason) || silence.Hint == "" || silence.Layer != "far half" {
				t.Errorf("%s: %v", c.stop, err)
			}
			if c.stop == "SHELL" {
				if took := time.Since(began); took < time.Minute || took > 80*time.Second {
					t.Errorf("it took %v", took)
				}
				if strings.Contains(err.Error(), "\x1b") || !strings.Contains(err.Error(), "octets before") {
					t.Error(err)
				}
			}
			if err := <-ended; err != errStopped {
				t.Errorf("%s: %v", c.stop, err)
			}
		})
	}
}

// TestShellHangsUp: an end in the middle is a HangUpError, which says where.
func TestShellHangsUp(t *testing.T) {
	builds := noiseBuild(t, 3000)
	for _, c := range []struct{ stop, reason string }{
		{"SHELL", "waiting for the shell to run our line: the far side ended after"},
		{"READY", "waiting for it to start: the far side ended after"},
		{"SEND", "waiting for the far side to make room for it: the far side ended"},
		{"GOT", "sending it: the far side ended"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeShell{banner: "login ok\r\n", eol: "\n", need: c.stop != "READY", stop: c.stop, leave: true, late: func() time.Duration { return 0 }}
			s, ended := f.begin()
			_, _, err := StartInShell(t.Context(), s, Options{Builds: builds})
			var hungUp *carrier.HangUpError
			if !errors.As(err, &hungUp) || !strings.Contains(hungUp.Reason, c.reason) || hungUp.Hint == "" || hungUp.Layer != "far half" {
				t.Errorf("%s: %v", c.stop, err)
			}
			<-ended
		})
	}
}

// TestShellContext: the context's end is told as such.
func TestShellContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeShell{stop: "SHELL", late: func() time.Duration { return 0 }}
		s, ended := f.begin()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, _, err := StartInShell(ctx, s, Options{})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		<-ended
	})
}

// A slowLine carries so many octets in a second, one by one, in one direction.
func slowLine(w io.Writer, r io.Reader, perSecond int) {
	for one := make([]byte, 1); ; {
		if _, err := io.ReadFull(r, one); err != nil {
			return
		}
		time.Sleep(time.Second / time.Duration(perSecond))
		if _, err := w.Write(one); err != nil {
			return
		}
	}
}

// TestSlowLine: 300 bit/s with all that we write taken at once, by some large buffer on
// the way, takes its hour and is no silence.
func TestSlowLine(t *testing.T) {
	builds := noiseBuild(t, 60_000)
	synctest.Test(t, func(t *testing.T) {
		f := &fakeShell{banner: "$ ", eol: "\r\n", need: true, late: func() time.Duration { return 0 }}
		s, ended := f.begin()
		line := s.ReadWriteCloser
		buffered := make(chan []byte, 1<<12) // never full here
		inR, inW := io.Pipe()
		go func() {
			r, w := io.Pipe()
			go func() { slowLine(line, r, slowest); r.Close() }()
			for b := range buffered {
				w.Write(b)
			}
			w.Close()
		}()
		go func() { slowLine(inW, line, slowest); inW.Close() }()
		s.ReadWriteCloser = struct {
			io.Reader
			io.Writer
			io.Closer
		}{inR, writeFunc(func(b []byte) (int, error) { buffered <- bytes.Clone(b); return len(b), nil }), line}
		defer func() {
			inR.Close()
			line.Close()
			close(buffered)
			<-ended
		}()

		var last int64
		began := time.Now()
		_, result, err := StartInShell(t.Context(), s, Options{Builds: builds, Progress: func(done, total int64) {
			if done <= last || done > total {
				t.Errorf("progress: %d after %d of %d", done, last, total)
			}
			last = done
		}})
		if err != nil {
			t.Fatal(err)
		}
		if last != result.Octets || time.Since(began) < 40*time.Minute {
			t.Errorf("after %v: %d of %d", time.Since(began), last, result.Octets)
		}
	})
}

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(b []byte) (int, error) { return f(b) }
