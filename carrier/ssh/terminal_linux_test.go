package ssh

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier/farhalf"
)

// TestTerminal has sshd give the command a terminal though we are on none, and
// carries every octet over it in both directions.
func TestTerminal(t *testing.T) {
	start := func(at *server) (io.ReadWriteCloser, error) {
		nonce := farhalf.NewNonce()
		c := at.client(farhalf.Program(nonce, true))
		c.Terminal = true
		c.Program = append(c.Program, "-T") // a user's flag does not take it away
		s, _ := dial(t, c)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return farhalf.StartProgram(ctx, s, nonce, `sh -c "tty >&2; exec cat"`)
	}
	s, err := start(startServer(t))
	if err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 0, 100)
	for one := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); line = append(line, one[0]) {
		if _, err := io.ReadFull(s, one); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.HasPrefix(string(line), "/dev/pts/") {
		t.Errorf("the command is on %q", line)
	}
	all := make([]byte, 64<<10)
	for i := range all {
		all[i] = byte(i ^ i>>8)
	}
	wrote := make(chan error, 1)
	go func() { _, err := s.Write(all); wrote <- err }()
	got := make([]byte, len(all))
	if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, all) {
		t.Errorf("what came back differs: %v", err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	s.Close()

	_, err = start(startServer(t, "PermitTTY no"))
	if _, _, refused := kindOf(err); !refused || !strings.Contains(err.Error(), "no terminal there") {
		t.Errorf("without a terminal: %v", err)
	}
}
