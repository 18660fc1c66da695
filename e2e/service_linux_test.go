package e2e_test

import (
	"bytes"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// TestService runs a profile as its unit would: with the unit's command line, environment and
// capabilities, and nobody to ask. It says that it is up when it is, only the helper
// stays root, and when it is told to stop the machine is as it was.
func TestService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	before := w.snapshot()
	w.laptop("sh", "-c", `mkdir -p ~/.config/bodkin && cat > ~/.config/bodkin/config.toml <<'END'
[work]
target = "me@gw"

[serve]
listen = [":8443"]
END`)
	r := w.on(w.Laptop, "root", "bodkin", "service", "install", "work", "--system", "--as", "me", "--plan")
	if r.status != 0 {
		t.Fatal(r.out)
	}
	setting := func(key string) (value string) {
		for line := range strings.Lines(r.out) {
			if v, ok := strings.CutPrefix(line, key+"="); ok {
				value = strings.TrimSpace(v)
			}
		}
		w.says(r.out, key+"=")
		return value
	}
	start, sudo := strings.Fields(setting("ExecStart")), setting("Environment")
	bounds := "-all"
	for _, c := range strings.Fields(setting("CapabilityBoundingSet")) {
		bounds += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}

	manager, err := w.Laptop.ListenPacket("unixgram", "@manager") // as a container's systemd has it
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	service := w.Laptop.Command(t.Context(), "setpriv", append([]string{"--bounding-set", bounds, "--inh-caps", "-all", "--"}, start...)...)
	service.Env = []string{sudo, "NOTIFY_SOCKET=@manager"}
	var out bytes.Buffer
	service.Stdout, service.Stderr = &out, &out
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	defer service.Process.Kill()
	manager.SetReadDeadline(time.Now().Add(patience))
	told := make([]byte, 1000)
	n, _, err := manager.(*net.UnixConn).ReadFromUnix(told)
	if err != nil || !strings.HasPrefix(string(told[:n]), "READY=1\n") {
		service.Process.Kill()
		service.Wait()
		t.Fatalf("the manager was told %q, %v\n%s", told[:n], err, out.String())
	}

	w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", "http://web.example/")
	if who := w.laptop("ps", "-o", "user=,args=", "-C", "bodkin"); strings.Count(who, "root ") != 1 || !strings.Contains(who, "me ") {
		t.Errorf("who runs is\n%s", who)
	}
	if ssh := w.laptop("ps", "-o", "user=", "-C", "ssh"); strings.TrimSpace(ssh) != "me" {
		t.Errorf("ssh runs as %q", ssh)
	}
	service.Process.Signal(syscall.SIGTERM)
	if err := service.Wait(); err != nil {
		t.Errorf("it ended with %v\n%s", err, out.String())
	}
	w.asBefore(before, "a service, and its end")
}
