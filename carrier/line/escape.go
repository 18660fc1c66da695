package line

import (
	"encoding/binary"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	// escapeOctet is first of the two that an unsafe octet becomes.
	escapeOctet = endMark

	// mostEscaped octets have a code, one of the alphabet each. With that many, 256
	// octets become 320: the efficiency is 80 %.
	mostEscaped = len(alphabet)
)

// escaped returns how many octets are escaped where those in set are unsafe: the
// octet that begins a code is escaped itself.
func escaped(set carrier.ByteSet) int {
	set.Add(escapeOctet)
	return size(set)
}

// An escaper makes the k-th of the unsafe octets, counted upwards from 0 with
// escapeOctet among them, escapeOctet and the k-th of the alphabet.
//
// An entry holds what is sent, first octet lowest, and from bit 16 how many octets
// that is.
type escaper [256]uint32

func newEscaper(unsafe carrier.ByteSet) *escaper {
	unsafe.Add(escapeOctet)
	var e escaper
	k := 0
	for v := range e {
		if e[v] = uint32(v) | 1<<16; unsafe.Has(byte(v)) {
			e[v] = escapeOctet | uint32(alphabet[k])<<8 | 2<<16
			k++
		}
	}
	return &e
}

// encode encodes octets of src into dst as long as there is room for two, and
// returns how many it wrote and read.
func (e *escaper) encode(dst, src []byte) (written, read int) {
	for written+2 <= len(dst) && read < len(src) {
		// As many steps as there is room for whatever comes.
		n := min((len(dst)-written)/2, len(src)-read)
		for _, b := range src[read : read+n] {
			entry := e[b]
			binary.LittleEndian.PutUint16(dst[written:], uint16(entry))
			written += int(entry >> 16)
		}
		read += n
	}
	return written, read
}

func (*escaper) end([]byte) int { return 0 }

// An unescaper is the way back. The index of an entry is an octet, plus 256 after
// escapeOctet. An entry is the octet that this makes; bit 8 says that it makes one.
//
// What was sent before is known from the octet before alone, but for one case, so
// that no step waits for the table of another.
type unescaper struct {
	table [512]uint16
	last  byte // escapeOctet: a code has begun
}

const (
	oneOctet = 1 << 8
	inserted = 1 << 9  // into a code, which goes on
	damaged  = 1 << 10 // cannot be
)

// afterEscape is 256 after escapeOctet: a table is quicker than a branch that cannot
// be foretold.
var afterEscape = [256]uint16{escapeOctet: 256}

func newUnescaper(unsafe carrier.ByteSet) *unescaper {
	d := new(unescaper)
	for v := range 256 {
		switch {
		case v == escapeOctet:
			d.table[256+v] = damaged
		case unsafe.Has(byte(v)): // never sent: the way put it in
			d.table[256+v] = inserted
		default:
			d.table[v] = uint16(v) | oneOctet
			d.table[256+v] = damaged
		}
	}
	unsafe.Add(escapeOctet)
	k := 0
	for v := range 256 {
		if unsafe.Has(byte(v)) {
			d.table[256+int(alphabet[k])] = uint16(v) | oneOctet
			k++
		}
	}
	return d
}

// decode decodes octets of src into dst, and returns how many it wrote and read. If
// it reports damage, src[read] is the octet that cannot be.
func (d *unescaper) decode(dst, src []byte) (written, read int, ok bool) {
	for read < len(src) && written < len(dst) {
		last := d.last
		n := min(len(dst)-written, len(src)-read)
		for i, b := range src[read : read+n] {
			entry := d.table[afterEscape[last]|uint16(b)]
			if entry&(inserted|damaged) != 0 {
				if entry&damaged != 0 {
					return written, read + i, false
				}
				continue
			}
			dst[written] = byte(entry)
			written += int(entry >> 8)
			last = b
		}
		d.last = last
		read += n
	}
	return written, read, true
}

func (d *unescaper) whole() bool { return d.last != escapeOctet }
