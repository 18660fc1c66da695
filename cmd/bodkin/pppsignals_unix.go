//go:build unix

package main

import (
	"os"
	"syscall"
)

// pppSignals turn debug on and off.
var pppSignals = []os.Signal{syscall.SIGUSR1}
