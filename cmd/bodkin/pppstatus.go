package main

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
	pppFatal       = 1
	pppNotRoot     = 3
	pppNoDevice    = 4
	pppUserRequest = 5
	pppOpenFailed  = 7
	pppConnect     = 8
	pppPTY         = 9
	pppNegotiation = 10
	pppPeerRefused = 11
	pppIdle        = 12
	pppMaxConnect  = 13
	pppEchoLost    = 15
	pppHangup      = 16
	pppLoop        = 17
	pppInit        = 18
	pppOurSecret   = 19
)

// A pppError is an error with pppd's exit status for it.
type pppError struct {
	status int
	err    error
	hint   string
}

func (e *pppError) Error() string { return e.err.Error() }

// ExitStatus is what the program ends with.
func (e *pppError) ExitStatus() int { return e.status }

// Unwrap gives what failed, and the command's voice the hint to print.
func (e *pppError) Unwrap() []error {
	return []error{e.err, report.WithHint(e.err, e.hint)}
}

func pppFailed(status int, hint string, err error) error {
	return &pppError{status: status, err: err, hint: hint}
}

// pppSilent is the end of a link that is no failure, and has been said.
func pppSilent(status int, reason string) error {
	return report.Silent(&pppError{status: status, err: errors.New(reason)})
}

// A pppSignal is the signal that ended a link.
type pppSignal struct{ os.Signal }

func (s pppSignal) Error() string {
	if n, ok := s.Signal.(syscall.Signal); ok {
		return fmt.Sprintf("Terminating on signal %d", int(n))
	}
	return "Terminating on " + s.String()
}

// errPPPHangup is SIGHUP: end this link, and with persist dial again.
var errPPPHangup = errors.New("hangup (SIGHUP)")

// linkStatus finds the exit status of the end of a link, nil for one in order. up
// says whether packets could pass before; words is what a command on the line said
// last.
func linkStatus(ctx context.Context, err error, up bool, words string) error {
	if cause := context.Cause(ctx); cause != nil {
		return pppSilent(pppUserRequest, cause.Error())
	}
	var ended *command.ExitError
	if errors.As(err, &ended) && !up && (ended.Status == 126 || ended.Status == 127) {
		return pppFailed(pppPTY, "", withWords(err, words))
	}
	var failed *ppp.Error
	if !errors.As(err, &failed) {
		return pppFailed(pppFatal, "", err)
	}
	switch failed.Kind {
	case ppp.Negotiation:
		return pppFailed(pppNegotiation, "debug shows what both sides want", err)
	case ppp.PeerRefused:
		return pppFailed(pppPeerRefused, "", err)
	case ppp.OurSecret:
		return pppFailed(pppOurSecret, "see /etc/ppp/chap-secrets and pap-secrets, or give user, and password in a file", err)
	case ppp.EchoLost:
		return pppFailed(pppEchoLost, "", err)
	case ppp.Hangup:
		return pppFailed(pppHangup, "", withWords(err, words))
	case ppp.Loop:
		return pppFailed(pppLoop, "is it a shell that echoes? connect can start what speaks PPP there", err)
	case ppp.PeerTerminated:
		if up {
			return nil
		}
		return pppFailed(pppNegotiation, "", err)
	}
	return pppFailed(pppFatal, "", err)
}

// withWords puts behind an error what a program said last.
func withWords(err error, words string) error {
	if words == "" {
		return err
	}
	return fmt.Errorf("%w; it said: %s", err, carrier.Printable(words))
}
