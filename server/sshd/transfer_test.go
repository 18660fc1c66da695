package sshd

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"testing"
	"time"
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
