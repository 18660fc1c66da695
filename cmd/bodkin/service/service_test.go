package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/profile"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	file "github.com/bodkin-net/bodkin/config/profile"
)

// A fake is a systemd that writes down what it was told.
type fake struct {
	manager
	told []string
	fail string // the command that fails
	show string // what `show` prints
}

// newFake is a systemd of the machine's, with its units in a directory of the test's.
func newFake(t *testing.T) *fake {
	f := &fake{manager: manager{dir: filepath.Join(t.TempDir(), "systemd"), here: true}}
	f.run = func(_ context.Context, args ...string) (string, error) {
		f.told = append(f.told, strings.Join(args, " "))
		if args[0] == f.fail {
			return "", errors.New("systemctl: it failed")
		}
		return f.show, nil
	}
	return f
}

// call runs `bodkin service` with f as the systemd.
func call(t *testing.T, f *fake, server Server, args ...string) (out, errs string, status int) {
	t.Helper()
	up := func() *cobra.Command {
		cmd := &cobra.Command{Use: "up TARGET [CIDR...]", RunE: func(*cobra.Command, []string) error { return nil }}
		cmd.Flags().String("near", "tun", "")
		cmd.Flags().StringArray("password", nil, "")
		cmd.Flags().Bool("detach", false, "")
		cmd.Flags().Bool("plan", false, "")
		return cmd
	}
	profiles := &profile.Set{Clients: []func() *cobra.Command{up}, Server: func() *cobra.Command { return &cobra.Command{Use: "serve"} }}
	s := &services{profiles: profiles, server: server, manager: func(user bool) (*manager, error) {
		f.user = user
		return &f.manager, nil
	}}
	cmd := &cobra.Command{Use: "service"}
	cmd.AddCommand(s.installCommand(), s.uninstallCommand(), s.statusCommand())
	root := &cobra.Command{Use: "bodkin"}
	root.AddCommand(cmd)
	var o, e bytes.Buffer
	root.SetOut(&o)
	root.SetErr(&e)
	status = report.Execute(context.Background(), root, append([]string{"service"}, args...))
	return o.String(), e.String(), status
}

// writeProfiles makes text the user's file of profiles.
func writeProfiles(t *testing.T, text string) {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("SUDO_UID", "")
	path := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "bodkin", profile.Name)
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

const profiles = `[work]
target = "me@office"
near = "nat"
detach = true
password = ["ask", "proxy=env:SECRET"]

[tun]
target = "gw"

[plan]
target = "gw"
plan = true

[serve]
`

// TestInstall: the unit is written, systemd is told, and it is said; a second time the
// same, and taking away is the way back.
func TestInstall(t *testing.T) {
	writeProfiles(t, profiles)
	f := newFake(t)
	unit := filepath.Join(f.dir, "bodkin-work.service")
	for range 2 {
		f.told = nil
		out, errs, status := call(t, f, nil, "install", "work", "--user", "--now")
		if status != 0 {
			t.Fatalf("exit status %d: %s", status, errs)
		}
		if want := "wrote " + unit + "\nsystemctl --user daemon-reload\nsystemctl --user enable bodkin-work.service\nsystemctl --user stop bodkin-work.service\nsystemctl --user start bodkin-work.service\n"; out != want {
			t.Errorf("it said\n%swant\n%s", out, want)
		}
		if got := strings.Join(f.told, "\n"); got != "daemon-reload\nenable bodkin-work.service\nstop bodkin-work.service\nstart bodkin-work.service" {
			t.Errorf("systemd was told\n%s", got)
		}
		if !strings.Contains(errs, "nobody is there to be asked") || !strings.Contains(errs, "another environment") {
			t.Errorf("it noted\n%s", errs)
		}
	}
	text, err := os.ReadFile(unit)
	if err != nil || parses(string(text)) != "" || !strings.Contains(string(text), "/bodkin/config.toml --detach=false work\n") {
		t.Errorf("%v: %s\n%s", err, parses(string(text)), text)
	}
	if files, _ := os.ReadDir(f.dir); len(files) != 1 {
		t.Errorf("%d files where one unit is", len(files))
	}
	f.told = nil
	if out, errs, status := call(t, f, nil, "uninstall", "work", "--user"); status != 0 || !strings.Contains(out, "removed "+unit) || strings.Join(f.told, "\n") != "disable --now bodkin-work.service\ndaemon-reload" {
		t.Errorf("exit status %d: %s%s%q", status, out, errs, f.told)
	}
	if _, err := os.Lstat(unit); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unit is still there: %v", err)
	}
	if _, errs, status := call(t, f, nil, "uninstall", "work", "--user"); status == 0 || !strings.Contains(errs, "there is no "+unit) {
		t.Errorf("taken away twice: exit status %d: %s", status, errs)
	}
}

