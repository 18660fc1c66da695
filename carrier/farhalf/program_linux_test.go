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

// program logs in and starts a program of the far side's own.
func (l login) program(t *testing.T, onTerminal bool, line string) (carrier.Stream, error) {
	t.Helper()
	if l.home == "" {
		l.home = t.TempDir()
	}
	if l.shell == nil {
		l.shell = []string{"sh", "-c"}
	}
	nonce := NewNonce()
	env := append([]string{"HOME=" + l.home, "PATH=/usr/bin:/bin"}, l.env...)
	p, err := command.Start(command.Config{
		Args: append(l.shell, Program(nonce, onTerminal)), Dir: "/", Env: env, Stderr: os.Stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return StartProgram(ctx, p.Stream(), nonce, line)
}

// TestProgramIsPlain is TestCommandIsPlain for another program.
func TestProgramIsPlain(t *testing.T) {
	line := Program(testNonce, true)
	inside, tail, _ := strings.Cut(strings.TrimPrefix(line, "exec /bin/sh -c '"), "'")
	if i := strings.IndexAny(inside, "'\\!\n\r\t"); i >= 0 {
		t.Errorf("the script holds %q", inside[i])
	}
	if tail != " bodkin "+testNonce+" tty" {
		t.Errorf("after the script: %q", tail)
	}
	d := newDialogue(testNonce)
	d.push([]byte(line + "\r\n" + line + "\n"))
	if m, ok, err := d.next(); ok || err != nil {
		t.Errorf("an echo of the command passes for %v, %v", m, err)
	}
}

// TestProgram starts programs under every login shell: what rc files print comes
// before the Stream, what the program prints is in it, whole.
func TestProgram(t *testing.T) {
	greeting := `echo "Welcome BODKIN 00000000000000000000000000000000 READY 1"`
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, c := range []struct {
		shell []string
		rc    string
	}{
		{[]string{"sh", "-c"}, ""},
		{[]string{"bash", "-c"}, ".bashrc"},
		{[]string{"zsh", "-c"}, ".zshenv"},
		{[]string{"fish", "-c"}, ".config/fish/config.fish"},
		{[]string{"tcsh", "-c"}, ".tcshrc"},
		{[]string{"busybox", "ash", "-c"}, ""},
	} {
		for _, line := range []string{
			`cat`, // exec'd
			`  /bin/cat - # what "the' shell $makes of it!`,
			`A=b; cat`, // by a shell
			`true && cat; echo "no more"`,
			`"cat"`,
		} {
			t.Run(strings.Join(c.shell, "")+" "+line, func(t *testing.T) {
				l := login{shell: c.shell, home: t.TempDir()}
				if c.rc != "" {
					rc := filepath.Join(l.home, c.rc)
					os.MkdirAll(filepath.Dir(rc), 0o700)
					if err := os.WriteFile(rc, []byte(greeting+"\n"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				s, err := l.program(t, false, line)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Write(all); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(all))
				if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, all) {
					t.Fatalf("%q, %v", got, err)
				}
				s.Close()
			})
		}
	}
}

// TestProgramSpeaksFirst: what the program says at once is part of the Stream.
func TestProgramSpeaksFirst(t *testing.T) {
	s, err := login{}.program(t, false, `printf '\176\377\175\043'`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if string(got) != "~\xff}#" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestProgramGoesWrong: the reason is told, and nothing was sent to a shell.
func TestProgramGoesWrong(t *testing.T) {
	_, err := login{}.program(t, false, "no-such-emulator ppp")
	refused(t, err, "no such program", "no-such-emulator")
	_, err = login{}.program(t, true, "cat")
	refused(t, err, "no terminal")
	_, err = login{shell: []string{"sh", "-c", "echo This account is not available.; exit 1; "}}.program(t, false, "cat")
	refused(t, err, "This account is not available.")
	for _, line := range []string{"", "  ", "cat\nrm", "cat\x00", strings.Repeat("x", 3000)} {
		if _, err := (login{}).program(t, false, line); err == nil {
			t.Errorf("%q was taken", line)
		}
	}
}

// TestProgramIsNotABodkin: a forced command finds no nonce in this command line,
// for it would speak another link than is meant.
func TestProgramIsNotABodkin(t *testing.T) {
	if nonce, ok := NonceIn(Program(testNonce, true)); ok {
		t.Errorf("found %q", nonce)
	}
}
