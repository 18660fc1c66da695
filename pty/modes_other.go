//go:build !linux && !darwin

package pty

import "os"

func setRaw(*os.File) (func() error, error)     { return nil, errUnsupported }
func isTerminal(*os.File) bool                  { return false }
func foreground(*os.File) bool                  { return false }
func copySize(*os.File, *os.File) error         { return errUnsupported }
func held(*os.File) bool                        { return false }
func unread(*os.File) bool                      { return false }
func unblocked(file *os.File) (*os.File, error) { return nil, errUnsupported }
