//go:build !linux

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/host"
)

// A privileged is the near end of the host helper, which only Linux has so far.
type privileged struct{ how string }

var (
	errHelperGone  = errors.New("the host helper is gone")
	errBusy        = errors.New("busy")
	errSplit       = errors.New("split")
	errUnsupported = errors.New("bodkin up works on Linux only so far")
)

func startPrivileged(io.Writer) (*privileged, error) {
	return nil, report.At(report.Privilege, errUnsupported, "run it on Linux")
}

func (p *privileged) Hello(context.Context) ([]string, error)       { return nil, errUnsupported }
func (p *privileged) Control(string, string, syscall.RawConn) error { return errUnsupported }
func (p *privileged) Device(string) (*os.File, string, error)       { return nil, "", errUnsupported }
func (p *privileged) Set(host.Wish) ([]string, error)               { return nil, errUnsupported }
func (p *privileged) Look() []string                                { return nil }
func (p *privileged) Gone() <-chan struct{}                         { return nil }
func (p *privileged) Undo() ([]string, error)                       { return nil, errUnsupported }
func (p *privileged) Close() error                                  { return nil }

func runHelper() error   { return errUnsupported }
func journalDir() string { return "" }

// giveUpRoot has nothing to give up where nothing needs root.
func giveUpRoot() (string, error) { return "", nil }

// hasNetAdmin reports that the network is not ours to change.
func hasNetAdmin() bool { return false }
