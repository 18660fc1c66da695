package secret

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/carrier"
)

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

// TestOneTimePassword: what is good for once is not given a second time, whatever is
// dialled again; a command is asked each time.
func TestOneTimePassword(t *testing.T) {
	t.Setenv("BODKIN_TEST_SECRET", "123456")
	s, err := Parse([]string{"gw=env:BODKIN_TEST_SECRET", "other=run:echo 654321"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		place, question string
		first, again    string // empty: refused
	}{
		{"me@gw", "Verification code: ", "123456", ""},
		{"me@gw", "Password: ", "123456", "123456"},
		{"me@gw", "otp-md5 95 pi1234\nResponse: ", "123456", ""},
		{"me@gw", "otp-md5 94 pi1234\nResponse: ", "123456", ""}, // of another challenge
		{"me@other", "Verification code: ", "654321", "654321"},
	} {
		answer := s.For(c.place)
		for i, want := range []string{c.first, c.again} {
			got, err := answer(t.Context(), c.question)
			var refused *carrier.RefusedError
			if got != want || (want == "") != errors.As(err, &refused) {
				t.Errorf("%s, %q, time %d: %q, %v", c.place, c.question, i+1, got, err)
			}
		}
	}
}
