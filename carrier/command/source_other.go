//go:build !linux

package command

import "os"

// A source reads from a file.
type source struct{ *os.File }

func newSource(file *os.File) (*source, error) { return &source{file}, nil }
