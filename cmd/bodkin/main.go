// Command bodkin gives a machine behind a firewall full IP through whatever
// hole the firewall leaves.
//
// This is the only place that picks implementations: it turns arguments into a
// config, checks it, and puts together a carrier, a link, an endpoint at each
// side and the host's settings. The tunnel is here, one part of it in each file:
//
//	main.go, command.go,
//	upcommand.go,
//	execcommand.go,
//	request.go             arguments -> config
//	voice.go               all that is said of a tunnel
//	up.go, layers.go       the near side, layer by layer
//	login.go               the far side reached by ssh
//	inside.go, identity.go and by anything else, with TLS inside
//	comeback.go            the connection below it lost, and made again
//	far.go, farcommand.go,
//	farinside.go           the far side
//	farsession.go,
//	farlisten.go, held.go  its sessions, and those that it holds
//	pipe.go                the way to it, alone
//	control.go             status and down: a running tunnel answers
//	proxy.go, enclosed.go  this side without root: a proxy, a command's own network
//	emulator.go, link.go,
//	program.go             other emulators than ours, on either side
//
// What does not need the tunnel has a room of its own, which knows nothing of it:
//
//	serve/                 the server, on one port, for all clients
//	farside/               what a far half and a server have in common
//	keeper/                a far half that outlives its connection
//	alert/                 when the network changed, or the machine slept
//	passing/               messages with open files, from process to process
//	enclosure/             a command whose only network is a tunnel
//	profile/, service/     command lines with names, and units that run them
//	standin/               in the place of pppd and slirp: ppp, slirp
//	cotty/                 two programs, each on a terminal of its own
//	chat/                  in the place of chat(8)
//	key/                   who knows whom
//	probe/                 which ways get out of here
//	way/                   the hops to the far side, each with its carrier
//	secret/                where passwords come from
//	privilege/             the only privileged process, and how it is asked
//	report/                errors with a layer, a hint and an exit status
//	sdnotify/              what a service manager is told
//	detach/                a command that stays when the shell has its prompt back
//	private/               sockets in directories of one user's alone
//	addresses/             where the addresses inside a tunnel lie
//	footprint/             how much of the machine a side may take
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

func main() {
	actByName()
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup(1) leaves it
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// actByName makes the program be `bodkin cotty`, `slirp` or `chat` if it was started
// under that name. The words of the first two never begin with their name, so a first
// word that does is the command: that is how a detached copy of such a file is started.
func actByName() {
	name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	named := len(os.Args) > 1 && os.Args[1] == name
	if name == "chat" || (name == "cotty" || name == "slirp") && !named {
		os.Args = append([]string{os.Args[0], name}, os.Args[1:]...)
	}
}

// run is the program. It returns the exit status.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	return report.Execute(ctx, newCommand(in, out, errw), args)
}
