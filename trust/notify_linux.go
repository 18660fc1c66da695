package trust

import (
	"bytes"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// notify tells when something happened to the file of that name in the directory, as
// the system says (inotify(7)). Several events may come as one. stop ends it, and waits.
// Where the system has no more to watch with, the channel is nil.
func notify(dir, name string) (events <-chan struct{}, stop func()) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, func() {}
	}
	f := os.NewFile(uintptr(fd), "inotify")
	const what = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_CLOSE_WRITE |
		unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE
	if _, err := unix.InotifyAddWatch(fd, dir, what); err != nil {
		f.Close()
		return nil, func() {}
	}
	c := make(chan struct{}, 1) // one event that was not seen is as good as many
	done := make(chan struct{})
	go func() {
		defer close(done)
		var buf [4096]byte // some fifty events of short names; the longest takes 272
		for {
			n, err := f.Read(buf[:])
			if err != nil {
				return
			}
			if !names(buf[:n], name) {
				continue
			}
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}()
	return c, func() {
		f.Close() // wakes Read
		<-done
	}
}

// names reports whether one of the events is of that name, or of none, as when events
// were lost. Each is a head of 16 octets, the last four the length of what follows: a
// name with zeros to its end.
func names(events []byte, name string) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		length := uint64(binary.NativeEndian.Uint32(events[12:]))
		events = events[unix.SizeofInotifyEvent:]
		if length > uint64(len(events)) {
			return true
		}
		of := string(bytes.TrimRight(events[:length], "\x00"))
		if of == "" || of == name {
			return true
		}
		events = events[length:]
	}
	return false
}
