//go:build unix

package sdnotify

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestTell: who asks to be told is told.
func TestTell(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Tell(Ready); err != nil {
		t.Errorf("nobody asks: %v", err)
	}
	name := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", name)
	if err := Tell(Ready); err == nil {
		t.Error("nobody listens, and it is no error")
	}
	told := listen(t, name)
	if err := Tell(Ready, Status("two\nlines")); err != nil {
		t.Error(err)
	}
	if got, want := told(), "READY=1\nSTATUS=two lines\n"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

// TestWatchdog: a process that is alive says so in time, one that is stuck does not, and
// another's watchdog is not fed.
func TestWatchdog(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", name)
	told := listen(t, name)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "1")
	Watchdog(t.Context(), func() bool { t.Error("that watchdog is another's"); return true })

	t.Setenv("WATCHDOG_PID", "")
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watchdog(ctx, func() bool { asked++; return asked != 2 })
	}()
	for range 3 {
		if got := told(); got != "WATCHDOG=1\n" {
			t.Errorf("told %q", got)
		}
	}
	cancel()
	<-done
	if asked < 4 {
		t.Errorf("asked %d times whether it is alive, for three signs of it and one time that it was not", asked)
	}
}

// listen listens in a service manager's place.
func listen(t *testing.T, name string) func() string {
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return func() string {
		l.SetReadDeadline(time.Now().Add(5 * time.Second))
		b := make([]byte, 200)
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}
