// Package chat speaks with whatever stands at the far end of a connection before the
// connection is ours: a modem, a login, a telnet proxy. It types lines and waits for
// answers, and hands the Stream on, whole from the octet on that follows the last
// answer.
//
// There are three ways to say what to type. Run follows a script in the language of
// chat(8), the program of the ppp package, and of uucico before it; the 2.4.9 of that
// program is the reference where its manual is silent. Login and Proxy need no script:
// they know what a host and a telnet proxy print when they want a name, a password, a
// place to connect to.
//
//	parse.go       a script's text -> its words, in pairs
//	escape.go      what a word of it says
//	run.go         the pairs, one after the other
//	expect.go      waiting: the expected, ABORT, REPORT
//	regexp.go      a regular expression, octet by octet
//	file.go        @file
//	log.go         the log, without secrets
//	errors.go      exit codes
//
//	login.go       a host's dialogue, until its shell's prompt
//	proxy.go       a telnet proxy's, until it is connected
//	prompts.go     what they print
//	talk.go        what both have in common
//	screen.go      what a terminal would show
//
//	tap.go         reading and writing with a limit of time
//
// Time decides nothing but when to give up, and when a question for a secret stands:
// there is no other pause here but those that a script asks for.
package chat

import (
	"context"
	"io"
	"time"
)

// Options is what a script is run with. The zero value is ready for use.
type Options struct {
	// Timeout is how long an expect waits, and how long what is typed may take to be
	// taken. Zero is 45 s, as in chat(8). TIMEOUT in the script changes it.
	Timeout time.Duration

	// TypeDelay is a pause before each octet, for old line editors that lose what is
	// typed faster. chat(8) waits 10 ms.
	TypeDelay time.Duration

	Phone1, Phone2 string // for \T and \U

	// Env looks up $NAME. Nil leaves the dollar as it is.
	Env func(name string) (value string, set bool)

	// ReadFile reads the file that @name names. Nil reads it from the system: up to
	// 1023 octets, waiting where it is a pipe.
	ReadFile func(name string) ([]byte, error)

	// Answer answers a question of ASK: the text that a MATCH found, for example, which
	// is printable. Its answer is typed, and hidden from the log.
	Answer func(ctx context.Context, question string) (string, error)

	// HangUp learns what HANGUP says: whether a hang-up ends the script from now on.
	// What a hang-up is, beyond the end of the Stream, its caller knows.
	HangUp func(ends bool)

	Echo    io.Writer // gets all that comes, visibly, while ECHO is ON; may be nil
	EchoOn  bool      // ECHO is ON from the beginning
	Verbose io.Writer // gets all that comes, visibly; may be nil
	Say     io.Writer // gets the text of SAY; may be nil
	Report  io.Writer // gets the lines of REPORT; may be nil

	// Log gets a line for each step and for each line that came, visible characters
	// only. Secrets are not in it: what is typed from a file, from the environment, by
	// ASK, or with \q, nor its echo.
	Log func(line string)
}

// DefaultTimeout is chat(8)'s.
const DefaultTimeout = 45 * time.Second

// Limits of chat(8)'s, whose scripts we take.
const (
	maxExpect  = 1024 // octets of an expected string
	maxAbort   = 49   // octets of a string of ABORT, REPORT and their CLR_
	maxAborts  = 50   // strings of ABORT at a time, and of REPORT
	maxFile    = 1023 // octets of an @file
	reportSize = 255  // octets of a line for REPORT; chat(8) writes past its 256
)

// Limits of ours.
const (
	// window is how much of what came is kept, in octets: what a regular expression may
	// match, and an error may show. An expected string is shorter.
	window = 4 << 10

	// maxScript is how long a script may be, in octets: a hundred times the longest
	// that ever was useful.
	maxScript = 1 << 20

	// maxCapture is how much of a match is used again, in octets.
	maxCapture = 1024
)
