package farhalf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// start logs in, and starts the far half at once, without a look at what is there.
func (l *shellLogin) start(t *testing.T, o Options, ways ...func(carrier.Stream) carrier.Stream) (carrier.Stream, Result, error) {
	t.Helper()
	if l.args == nil {
		l.args = []string{"/bin/sh", "-i"}
	}
	if l.pipe && o.LineEnd == "" {
		o.LineEnd = "\n"
	}
	s := l.open(t).Stream()
	for _, way := range ways {
		s = way(s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return StartInShell(ctx, s, o)
}

// echoes wants the far half to be up on s, of whose octets text alone is safe. What the
// way made of our last line end, an LF or a NUL more, may come back first.
func echoes(t *testing.T, s carrier.Stream, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	want := "printable octets"
	s.Write([]byte(want))
	var got []byte
	for one := make([]byte, 1); !strings.HasSuffix(string(got), want) && len(got) < 2*len(want); got = append(got, one...) {
		if _, err := io.ReadFull(s, one); err != nil {
			t.Fatalf("the far half answered %q, %v", got, err)
		}
	}
	if strings.TrimLeft(string(got), "\n\x00") != want {
		t.Fatalf("the far half answered %q", got)
	}
}

// TestLateShell: the shell is not there yet when its line is typed.
func TestLateShell(t *testing.T) {
	builds := smallBuild(t)
	for _, c := range shells {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := shellLogin{args: c.args, home: t.TempDir()}
			rc := filepath.Join(l.home, c.rc)
			os.MkdirAll(filepath.Dir(rc), 0o700)
			if err := os.WriteFile(rc, []byte(greeting+"\nsleep 1\n"+c.text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			s, _, err := l.start(t, Options{Builds: builds})
			answers(t, s, err)
		})
	}
}

// mapped is a way that replaces octets, such as "\r" by "\r\n".
func mapped(there, back *strings.Replacer) func(carrier.Stream) carrier.Stream {
	return func(s carrier.Stream) carrier.Stream {
		line := s.ReadWriteCloser
		r, w := io.Pipe()
		go func() {
			one := make([]byte, 1)
			for {
				n, err := line.Read(one)
				if n > 0 {
					io.WriteString(w, back.Replace(string(one)))
				}
				if err != nil {
					w.CloseWithError(err)
					return
				}
			}
		}()
		s.ReadWriteCloser = struct {
			io.Reader
			io.Writer
			io.Closer
		}{iotest.OneByteReader(r), writeFunc(func(b []byte) (int, error) {
			for _, c := range b {
				if _, err := io.WriteString(line, there.Replace(string([]byte{c}))); err != nil {
					return 0, err
				}
			}
			return len(b), nil
		}), closeFunc(func() error { r.Close(); return line.Close() })}
		return s
	}
}

type closeFunc func() error

func (f closeFunc) Close() error { return f() }

// TestInShellWays goes by ways that change octets, one octet at a time, to a terminal
// and to a pipe.
func TestInShellWays(t *testing.T) {
	builds := paddedBuild(t, 5<<10)
	for _, c := range []struct {
		name        string
		there, back []string
		end         string
		pipe        bool
	}{
		{"a clean one", nil, nil, "\r", false},
		{"CR LF for CR", []string{"\r", "\r\n"}, nil, "\r", false},
		{"CR NUL for CR", []string{"\r", "\r\x00"}, nil, "\r", false},
		{"LF for CR", []string{"\r", "\n"}, nil, "\r", false},
		{"CR LF LF for LF", nil, []string{"\n", "\r\n\n"}, "\r", false},
		{"CR for LF", []string{"\n", "\r"}, []string{"\n", "\r"}, "\n", false},
		{"nothing for CR", nil, []string{"\r", ""}, "\n", false},
		{"LF typed", nil, nil, "\n", false},
		{"CR LF typed", nil, nil, "\r\n", false},
		{"a clean pipe", nil, nil, "\n", true},
		{"CR LF for LF on a pipe", []string{"\n", "\r\n"}, []string{"\n", "\r\n"}, "\n", true},
		{"NUL beside LF on a pipe", []string{"\n", "\x00\n\x00"}, nil, "\n", true},
	} {
		for _, sh := range []string{"dash", "bash", "busybox", "zsh"} {
			t.Run(c.name+" "+sh, func(t *testing.T) {
				t.Parallel()
				l := shellLogin{args: []string{"/bin/sh", "-i"}, pipe: c.pipe, mount: "mount --make-rprivate /; mount --bind /usr/bin/" + sh + " /bin/sh"}
				if c.pipe {
					l.args = []string{"/bin/sh"}
				}
				s, _, err := l.start(t, Options{Builds: builds, LineEnd: c.end}, mapped(strings.NewReplacer(c.there...), strings.NewReplacer(c.back...)))
				echoes(t, s, err)
				if s.Unsafe.Empty() != c.pipe {
					t.Errorf("unsafe: %x", s.Unsafe)
				}
			})
		}
	}
}

// TestManyStarts by a real shell, one octet at a time.
func TestManyStarts(t *testing.T) {
	builds := paddedBuild(t, 5<<10)
	home := t.TempDir()
	for range 40 {
		l := shellLogin{home: home}
		s, _, err := l.start(t, Options{Builds: builds}, mapped(strings.NewReplacer(), strings.NewReplacer()))
		answers(t, s, err)
		s.Close()
	}
}

// TestBannerBefore: a lot of text comes before, with a marker's look, and its length
// is limited all the same.
func TestBannerBefore(t *testing.T) {
	builds := smallBuild(t)
	decoys := fmt.Sprintf(`i=0; while [ $i -lt 100 ]; do printf "BODKIN %%032x READY 1\n" $i; i=$((i+1)); done; `)
	l := shellLogin{before: decoys + `head -c 1000000 /dev/urandom | tr '\200-\377' '\0-\177';`}
	s, _, err := l.start(t, Options{Builds: builds})
	answers(t, s, err)
	l = shellLogin{args: []string{"yes"}}
	_, _, err = l.start(t, Options{Builds: builds})
	refused(t, err, "without end")
}

// tools makes a directory of the named programs, and of those everybody has.
func tools(t *testing.T, names ...string) string {
	t.Helper()
	bin := t.TempDir()
	for _, name := range append([]string{"id", "uname", "ls", "mkdir", "chmod", "rm", "head", "wc", "mv", "sed", "tr", "cat"}, names...) {
		target := "/usr/bin/" + name
		if name == "uudecode" || name == "uudecode-busybox" {
			target = "/usr/bin/busybox"
		}
		if err := os.Symlink(target, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

// TestInShellTools: what decodes base64, checks the hash and sets the terminal, is this
// or that, or missing.
func TestInShellTools(t *testing.T) {
	builds := smallBuild(t)
	for _, c := range []struct {
		names   []string
		refused string
	}{
		{[]string{"stty", "base64", "sha256sum", "gzip"}, ""},
		{[]string{"stty", "base64", "sha256sum"}, ""},
		{[]string{"base64", "sha256sum", "gzip"}, ""}, // the terminal echoes all, and edits lines
		{[]string{"stty", "openssl"}, ""},
		{[]string{"stty", "uudecode", "sha256sum"}, ""},
		{[]string{"stty", "busybox"}, ""},
		{[]string{"stty", "python3", "perl", "shasum", "gzip"}, ""},
		{[]string{"stty", "sha256sum", "gzip"}, "nothing that decodes base64"},
		{[]string{"stty", "base64", "gzip"}, "nothing that checks SHA-256"},
	} {
		t.Run(strings.Join(c.names, " "), func(t *testing.T) {
			t.Parallel()
			l := shellLogin{env: []string{"PATH=" + tools(t, c.names...)}}
			s, result, err := l.start(t, Options{Builds: builds})
			if c.refused != "" {
				refused(t, err, c.refused)
				return
			}
			echoes(t, s, err)
			if zip := strings.Contains(strings.Join(c.names, " "), "gzip"); !result.Uploaded || zip != (result.Octets < builds[0].Size) {
				t.Errorf("%+v", result)
			}
		})
	}
}

// TestNothingToAShell: all that is sent after the marker is nothing to any shell that
// reads it by mistake, as when the one it is for has died and an outer one comes back.
func TestNothingToAShell(t *testing.T) {
	noise := make([]byte, 100_000)
	rand.NewChaCha8([32]byte{2}).Read(noise)
	hash := strings.Repeat("ab", 32)
	text := pieces(shellScriptFor(Builds{{Hash: hash}}, true), "\n") + pieces(programInShellFor(strings.Repeat(`it's $(touch /x) \\!`, 90)), "\n") +
		": gzip 5012345 15012345 " + hash + " .\n" + textBlock(noise, "\n") + ": --\n"
	for _, c := range shells {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(c.args[0], c.args[1:len(c.args)-1]...) // without -i: no prompts
			cmd.Stdin = strings.NewReader(text + "echo end\n")
			cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin"}
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != "end\n" {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
}

// TestInShellPlaces is a part of TestPlaces.
func TestInShellPlaces(t *testing.T) {
	builds := smallBuild(t)
	for _, c := range []struct {
		name, mount string
		where       string
		refused     []string
	}{
		{"home full", "mount -t tmpfs -o size=64k tmpfs $HOME", "/run/user/0/bodkin", nil},
		{"home noexec", "mount -t tmpfs -o noexec tmpfs $HOME", "/run/user/0/bodkin", nil},
		{"home read-only, no runtime directory", "mount -t tmpfs -o ro tmpfs $HOME; mount -t tmpfs tmpfs /run", "/dev/shm/bodkin-0", nil},
		{"all full", everywhere("size=64k"), "", []string{"disk is full", "/.cache/bodkin has no room for"}},
		{"all noexec", everywhere("noexec"), "", []string{"no program run", "/dev/shm/bodkin-0 lets no program run"}},
		{"all read-only", everywhere("ro"), "", []string{"no directory", "/var/tmp/bodkin-0 cannot be made"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := shellLogin{mount: everywhere("mode=1777") + "; mkdir -p -m 700 /run/user/0; " + c.mount, home: elsewhere}
			s, result, err := l.start(t, Options{Builds: builds})
			if c.refused != nil {
				refused(t, err, c.refused...)
				return
			}
			answers(t, s, err)
			if !strings.HasPrefix(result.Directory, c.where) {
				t.Errorf("put in %s, want %s", result.Directory, c.where)
			}
		})
	}
}

// TestInShellGoesWrong: what cannot be helped is refused, whatever shell tells of it.
func TestInShellGoesWrong(t *testing.T) {
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
		for _, sh := range []string{"dash", "bash", "busybox"} {
			t.Run(c.name+" "+sh, func(t *testing.T) {
				t.Parallel()
				home := t.TempDir()
				l := shellLogin{home: home, mount: "mount --make-rprivate /; mount -t tmpfs tmpfs /dev/shm; mount -t tmpfs tmpfs /var/tmp; mount --bind /usr/bin/" + sh + " /bin/sh"}
				_, _, err := l.start(t, Options{Builds: c.builds}, hideStatus)
				refused(t, err, c.want)
				if left, _ := filepath.Glob(home + "/.cache/bodkin/.*-*"); left != nil {
					t.Errorf("left: %q", left)
				}
			})
		}
	}
}

// hideStatus is a way that does not tell how a program ended, as telnet does not.
func hideStatus(s carrier.Stream) carrier.Stream {
	line := s.ReadWriteCloser
	s.ReadWriteCloser = struct {
		io.Reader
		io.WriteCloser
	}{readFunc(func(b []byte) (int, error) {
		n, err := line.Read(b)
		if err != nil {
			err = io.EOF
		}
		return n, err
	}), line}
	return s
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }

// TestNotAShell: what answers is none, or one that does not do as it is told.
func TestNotAShell(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		as   any
		said string
	}{
		{"nologin", []string{"/usr/sbin/nologin"}, new(*carrier.HangUpError), "This account is currently not available."},
		{"restricted", []string{"bash", "--norc", "-i", "-r"}, new(*carrier.SilenceError), "bash"},
		{"cat", []string{"cat"}, new(*carrier.SilenceError), "waiting for the shell to run our line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := shellLogin{args: c.args}
			_, _, err := l.start(t, Options{Silence: 100 * time.Millisecond}, hideStatus)
			if !errors.As(err, c.as) || !strings.Contains(err.Error(), c.said) {
				t.Error(err)
			}
		})
	}
}

// TestSlowDecoder: what decodes is slower than we are by far, and the terminal's queues
// are full all the time. Nothing is lost, whether it is raw or edits lines.
func TestSlowDecoder(t *testing.T) {
	builds := noiseBuild(t, 500_000)
	for _, stty := range []string{"stty", "sleep"} {
		t.Run(stty, func(t *testing.T) {
			t.Parallel()
			bin := tools(t, "sha256sum", "gzip", stty)
			slow := "#!/bin/sh\nPATH=/usr/bin\n[ -t 1 ] || exec 2>/dev/null\n{ while head -c 50000 >$HOME/part && [ -s $HOME/part ]; do cat $HOME/part; sleep 0.05; done; } | base64 -d\n"
			if err := os.WriteFile(filepath.Join(bin, "base64"), []byte(slow), 0o700); err != nil {
				t.Fatal(err)
			}
			l := shellLogin{env: []string{"PATH=" + bin}}
			began := time.Now()
			_, result, err := l.start(t, Options{Builds: builds}, hideStatus)
			if !result.Uploaded {
				t.Fatal(err)
			}
			refused(t, err, "does not let it run") // for it is noise
			if took := time.Since(began); took < 300*time.Millisecond {
				t.Errorf("%v is not slow", took)
			}
		})
	}
}

// TestOwnProgramInShell sends this very program, as text.
func TestOwnProgramInShell(t *testing.T) {
	builds, err := Find("")
	if err != nil {
		t.Fatal(err)
	}
	l := shellLogin{args: []string{"bash", "--norc", "-i"}}
	began := time.Now()
	s, result, err := l.start(t, Options{Builds: builds})
	answers(t, s, err)
	t.Logf("%d octets, %d compressed, in %v", builds[0].Size, result.Octets, time.Since(began))
}

// TestProgramInShell starts programs of the far side's own from each shell; the
// terminal is raw for them.
func TestProgramInShell(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, c := range shells {
		for _, line := range []string{
			`cat`,
			`  /bin/cat - # what "the' shell $makes of it!`,
			`A=b; cat`,
			`[ "$(stty -a | grep -oE -e '-(icanon|icrnl|opost|echo|isig|ixon|iexten)\b' | wc -l)" = 7 ] && cat || stty -a`,
		} {
			t.Run(c.name+" "+line, func(t *testing.T) {
				t.Parallel()
				l := shellLogin{args: c.args}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				s, err := StartProgramInShell(ctx, l.open(t).Stream(), Options{}, line)
				if err != nil {
					t.Fatal(err)
				}
				if s.Unsafe.Empty() {
					t.Error("a terminal is said to carry all octets")
				}
				s.Write(all)
				got := make([]byte, len(all))
				if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, all) {
					t.Fatalf("%q, %v", got, err)
				}
			})
		}
	}
}

// TestProgramInShellGoesWrong: the reason is told.
func TestProgramInShellGoesWrong(t *testing.T) {
	for _, c := range []struct {
		l             shellLogin
		command, want string
	}{
		{shellLogin{}, "no-such-emulator ppp", "no such program: no-such-emulator"},
		{shellLogin{env: []string{"PATH=" + tools(t)}}, "cat", "cannot set its terminal raw"},
	} {
		c.l.args = []string{"/bin/sh", "-i"}
		_, err := StartProgramInShell(t.Context(), c.l.open(t).Stream(), Options{}, c.command)
		refused(t, err, c.want)
	}
	for _, line := range []string{"", "  ", "cat\nrm", "cat\rrm", "cat\x00", strings.Repeat("x", 3000)} {
		l := shellLogin{args: []string{"cat"}}
		if _, err := StartProgramInShell(t.Context(), l.open(t).Stream(), Options{}, line); err == nil {
			t.Errorf("%q was taken", line)
		}
	}
}
