package ssh

import (
	"strings"
	"testing"
)

// TestHostileTargets: what could be taken for an option, or make a shell in the
// user's ssh config run something, never reaches ssh. What else is refused is in
// package config.
func TestHostileTargets(t *testing.T) {
	for _, target := range []Target{{Host: "-V"}, {Host: "gw", User: "-v"}, {}, {Host: "a b"}} {
		if _, _, err := Dial(t.Context(), Config{Target: target, RemoteCommand: "true", Program: []string{"no-such-ssh"}}); err == nil || !strings.Contains(err.Error(), "target") {
			t.Errorf("%+v reached ssh: %v", target, err)
		}
	}
	for _, command := range []string{"", "-V", "--"} {
		if _, _, err := Dial(t.Context(), Config{Target: Target{Host: "gw"}, RemoteCommand: command, Program: []string{"no-such-ssh"}}); err == nil || !strings.Contains(err.Error(), "command") {
			t.Errorf("remote command %q reached ssh: %v", command, err)
		}
	}
}
