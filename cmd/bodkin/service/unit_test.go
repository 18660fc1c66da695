package service

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/config"
)

var update = flag.Bool("update", false, "write the golden units anew")

// The places of the golden units.
var (
	machines = Place{Binary: "/usr/local/bin/bodkin", Config: "/home/me/.config/bodkin/config.toml", As: Account{"me", "1000"}}
	roots    = Place{Binary: "/usr/local/bin/bodkin", Config: "/root/.config/bodkin/config.toml", As: Account{"root", "0"}}
	own      = Place{Binary: "/home/me/bin/bodkin", Config: "/home/me/.config/bodkin/config.toml", User: true}
	odd      = Place{Binary: `/opt/a b%h$x/bodkin`, Config: "/etc/it's 100%/\t$HOME.toml", User: true, Env: []string{`XDG_CONFIG_HOME=/a "b" %c`}}
)

// goldens are the units of every kind.
var goldens = map[string]struct {
	tunnel tunnel
	place  Place
}{
	"system-tun":  {tunnel{profile: "work"}, machines},
	"system-root": {tunnel{profile: "work", detach: true}, roots},
	"system-nat":  {tunnel{profile: "work", near: config.Emulator{Kind: config.NAT}}, machines},
	"system-pppd": {tunnel{profile: "work", near: config.Emulator{Kind: config.PPPD}}, roots},
	"user-tun":    {tunnel{profile: "work"}, own},
	"user-nat":    {tunnel{profile: "work", near: config.Emulator{Kind: config.NAT}}, own},
	"user-odd":    {tunnel{profile: "work", near: config.Emulator{Kind: config.NAT}}, odd},
}

