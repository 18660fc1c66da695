//go:build !unix

package private

import "io/fs"

// owned trusts the system's own rights where there are no user ids.
func owned(fs.FileInfo, int) bool { return true }
