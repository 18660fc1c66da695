//go:build !linux

package story

import (
	"context"
	"errors"
	"io"
)

// Demo needs Linux.
func Demo(context.Context, io.Writer, string) error {
	return errors.New("story: the demonstration is made of network namespaces, which only Linux has")
}
