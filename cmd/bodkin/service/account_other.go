//go:build !unix

package service

import "io/fs"

// othersMayWrite is never asked: there is no systemd here.
func othersMayWrite(fs.FileInfo) (who string, others bool) { return "", false }
