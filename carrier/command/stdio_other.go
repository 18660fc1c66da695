//go:build !linux

package command

import (
	"os"

	"github.com/bodkin-net/bodkin/carrier"
)

type stdio struct{ *duplex }

// Stdio makes a Stream of our standard input and output.
func Stdio() (carrier.Stream, error) {
	d, err := newDuplex(os.Stdin, os.Stdout)
	return carrier.Stream{ReadWriteCloser: &stdio{d}}, err
}

// CloseWrite ends our standard output, and leaves the input open: it is a
// carrier.CloseWriter's.
func (s *stdio) CloseWrite() error { return s.plain(s.out.Close()) }

// Close closes both.
func (s *stdio) Close() error {
	s.duplex.close()
	return nil
}
