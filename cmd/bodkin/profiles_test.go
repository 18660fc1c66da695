package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// writeProfiles makes text the user's file of profiles.
func writeProfiles(t *testing.T, text string) string {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	path := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "bodkin", "config.toml")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestProfileFlags: whatever flag bodkin up has, a profile has it, by its own name, and
// shows it on the command line that it stands for.
func TestProfileFlags(t *testing.T) {
	count := 0
	upCommand().Flags().VisitAll(func(f *pflag.Flag) {
		count++
		value, shown := `"x"`, "x" // of no meaning to most: what is tried is the key
		switch f.Value.Type() {
		case "bool":
			value, shown = "true", "true"
		case "count", "int", "uint16":
			value, shown = "3", "3"
		case "duration":
			value, shown = `"1m"`, "1m"
		}
		if _, many := f.Value.(pflag.SliceValue); many {
			value = "[" + value + "]"
		}
		writeProfiles(t, fmt.Sprintf("[work]\ntarget = \"me@gw\"\n%s = %s\n", f.Name, value))
		if status, out, errs := call(t, "profile", "list", "--json"); status != 0 || !strings.Contains(out, fmt.Sprintf("%q", "--"+f.Name+"="+shown)) {
			t.Errorf("%s: exit status %d\n%s%s", f.Name, status, out, errs)
		}
	})
	if count < 20 {
		t.Errorf("bodkin up has %d flags", count)
	}
}

// TestProfileUp: a profile is checked as the command line is, and its secrets too, which
// nobody repeats.
func TestProfileUp(t *testing.T) {
	for _, c := range []struct{ text, reason, hint string }{
		{"near = \"nonsense\"", `:3:8: --near "nonsense"`, "there are tun, nat"},
		{"near = \"nat\"", `:3:8: --near nat --far nat`, "the other way round"},
		{"exclude = [\"192.168.0.0/16\"]\nroutes = [\"10.0.0.0/8\"]", ":4:11: -x 192.168.0.0/16 is not in", "leave -x out"},
		{"via = [\"http://proxy:3128\", \"nowhere\"]", `:3:29: --via "nowhere"`, "there are http://"},
		{"dns = \"x;id\"", ":3:7: --dns x;id", "a resolver's address"},
		{"password = [\"ask\", \"proxy=hunter2\"]", ":3:20: --password number 2 says no source", "@FILE"},
		{"via = [\"http://me:hunter2@proxy:3128\"]", ":3:8: ", ""},
		{"dialogue-timeout = \"soon\"", ":3:20: invalid argument", ""},
		{"name = \"../../etc\"", ":3:8: --name", "lower-case"},
	} {
		path := writeProfiles(t, "[work]\ntarget = \"me@gw\"\n"+c.text+"\n")
		status, _, errs := call(t, "up", "work", "--plan")
		if status != 2 || !strings.Contains(errs, path+c.reason) || !strings.Contains(errs, c.hint) || strings.Contains(errs, "hunter2") {
			t.Errorf("%s: exit status %d\n%s", c.text, status, errs)
		}
	}
}