// TestPlan prints the unit, and writes none, even where no systemd is.
func TestPlan(t *testing.T) {
	writeProfiles(t, profiles)
	f := newFake(t)
	f.here = false
	out, errs, status := call(t, f, nil, "install", "tun", "--user", "--plan")
	if status != 0 || parses(out) != "" || f.told != nil {
		t.Errorf("exit status %d, %s: %s%s", status, parses(out), out, errs)
	}
	if _, err := os.Lstat(f.dir); err == nil {
		t.Error("something was written")
	}
}

// TestStranger: what somebody else put there stays as it is.
func TestStranger(t *testing.T) {
	writeProfiles(t, profiles)
	f := newFake(t)
	path := filepath.Join(f.dir, "bodkin-work.service")
	if err := errors.Join(os.Mkdir(f.dir, 0o755), os.WriteFile(path, []byte("[Unit]\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		for _, verb := range []string{"install", "uninstall", "status"} {
			if _, errs, status := call(t, f, nil, verb, "work", "--user"); status != 1 || !strings.Contains(errs, path) || !strings.Contains(errs, "somebody else's") || f.told != nil {
				t.Errorf("%s: %s: exit status %d, told %q: %s", what, verb, status, f.told, errs)
			}
		}
	}
	check("a unit")
	if err := errors.Join(os.Remove(path), os.Symlink("/dev/null", path)); err != nil { // systemctl mask
		t.Fatal(err)
	}
	check("a masked one")
	if to, err := os.Readlink(path); err != nil || to != "/dev/null" {
		t.Errorf("it is %s, %v", to, err)
	}
}

// TestRefusals: before anything is touched, with the next thing to try.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		args, want, hint string
		status           int
	}{
		{"install --user", "wants the name of a profile", "profile list", 2},
		{"install --user ../../etc", "wants the name of a profile", "", 2},
		{"install --user wrok", `no profile "wrok"`, "did you mean work?", 2},
		{"install --user plan", "plan = true", "leave it out", 2},
		{"install --user serve", "no server", "", 1},
		{"install --user work --as root", "--as is about a unit of the machine's", "", 2},
		{"install --system work --as no-such-user", "no such user", "", 2},
		{"install --user --system work", "contradict each other", "", 2},
		{"status --user work", "there is no ", "--system", 1},
	} {
		writeProfiles(t, profiles)
		f := newFake(t)
		_, errs, status := call(t, f, nil, strings.Fields(c.args)...)
		if status != c.status || !strings.Contains(errs, c.want) || !strings.Contains(errs, c.hint) || f.told != nil {
			t.Errorf("%s: exit status %d, told %q: %s", c.args, status, f.told, errs)
		}
	}
	writeProfiles(t, profiles)
	f := newFake(t)
	f.here = false
	if _, errs, status := call(t, f, nil, "install", "--user", "work"); status != 1 || !strings.Contains(errs, "@reboot while :; do ") {
		t.Errorf("without systemd: exit status %d: %s", status, errs)
	}
	f = newFake(t)
	f.fail = "start"
	if _, errs, status := call(t, f, nil, "install", "--user", "work", "--now"); status != 1 || !strings.Contains(errs, "journalctl --user -u bodkin-work.service") {
		t.Errorf("one that does not start: exit status %d: %s", status, errs)
	}
}

// TestMachines: a program that somebody else could replace is not for the machine's
// systemd; the one of this test is in such a place.
func TestMachines(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "bodkin")
	if err := os.WriteFile(binary, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := rootsAlone(binary); err == nil || !strings.Contains(err.Error(), dir+" is everybody's to replace") {
		t.Error(err)
	}
	if err := rootsAlone("/bin/sh"); err != nil {
		t.Error(err)
	}
}

