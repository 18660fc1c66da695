//go:build !linux

package trust

// notify tells nothing here: the file is found changed when it is read again.
func notify(dir, name string) (events <-chan struct{}, stop func()) { return nil, func() {} }
