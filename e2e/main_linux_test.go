// Package e2e_test shows that bodkin does its job: the real program, through a
// real sshd, for real curl, dig and ping, between four machines made of network
// namespaces (package lab). It reads as a manual of what a user may rely on.
//
// It needs root, and the programs that scripts/setup installs.
package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// buildTimeout is for a first build, with nothing in the compiler's cache.
const buildTimeout = 5 * time.Minute

// program is the path of the bodkin under test.
var program string

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e: network namespaces need root: run make test")
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "bodkin-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	status := 1
	program = filepath.Join(dir, "bodkin")
	if err := build(program); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: building bodkin:", err)
	} else {
		status = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(status)
}

// build makes the program as make does.
func build(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -buildid= -X main.version=e2e", "-o", path, "../cmd/bodkin")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}
