//go:build !unix

package standin

import "os"

// pppSignals: there are none here.
var pppSignals []os.Signal
