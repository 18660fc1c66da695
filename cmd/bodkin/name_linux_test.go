package main

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// beBodkin has this test binary be the program instead of the tests.
const beBodkin = "BODKIN_TEST_MAIN"

func init() {
	if os.Getenv(beBodkin) != "" {
		main()
	}
}

// asProgram returns a command that runs this binary as bodkin, under a name.
func asProgram(t *testing.T, name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Args[0] = name
	cmd.Env = append(os.Environ(), beBodkin+"=yes")
	return cmd
}

// TestCottyName: under its own name, and with the name as its first word.
func TestCottyName(t *testing.T) {
	for _, words := range [][]string{{"cotty"}, {"/usr/local/bin/cotty", "cotty"}, {"bodkin", "cotty"}, {"./bodkin", "cotty"}} {
		cmd := asProgram(t, words[0], slices.Concat(words[1:], []string{"--", "true", "--", "cat"})...)
		if said, err := cmd.CombinedOutput(); err != nil || string(said) != "bodkin: true ended first\n" {
			t.Errorf("%q: %v, said %s", words, err, said)
		}
	}
}

// TestSlirpByName: a script that says slirp needs no change.
func TestSlirpByName(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"slirp", "version"}} {
		out, err := asProgram(t, "/usr/local/bin/slirp", args...).CombinedOutput()
		if err != nil || string(out) != software()+"\n" {
			t.Errorf("slirp %q: %v, %q", args, err, out)
		}
	}
}

// TestChatByName: all words are the script's, even if the first is its name.
func TestChatByName(t *testing.T) {
	for _, c := range []struct {
		words []string
		comes string
		goes  string
	}{
		{[]string{"/usr/sbin/chat", "login:", "me"}, "login:", "me\r"},
		{[]string{"/usr/sbin/chat", "chat", "me"}, "chat", "me\r"},
		{[]string{"bodkin", "chat", "login:", "me"}, "login:", "me\r"},
	} {
		cmd := asProgram(t, c.words[0], c.words[1:]...)
		cmd.Stdin = strings.NewReader(c.comes)
		if out, err := cmd.Output(); err != nil || string(out) != c.goes {
			t.Errorf("%q: %v, %q", c.words, err, out)
		}
	}
}
