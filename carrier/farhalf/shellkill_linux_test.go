package farhalf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/pty"
)

// A recorded login has testdata/recording-shell for a shell. We have the other end of
// its terminal, and nothing in between: a Close is what a killed telnetd leaves.
type recorded struct {
	*os.File        // the master
	home     string //
	leader   int    // the process that the shell is, and all that takes its place
	ended    chan error
}

func record(t *testing.T) *recorded {
	t.Helper()
	shell, err := filepath.Abs("testdata/recording-shell")
	if err != nil {
		t.Fatal(err)
	}
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	stty := exec.Command("stty", "sane")
	stty.Stdin = slave
	if err := stty.Run(); err != nil {
		t.Fatal(err)
	}
	r := &recorded{File: master, home: t.TempDir(), ended: make(chan error, 1)}
	cmd := exec.Command(shell)
	cmd.Env = []string{"HOME=" + r.home, "PATH=/usr/bin:/bin:/usr/sbin:/sbin"}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.leader = cmd.Process.Pid
	go func() { r.ended <- cmd.Wait() }()
	t.Cleanup(func() { master.Close(); syscall.Kill(r.leader, syscall.SIGKILL) })
	return r
}

// session returns the processes of the login that are left.
func (r *recorded) session() (left []string) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		text, _ := os.ReadFile(stat)
		name, fields, _ := strings.Cut(string(text), ") ") // state, parent, group, session
		if f := strings.Fields(fields); len(f) > 3 && f[0] != "Z" && f[3] == strconv.Itoa(r.leader) {
			left = append(left, name)
		}
	}
	return left
}

// typed wants the login to be over, all of its processes to be gone, and the shell to
// have read what it may have read: our one line, or nothing.
func (r *recorded) typed(t *testing.T, nonce string) {
	t.Helper()
	late := time.After(10 * time.Second)
	select {
	case <-r.ended:
	case <-late:
		t.Error("the shell's process goes on")
	}
	for again := time.NewTicker(5 * time.Millisecond); ; {
		left := r.session()
		if left == nil {
			break
		}
		select {
		case <-again.C:
			continue
		case <-late:
		}
		t.Errorf("processes left: %q", left)
		break
	}
	text, err := os.ReadFile(filepath.Join(r.home, "typed"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if whole := typedLine(nonce) + "\n"; string(text) != whole && !strings.HasPrefix(whole, string(text)) {
		t.Errorf("the shell read %q", text)
	}
}

// A brink is a Stream that calls fall when so many octets were written, or read.
type brink struct {
	carrier.Stream
	writes, reads int64 // octets to go; -1: any number
	fall          func()
}

func (b *brink) Write(data []byte) (int, error) {
	if b.writes < 0 {
		return b.Stream.Write(data)
	}
	n := min(b.writes, int64(len(data)))
	wrote, err := b.Stream.Write(data[:n])
	if b.writes -= int64(wrote); b.writes > 0 || err != nil {
		return wrote, err
	}
	b.fall()
	b.writes = -1
	more, err := b.Stream.Write(data[wrote:])
	return wrote + more, err
}

func (b *brink) Read(data []byte) (int, error) {
	if b.reads >= 0 {
		data = data[:min(int64(len(data)), max(1, b.reads))]
	}
	n, err := b.Stream.Read(data)
	if b.reads >= 0 {
		if b.reads -= int64(n); b.reads <= 0 {
			b.reads = -1
			b.fall()
		}
	}
	return n, err
}

// counting is how many octets a whole start writes and reads.
type counting struct {
	carrier.Stream
	wrote, read atomic.Int64
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.Stream.Write(b)
	c.wrote.Add(int64(n))
	return n, err
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.Stream.Read(b)
	c.read.Add(int64(n))
	return n, err
}

// TestKilled has the near half go away, and the far side's process be killed, at moments
// all over the start and after it, while we write as much as goes. No shell ever reads
// anything but the one line, and nothing goes on.
func TestKilled(t *testing.T) {
	builds := smallBuild(t)
	first := record(t)
	count := &counting{Stream: carrier.Stream{ReadWriteCloser: first}}
	nonce := NewNonce()
	s, _, err := StartInShell(t.Context(), carrier.Stream{ReadWriteCloser: count}, Options{Nonce: nonce, Builds: builds})
	answers(t, s, err)
	s.Close()
	first.typed(t, nonce)
	wrote, read := count.wrote.Load(), count.read.Load()
	length := int64(len(typedLine(nonce)) + 1)

	writes := []int64{1, length - 1, length, length + 1, length + 2000, wrote - 300, wrote - 1}
	var reads []int64
	for i := range int64(10) {
		writes = append(writes, length+4000+i*(wrote-length-4000)/10)
		reads = append(reads, 1+i*read/10)
	}
	reads = append(reads, read-100, read-50, read-1)
	for _, way := range []string{"near end closed", "far process killed"} {
		for i, at := range append(writes, reads...) {
			b := brink{writes: at, reads: -1}
			if i >= len(writes) {
				b = brink{writes: -1, reads: at}
			}
			t.Run(fmt.Sprintf("%s, %d written or %d read", way, b.writes, b.reads), func(t *testing.T) {
				t.Parallel()
				r := record(t)
				b := b
				b.Stream = carrier.Stream{ReadWriteCloser: r}
				b.fall = func() { r.Close() }
				if way == "far process killed" {
					b.fall = func() { syscall.Kill(r.leader, syscall.SIGKILL) }
				}
				nonce := NewNonce()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				defer context.AfterFunc(ctx, func() { r.Close() })()
				s, _, err := StartInShell(ctx, carrier.Stream{ReadWriteCloser: &b}, Options{Nonce: nonce, Builds: builds})
				if err == nil { // the brink was the start's end, which varies by an octet or two
					b.fall()
					io.Copy(io.Discard, s)
				}
				if ctx.Err() != nil {
					t.Error("the Stream did not end")
				}
				r.typed(t, nonce)
				if left, _ := filepath.Glob(r.home + "/.cache/bodkin/.*-*"); left != nil && way == "near end closed" {
					t.Errorf("left there: %q", left)
				}
			})
		}
	}
}

// TestKilledAtFullSpeed kills the far half while we write commands to it as fast as
// goes. What was on its way is lost, and no shell reads it.
func TestKilledAtFullSpeed(t *testing.T) {
	builds := smallBuild(t)
	for _, signal := range []syscall.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			r := record(t)
			nonce := NewNonce()
			s, _, err := StartInShell(t.Context(), carrier.Stream{ReadWriteCloser: r}, Options{Nonce: nonce, Builds: builds})
			answers(t, s, err)
			mark := filepath.Join(r.home, "ran")
			var wrote atomic.Int64
			go func() {
				for {
					n, err := s.Write([]byte("\ntouch " + mark + "\r\n"))
					if wrote.Add(int64(n)); err != nil {
						return
					}
				}
			}()
			if _, err := io.CopyN(io.Discard, s, 200_000); err != nil {
				t.Fatal(err)
			}
			syscall.Kill(r.leader, signal)
			defer time.AfterFunc(10*time.Second, func() { r.Close() }).Stop()
			if _, err := io.Copy(io.Discard, s); !errors.Is(err, syscall.EIO) {
				t.Errorf("the Stream ended by %v", err)
			}
			if pty.Held(r.File) {
				t.Error("somebody has the terminal open")
			}
			r.typed(t, nonce)
			if _, err := os.Stat(mark); err == nil {
				t.Error("a command ran")
			}
			s.Close()
		})
	}
}
