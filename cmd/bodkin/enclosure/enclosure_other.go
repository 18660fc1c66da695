//go:build !linux

package enclosure

import (
	"context"
	"errors"
	"os"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

// An Enclosure is a command's namespaces, which only Linux has.
type Enclosure struct{}

var errUnsupported = report.At(report.Privilege, errors.New("enclosure: only Linux has network namespaces"),
	"`bodkin up --near socks` needs none")

// New makes nothing.
func New(Config) (*Enclosure, error) { return nil, errUnsupported }

func (e *Enclosure) Device() (*os.File, string)       { return nil, "" }
func (e *Enclosure) Notes() []string                  { return nil }
func (e *Enclosure) Gone() <-chan struct{}            { return nil }
func (e *Enclosure) Set(Settings) error               { return errUnsupported }
func (e *Enclosure) Run(context.Context) (int, error) { return 0, errUnsupported }
func (e *Enclosure) Close() error                     { return nil }

// Serve serves nobody.
func Serve([]string) error { return errUnsupported }
