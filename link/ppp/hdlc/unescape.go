package hdlc

import "bytes"

// unescape takes the escapes out of raw, in place, and what the path put in. It
// reports whether raw ends in the middle of an escape.
func (d *Decoder) unescape(raw []byte) (frame []byte, aborted bool) {
	if d.dropped > 0 {
		return unescapeDense(raw, &d.kinds)
	}
	return unescapeSparse(raw)
}

// unescapeDense is unescape by table. It does the same work for each octet and
// has no branch to mispredict.
func unescapeDense(raw []byte, kinds *[256]uint8) (frame []byte, aborted bool) {
	n := 0
	escaped := uint8(0)
	for _, c := range raw {
		kind := kinds[c]
		drop := kind >> 1
		escape := kind &^ escaped & kindEscape
		raw[n] = c ^ escaped<<5
		n += int(1 - drop - escape)
		escaped = escape | escaped&drop
	}
	return raw[:n], escaped != 0
}

// unescapeSparse is unescape where nothing is dropped: what lies between two
// escapes moves as a whole.
func unescapeSparse(raw []byte) (frame []byte, aborted bool) {
	n := bytes.IndexByte(raw, Escape)
	if n < 0 {
		return raw, false
	}
	for at := n; ; {
		// raw[at] is an escape.
		if at+1 == len(raw) {
			return raw[:n], true
		}
		raw[n] = raw[at+1] ^ flip
		n++
		from := at + 2
		at = index(raw, from, Escape)
		n += copy(raw[n:], raw[from:at])
		if at == len(raw) {
			return raw[:n], false
		}
	}
}
