package farhalf

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
)

// shells are those that a login may give, and how each is told to show "ready> ". All
// greet with text made to look like ours.
var shells = []struct {
	name string
	args []string
	rc   string // the file, in the home
	text string
}{
	{"bash", []string{"bash", "-i"}, ".bashrc", "PS1='ready> '"},
	{"dash", []string{"dash", "-i"}, ".rc", "PS1='ready> '"},
	{"zsh", []string{"zsh", "-i"}, ".zshrc", "PS1='ready> '"},
	{"fish", []string{"fish", "-i"}, ".config/fish/config.fish", "function fish_prompt; printf 'ready> '; end"},
	{"tcsh", []string{"tcsh", "-i"}, ".tcshrc", "set prompt='ready> '"},
	{"ash", []string{"busybox", "ash", "-i"}, ".rc", "PS1='ready> '"},
}

const greeting = `echo 'Welcome. BODKIN 00000000000000000000000000000000 SHELL tty'`

// A shellLogin is a login that ends in a shell, on a terminal as telnetd gives it.
type shellLogin struct {
	args   []string
	home   string
	env    []string
	pipe   bool   // no terminal
	before string // a command for the terminal, first
	mount  string // as in login
}

// open logs in.
func (l *shellLogin) open(t *testing.T) *command.Process {
	t.Helper()
	if l.home == "" {
		l.home = t.TempDir()
	}
	env := append([]string{"HOME=" + l.home, "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "TERM=vt100", "ENV=" + l.home + "/.rc"}, l.env...)
	args := l.args
	if !l.pipe {
		args = append([]string{"/bin/sh", "-c", "/usr/bin/stty sane; echo connected; " + l.before + ` exec "$@"`, "sh"}, args...)
	}
	if l.mount != "" {
		args = append([]string{"unshare", "-m", "/bin/sh", "-c", "set -e; " + l.mount + `; exec "$@"`, "sh"}, args...)
	}
	p, err := command.Start(command.Config{Args: args, Dir: "/", Env: env, TTY: !l.pipe})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if !l.pipe {
		until(t, p.Stream(), "connected")
	}
	return p
}

// until reads until text has come.
func until(t *testing.T, s carrier.Stream, text string) {
	t.Helper()
	var came []byte
	one := make([]byte, 1)
	for !bytes.HasSuffix(came, []byte(text)) {
		if _, err := s.Read(one); err != nil {
			t.Fatalf("waiting for %q: %v after %q", text, err, came)
		}
		came = append(came, one...)
	}
}

// answers wants the far half to be up on s, and every octet to go both ways.
func answers(t *testing.T, s carrier.Stream, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 256)
	for i := range want {
		want[i] = byte(i)
	}
	s.Write(want)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the far half answered %q, %v", got, err)
	}
}

func TestInShell(t *testing.T) {
	builds := smallBuild(t)
	for _, c := range shells {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := shellLogin{args: c.args, home: t.TempDir()}
			rc := filepath.Join(l.home, c.rc)
			os.MkdirAll(filepath.Dir(rc), 0o700)
			if err := os.WriteFile(rc, []byte(greeting+"\n"+c.text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, again := range []bool{false, true} {
				p := l.open(t)
				until(t, p.Stream(), "ready> ")
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				s, result, err := StartInShell(ctx, p.Stream(), Options{Builds: builds})
				answers(t, s, err)
				if result.Uploaded == again || !again && result.Directory != filepath.Join(l.home, ".cache/bodkin") {
					t.Errorf("again %v: %+v", again, result)
				}
				if !s.Unsafe.Has(0) || !s.Unsafe.Has(0x1f) || !s.Unsafe.Has(0x7f) || s.Unsafe.Has(' ') || s.Unsafe.Has(0xff) {
					t.Errorf("unsafe: %x", s.Unsafe)
				}
				p.Close()
			}
		})
	}
}

// TestTypedIsPlain: what is typed is one line for any shell and any terminal, its echo
// is no marker; and what follows is nothing to any shell.
func TestTypedIsPlain(t *testing.T) {
	line := typedLine(testNonce)
	if len(line) > 250 {
		t.Errorf("%d octets", len(line))
	}
	script := pieces(shellScriptFor(Builds{{Hash: strings.Repeat("ab", 32)}}, true)+programInShellFor("it's"), "\n")
	for _, text := range []string{line, strings.ReplaceAll(script, "\n", "")} {
		for _, b := range []byte(text) {
			if b < ' ' || b > '~' || b == '!' {
				t.Errorf("%q in %s", b, text)
			}
		}
	}
	for l := range strings.Lines(script) {
		if l = strings.TrimSuffix(l, "\n"); l != ":" && (!strings.HasPrefix(l, ": '") || strings.Count(l, "'") != 2 || !strings.HasSuffix(l, "'") || len(l) > 250) {
			t.Errorf("%d octets: %s", len(l), l)
		}
	}
	d := newDialogue(testNonce)
	d.push([]byte(line + "\r\n" + script))
	if m, ok, err := d.next(); ok || err != nil {
		t.Errorf("an echo passes for %v, %v", m, err)
	}
}
