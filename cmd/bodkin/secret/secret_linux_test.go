package secret

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier/command"
)

// TestMain lets the test binary be a program that asks on its terminal.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "ask" {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s := &Sources{}
		secret, err := s.For("me@gw")(ctx, "Password")
		if err != nil {
			os.Stdout.WriteString("error " + err.Error() + "\n")
		}
		os.Stdout.WriteString("got " + secret + "\n")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestSources(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("BODKIN_TEST_SECRET", "from the environment")
	t.Setenv("SSH_ASKPASS", "")
	for _, c := range []struct {
		name   string
		values []string
		place  string
		want   string // "error: " and a piece of it
	}{
		{"a file", []string{"@" + file("a", "x y\n", 0o600)}, "me@gw", "x y"},
		{"without a line end", []string{"@" + file("b", "x", 0o600)}, "me@gw", "x"},
		{"two lines", []string{"@" + file("c", "x\ny\n", 0o600)}, "me@gw", "error: not one line"},
		{"others may read it", []string{"@" + file("d", "x\n", 0o644)}, "me@gw", "error: others may read it"},
		{"no file", []string{"@/nowhere"}, "me@gw", "error: no such file"},
		{"too long", []string{"@" + file("e", strings.Repeat("x", 5000), 0o600)}, "me@gw", "error: at most"},
		{"the environment", []string{"env:BODKIN_TEST_SECRET"}, "me@gw", "from the environment"},
		{"not there", []string{"env:BODKIN_TEST_NOTHING"}, "me@gw", "error: no environment variable"},
		{"a command", []string{`run:echo "$BODKIN_PLACE $BODKIN_QUESTION"; echo more`}, "me@gw", "me@gw otp-md5 95 pi1234"},
		{"a command that fails", []string{"run:echo x; exit 3"}, "me@gw", "error: exit status 3"},
		{"by place", []string{"me@proxy=env:HOME_NOT", "me@gw=env:BODKIN_TEST_SECRET"}, "me@gw", "from the environment"},
		{"by host", []string{"gw=env:BODKIN_TEST_SECRET"}, "me@gw", "from the environment"},
		{"its own before that of all", []string{"env:HOME_NOT", "me@gw=env:BODKIN_TEST_SECRET", "env:HOME_NOT"}, "me@gw", "from the environment"},
		{"somebody else's", []string{"me@proxy=env:BODKIN_TEST_SECRET", "env:HOME_NOT"}, "me@gw", "error: HOME_NOT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Parse(c.values)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.For(c.place)(t.Context(), "otp-md5 95 pi1234")
			if want, bad := strings.CutPrefix(c.want, "error: "); bad {
				if err == nil || !strings.Contains(err.Error(), want) || got != "" {
					t.Errorf("%q, %v", got, err)
				}
			} else if got != c.want || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	for _, v := range []string{"hunter2", "", "@", "env:", "gw=", "gw=hunter2", "=ask", "run:"} {
		if s, err := Parse([]string{v}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %+v, %v", v, s, err)
		}
	}
}

// TestAsk asks on a real terminal: nothing of the answer is echoed, and the modes
// are as they were.
func TestAsk(t *testing.T) {
	t.Setenv("SSH_ASKPASS", "")
	p, err := command.Start(command.Config{Args: []string{"/bin/sh", "-c", "stty sane; stty -g; " + os.Args[0] + " ask; stty -g"}, TTY: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	late := time.AfterFunc(20*time.Second, func() { p.Close() })
	defer late.Stop()
	var said strings.Builder
	buf := make([]byte, 1)
	for !strings.HasSuffix(said.String(), "me@gw: Password: ") {
		if _, err := p.Read(buf); err != nil {
			t.Fatalf("%q, %v", said.String(), err)
		}
		said.Write(buf)
	}
	p.Write([]byte("open sesame\r"))
	rest, _ := io.ReadAll(p)
	lines := strings.Fields(strings.ReplaceAll(said.String()+string(rest), "open sesame", "SECRET"))
	if strings.Count(string(rest), "open sesame") != 1 || !strings.Contains(string(rest), "got open sesame") {
		t.Errorf("it said %q", rest)
	}
	if lines[0] != lines[len(lines)-1] {
		t.Errorf("the terminal was %s and is %s", lines[0], lines[len(lines)-1])
	}
}

// TestAskNobody: no terminal, and then a program.
func TestAskNobody(t *testing.T) {
	asking := func(env ...string) string {
		cmd := exec.Command("setsid", os.Args[0], "ask")
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if out := asking("SSH_ASKPASS="); !strings.Contains(out, "no terminal to ask on") {
		t.Errorf("it said %q", out)
	}
	script := filepath.Join(t.TempDir(), "askpass")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"answer to $1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out := asking("SSH_ASKPASS=" + script); out != "got answer to me@gw: Password:\n" {
		t.Errorf("it said %q", out)
	}
}