// TestGolden: the units as they are in testdata, for the eyes of whoever changes them.
func TestGolden(t *testing.T) {
	for name, g := range goldens {
		u, err := g.tunnel.unit(g.place)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		path := filepath.Join("testdata", name+".service")
		if *update {
			if err := os.WriteFile(path, []byte(u.whole(g.tunnel.profile)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := u.whole(g.tunnel.profile); got != string(want) {
			t.Errorf("%s: the unit is\n%s\nwant\n%s", name, got, want)
		}
		if err := parses(u.whole(g.tunnel.profile)); err != "" {
			t.Errorf("%s: %s", name, err)
		}
	}
}

// known are the keys that systemd.unit(5), systemd.service(5), systemd.exec(5) and
// systemd.kill(5) have, as far as a unit of ours may have them.
var known = map[string]string{
	"[Unit]":    " Description Documentation Wants After StartLimitIntervalSec ",
	"[Service]": " Type ExecStart ExecStopPost Restart RestartPreventExitStatus RestartSec RestartSteps RestartMaxDelaySec TimeoutStartSec TimeoutStopSec WatchdogSec KillMode Environment User NoNewPrivileges CapabilityBoundingSet ProtectSystem ProtectControlGroups ProtectKernelLogs ProtectKernelModules ProtectKernelTunables ProtectClock ProtectHostname LockPersonality RestrictRealtime RestrictSUIDSGID SystemCallArchitectures UMask ",
	"[Install]": " WantedBy ",
}

// parses reads a unit strictly: sections, keys that exist, each once but for Environment,
// nothing on more than one line. It returns what is wrong.
func parses(text string) string {
	section, seen := "", map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		key, value, ok := strings.Cut(line, "=")
		switch {
		case line == "", line[0] == '#':
		case line[0] == '[':
			if section = line; known[section] == "" {
				return line
			}
		case !ok, !strings.Contains(known[section], " "+key+" "), seen[key] && key != "Environment", strings.HasSuffix(value, `\`):
			return section + " " + line
		default:
			seen[key] = true
		}
	}
	for _, key := range []string{"Type", "ExecStart", "WantedBy", "Description"} {
		if !seen[key] {
			return "without " + key
		}
	}
	return ""
}

// words takes a command line apart as systemd.syntax(7) has it: what Exec wrote is what
// comes out.
func words(t *testing.T, line string) (list []string) {
	t.Helper()
	for line != "" {
		var b strings.Builder
		quoted := line[0] == '"'
		if quoted {
			line = line[1:]
		}
		for {
			switch {
			case line == "" && quoted:
				t.Fatal("a quote is left open")
			case line == "" || !quoted && line[0] == ' ' || quoted && line[0] == '"':
			case strings.HasPrefix(line, "%%"), strings.HasPrefix(line, "$$"), strings.HasPrefix(line, `\\`), strings.HasPrefix(line, `\"`):
				b.WriteByte(line[1])
				line = line[2:]
				continue
			case strings.HasPrefix(line, `\x`):
				b.WriteByte(unhex(line[2])<<4 | unhex(line[3]))
				line = line[4:]
				continue
			case line[0] == '%', line[0] == '\\', line[0] == '$' && len(list) > 0:
				t.Fatalf("it means something: %s", line)
			case !quoted && strings.IndexByte(`"';`, line[0]) >= 0:
				t.Fatalf("it means something outside of quotes: %s", line)
			default:
				b.WriteByte(line[0])
				line = line[1:]
				continue
			}
			break
		}
		if quoted {
			line = line[1:]
		}
		list = append(list, b.String())
		line = strings.TrimPrefix(line, " ")
	}
	return list
}

func unhex(c byte) byte { return byte(strings.IndexByte("0123456789abcdef", c)) }

// TestExec: whatever is in a path or a word arrives as it is.
func TestExec(t *testing.T) {
	for _, c := range [][]string{
		{"/usr/bin/bodkin", "up", "work"},
		{"/opt/a b/bodkin", "--config=/home/me/100% mine/$HOME/${x}.toml"},
		{"/x", "%h", "%%", "$$", `"`, `\`, `\n`, "'", "", "a;b", ";", "#", "ünï", "\t\n\x01\x7f"},
	} {
		line, err := Exec(c[0], c[1:]...)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := words(t, line); strings.Join(got, "\x00") != strings.Join(c, "\x00") {
			t.Errorf("%q is written %s, and that is %q", c, line, got)
		}
		if strings.Contains(line, "\n") {
			t.Errorf("%s: a line end", line)
		}
	}
	for _, wrong := range []string{"/a\x00b", "/a\xffb", `/a"b`, `/a\b`, "/a'b", "/a\nb"} {
		if line, err := Exec(wrong); err == nil {
			t.Errorf("%q is written %s", wrong, line)
		}
	}
}

// TestVerify: systemd has nothing against the units, where there is one to ask. Older ones
// do not know RestartSteps, which they say and go on.
func TestVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("no systemd-analyze here: TestGolden reads them by itself")
		return
	}
	for name, g := range goldens {
		dir := t.TempDir()
		g.place.Binary = filepath.Join(dir, filepath.Base(filepath.Dir(g.place.Binary)), "bodkin") // it wants to see it
		if err := os.Mkdir(filepath.Dir(g.place.Binary), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(g.place.Binary, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		g.place.As.Name = "root" // and the account
		u, err := g.tunnel.unit(g.place)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, u.File)
		if err := os.WriteFile(file, []byte(u.whole("work")), 0o644); err != nil {
			t.Fatal(err)
		}
		args := []string{"--man=no", "verify", file}
		if g.place.User {
			args = append([]string{"--user"}, args...)
		}
		cmd := exec.Command(analyze, args...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
		out, err := cmd.CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, u.File) && !strings.Contains(line, "RestartSteps") && !strings.Contains(line, "RestartMaxDelaySec") {
				t.Errorf("%s: %s", name, line)
			}
		}
		if err != nil {
			t.Errorf("%s: systemd-analyze: %v\n%s", name, err, out)
		}
	}
}

// TestCrontab: cron's percent, and the shell's letters.
func TestCrontab(t *testing.T) {
	got := tunnel{profile: "work"}.crontab(Place{Binary: "/usr/bin/bodkin", Config: "/home/me/100% mine.toml"})
	const want = `@reboot while :; do /usr/bin/bodkin up --config='/home/me/100\% mine.toml' work; sleep 30; done`
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
