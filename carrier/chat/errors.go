package chat

import (
	"errors"
	"fmt"

	"github.com/bodkin-net/bodkin/carrier"
)

// ExitCode returns what chat(8) would exit with after err, which Parse, ParseWords or
// Run returned: 0 for none; 1 for a script that cannot be, or what is typed not being
// taken; 3 if what was expected did not come, in time or at all; 4 and the number of
// the string for an ABORT; 2 for anything else, such as the end of ctx.
func ExitCode(err error) int {
	var abort *AbortError
	var coded *codedError
	var syntax *SyntaxError
	var silence *carrier.SilenceError
	var hangUp *carrier.HangUpError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &abort):
		return codeAbort + abort.Index
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &syntax):
		return codeScript
	case errors.As(err, &silence), errors.As(err, &hangUp):
		return codeSilence
	}
	return codeFatal
}

// Exit codes of chat(8).
const (
	codeScript  = 1
	codeFatal   = 2
	codeSilence = 3
	codeAbort   = 4 // and the string's number
)

// An AbortError says that a string of ABORT came.
type AbortError struct {
	Index int    // which of those in force, from 0
	Text  string // the string, visibly
}

func (e *AbortError) Error() string { return fmt.Sprintf("chat: the peer said %q (ABORT)", e.Text) }

// A SyntaxError says what is wrong with a script.
type SyntaxError struct {
	Line   int // of a script's text, from 1; 0 for words
	Reason string
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return "chat: " + e.Reason
	}
	return fmt.Sprintf("chat: line %d: %s", e.Line, e.Reason)
}

// A codedError is one that has an exit code of its own.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return "chat: " + e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }
