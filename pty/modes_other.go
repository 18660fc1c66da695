//go:build !linux && !darwin

package pty

import (
	"errors"
	"os"
)

// errUnsupported is what a system without terminals of this kind answers.
var errUnsupported = errors.New("this system has no pseudo-terminals that bodkin knows")

func setRaw(*os.File) (func() error, error)     { return nil, errUnsupported }
func isTerminal(*os.File) bool                  { return false }
func foreground(*os.File) bool                  { return false }
func copySize(*os.File, *os.File) error         { return errUnsupported }
func held(*os.File) bool                        { return false }
func unread(*os.File) bool                      { return false }
func unblocked(file *os.File) (*os.File, error) { return nil, errUnsupported }
