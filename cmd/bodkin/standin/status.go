package standin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/link/ppp"
)

// pppd's exit statuses (pppd(8), EXIT STATUS). 2, for options, is report.StatusUsage; 4,
// no PPP in the kernel, is a missing /dev/net/tun here; 6, a locked port, and 14,
// callback, cannot happen.
const (
	statusFatal       = 1
	statusNotRoot     = 3
	statusNoDevice    = 4
	statusUserRequest = 5
	statusOpenFailed  = 7
	statusConnect     = 8
	statusPTY         = 9
	statusNegotiation = 10
	statusPeerRefused = 11
	statusIdle        = 12
	statusMaxConnect  = 13
	statusEchoLost    = 15
	statusHangup      = 16
	statusLoop        = 17
	statusInit        = 18
	statusOurSecret   = 19
)

// A statusError is an error with pppd's exit status for it.
type statusError struct {
	status int
	err    error
	hint   string
}

func (e *statusError) Error() string { return e.err.Error() }

// ExitStatus is what the program ends with.
func (e *statusError) ExitStatus() int { return e.status }

// Unwrap gives what failed, and package report the hint to print.
func (e *statusError) Unwrap() []error {
	return []error{e.err, report.WithHint(e.err, e.hint)}
}

func failedAs(status int, hint string, err error) error {
	return &statusError{status: status, err: err, hint: hint}
}

// endedAs is the end of a link that is no failure, and has been said.
func endedAs(status int, reason string) error {
	return report.Silent(&statusError{status: status, err: errors.New(reason)})
}

// A signalled is the signal that ended a link.
type signalled struct{ os.Signal }

func (s signalled) Error() string {
	if n, ok := s.Signal.(syscall.Signal); ok {
		return fmt.Sprintf("Terminating on signal %d", int(n))
	}
	return "Terminating on " + s.String()
}

// errHangup is SIGHUP: end this link, and with persist dial again.
var errHangup = errors.New("hangup (SIGHUP)")

// linkStatus finds the exit status of the end of a link, nil for one in order. up
// says whether packets could pass before; words is what a command on the line said
// last.
func linkStatus(ctx context.Context, err error, up bool, words string) error {
	if cause := context.Cause(ctx); cause != nil {
		return endedAs(statusUserRequest, cause.Error())
	}
	var ended *command.ExitError
	if errors.As(err, &ended) && !up && (ended.Status == 126 || ended.Status == 127) {
		return failedAs(statusPTY, "", withWords(err, words))
	}
	var failed *ppp.Error
	if !errors.As(err, &failed) {
		return failedAs(statusFatal, "", err)
	}
	switch failed.Kind {
	case ppp.Negotiation:
		return failedAs(statusNegotiation, "debug shows what both sides want", err)
	case ppp.PeerRefused:
		return failedAs(statusPeerRefused, "", err)
	case ppp.OurSecret:
		return failedAs(statusOurSecret, "see /etc/ppp/chap-secrets and pap-secrets, or give user, and password in a file", err)
	case ppp.EchoLost:
		return failedAs(statusEchoLost, "", err)
	case ppp.Hangup:
		return failedAs(statusHangup, "", withWords(err, words))
	case ppp.Loop:
		return failedAs(statusLoop, "is it a shell that echoes? connect can start what speaks PPP there", err)
	case ppp.PeerTerminated:
		if up {
			return nil
		}
		return failedAs(statusNegotiation, "", err)
	}
	return failedAs(statusFatal, "", err)
}

// withWords puts behind an error what a program said last.
func withWords(err error, words string) error {
	if words == "" {
		return err
	}
	return fmt.Errorf("%w; it said: %s", err, carrier.Printable(words))
}
