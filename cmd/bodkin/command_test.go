package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

// call runs the program in this process.
func call(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	status = run(t.Context(), args, strings.NewReader(""), &o, &e)
	return status, o.String(), e.String()
}

// TestUsage is what a wrong call is told: before anything is touched, with the
// next thing to try.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args         string
		reason, hint string
	}{
		{"up", "requires at least 1 arg", "bodkin help"},
		{"up gw 10.0.0.0/33", `"10.0.0.0/33" is not a prefix`, "10.0.0.0/8"},
		{"up gw 10.0.0.1/8", "bits beyond its length", "10.0.0.0/8 is the prefix that holds it"},
		{"up gw 10.0.0.0/8 -x 192.168.0.0/16", "not in what goes through", "leave -x out"},
		{"up gw --dns x;id", "--dns x;id", "a resolver's address"},
		{"up gw --allow everything", "--allow everything", "host and link-local"},
		{"up gw --name ../../etc", "--name", "lower-case letter"},
		{"up gw --plan -d", "contradict", "leave one of them out"},
		{"up gw -e ssh\t'x", "a quote is left open", "close it"},
		{"up gw --nonsense", "unknown flag: --nonsense", "bodkin help"},
		{"up -- -oProxyCommand=id", "is not a host's name", "[user@]host[:port]"},
		{"nonsense", `unknown command "nonsense"`, ""},
		{"status too many", "unknown command", ""},
		{"far --only nowhere --nonce x", `"nowhere" is no destination`, "10.0.0.0/8:22,443"},
		{"far --only host --nonce x", "--allow opens it", ""},
		{"far --allow [fd00::/8]:0 --nonce x", "is no destination", "[2001:db8::/32]:22"},
	} {
		status, _, errs := call(t, strings.Split(c.args, " ")...)
		if status != report.StatusUsage {
			t.Errorf("%s: exit status %d, want %d: %s", c.args, status, report.StatusUsage, errs)
		}
		if !strings.Contains(errs, "bodkin: error: ") || !strings.Contains(errs, c.reason) || !strings.Contains(errs, c.hint) {
			t.Errorf("%s: it said\n%s", c.args, errs)
		}
	}
}

// TestPrinted are the commands that only print.
func TestPrinted(t *testing.T) {
	for args, want := range map[string]string{
		"version":         "bodkin " + version,
		"help":            "for networks and machines that you may use",
		"up --help":       "16 device",
		"far --help":      "restrict,command=",
		"completion bash": "bodkin",
		"completion zsh":  "bodkin",
		"completion fish": "bodkin",
	} {
		status, out, errs := call(t, strings.Fields(args)...)
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit status %d, without %q:\n%s%s", args, status, want, out, errs)
		}
	}
	dir := t.TempDir()
	if status, _, errs := call(t, "man", dir); status != 0 {
		t.Fatal(errs)
	}
	page, err := os.ReadFile(filepath.Join(dir, "bodkin-up.1"))
	if err != nil || !bytes.Contains(page, []byte("far-binary")) {
		t.Errorf("bodkin-up.1: %v", err)
	}
}

// TestControl is status and down over a tunnel's socket.
func TestControl(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if os.Geteuid() == 0 {
		t.Chdir(dir) // root's sockets have a fixed place; the name below keeps this test to itself
	}
	name := "test" + strings.ReplaceAll(time.Now().Format("150405.000"), ".", "")
	ctx, down := context.WithCancelCause(t.Context())
	want := Status{Name: name, State: "up", Target: "me@gw", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.15/24")}}
	c, err := listenControl(name, func() Status { return want }, down, func() error { return errAsked })
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(runtimeDir(), name+".sock")
	if _, err := listenControl(name, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "is up already") {
		t.Errorf("a second of the same name: %v", err)
	}
	answer, err := ask(path, "status", time.Second)
	var got Status
	if err != nil || json.Unmarshal(answer, &got) != nil || got.Name != name || got.Addresses[0] != want.Addresses[0] {
		t.Errorf("status: %s, %v", answer, err)
	}
	for _, wrong := range []string{"", "up", strings.Repeat("x", 1000), "status\x00"} {
		if answer, _ := ask(path, wrong, time.Second); len(answer) != 0 {
			t.Errorf("%q was answered with %q", wrong, answer)
		}
	}
	var again Reconnect
	if answer, err := ask(path, "reconnect", time.Second); err != nil || json.Unmarshal(answer, &again) != nil || again.Error != errAsked.Error() {
		t.Errorf("reconnect: %s, %v", answer, err)
	}
	told := make(chan []byte)
	go func() {
		answer, _ := ask(path, "down", 5*time.Second)
		told <- answer
	}()
	<-ctx.Done()
	if context.Cause(ctx) != errDown {
		t.Errorf("down ended it with %v", context.Cause(ctx))
	}
	select {
	case <-told:
		t.Error("down was answered before the tunnel was gone")
	default:
	}
	c.close([]string{"resolv.conf was left"}, nil)
	var end Down
	if answer := <-told; json.Unmarshal(answer, &end) != nil || !end.Down || len(end.Notes) != 1 {
		t.Errorf("down was answered with %q", answer)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestChooseNetworks(t *testing.T) {
	got, err := chooseNetworks([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("fd62:6f64:6b69::/64")})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range got {
		if p.Overlaps(netip.MustParsePrefix("10.0.0.0/16")) || p.Overlaps(netip.MustParsePrefix("fd62:6f64:6b69::/64")) {
			t.Errorf("%v lies in what goes through the tunnel", p)
		}
	}
}
