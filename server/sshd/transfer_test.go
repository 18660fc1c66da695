package sshd

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// TestTransfer: octets arrive as they were, both ways at once, and their end too.
func TestTransfer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		size  int64
		rekey uint64
		args  []string
	}{
		{"8KiB", 8 << 10, 0, nil},
		{"1MiB", 1 << 20, 0, []string{"-c", "chacha20-poly1305@openssh.com"}},
		{"100MB", 100e6, 0, nil},
		{"32MiB, new keys each MiB by both", 32 << 20, 1 << 20, []string{"-o", "RekeyLimit=1M"}},
		{"16MiB, new keys each 64 KiB by the server", 16 << 20, 64 << 10, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := serve(t, func(config *Config) { config.Rekey = c.rekey })
			u := h.openssh(t, goodKey)
			sent, got := sha256.New(), sha256.New()
			var errs bytes.Buffer
			cmd := u.command("ssh", append(c.args, "127.0.0.1", "cat")...)
			cmd.Stdin = io.TeeReader(io.LimitReader(pattern(), c.size), sent)
			cmd.Stdout, cmd.Stderr = got, &errs
			start := time.Now()
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v: %s", err, errs.String())
			}
			if want := sent.Sum(nil); !bytes.Equal(got.Sum(nil), want) {
				t.Error("what came back is not what was sent")
			}
			t.Logf("%d octets there and back: %.0f MB/s each way", c.size, float64(c.size)/1e6/time.Since(start).Seconds())
		})
	}
}

// TestWriteBuffers: what is written at once arrives in its order, in packets of the most
// octets that a client must take and one rest.
func TestWriteBuffers(t *testing.T) {
	for _, sizes := range [][]int{{}, {0}, {1}, {maxPacket}, {maxPacket + 1}, {3 * maxPacket}, {1, maxPacket}, {maxPacket - 1, 1, 5}, {10, 100_000, 0, 7, 40_000}} {
		var want []byte
		var list net.Buffers
		for _, n := range sizes {
			b := make([]byte, n)
			pattern().Read(b)
			list = append(list, b)
			want = append(want, b...)
		}
		var to packets
		s := &Session{channel: &to}
		for range 2 {
			to = packets{}
			if err := s.WriteBuffers(list); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(to.all, want) {
				t.Errorf("%v: %d octets of %d, or others", sizes, len(to.all), len(want))
			}
			if n := (len(want) + maxPacket - 1) / maxPacket; to.n != n {
				t.Errorf("%v: %d packets, want %d", sizes, to.n, n)
			}
		}
		to = packets{}
		if n, err := s.Write(want); n != len(want) || err != nil || !bytes.Equal(to.all, want) {
			t.Errorf("Write of %d: %d, %v", len(want), n, err)
		}
		to = packets{fails: 1}
		if err := s.WriteBuffers(list); err == nil && len(want) > 0 {
			t.Errorf("%v: no error", sizes)
		}
	}
}

// packets is a channel that keeps what is written.
type packets struct {
	ssh.Channel
	all   []byte
	n     int
	fails int // at which packet; 0: at none
}

func (p *packets) Write(b []byte) (int, error) {
	if p.n++; p.n == p.fails {
		return 0, io.EOF
	}
	p.all = append(p.all, b...)
	return len(b), nil
}

// TestHalfClose: the client's end comes before the answer, and the answer after it.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	h := serve(t)
	const size = 300_000
	want := sha256.New()
	in := io.TeeReader(io.LimitReader(pattern(), size), want)
	status, out, errs := h.openssh(t, goodKey).run(in, "ssh", "127.0.0.1", "sum")
	if status != 0 || out != fmt.Sprintf("%d %x", size, want.Sum(nil)) {
		t.Errorf("%d, %q, %q", status, out, errs)
	}
}
