//go:build unix && !linux

package chat

import "errors"

func sendBreak(int) error { return errors.ErrUnsupported }
