//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: error: the measurements are made in network namespaces, which only Linux has")
	os.Exit(1)
}
