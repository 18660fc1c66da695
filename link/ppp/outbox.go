package ppp

import (
	"sync"

	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
)

// maxOutbox is how many octets of control frames may wait to be written: more than
// any exchange has under way at once, a few packets of an MRU of 16 KiB included.
// A peer that asks without reading loses the answers.
const maxOutbox = 64 << 10

// An outbox holds the control frames that are still to be written, encoded as was
// right when they were sent.
type outbox struct {
	mu     sync.Mutex
	frames []byte
}

// add appends a frame. It reports false when there is no room.
func (o *outbox) add(f *hdlc.Format, protocol uint16, b []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.frames) > 0 && len(o.frames)+2*len(b) > maxOutbox {
		return false
	}
	o.frames = f.Append(o.frames, protocol, b)
	return true
}

// appendTo moves all frames to the end of dst.
func (o *outbox) appendTo(dst []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	dst = append(dst, o.frames...)
	o.frames = o.frames[:0]
	return dst
}
