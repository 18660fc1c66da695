// Command bodkin gives a machine behind a firewall full IP through whatever
// hole the firewall leaves.
//
// This is the only place that picks implementations: it turns arguments into a
// config, checks it, and puts together a carrier, a link, an endpoint at each
// side and the host's settings. Each file here is one part of that:
//
//	main.go, command.go    arguments -> config
//	voice.go               all that is said to the user
//	up.go, layers.go       the near side, layer by layer
//	far.go                 the far side
//	helper*.go, wire*.go   the only privileged process, and how it is asked
//	control.go             status and down: a running tunnel answers
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	actAsCotty()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// actAsCotty makes the program be `bodkin cotty` if it was started under that name.
// A side of cotty's never comes first, so a first word cotty is the command: that is how
// a detached copy of such a file is started.
func actAsCotty() {
	if strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") == "cotty" && (len(os.Args) < 2 || os.Args[1] != "cotty") {
		os.Args = append([]string{os.Args[0], "cotty"}, os.Args[1:]...)
	}
}

// run is the program. It returns the exit status.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	cmd := newCommand(in, out, errw)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err != nil {
		sayError(errw, err)
	}
	return exitStatus(err)
}
