//go:build !unix

package main

import (
	"context"
	"errors"
	"io"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

// detach is for systems with sessions and terminals.
func detach(context.Context, io.Writer, func(context.Context, func()) error) error {
	return report.Usage(errors.New("--detach does not work on this system yet"))
}
