package chat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
)

// hash is that of the password "geheim", by `openssl passwd -6`.
const hash = "$6$abcdefgh$msgktWxVAbjjh3X7lA5LaM7dS/ZfABJL6T4qcRsnjcOTj0kptUvZcrvrXIoO5fgPA9xz6UnF2To2Y7jGc/IZY/"

// accounts writes files for /etc in which there is an account "bodkin-test", and its
// password and root's are "geheim", and returns a command that puts them there for
// what it runs, in a mount namespace of its own, on a terminal as a user's.
func accounts(t *testing.T) []string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: it makes a mount namespace with accounts of its own")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"passwd":  "root:x:0:0:root:/root:/bin/sh\nbodkin-test:x:4242:4242::/tmp:/bin/sh\n",
		"group":   "root:x:0:\ntty:x:5:\nbodkin-test:x:4242:\n",
		"shadow":  "root:" + hash + ":19000:0:99999:7:::\nbodkin-test:" + hash + ":19000:0:99999:7:::\n",
		"sudoers": "Defaults lecture=always\nroot ALL=(ALL:ALL) ALL\nbodkin-test ALL=(ALL:ALL) ALL\n",
	} {
		mode := os.FileMode(0o644)
		if name == "shadow" || name == "sudoers" {
			mode = 0o440
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	script := `cd "$0" && for f in *; do mount --bind "$f" "/etc/$f" || exit 90; done; cd / && stty sane && exec "$@"`
	return []string{"unshare", "--mount", "sh", "-c", script, dir}
}

// on runs a program on a terminal, which is killed at the test's end.
func on(t *testing.T, args ...string) carrier.Stream {
	t.Helper()
	p, err := command.Start(command.Config{Args: args, TTY: true, Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "TERM=xterm", "HOME=" + t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p.Stream()
}

// does types a line at a shell's prompt, and returns the line that its output has
// between two marks.
func does(t *testing.T, st carrier.Stream, line string) string {
	t.Helper()
	if _, err := fmt.Fprintf(st, "echo be''gin; %s; echo en''d\r", line); err != nil {
		t.Fatal(err)
	}
	watch := time.AfterFunc(20*time.Second, func() { st.Close() })
	defer watch.Stop()
	var got []string
	inside := false
	for r := bufio.NewScanner(st); r.Scan(); {
		switch text := carrier.Printable(r.Text()); {
		case strings.HasSuffix(text, "begin"):
			inside = true
		case inside && strings.HasSuffix(text, "end"):
			return strings.Join(got, "|")
		case inside:
			got = append(got, text)
		}
	}
	t.Errorf("the shell ended, or is silent; it said %q", got)
	return ""
}

// TestRealLogin: the programs themselves.
func TestRealLogin(t *testing.T) {
	in := accounts(t)
	right := func(context.Context, string) (string, error) { return "geheim", nil }
	wrong := func(context.Context, string) (string, error) { return "falsch", nil }
	asUser := []string{"setpriv", "--reuid", "4242", "--regid", "4242", "--clear-groups", "sh"}
	var refused *carrier.RefusedError
	for _, c := range []struct {
		name    string
		program []string
		o       LoginOptions
		secret  secretFunc
		is      string // what id -un says then; empty: refused
	}{
		{"login", []string{"login"}, LoginOptions{User: "bodkin-test"}, right, "bodkin-test"},
		{"login, wrong", []string{"login"}, LoginOptions{User: "bodkin-test"}, wrong, ""},
		{"busybox login", []string{"busybox", "login"}, LoginOptions{User: "bodkin-test"}, right, "bodkin-test"},
		{"busybox login, wrong", []string{"busybox", "login"}, LoginOptions{User: "bodkin-test"}, wrong, ""},
		{"su", asUser, LoginOptions{Become: "su"}, right, "root"},
		{"su, wrong", asUser, LoginOptions{Become: "su"}, wrong, ""},
		{"sudo", asUser, LoginOptions{Become: "sudo"}, right, "root"},
		{"sudo, wrong", asUser, LoginOptions{Become: "sudo"}, wrong, ""},
		{"login, then sudo", []string{"login"}, LoginOptions{User: "bodkin-test", Become: "sudo"}, right, "root"},
		{"sudo by root", []string{"sh"}, LoginOptions{Become: "sudo"}, nil, "root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			c.o.Secret = func(ctx context.Context, question string) (string, error) {
				asked++
				t.Logf("asked %q", question)
				return c.secret(ctx, question)
			}
			c.o.Banner = func(line string) { t.Logf("said %q", line) }
			c.o.Timeout = 20 * time.Second
			st, err := Login(t.Context(), on(t, append(in, c.program...)...), c.o)
			if c.is == "" {
				if !errors.As(err, &refused) || asked != 1 {
					t.Errorf("%v, asked %d times", err, asked)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			if is := does(t, st, "id -un"); is != c.is {
				t.Errorf("it is %q", is)
			}
		})
	}
}

// TestRealShells: their prompts, as they come.
func TestRealShells(t *testing.T) {
	for _, program := range []string{"sh", "bash", "bash --norc --noprofile", "zsh", "zsh -f", "fish", "tcsh", "tcsh -f", "busybox ash", "dash -i"} {
		t.Run(program, func(t *testing.T) {
			st := on(t, "sh", "-c", `cd /; stty sane; exec "$@"`, "sh", "sh", "-c", "exec "+program)
			st, err := Login(t.Context(), st, LoginOptions{Timeout: 20 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			if is := does(t, st, "id -un"); is != "root" {
				t.Errorf("it is %q", is)
			}
		})
	}
}
