// Package chat is `bodkin chat`: the program chat(8) in our words, for pppd's connect
// option and whoever else has a modem or a login on its standard input and output.
//
//	chat.go       flags -> options; exit codes
//	askpass.go    who answers ASK
//	line_*.go     standard input and output as a Stream that takes nothing too much
//	log_*.go      the system's log
//
// The language is package carrier/chat's.
package chat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/chat"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/pty"
)

// Command is `bodkin chat`, on the process's standard input and output. It catches
// SIGINT, SIGTERM and SIGHUP itself, and goes by them and not by its context: after
// HANGUP OFF the last is to be borne, and a context that it has ended cannot be.
func Command() *cobra.Command {
	var w wish
	cmd := &cobra.Command{
		Use:   "chat [options] {-f FILE | EXPECT SEND EXPECT SEND ...}",
		Short: "Type and wait on standard input and output, as chat(8) does",
		Long: `Follow a script in the language of chat(8) on standard input and output: wait for
what is expected, type what is to be sent, and leave to the next program what comes
after the last that was waited for, to the octet. It takes chat's place in pppd's
connect option, and its scripts unchanged.

Beyond chat's language there are three keywords, in the place of an expect:

  MATCH 'RE'       wait for a regular expression (RE2 syntax, without $ and \b)
  REPLY 'WORD'     send; {0} is what MATCH found, {1} to {9} are its groups
  ASK 'QUESTION'   send the answer of --askpass to a question, such as {0}

What is typed from a file (@FILE), from the environment (-E) or by ASK is in no log.
Keep secrets there: words of a command line can be seen by everybody on the machine.

A terminal on standard input is raw meanwhile, and as it was in the end.

Exit status: 0; 1 for a script that cannot be, or octets that are not taken; 2 for a
signal and other trouble; 3 if what was expected did not come; 4 for the first string
of ABORT, 5 for the second, and so on.`,
		Example: `  pppd /dev/ttyS0 connect "bodkin chat -f /etc/ppp/dial" ...
  bodkin chat -t 60 ogin:--ogin: me word: @/etc/ppp/secret '$ ' 'exec pppd'
  bodkin chat --askpass otp-helper MATCH 'otp-md5 \d+ \S+' ASK '{0}'`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return w.run(args, cmd.ErrOrStderr()) },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return report.WithHint(&codedError{err, 1}, "see `bodkin help chat`")
	})
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the first word is the script
	f.StringVarP(&w.file, "file", "f", "", "read the script from `FILE`")
	f.StringVarP(&w.timeout, "timeout", "t", "", "wait so many `SECONDS` for what is expected (default 45)")
	f.StringVarP(&w.reportFile, "report", "r", "", "append the lines of REPORT to `FILE` (default: standard error)")
	f.BoolVarP(&w.echo, "echo", "e", false, "begin with ECHO ON: what comes goes to standard error")
	f.BoolVarP(&w.env, "env", "E", false, "put environment variables in the place of $NAME")
	f.BoolVarP(&w.verbose, "verbose", "v", false, "put each step into the system's log")
	f.BoolVarP(&w.show, "show", "V", false, "show all that comes on standard error")
	f.BoolVarP(&w.stderr, "stderr", "s", false, "what goes to the log goes to standard error, too")
	f.BoolVarP(&w.noSyslog, "no-syslog", "S", false, "nothing goes to the system's log")
	f.StringVarP(&w.phone1, "phone", "T", "", "a `NUMBER` for \\T")
	f.StringVarP(&w.phone2, "phone2", "U", "", "a `NUMBER` for \\U")
	f.StringVar(&w.askpass, "askpass", "", "the `PROGRAM` that answers ASK: the question is its only argument, the first line\nit prints the answer (default: $SSH_ASKPASS)")
	f.DurationVar(&w.typeDelay, "type-delay", 0, "a pause before each octet that is typed; chat(8) has 10ms")
	cmd.MarkFlagFilename("file")
	cmd.MarkFlagFilename("report")
	return cmd
}

// A wish is what is wanted of `bodkin chat`.
type wish struct {
	file, timeout, reportFile, phone1, phone2, askpass string
	echo, env, verbose, show, stderr, noSyslog         bool
	typeDelay                                          time.Duration
}

