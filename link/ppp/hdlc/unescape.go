package hdlc

// A kind says what a Decoder does with an octet, unless it is a flag.
type kind uint8

const (
	kindKeep   kind = 0
	kindEscape kind = 1
	kindDrop   kind = 2
)

// unescape takes the escapes out of raw, in place, and what the path put in. It
// reports whether raw ends with an escape and nothing after it.
func (d *Decoder) unescape(raw []byte) (frame []byte, aborted bool) {
	if d.dropping {
		return unescapeDense(raw, &d.kinds)
	}
	return unescapeSparse(raw, &d.kinds)
}

// unescapeDense is unescape by table. It does the same work for each octet and
// has no branch that a processor could guess wrong.
func unescapeDense(raw []byte, kinds *[256]kind) (frame []byte, aborted bool) {
	n := uint(0)
	escaped := uint(0) // 1 if the octet before was an escape
	for _, c := range raw {
		kind := uint(kinds[c])
		drop := kind >> 1
		escape := kind &^ escaped & 1
		raw[n] = c ^ byte(escaped*flip)
		n += 1 ^ (escape | drop)
		escaped = escape | escaped&drop // what is dropped comes between nothing
	}
	return raw[:n], escaped != 0
}

// unescapeSparse is unescape where nothing is dropped: what lies between two
// escapes moves as a whole, unless they turn out to be crowded.
func unescapeSparse(raw []byte, kinds *[256]kind) (frame []byte, aborted bool) {
	at := index(raw, 0, Escape)
	n := at
	for found := 0; at < len(raw); found++ {
		if crowded(found, at) {
			rest, aborted := unescapeDense(raw[at:], kinds)
			return raw[:n+copy(raw[n:], rest)], aborted
		}
		if at+1 == len(raw) {
			return raw[:n], true
		}
		raw[n] = raw[at+1] ^ flip
		n++
		from := at + 2
		at = index(raw, from, Escape)
		n += copy(raw[n:], raw[from:at])
	}
	return raw[:n], false
}
