package trust

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// mountedRoom tells the test's second process, alone in its mount namespace, where the
// file is.
const mountedRoom = "TRUST_TEST_MOUNTED_ROOM"

// TestSaveMounted: a file that is mounted on its own name, as in containers, takes no
// other's place; it is written where it is. It runs as root.
func TestSaveMounted(t *testing.T) {
	if dir := os.Getenv(mountedRoom); dir != "" {
		saveMounted(t, dir)
		return
	}
	dir := room(t)
	for _, name := range []string{ClientsFile, "mounted"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("# long enough to be seen if it stayed: "+line(7)+"\n"+line(1)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "-m", os.Args[0], "-test.run=^TestSaveMounted$")
	cmd.Env = append(os.Environ(), mountedRoom+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("in a mount namespace (this test runs as root): %v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "mounted"))
	if want := line(1) + "\n"; err != nil || string(text) != want {
		t.Errorf("the mounted file holds %q, %v; want %q", text, err, want)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 {
		t.Errorf("the directory holds %v, %v", list, err)
	}
}

func saveMounted(t *testing.T, dir string) {
	file := filepath.Join(dir, ClientsFile)
	if err := unix.Mount(filepath.Join(dir, "mounted"), file, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "mounted"), file); err == nil {
		t.Fatal("a mounted name can be taken: nothing is tried here")
	}
	if err := writeFile(file, []byte(line(1)+"\n")); err != nil {
		t.Fatal(err)
	}
}