// A codedError is an error with chat(8)'s exit code.
type codedError struct {
	err  error
	code int
}

func (e *codedError) Error() string   { return e.err.Error() }
func (e *codedError) Unwrap() error   { return e.err }
func (e *codedError) ExitStatus() int { return e.code }

// maxScriptFile is how much of a file is read, in octets: more than a script may have.
const maxScriptFile = 1<<20 + 1

// script returns the script that is wanted.
func (w *wish) script(words []string) (*chat.Script, error) {
	if w.file == "" {
		return chat.ParseWords(words)
	}
	if len(words) > 0 {
		return nil, errors.New("chat: a script is in a file or in the words that follow, not both")
	}
	f, err := os.Open(w.file)
	if err != nil {
		return nil, fmt.Errorf("chat: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxScriptFile))
	if err != nil {
		return nil, fmt.Errorf("chat: %w", err)
	}
	return chat.Parse(string(text))
}

// run follows the script.
func (w *wish) run(words []string, errw io.Writer) (err error) {
	var hangUpsBorne atomic.Bool
	ctx, stop := signals(&hangUpsBorne)
	defer stop()
	o := chat.Options{
		TypeDelay: w.typeDelay, Phone1: w.phone1, Phone2: w.phone2,
		Echo: errw, EchoOn: w.echo, Say: errw, Report: errw,
		HangUp: func(ends bool) { hangUpsBorne.Store(!ends) },
		Answer: w.answer,
	}
	if w.env {
		o.Env = os.LookupEnv
	}
	if w.show {
		o.Verbose = errw
	}
	if o.Timeout, err = seconds(w.timeout); err != nil {
		return &codedError{err, 1}
	}
	if w.reportFile != "" {
		f, err := os.OpenFile(w.reportFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			return &codedError{fmt.Errorf("chat: %w", err), 1}
		}
		defer f.Close()
		o.Report = f
	}
	system := func(string, bool) {}
	if !w.noSyslog {
		var closeLog func()
		system, closeLog = openLog()
		defer closeLog()
	}
	if w.verbose {
		o.Log = func(line string) {
			system(line, false)
			if w.stderr {
				fmt.Fprintln(errw, line)
			}
		}
	}
	if err := w.follow(ctx, words, o); err != nil {
		system(carrier.Printable(err.Error()), true)
		var coded *codedError
		if errors.As(err, &coded) {
			return err
		}
		return &codedError{err, chat.ExitCode(err)}
	}
	return nil
}

// follow runs the script on standard input and output, a terminal there being raw.
func (w *wish) follow(ctx context.Context, words []string, o chat.Options) (err error) {
	script, err := w.script(words)
	if err != nil {
		return &codedError{err, 1}
	}
	if pty.IsTerminal(os.Stdin) {
		restore, rawErr := pty.Raw(os.Stdin)
		if rawErr != nil {
			return rawErr
		}
		defer func() { err = errors.Join(err, restore()) }()
	}
	line, err := openLine(os.Stdin, os.Stdout)
	if err != nil {
		return fmt.Errorf("chat: %w", err)
	}
	st, err := script.Run(ctx, carrier.Stream{ReadWriteCloser: line}, o)
	if err != nil {
		return err
	}
	return st.Close()
}

// seconds reads the value of -t, as atoi(3) reads it: 0 and less are the default.
func seconds(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n > 1<<30 {
		return 0, fmt.Errorf("chat: -t %q is no number of seconds", text)
	}
	return time.Duration(max(n, 0)) * time.Second, nil
}

// signals returns a context that a signal ends, unless it is a hang-up that is borne.
func signals(hangUpsBorne *atomic.Bool) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	caught := make(chan os.Signal, 3) // one of each
	signal.Notify(caught, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range caught {
			if s != syscall.SIGHUP || !hangUpsBorne.Load() {
				cancel(fmt.Errorf("chat: %v", s))
			}
		}
	}()
	return ctx, func() {
		signal.Stop(caught)
		close(caught)
		<-done
		cancel(nil)
	}
}
