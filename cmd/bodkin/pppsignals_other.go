//go:build !unix

package main

import "os"

// pppSignals: there are none here.
var pppSignals []os.Signal
