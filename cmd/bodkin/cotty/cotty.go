// Package cotty is `bodkin cotty`: two commands, each on a terminal of its own, and what
// either prints typed to the other.
//
// A session opens two sides, joins their Streams, and has the exit status of the side
// that ended first:
//
//	cotty.go      words -> what is wanted; help
//	side.go       one side: a command, a terminal, a socket
//	session.go    both sides joined, and how that ended
//	size_*.go     a terminal's window size, passed on
//
// The octets are package carrier's, programs and terminals package carrier/command's.
package cotty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/detach"
	"github.com/bodkin-net/bodkin/config"
)

// Command is `bodkin cotty`. Its errors have exit statuses for package report. With -d
// it runs the program once more.
func Command() *cobra.Command {
	c := session{patience: lateTime}
	cmd := &cobra.Command{
		Use:   "cotty [-d] [options] -- SIDE1 -- SIDE2",
		Short: "Join two commands, each on a terminal of its own",
		Long: `Run two commands, each on a raw terminal of its own, and type what either prints to the
other: every octet, both ways at once, until one of them ends. It is for programs that
insist on a terminal, such as an old pppd, telnet or slirp. The words are the program
and its arguments as they are: no shell sees them. Installed under the name cotty,
bodkin is this command.

Instead of a command, a side may be one word:

  tty             this terminal, raw until the end; its window size is passed on
  -               standard input and output
  dev:/dev/ttyS0  a device, raw until the end; its speed is stty's affair
  tcp:HOST:PORT   a TCP connection
  unix:/PATH      a Unix socket
  pty:            a new terminal, whose path is printed: for a program started by hand
  pty:/PATH       the same, with a symbolic link to it

A command of such a name is given with its path: /usr/bin/tty.

When a side ends, what it said last is still delivered. Then the other side's terminal
hangs up; a command that does not leave within a second gets SIGTERM, and after two
more SIGKILL. A command whose children stay on its terminal has not ended.

The prompts of a command appear on its terminal, and so go to the other side: log in by
key or agent.

Exit status: that of the command which ended first, or 128 and the number of the signal
that ended it; 0 if another kind of side ended in order, or after Ctrl-C and SIGTERM;
127 if a command is not found, 126 if it does not run, 125 if another side fails, 2
for a wrong call. With -d it says whether both sides were started. Which side ended
first, and how, is said on standard error or in the log.`,
		Example: `  cotty -d -- pppd nodetach noauth 10.9.0.1:10.9.0.2 -- ssh -t gw slirp-fullbolt ppp
  bodkin cotty -- tty -- dev:/dev/ttyUSB0
  bodkin cotty --stderr pass -- pty:/run/modem -- ssh gw slirp-fullbolt ppp
  bodkin cotty -- tcp:127.0.0.1:4000 -- telnet -8 -E proxy`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.parse(args); err != nil {
				return err
			}
			out, errw := cmd.OutOrStdout(), cmd.ErrOrStderr()
			if !c.detach {
				return c.run(cmd.Context(), out, errw, func() {})
			}
			return detach.Run(cmd.Context(), errw, func(ctx context.Context, ready func()) error {
				return c.run(ctx, out, errw, ready)
			})
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the first side is not ours
	f.BoolVarP(&c.detach, "detach", "d", false, "go to the background once both sides are started")
	f.StringVar(&c.pidFile, "pid-file", "", "`FILE` for the process id, removed at the end")
	f.StringVar(&c.logFile, "log", "", "`FILE` to which what is said is appended")
	f.StringVar(&c.stderr, "stderr", stderrStream, "the commands' standard error: stream (to the other side, as on a terminal)\nor pass (to ours, or the log)")
	cmd.RegisterFlagCompletionFunc("stderr", cobra.FixedCompletions([]string{stderrStream, stderrPass}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// The words of --stderr.
const (
	stderrStream = "stream"
	stderrPass   = "pass"
)

// A session is what is wanted of `bodkin cotty`.
type session struct {
	sides   [2][]string // the words of each
	detach  bool
	pidFile string // absolute, as logFile is: a detached process leaves its directory
	logFile string
	stderr  string

	patience time.Duration // lateTime
}

// parse takes the words of both sides, and checks what the flags said.
func (c *session) parse(words []string) error {
	switch at := slices.Index(words, "--"); {
	case at < 0:
		return &config.Error{Reason: "cotty joins two sides, and there is one", Hint: "put -- between them: cotty -- pppd nodetach -- ssh -t gw slirp"}
	case slices.Contains(words[at+1:], "--"):
		return &config.Error{Reason: "cotty joins two sides, and there are more", Hint: "a command that needs a word -- itself goes into a script"}
	default:
		c.sides = [2][]string{words[:at], words[at+1:]}
	}
	for i, side := range c.sides {
		if err := checkSide(side); err != nil {
			return err
		}
		if c.detach && (side[0] == sideTTY || side[0] == sideStdio) && len(side) == 1 {
			return &config.Error{Reason: fmt.Sprintf("-d leaves this terminal, and side %d is %q", i+1, side[0]), Hint: "leave one of them out"}
		}
	}
	if first := c.sides[0]; len(first) == 1 && slices.Equal(first, c.sides[1]) && (first[0] == sideTTY || first[0] == sideStdio) {
		return &config.Error{Reason: fmt.Sprintf("both sides are %q", first[0]), Hint: "there is only one"}
	}
	if c.stderr != stderrStream && c.stderr != stderrPass {
		return &config.Error{Reason: "--stderr " + c.stderr, Hint: "there are stream and pass"}
	}
	var errs []error
	for _, path := range []*string{&c.pidFile, &c.logFile} {
		if *path != "" {
			var err error
			*path, err = filepath.Abs(*path)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// The sides that are no command: words, and prefixes of words.
const (
	sideTTY    = "tty"
	sideStdio  = "-"
	sideDevice = "dev:"
	sideTCP    = "tcp:"
	sideUnix   = "unix:"
	sidePTY    = "pty:"
)

// kindOf returns which of the sides above the words are, and what follows the prefix;
// kind is empty for a command.
func kindOf(words []string) (kind, rest string) {
	for _, kind := range []string{sideTTY, sideStdio} {
		if len(words) == 1 && words[0] == kind {
			return kind, ""
		}
	}
	for _, kind := range []string{sideDevice, sideTCP, sideUnix, sidePTY} {
		if rest, ok := strings.CutPrefix(words[0], kind); ok {
			return kind, rest
		}
	}
	return "", ""
}

// checkSide refuses the words of a side that cannot be meant so.
func checkSide(words []string) error {
	if len(words) == 0 || words[0] == "" {
		return &config.Error{Reason: "a side of cotty is empty", Hint: "each is a command, or one word such as tty or tcp:host:port"}
	}
	kind, rest := kindOf(words)
	if kind != "" && len(words) > 1 {
		return &config.Error{Reason: fmt.Sprintf("%q takes no arguments", words[0]), Hint: "a command of that name is given with its path"}
	}
	switch kind {
	case sideDevice, sideUnix:
		if rest == "" {
			return &config.Error{Reason: fmt.Sprintf("%q names no path", words[0]), Hint: kind + "/path"}
		}
	case sideTCP:
		if host, port, err := net.SplitHostPort(rest); err != nil || host == "" || port == "" {
			return &config.Error{Reason: fmt.Sprintf("%q is not a host and a port", rest), Hint: "tcp:host:4000, tcp:[2001:db8::1]:4000"}
		}
	}
	return nil
}

// say prints a line for people, or puts it into the log.
func (c *session) say(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "bodkin: "+format+"\n", args...)
}

// openLog opens the log, or says why it cannot.
func (c *session) openLog() (*os.File, error) {
	return os.OpenFile(c.logFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}
