// Package enclosure is `bodkin exec`: a command in network, mount and process
// namespaces of its own, whose only way out is a tunnel. An ordinary user needs no
// root for it, since the namespaces lie inside a user namespace (user_namespaces(7)).
//
//	bodkin              holds the tunnel, outside         New, Set, Run, Close
//	  |  a socket: the device's file comes back, settings go in, the status comes back
//	process 1           bodkin again, as Command          Serve
//	  |
//	the command         with its user's name and files, without any capability
//
// What is where:
//
//	enclosure_linux.go    Enclosure, the end of it that is outside
//	wire_linux.go         what the two ends say to each other
//	init_linux.go         Serve, process 1: makes the rest, runs the command
//	mounts_linux.go       /proc, /sys, /run and /etc as the command sees them
//	network_linux.go      the loopback, the device, addresses and routes
//	processes_linux.go    the command and all that it starts, until they are gone
//	forbidden_linux.go    why there may be no namespace here, and what to do
//	names.go              resolv.conf and nsswitch.conf
//	environment.go        what of the environment is not for the inside
//
// Nothing leaks by construction: the namespace has a loopback and the tunnel's device,
// and no other. What is left are programs outside that work for others by a Unix
// socket. Those that resolve names (systemd-resolved, nscd, avahi, and the system bus,
// which leads to them) are not there inside; docs/exec.md has the rest.
package enclosure

import (
	"errors"
	"net/netip"
	"os"
)

// Command is the command of the program that must run Serve with the arguments behind
// it, unparsed: process 1 is the program itself.
const Command = "enclosure-init"

// Exit statuses of a command that could not be started, as env(1) has them.
const (
	StatusCannotRun = 126 // it is there, and cannot be executed
	StatusNotFound  = 127
)

// ErrGone is that process 1 ended without a word: somebody killed it.
var ErrGone = errors.New("enclosure: its process 1 is gone")

// A Config says what is to run inside.
type Config struct {
	Name    string   // of the network device: "bodkin0"
	Command []string // the program, looked up in PATH, and its arguments
	Dir     string   // where it starts; empty: where we are
	Env     []string // nil: ours, as Environment leaves it

	// What the command has as its standard input, output and error, untouched: a
	// terminal, a pipe, a file. Nil: ours.
	Stdin, Stdout, Stderr *os.File

	// Interrupted, if not nil, is called when the user presses Ctrl-C before Run, from
	// another goroutine; it must not call Close. From New to Close nothing else tells, for this process ignores
	// SIGINT and SIGQUIT: so do the programs that it starts meanwhile, and an ssh that
	// carries the tunnel does not end by the keys that are meant for the command.
	Interrupted func()
}

// Settings are what the tunnel's two halves agreed upon.
type Settings struct {
	Addrs   []netip.Prefix `json:"addrs"`             // of the device
	MTU     int            `json:"mtu"`               // of the device, in octets
	Routes  []netip.Prefix `json:"routes,omitempty"`  // what goes into the tunnel; none: everything
	Exclude []netip.Prefix `json:"exclude,omitempty"` // what does not: it is unreachable
	DNS     []netip.Addr   `json:"dns,omitempty"`     // resolvers; none: no names
	Search  []string       `json:"search,omitempty"`  // domains to complete names with
}
