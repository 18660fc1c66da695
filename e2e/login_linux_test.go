package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

// TestLoginShells goes through each shell that an account may have, with an rc
// file that prints. The far half is uploaded anew each time.
func TestLoginShells(t *testing.T) {
	w := newWorld(t, lab.Options{})
	chatter := []byte("echo welcome to the gateway\n")
	for _, rc := range []string{
		".profile", ".bashrc", ".bash_profile", ".zshenv", ".zshrc", ".zprofile",
		".config/fish/config.fish", ".cshrc", ".tcshrc", ".login",
	} {
		if err := w.Gateway.WriteFile("/home/me/"+rc, chatter, 0o644, "me"); err != nil {
			t.Fatal(err)
		}
	}
	for _, shell := range []string{"/bin/sh", "/bin/bash", "/bin/dash", "/bin/zsh", "/usr/bin/fish", "/bin/tcsh", "/usr/local/bin/ash"} {
		t.Run(filepath.Base(shell), func(t *testing.T) {
			w := w.in(t)
			if filepath.Base(shell) == "ash" {
				if err := w.Gateway.Do(func() error { return os.Symlink("/bin/busybox", shell) }); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Gateway.SetShell("me", shell); err != nil {
				t.Fatal(err)
			}
			w.forget()
			w.up("me@gw")
			if len(w.cached()) != 1 {
				t.Errorf("cached on the gateway: %q, want one far half", w.cached())
			}
			w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", "http://web.example/")
			w.down()
		})
	}
}

// TestSecondConnectionUploadsNothing compares what the gateway has in its cache.
func TestSecondConnectionUploadsNothing(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.up("me@gw")
	w.down()
	first := w.cached()
	if len(first) != 1 {
		t.Fatalf("cached on the gateway after one connection: %q", first)
	}
	before := w.stat(first[0])
	w.up("me@gw")
	w.down()
	if again := w.cached(); len(again) != 1 || again[0] != first[0] || !os.SameFile(before, w.stat(first[0])) {
		t.Errorf("cached on the gateway: %q, then %q, or another file of that name", first, again)
	}
}

// TestForcedCommand limits the key to the far half, in authorized_keys: nothing
// is uploaded.
func TestForcedCommand(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Gateway.Install(program); err != nil {
		t.Fatal(err)
	}
	key, err := w.Gateway.ReadFile("/home/me/.ssh/authorized_keys")
	if err != nil {
		t.Fatal(err)
	}
	forced := append([]byte(`restrict,command="bodkin far" `), key...)
	if err := w.Gateway.WriteFile("/home/me/.ssh/authorized_keys", forced, 0o600, "me"); err != nil {
		t.Fatal(err)
	}
	w.up("me@gw")
	w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", "http://web.example/")
	w.down()
	if got := w.cached(); len(got) > 0 {
		t.Errorf("uploaded in spite of the forced command: %q", got)
	}
}

// TestProxyJump goes through one host to reach another, as ~/.ssh/config says.
// ssh dials by itself then, and its connection must stay outside the tunnel.
func TestProxyJump(t *testing.T) {
	w := newWorld(t, lab.Options{})
	config := "Host inside\n\tHostName 127.0.0.1\n\tUser me\n\tHostKeyAlias gw\n\tProxyJump me@gw\n"
	if err := w.Laptop.WriteFile("/home/me/.ssh/config", []byte(config), 0o600, "me"); err != nil {
		t.Fatal(err)
	}
	before := w.snapshot()
	w.up("inside")
	for _, f := range families {
		w.laptop("curl", "-sS", "-f", f.flag, "-m", "10", "-o", "/dev/null", "http://web.example/")
	}
	w.down()
	w.asBefore(before, "up, down")
}

// TestOwnSSH names another ssh program and options, as rsync's -e does.
func TestOwnSSH(t *testing.T) {
	w := newWorld(t, lab.Options{})
	config := "Host office\n\tHostName gw\n\tUser me\n"
	if err := w.Laptop.WriteFile("/home/me/work.conf", []byte(config), 0o600, "me"); err != nil {
		t.Fatal(err)
	}
	w.up("-e", "ssh -F /home/me/work.conf -o Compression=no", "office")
	w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", "http://web.example/")
}

// TestWhoRunsSSH looks in /proc: it is the user who asked, never root for a user.
func TestWhoRunsSSH(t *testing.T) {
	w := newWorld(t, lab.Options{})
	key, err := w.Laptop.ReadFile("/root/.ssh/id_ed25519.pub")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := w.Gateway.ReadFile("/home/me/.ssh/authorized_keys")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Gateway.WriteFile("/home/me/.ssh/authorized_keys", append(theirs, key...), 0o600, "me"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, account string
		command       []string
		uid           uint32
	}{
		{"a user", "me", []string{"bodkin"}, lab.LaptopUID},
		{"root by sudo", "me", []string{"sudo", "bodkin"}, lab.LaptopUID},
		{"root alone", "root", []string{"bodkin"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := w.in(t)
			run := func(args ...string) result {
				args = append(tt.command[1:], args...)
				return w.on(w.Laptop, tt.account, tt.command[0], args...)
			}
			if r := run("up", "-d", "me@gw"); r.status != 0 {
				t.Fatalf("exit status %d\n%s", r.status, r.out)
			}
			w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", "http://web.example/")
			seen := false
			for _, p := range w.processes() {
				if filepath.Base(p.Args[0]) == "ssh" {
					seen = true
					if p.UID != tt.uid {
						t.Errorf("%s is run by %d, want %d", strings.Join(p.Args, " "), p.UID, tt.uid)
					}
				}
			}
			if !seen {
				t.Error("no ssh is seen")
			}
			if r := run("down"); r.status != 0 {
				t.Errorf("down: exit status %d\n%s", r.status, r.out)
			}
		})
	}
}

const cache = "/home/me/.cache/bodkin"

// cached lists the far halves that the gateway keeps.
func (w *world) cached() (names []string) {
	w.t.Helper()
	err := w.Gateway.Do(func() error {
		entries, err := os.ReadDir(cache)
		if os.IsNotExist(err) {
			return nil
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return names
}

// forget empties the gateway's cache.
func (w *world) forget() {
	w.t.Helper()
	if err := w.Gateway.Do(func() error { return os.RemoveAll(cache) }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stat(name string) (info os.FileInfo) {
	w.t.Helper()
	err := w.Gateway.Do(func() (err error) {
		info, err = os.Stat(filepath.Join(cache, name))
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return info
}
