//go:build unix

package trust

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
)

// keygen runs the real ssh-keygen and returns what it prints.
func keygen(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ssh-keygen", args...)
	var out, errw bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errw
	if err := cmd.Run(); err != nil {
		t.Fatalf("ssh-keygen %q: %v: %s", args, err, errw.String())
	}
	return strings.TrimSpace(out.String())
}

// room returns a directory that is ours alone.
func room(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// says is a Passphrase that gives the answers in turn.
func says(t *testing.T, answers ...string) Passphrase {
	return func(_ context.Context, question string) (string, error) {
		if len(answers) == 0 {
			t.Error("asked once more")
			return "", errors.New("no more")
		}
		if !strings.HasPrefix(question, "Passphrase for /") {
			t.Errorf("asked %q", question)
		}
		answer := answers[0]
		answers = answers[1:]
		return answer, nil
	}
}

// TestKeygenReadsOurs: the real ssh-keygen takes the files we make.
func TestKeygenReadsOurs(t *testing.T) {
	for _, phrase := range []string{"", "open sesame"} {
		file := filepath.Join(room(t), "deep", "er", "key")
		key := Generate()
		if err := key.Save(file, "me@here", phrase); err != nil {
			t.Fatal(err)
		}
		if got, want := keygen(t, "-y", "-P", phrase, "-f", file), FormatPublic(key.Public(), "me@here"); got != want {
			t.Errorf("ssh-keygen -y: %q, want %q", got, want)
		}
		if got := keygen(t, "-l", "-f", file); !strings.Contains(got, " "+Fingerprint(key.Public())+" ") {
			t.Errorf("ssh-keygen -l: %q, want %s", got, Fingerprint(key.Public()))
		}
		for path, want := range map[string]fs.FileMode{file: 0o600, filepath.Dir(file): fs.ModeDir | 0o700, filepath.Dir(filepath.Dir(file)): fs.ModeDir | 0o700} {
			if info, err := os.Stat(path); err != nil || info.Mode() != want {
				t.Errorf("%s has mode %v (%v), want %v", path, info.Mode(), err, want)
			}
		}
		text, _ := os.ReadFile(file)
		if err := Generate().Save(file, "", ""); !errors.Is(err, fs.ErrExist) {
			t.Errorf("saving over a key: %v", err)
		}
		if after, _ := os.ReadFile(file); !bytes.Equal(text, after) {
			t.Error("a refused save changed the file")
		}
		loaded, err := Load(t.Context(), file, says(t, phrase))
		if err != nil || !loaded.Private.Equal(key.Private) {
			t.Errorf("with passphrase %q it came back as another, %v", phrase, err)
		}
	}
}

// TestLoadKeygens: we take the files that the real ssh-keygen makes.
func TestLoadKeygens(t *testing.T) {
	file := filepath.Join(room(t), "key")
	keygen(t, "-q", "-t", "ed25519", "-a", "4", "-N", "open sesame", "-C", "you@there", "-f", file)
	text, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	want, comment, err := ParsePublic(string(text))
	if err != nil || comment != "you@there" {
		t.Fatalf("%q, %v", comment, err)
	}
	if public, locked, err := LoadPublic(file); err != nil || !locked || !same(public, want) {
		t.Errorf("LoadPublic: %x, %v, %v", public, locked, err)
	}
	if key, err := Load(t.Context(), file, says(t, "wrong", "", "open sesame")); err != nil || !same(key.Public(), want) {
		t.Errorf("at the third try: %v", err)
	}
	if _, err := Load(t.Context(), file, says(t, "a", "b", "c")); !errors.Is(err, ErrPassphrase) || strings.Contains(err.Error(), "open sesame") {
		t.Errorf("three wrong ones: %v", err)
	}
	if _, err := Load(t.Context(), file, nil); !errors.Is(err, ErrPassphrase) {
		t.Errorf("nobody to ask: %v", err)
	}
	gone := errors.New("gone")
	if _, err := Load(t.Context(), file, func(context.Context, string) (string, error) { return "", gone }); !errors.Is(err, gone) {
		t.Errorf("who was asked left: %v", err)
	}
	keygen(t, "-q", "-p", "-P", "open sesame", "-N", "", "-f", file)
	if key, err := Load(t.Context(), file, nil); err != nil || !same(key.Public(), want) {
		t.Errorf("without a passphrase: %v", err)
	}
	if public, locked, err := LoadPublic(file); err != nil || locked || !same(public, want) {
		t.Errorf("LoadPublic: %x, %v, %v", public, locked, err)
	}
}

func TestNotAKey(t *testing.T) {
	dir := room(t)
	for _, kind := range []string{"rsa", "ecdsa"} {
		for _, phrase := range []string{"", "phrase"} {
			file := filepath.Join(dir, kind+phrase)
			keygen(t, "-q", "-t", kind, "-a", "1", "-N", phrase, "-f", file)
			if _, err := Load(t.Context(), file, says(t, phrase)); err == nil || !strings.Contains(err.Error(), "not an Ed25519 key") {
				t.Errorf("%s: %v", kind, err)
			}
			if _, _, err := LoadPublic(file); err == nil {
				t.Errorf("LoadPublic takes %s", kind)
			}
		}
	}

	// A key whose public half is another's: signing with it gives the private half away.
	mixed := append(append(ed25519.PrivateKey{}, Generate().Private[:32]...), testKey(1)...)
	block, err := ssh.MarshalPrivateKey(mixed, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"mixed": string(pem.EncodeToMemory(block)), "empty": "", "text": "not a key\n", "public": line(1) + "\n", "large": strings.Repeat("x", maxFile+1)} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if key, err := Load(t.Context(), file, nil); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %x, %v", name, key.Public(), err)
		}
	}
	if _, err := Load(t.Context(), filepath.Join(dir, "absent"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent key: %v", err)
	}
}

