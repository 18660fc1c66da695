// Package report is how a command of bodkin's ends: an error with the layer that
// failed, the next thing to try, and the exit status.
//
// Whoever finds an error says what it knows of it by At, WithHint, Usage or Silent;
// the rest of the way up it is an ordinary error. Execute runs a tree of commands,
// and prints what became of it, once, in one form:
//
//	bodkin: error: ssh: the key is wrong
//	bodkin: hint: try another
//
// It knows nothing of any command.
package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/config"
)

// Exit statuses besides those of the layers.
const (
	StatusFailed = 1
	StatusUsage  = 2
)

// Execute runs the command of root's tree that args name, says on root's standard
// error what became of it, and returns the exit status.
func Execute(ctx context.Context, root *cobra.Command, args []string) int {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage(err) })
	root.Args = usage(root.Args)
	for _, c := range root.Commands() {
		c.Args = usage(c.Args)
	}
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil {
		Say(root.ErrOrStderr(), err)
	}
	return Status(err)
}

// usage makes what cobra says of wrong arguments a usageError.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		if err := check(cmd, args); err != nil {
			return Usage(err)
		}
		return nil
	}
}

// Say prints an error, its layer, and the next thing to try, unless it is silent.
// Nothing of it reaches a terminal raw.
func Say(w io.Writer, err error) {
	if Said(err) {
		return // where it happened
	}
	text := carrier.Printable(err.Error())
	var l *layerError
	hint := ""
	if errors.As(err, &l) {
		hint = l.hint
		if !strings.HasPrefix(text, l.layer.Name+":") {
			text = l.layer.Name + ": " + text
		}
	}
	var refused *carrier.RefusedError
	if hint == "" && errors.As(err, &refused) {
		hint = refused.Hint
	}
	var hangUp *carrier.HangUpError
	if hint == "" && errors.As(err, &hangUp) {
		hint = hangUp.Hint
	}
	var silence *carrier.SilenceError
	if hint == "" && errors.As(err, &silence) {
		hint = silence.Hint
	}
	var unreached *carrier.UnreachedError
	if hint == "" && errors.As(err, &unreached) {
		hint = unreached.Hint
	}
	var c *config.Error
	if hint == "" && errors.As(err, &c) {
		hint = c.Hint
	}
	var h *hintedError
	if hint == "" && errors.As(err, &h) {
		hint = h.hint
	}
	var u usageError
	if hint == "" && errors.As(err, &u) {
		hint = "see `bodkin help`"
	}
	fmt.Fprintf(w, "bodkin: error: %s\n", text)
	if hint != "" {
		fmt.Fprintf(w, "bodkin: hint: %s\n", hint)
	}
}

// Status is what the program exits with after err; 0 if that is nil. An error with a
// method ExitStatus() int has that of the program in whose place we stand.
func Status(err error) int {
	var l *layerError
	var u usageError
	var c *config.Error
	var own interface{ ExitStatus() int }
	switch {
	case err == nil:
		return 0
	case errors.As(err, &own):
		return own.ExitStatus()
	case errors.As(err, &l):
		return l.layer.Status
	case errors.As(err, &u), errors.As(err, &c):
		return StatusUsage
	}
	return StatusFailed
}

// A usageError is a call that cannot be understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage makes err that of a call which cannot be understood.
func Usage(err error) error { return usageError{err} }

// A hintedError is an error of no layer with the next thing to try.
type hintedError struct {
	error
	hint string
}

func (e *hintedError) Unwrap() error { return e.error }

// WithHint gives err, of no layer, the next thing to try.
func WithHint(err error, hint string) error { return &hintedError{err, hint} }

// A silentError carries an exit status for an error already said.
type silentError struct{ err error }

func (e *silentError) Error() string { return e.err.Error() }
func (e *silentError) Unwrap() error { return e.err }

// Silent makes err one that has been said where it happened: only its exit status
// counts.
func Silent(err error) error { return &silentError{err} }

// Said reports whether err is silent.
func Said(err error) bool {
	var silent *silentError
	return errors.As(err, &silent)
}
