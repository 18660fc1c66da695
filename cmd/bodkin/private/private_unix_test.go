//go:build unix

package private

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestMake: a directory that others may enter, that is another's, or that is none, is not
// used.
func TestMake(t *testing.T) {
	base := t.TempDir()
	open, link, file, foreign := filepath.Join(base, "open"), filepath.Join(base, "link"), filepath.Join(base, "file"), filepath.Join(base, "foreign")
	if err := errors.Join(
		os.Mkdir(open, 0o700), os.Chmod(open, 0o755), os.Symlink(t.TempDir(), link), os.WriteFile(file, nil, 0o600),
		os.Mkdir(foreign, 0o700), os.Chown(foreign, 4321, 4321),
	); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{open, link, file, foreign} {
		if Make(dir) == nil || Is(dir, os.Geteuid()) {
			t.Errorf("%s was taken", dir)
		}
	}
	if !Is(foreign, 4321) || Is(foreign, 1234) {
		t.Error("whose it is is mistaken")
	}
	for range 2 {
		if err := Make(filepath.Join(base, "new")); err != nil {
			t.Error(err)
		}
	}
}

// TestListen: what a killed process left is replaced, and who answers is left alone.
func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "socket")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrAnswered) {
		t.Errorf("a socket that is answered: %v", err)
	}
	first.SetUnlinkOnClose(false)
	first.Close()
	second, err := Listen(path)
	if err != nil {
		t.Fatalf("a socket that nobody answers: %v", err)
	}
	second.Close()
}
