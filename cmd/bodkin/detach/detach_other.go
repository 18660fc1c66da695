//go:build !unix

package detach

import (
	"context"
	"errors"
	"io"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

// Run is for systems with sessions and terminals.
func Run(context.Context, io.Writer, func(context.Context, func()) error) error {
	return report.Usage(errors.New("--detach does not work on this system yet"))
}
