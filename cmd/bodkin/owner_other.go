//go:build !unix

package main

import "io/fs"

// ownedByUs trusts the system's own rights where there are no user ids.
func ownedByUs(fs.FileInfo) bool { return true }