// TestServer: the server's units are its own affair; what is added to them for a [serve]
// of the user's is not.
func TestServer(t *testing.T) {
	const ours = "[Service]\nExecStart=PROGRAM serve\nCapabilityBoundingSet=\n# AmbientCapabilities=\n[Install]\nAlso=bodkin-serve.socket\n"
	server := Server(func(program string) map[string]string {
		return map[string]string{serverService: strings.ReplaceAll(ours, "PROGRAM", program), serverSocket: "[Socket]\n"}
	})
	p := Place{Binary: "/usr/bin/bod kin", Config: "/root/100%.toml"}
	for _, c := range []struct {
		listen  []string
		none    bool
		want    string
		sockets int
	}{
		{nil, true, strings.ReplaceAll(ours, "PROGRAM", `"/usr/bin/bod kin"`), 1},
		{nil, false, "[Service]\nExecStart=\"/usr/bin/bod kin\" serve --config=%d/config.toml\n# The file of profiles, as it is when this starts.\nLoadCredential=config.toml:/root/100%%.toml\nCapabilityBoundingSet=\n# AmbientCapabilities=\n[Install]\nAlso=bodkin-serve.socket\n", 1},
		{[]string{":8443", "unix:/run/x"}, false, "[Service]\nExecStart=\"/usr/bin/bod kin\" serve --config=%d/config.toml\n# The file of profiles, as it is when this starts.\nLoadCredential=config.toml:/root/100%%.toml\nCapabilityBoundingSet=\n# AmbientCapabilities=\n[Install]\n", 0},
		{[]string{":443"}, false, "[Service]\nExecStart=\"/usr/bin/bod kin\" serve --config=%d/config.toml\n# The file of profiles, as it is when this starts.\nLoadCredential=config.toml:/root/100%%.toml\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n# AmbientCapabilities=\n[Install]\n", 0},
	} {
		table := &file.Table{Name: "serve"}
		for _, l := range c.listen {
			if len(table.Settings) == 0 {
				table.Settings = []file.Setting{{Key: "listen"}}
			}
			table.Settings[0].Values = append(table.Settings[0].Values, file.Value{Text: l})
		}
		if c.none {
			table = nil
		}
		units, err := server.units(p, table)
		if err != nil || len(units) != 1+c.sockets || units[len(units)-1].Text != c.want {
			t.Errorf("listen %q: %v\n%+v\nwant\n%s", c.listen, err, units, c.want)
		}
	}
	writeProfiles(t, profiles)
	f := newFake(t)
	if _, errs, status := call(t, f, server, "install", "serve", "--user"); status != 0 || strings.Join(f.told, "\n") != "daemon-reload\nenable bodkin-serve.service" {
		t.Errorf("exit status %d, told %q: %s", status, f.told, errs)
	}
	text, err := os.ReadFile(filepath.Join(f.dir, serverService))
	if err != nil || parses(string(text)) != "" {
		t.Errorf("%v: %s\n%s", err, parses(string(text)), text)
	}
	if out, errs, status := call(t, f, server, "uninstall", "serve", "--user"); status != 0 || strings.Count(out, "removed ") != 1 {
		t.Errorf("exit status %d: %s%s", status, out, errs)
	}
}

// TestStatus is what systemd says, for people and for programs.
func TestStatus(t *testing.T) {
	writeProfiles(t, profiles)
	f := newFake(t)
	if _, errs, status := call(t, f, nil, "install", "work", "--user"); status != 0 {
		t.Fatal(errs)
	}
	f.show = "NRestarts=3\nExecMainStatus=11\nStatusText=one \x1b[31mtwo\nActiveState=activating\nSubState=auto-restart\nUnitFileState=enabled\nOther=x\n"
	out, errs, status := call(t, f, nil, "status", "work", "--user")
	if want := "work: activating (auto-restart), enabled: one ?[31mtwo\nstarted again 3 times; its last exit status is 11\nunit " + filepath.Join(f.dir, "bodkin-work.service") + ", words: journalctl --user -u bodkin-work.service\n"; status != 0 || out != want {
		t.Errorf("exit status %d: it said\n%swant\n%s%s", status, out, want, errs)
	}
	out, _, _ = call(t, f, nil, "status", "work", "--user", "--json")
	var st State
	if err := json.Unmarshal([]byte(out), &st); err != nil || st.Active != "activating" || st.Restarts != "3" || st.Exit != "11" {
		t.Errorf("%v: %s", err, out)
	}
}