// TestUnsafeFiles: a file that somebody else could have written, or a key that somebody
// else could have read, is refused with the reason. It runs as root.
func TestUnsafeFiles(t *testing.T) {
	const nobody = 65534
	for _, c := range []struct {
		about     string
		do        func(file string) error
		keyOnly   bool // the other two files are taken nevertheless
		reason    string
		remedyHas string
	}{
		{"group may read", func(f string) error { return os.Chmod(f, 0o640) }, true, "others may read it: its mode is 0640", "chmod 600"},
		{"all may read", func(f string) error { return os.Chmod(f, 0o604) }, true, "others may read it: its mode is 0604", "chmod 600"},
		{"group may write", func(f string) error { return os.Chmod(f, 0o620) }, false, "others may", "chmod"},
		{"all may write", func(f string) error { return os.Chmod(f, 0o602) }, false, "others may", "chmod"},
		{"another owner", func(f string) error { return os.Chown(f, nobody, -1) }, false, "it belongs to nobody", ""},
		{"a symbolic link", func(f string) error {
			return errors.Join(os.Rename(f, f+".real"), os.Symlink(f+".real", f))
		}, false, "it is a symbolic link", ""},
		{"a FIFO", func(f string) error { return errors.Join(os.Remove(f), syscall.Mkfifo(f, 0o600)) }, false, "it is not an ordinary file", ""},
		{"a directory", func(f string) error { return errors.Join(os.Remove(f), os.Mkdir(f, 0o700)) }, false, "it is not an ordinary file", ""},
		{"a device", func(f string) error {
			return errors.Join(os.Remove(f), syscall.Mknod(f, syscall.S_IFCHR|0o600, 1<<8|3))
		}, false, "it is not an ordinary file", ""},
		{"all may write the directory", func(f string) error { return os.Chmod(filepath.Dir(f), 0o777) }, false, "others may write it: its mode is 0777", "chmod go-w"},
		{"another's directory", func(f string) error { return os.Chown(filepath.Dir(f), nobody, -1) }, false, "it belongs to nobody", ""},
	} {
		for _, kind := range []string{KeyFile, ServersFile, ClientsFile} {
			file := filepath.Join(room(t), kind)
			var load func() error
			switch kind {
			case KeyFile:
				if err := Generate().Save(file, "", ""); err != nil {
					t.Fatal(err)
				}
				load = func() error { _, err := Load(t.Context(), file, nil); return err }
			case ServersFile:
				k, err := LoadKnownServers(file)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := k.Add("gw", testKey(1), ""); err != nil {
					t.Fatal(err)
				}
				if err := k.Save(); err != nil {
					t.Fatal(err)
				}
				load = func() error { _, err := LoadKnownServers(file); return err }
			case ClientsFile:
				a, err := LoadAuthorizedClients(file)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := a.Add(Client{Key: testKey(1)}); err != nil {
					t.Fatal(err)
				}
				if err := a.Save(); err != nil {
					t.Fatal(err)
				}
				load = func() error { _, err := LoadAuthorizedClients(file); return err }
			}
			if err := load(); err != nil {
				t.Fatalf("%s, as we made it: %v", kind, err)
			}
			if err := c.do(file); err != nil {
				t.Fatalf("%s: %v (this test runs as root)", c.about, err)
			}
			err := load()
			var unsafe *UnsafeError
			switch {
			case c.keyOnly && kind != KeyFile:
				if err != nil {
					t.Errorf("%s, %s: %v", kind, c.about, err)
				}
			case !errors.As(err, &unsafe) || !strings.Contains(err.Error(), c.reason) || !strings.Contains(unsafe.Remedy, c.remedyHas):
				t.Errorf("%s, %s: %v; want %q", kind, c.about, err, c.reason)
			}
		}
	}
}

// TestSaveLeavesNothing: the file has the new text and mode 0600, and stands alone.
func TestSaveLeavesNothing(t *testing.T) {
	dir := room(t)
	file := filepath.Join(dir, ServersFile)
	if err := os.WriteFile(file, []byte("# mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	k, err := LoadKnownServers(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Add("gw", testKey(1), "c"); err != nil {
		t.Fatal(err)
	}
	if err := k.Save(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if want := "# mine\ngw " + FormatPublic(testKey(1), "c") + "\n"; err != nil || string(text) != want {
		t.Errorf("%q, %v; want %q", text, err, want)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 {
		t.Errorf("the directory holds %v, %v", list, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestTooLarge: no file is read without end.
func TestTooLarge(t *testing.T) {
	file := filepath.Join(room(t), ServersFile)
	for _, c := range []struct {
		size int
		ok   bool
	}{{maxFile, true}, {maxFile + 1, false}} {
		if err := os.WriteFile(file, bytes.Repeat([]byte("#"), c.size), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKnownServers(file); (err == nil) != c.ok {
			t.Errorf("%d octets: %v", c.size, err)
		}
	}
}

func TestDir(t *testing.T) {
	for _, c := range []struct{ home, xdg, want string }{
		{"/home/me", "", "/home/me/.config/bodkin"},
		{"/home/me", "/x", "/x/bodkin"},
		{"/home/me", "relative", "/home/me/.config/bodkin"},
	} {
		t.Setenv("HOME", c.home)
		t.Setenv("XDG_CONFIG_HOME", c.xdg)
		if got, err := Dir(); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}
