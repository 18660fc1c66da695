//go:build unix

package standin

import (
	"os"
	"syscall"
)

// pppSignals turn debug on and off.
var pppSignals = []os.Signal{syscall.SIGUSR1}
