package serve

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnits: systemd takes the units, where there is one to ask; the service has no
// privilege, can be watched, and keeps what it must.
func TestUnits(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	units := Units(self)
	service := units["bodkin-serve.service"]
	has := make(map[string]string)
	for _, unit := range units {
		section := ""
		for n, line := range strings.Split(unit, "\n") {
			switch key, value, ok := strings.Cut(line, "="); {
			case line == "", line[0] == '#':
			case line[0] == '[' && strings.HasSuffix(line, "]"):
				section = line
			case !ok || section == "" || key != strings.TrimSpace(key) || strings.Contains(value, "%") && !strings.Contains(value, "%S"):
				t.Errorf("line %d: %q is nothing of a unit's", n+1, line)
			default:
				has[key] = value
			}
		}
	}
	for key, want := range map[string]string{
		"Type": "notify", "DynamicUser": "yes", "CapabilityBoundingSet": "", "NoNewPrivileges": "yes", "ProtectSystem": "strict",
		"StateDirectory": "bodkin-serve", "Environment": "XDG_CONFIG_HOME=%S/bodkin-serve", "RuntimeDirectory": "bodkin-serve", "RuntimeDirectoryMode": "0700",
		"ListenStream": "443", "ExecStart": self + " serve", "WatchdogSec": "60",
	} {
		if got, ok := has[key]; !ok || got != want {
			t.Errorf("%s=%s, want %q", key, got, want)
		}
	}
	if !strings.Contains(service, "Requires=bodkin-serve.socket\n") {
		t.Error("the service does not ask for its socket")
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return // what it would have said was checked above, as far as it goes
	}
	dir := t.TempDir()
	var files []string
	for name, text := range units {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	out, err := exec.CommandContext(t.Context(), analyze, append([]string{"verify", "--man=no"}, files...)...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "bodkin-serve") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
