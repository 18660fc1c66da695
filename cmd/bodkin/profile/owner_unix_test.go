//go:build unix

package profile

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestOthersFile: another user's file is not used, root's is, and so is that of the user
// who called sudo. Root gives files away; the test needs root.
func TestOthersFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("giving a file to another user needs root")
	}
	path := profiles(t, both)
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, _, errs, status := call(t, "up", "work"); status != 2 || !strings.Contains(errs, "it belongs to ") {
		t.Errorf("another's file: exit status %d: %s", status, errs)
	}
	t.Setenv("SUDO_UID", "65534")
	if _, _, errs, status := call(t, "up", "work"); status != 0 {
		t.Errorf("that of the user who called sudo: %s", errs)
	}
	t.Setenv("SUDO_UID", "65533")
	if _, _, _, status := call(t, "up", "work"); status != 2 {
		t.Error("not that user's, and taken")
	}
}

// TestCallersHome: sudo bodkin up has the profiles of who called it, and the server
// root's.
func TestCallersHome(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("being called by sudo needs root")
	}
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", "/root-of-the-test")
	t.Setenv("SUDO_UID", "1") // daemon, whose home is not root's
	home := callersHome(program(&ran{}).Commands()[2])
	for _, cmd := range program(&ran{}).Commands() {
		path, _, err := Path(cmd)
		if err != nil {
			t.Fatal(err)
		}
		ours := strings.HasPrefix(path, "/root-of-the-test/")
		if want := cmd.Name() == "serve"; ours != want {
			t.Errorf("%s has %s, beside %s", cmd.Name(), path, home)
		}
	}
}

// TestFIFO: a FIFO that nobody writes is refused, and not waited for.
func TestFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan string)
	go func() {
		_, _, errs, _ := call(t, "profile", "check", "--config", path)
		done <- errs
	}()
	select {
	case errs := <-done:
		if !strings.Contains(errs, "not an ordinary file") {
			t.Error(errs)
		}
	case <-time.After(10 * time.Second):
		exec.Command("sh", "-c", ": > '"+path+"'").Run() // wake it
		t.Fatal("it waits for a writer")
	}
}
