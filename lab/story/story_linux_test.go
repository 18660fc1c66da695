package story

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The story, told of the program as it is.
func TestDemo(t *testing.T) {
	program := filepath.Join(t.TempDir(), "bodkin")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/bodkin-net/bodkin/cmd/bodkin")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building bodkin: %v: %s", err, out)
	}
	var out bytes.Buffer
	if err := Demo(t.Context(), &out, program); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("colours where there is no terminal")
	}
}

// A bodkin that does not come up makes the story fail, and say so.
func TestDemoFails(t *testing.T) {
	var out bytes.Buffer
	err := Demo(t.Context(), &out, "/bin/false")
	if err == nil || !strings.Contains(err.Error(), "1 of") {
		t.Errorf("got %v", err)
	}
	if want := "!! exit status 1"; !strings.Contains(out.String(), want) {
		t.Errorf("%q is not in\n%s", want, &out)
	}
}
