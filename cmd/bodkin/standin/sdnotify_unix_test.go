//go:build unix

package standin

import (
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestTellServiceManager: who asks to be told is told.
func TestTellServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := tellServiceManager(); err != nil {
		t.Errorf("nobody asks: %v", err)
	}
	name := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", name)
	if err := tellServiceManager(); err == nil {
		t.Error("nobody listens, and it is no error")
	}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := tellServiceManager(); err != nil {
		t.Error(err)
	}
	l.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 100)
	n, err := l.Read(b)
	if string(b[:n]) != "READY=1\n" {
		t.Errorf("told %q, %v", b[:n], err)
	}
}
