package farhalf

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/pty"
)

// TestMain lets the test binary be the far half that is uploaded: it answers each
// octet, after it has announced itself.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 5 && os.Args[1] == "far" && os.Args[4] == "--line":
		if pty.IsTerminal(os.Stdin) {
			if _, err := pty.Raw(os.Stdin); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(3)
			}
		}
	case len(os.Args) != 4 || os.Args[1] != "far" || os.Args[2] != "--nonce":
		os.Exit(m.Run())
	}
	if err := Announce(os.Stdout, os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	Tidy()
	io.Copy(os.Stdout, os.Stdin)
}

// A login is what sshd would do with the command: run it by a login shell, in an
// environment of its own.
type login struct {
	shell []string // and its -c
	mount string   // commands for a mount namespace of its own, before the login
	env   []string // besides HOME and PATH
	home  string   // empty: a new directory
}

// start logs in and starts the far half.
func (l login) start(t *testing.T, o Options) (carrier.Stream, Result, error) {
	t.Helper()
	if o.Nonce == "" {
		o.Nonce = NewNonce()
	}
	if l.home == "" {
		l.home = t.TempDir()
	}
	if l.shell == nil {
		l.shell = []string{"sh", "-c"}
	}
	args := append(l.shell, Command(o.Nonce, o.Builds.Hashes()...))
	if l.mount != "" {
		args = append([]string{"unshare", "-m", "sh", "-c", "set -e; " + l.mount + `; exec "$@"`, "sh"}, args...)
	}
	env := append([]string{"HOME=" + l.home, "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "SSH_CLIENT=127.0.0.1 1 22"}, l.env...)
	p, err := command.Start(command.Config{Args: args, Dir: "/", Env: env, Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return Start(ctx, p.Stream(), o)
}

// works wants the far half to be up, and the next octets to be its own.
func works(t *testing.T, s carrier.Stream, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	want := []byte("\x00\x01first octets\n")
	s.Write(want)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the far half answered %q, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// refused wants a RefusedError that holds all of texts, and a hint.
func refused(t *testing.T, err error, texts ...string) {
	t.Helper()
	var r *carrier.RefusedError
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a RefusedError", err)
	}
	for _, text := range texts {
		if !strings.Contains(r.Reason, text) {
			t.Errorf("reason %q does not say %q", r.Reason, text)
		}
	}
	if r.Hint == "" {
		t.Errorf("no hint with %q", r.Reason)
	}
}

// smallBuild is a far half that is quick to send: a script of 300 KB, nearly all of
// it padding.
func smallBuild(t *testing.T) Builds {
	t.Helper()
	return paddedBuild(t, 100<<10)
}

// paddedBuild is smallBuild with so many octets of noise, twice in hexadecimal.
func paddedBuild(t *testing.T, octets int) Builds {
	t.Helper()
	padding := make([]byte, octets)
	rand.Read(padding)
	text := fmt.Sprintf("#!/bin/sh\n[ -t 0 ] && stty raw -echo\necho \"BODKIN $3 READY 1\"\nexec /usr/bin/cat\n# %x\n%[1]x\n", padding)
	path := filepath.Join(t.TempDir(), "far")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	bs, err := Find(path)
	if err != nil {
		t.Fatal(err)
	}
	return bs
}

// TestOwnProgram sends this very program, and wants it to tidy the cache.
func TestOwnProgram(t *testing.T) {
	builds, err := Find("")
	if err != nil {
		t.Fatal(err)
	}
	l := login{home: t.TempDir()}
	dir := filepath.Join(l.home, ".cache/bodkin")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := os.WriteFile(fmt.Sprintf("%s/bodkin-x86_64-%064x", dir, i), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		s, _, err := l.start(t, Options{Builds: builds})
		works(t, s, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != keep {
		t.Errorf("the cache holds %v, %v; want %d builds", entries, err, keep)
	}
}

// TestShells goes through each login shell with rc files that print text, some of
// it made to look like ours; and once more, when nothing must be sent.
func TestShells(t *testing.T) {
	builds := smallBuild(t)
	greeting := `echo "Welcome  BODKIN 00000000000000000000000000000000 READY 1"; printf "no line end"`
	for _, c := range []struct {
		shell []string
		rc    string // read before a command that sshd asks for
	}{
		{[]string{"sh", "-c"}, ""},
		{[]string{"dash", "-c"}, ""},
		{[]string{"bash", "-c"}, ".bashrc"},
		{[]string{"zsh", "-c"}, ".zshenv"},
		{[]string{"fish", "-c"}, ".config/fish/config.fish"},
		{[]string{"tcsh", "-c"}, ".tcshrc"},
		{[]string{"csh", "-c"}, ".cshrc"},
		{[]string{"busybox", "ash", "-c"}, ""},
	} {
		t.Run(strings.Join(c.shell, ""), func(t *testing.T) {
			l := login{shell: c.shell, home: t.TempDir()}
			if c.rc != "" {
				rc := filepath.Join(l.home, c.rc)
				os.MkdirAll(filepath.Dir(rc), 0o700)
				if err := os.WriteFile(rc, []byte(greeting+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var progress []int64
			s, result, err := l.start(t, Options{Builds: builds, Progress: func(done, total int64) { progress = append(progress, done, total) }})
			works(t, s, err)
			dir := filepath.Join(l.home, ".cache/bodkin")
			if !result.Uploaded || result.Directory != dir || result.Octets >= builds[0].Size {
				t.Errorf("first time: %+v", result)
			}
			if n := len(progress); n < 4 || progress[n-1] != result.Octets || progress[n-2] != result.Octets {
				t.Errorf("progress: %v", progress)
			}
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("cache: %v, %v", info.Mode(), err)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || !cachedPattern.MatchString(entries[0].Name()) {
				t.Errorf("the cache holds %v, %v", entries, err)
			}
			s, result, err = l.start(t, Options{Builds: builds})
			works(t, s, err)
			if result.Uploaded || result.Octets != 0 {
				t.Errorf("second time: %+v", result)
			}
		})
	}
}

// TestShIsBusybox has a far side where /bin/sh and all tools are busybox.
func TestShIsBusybox(t *testing.T) {
	builds := smallBuild(t)
	bin := t.TempDir()
	for _, name := range []string{"id", "uname", "ls", "gzip", "mkdir", "chmod", "rm", "head", "mktemp", "rmdir", "wc", "sha256sum", "mv", "sh"} {
		if err := os.Symlink("/usr/bin/busybox", filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	l := login{mount: "mount --bind /usr/bin/busybox /bin/sh", env: []string{"PATH=" + bin}, shell: []string{"/bin/sh", "-c"}, home: t.TempDir()}
	l.mount = "PATH=/usr/sbin:/usr/bin:/sbin:/bin; " + l.mount + "; PATH=" + bin
	s, result, err := l.start(t, Options{Builds: builds})
	works(t, s, err)
	if !result.Uploaded {
		t.Errorf("%+v", result)
	}
}

// TestBareTools has a far side without gzip, sha256sum and mktemp.
func TestBareTools(t *testing.T) {
	builds := smallBuild(t)
	bin := t.TempDir()
	for _, name := range []string{"id", "uname", "ls", "mkdir", "chmod", "rm", "head", "wc", "mv"} {
		if err := os.Symlink("/usr/bin/"+name, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	s, result, err := login{shell: []string{"/bin/sh", "-c"}, env: []string{"PATH=" + bin}}.start(t, Options{Builds: builds})
	works(t, s, err)
	if !result.Uploaded || result.Octets != builds[0].Size {
		t.Errorf("%+v, want %d octets plain", result, builds[0].Size)
	}
}

// elsewhere is a home to mount over: not below one of the places of all users.
const elsewhere = "/mnt"

// everywhere mounts a new tmpfs with options on every place that is tried.
func everywhere(options string) string {
	mounts := []string{"mount --make-rprivate /"}
	for _, place := range []string{elsewhere, "/run", "/dev/shm", "/var/tmp", "/tmp"} {
		mounts = append(mounts, "mount -t tmpfs -o "+options+" tmpfs "+place)
	}
	return strings.Join(mounts, "; ")
}

func TestPlaces(t *testing.T) {
	builds := smallBuild(t)
	for _, c := range []struct {
		name, mount string
		where       string   // prefix of Directory
		refused     []string // instead
	}{
		{"no home", "mount --bind /proc/sys $HOME", "/run/user/0/bodkin", nil},
		{"home full", "mount -t tmpfs -o size=64k tmpfs $HOME", "/run/user/0/bodkin", nil},
		{"home noexec", "mount -t tmpfs -o noexec tmpfs $HOME", "/run/user/0/bodkin", nil},
		{"home read-only, no runtime directory", "mount -t tmpfs -o ro tmpfs $HOME; mount -t tmpfs tmpfs /run", "/dev/shm/bodkin-0", nil},
		{"home a symlink to another place", "mount -t tmpfs tmpfs $HOME; mkdir -m 700 $HOME/.cache $HOME/x; ln -s ../x $HOME/.cache/bodkin", "/run/user/0/bodkin", nil},
		{"cache open to a group", "mount -t tmpfs tmpfs $HOME; mkdir -p -m 770 $HOME/.cache/bodkin; chmod 770 $HOME/.cache/bodkin", "/run/user/0/bodkin", nil},
		{"cache of another user", "mount -t tmpfs tmpfs $HOME; mkdir -p $HOME/.cache; mkdir -m 700 $HOME/.cache/bodkin; chown 65534 $HOME/.cache/bodkin", "/run/user/0/bodkin", nil},
		{"all taken by another", everywhere("mode=1777") + "; mkdir $HOME/.cache; for d in $HOME/.cache/bodkin /dev/shm/bodkin-0 /var/tmp/bodkin-0 /tmp/bodkin-0; do ln -s / $d; done", "/tmp/bodkin.", nil},

		{"all full", everywhere("size=64k"), "", []string{"disk is full", "/.cache/bodkin has no room for", "/tmp/bodkin-0 has no room"}},
		{"all noexec", everywhere("noexec"), "", []string{"no program run", "/dev/shm/bodkin-0 lets no program run"}},
		{"all read-only", everywhere("ro"), "", []string{"no directory", "/var/tmp/bodkin-0 cannot be made"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := login{mount: everywhere("mode=1777") + "; mkdir -p -m 700 /run/user/0; " + c.mount, home: elsewhere}
			s, result, err := l.start(t, Options{Builds: builds})
			if c.refused != nil {
				refused(t, err, c.refused...)
				return
			}
			works(t, s, err)
			if !strings.HasPrefix(result.Directory, c.where) {
				t.Errorf("put in %s, want %s", result.Directory, c.where)
			}
		})
	}
}

// TestPlantedFile: another user took our names in a directory of all users, and
// waits for a program there to be run. Ours must be the only one that is.
func TestPlantedFile(t *testing.T) {
	builds := smallBuild(t)
	mark := filepath.Join(t.TempDir(), "owned")
	evil := fmt.Sprintf("printf '#!/bin/sh\necho >%s\n' >$d/bodkin-$(uname -m)-%s", mark, builds[0].Hash)
	l := login{home: elsewhere, mount: everywhere("mode=1777") +
		`; for d in /dev/shm/bodkin-0 /var/tmp/bodkin-0 /tmp/bodkin-0; do mkdir -m 700 $d; ` + evil + `; chmod 755 $d/bodkin*; chown -R 65534 $d; done; mount -o remount,ro $HOME`}
	s, result, err := l.start(t, Options{Builds: builds})
	works(t, s, err)
	if _, err := os.Stat(mark); err == nil {
		t.Fatal("the planted program ran")
	}
	if !strings.HasPrefix(result.Directory, "/tmp/bodkin.") {
		t.Errorf("put in %s", result.Directory)
	}
}

// TestUnprivileged: an ordinary account, whose home is another's.
func TestUnprivileged(t *testing.T) {
	builds := smallBuild(t)
	l := login{
		mount: everywhere("mode=1777"),
		shell: []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c"},
		home:  "/root",
	}
	s, result, err := l.start(t, Options{Builds: builds})
	works(t, s, err)
	if result.Directory != "/dev/shm/bodkin-65534" {
		t.Errorf("put in %q", result.Directory)
	}
}

func TestUploadGoesWrong(t *testing.T) {
	builds := smallBuild(t)
	damaged := Builds{builds[0]}
	damaged[0].Hash = strings.Repeat("0", 64)
	script := filepath.Join(t.TempDir(), "not-a-program")
	if err := os.WriteFile(script, []byte("#!/no/such/interpreter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign, err := Find(script)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		builds Builds
		want   string
	}{
		{"damaged", damaged, "damaged"},
		{"does not run", foreign, "does not let it run"},
		{"another machine's", Builds{{OS: "plan9", Arch: "amd64"}}, "no bodkin at hand for the far side, Linux on "},
	} {
		for _, shell := range []string{"dash", "bash", "busybox"} {
			l := login{shell: []string{"/bin/sh", "-c"}, mount: "mount --make-rprivate /; mount --bind /usr/bin/" + shell + " /bin/sh"}
			_, _, err := l.start(t, Options{Builds: c.builds})
			t.Log(err)
			refused(t, err, c.want)
		}
	}
}

// TestNoShell: the login gives something else than a shell.
func TestNoShell(t *testing.T) {
	builds := smallBuild(t)
	for _, c := range []struct {
		name  string
		shell []string
		want  []string
	}{
		{"nologin", []string{"/usr/sbin/nologin"}, []string{"login ended", "This account is currently not available."}},
		{"restricted", []string{"bash", "-r", "-c"}, []string{"login ended", "exit status"}},
		{"no sh", []string{"sh", "-c", "exit 127"}, []string{"login ended", "exit status 127"}},
		{"not allowed", []string{"sh", "-c", "echo not here; exit 126"}, []string{"does not let it run", "not here"}},
		{"quiet", []string{"true"}, []string{"login ended"}},
		{"escapes", []string{"sh", "-c", `printf "\033]0;title\007 bye\n"; exit 1`}, []string{`"?]0;title? bye"`}},
		{"flood", []string{"sh", "-c", "yes"}, []string{"without end", `"y"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := login{shell: c.shell}.start(t, Options{Builds: builds})
			refused(t, err, c.want...)
		})
	}
}

// TestSilence: whoever waits for a login that never answers can stop.
func TestSilence(t *testing.T) {
	p, err := command.Start(command.Config{Args: []string{"sh", "-c", "echo wait; exec cat >/dev/null"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, _, err = Start(ctx, p.Stream(), Options{Nonce: NewNonce()})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `"wait"`) {
		t.Error(err)
	}
}

// TestForcedCommand: our script never runs, and the far half finds the nonce in
// what sshd passes on.
func TestForcedCommand(t *testing.T) {
	nonce := NewNonce()
	t.Setenv("SSH_ORIGINAL_COMMAND", Command(nonce, strings.Repeat("a", 64), strings.Repeat("b", 64)))
	if got, ok := NonceFromEnv(); !ok || got != nonce {
		t.Errorf("found %q", got)
	}
	for _, other := range []string{"", "ls -l", "bodkin far", "' bodkin " + nonce + "; rm -r /", "' bodkin " + nonce[1:]} {
		t.Setenv("SSH_ORIGINAL_COMMAND", other)
		if got, ok := NonceFromEnv(); ok {
			t.Errorf("%q: found %q", other, got)
		}
	}
}
