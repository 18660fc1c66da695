package telnet

import "bytes"

// maxSub is how many octets of a subnegotiation are kept, without its option: many
// times what any that we answer has. A longer one is skipped to its end.
const maxSub = 512

// A decoder cuts what the peer sends into data and commands. It does no I/O.
//
// Data are all octets but commands, with IAC IAC become one IAC and, unless the peer
// sends BINARY, CR NUL become CR (RFC 854, page 11). CR LF stays the two octets it
// is: what it means is the reader's affair.
type decoder struct {
	binary  bool // the peer sends BINARY; set by setBinary
	at      position
	afterCR bool // the last octet of data was a CR, and not BINARY
	verb    byte // at inOption: WILL, WONT, DO or DONT
	option  byte // whose subnegotiation it is
	sub     []byte
	subLong bool // it was longer than maxSub
}

// A position is where in a command the next octet stands.
type position byte

const (
	inData    position = iota
	inCommand          // after IAC
	inOption           // after WILL, WONT, DO, DONT
	inSub              // after SB
	inSubData          // after SB and its option
	inSubIAC           // after an IAC in there
)

// A command is what the decoder found between the data. The zero value is none.
type command struct {
	verb   byte // WILL, WONT, DO, DONT, or SB
	option byte
	sub    []byte // after SB, without doubled IAC; the decoder's own, until it goes on
}

// decode takes octets from raw until dst is full, raw at its end, or a command
// found. It returns how many octets it wrote to dst and how many it took from raw.
// After a command it must be called again; the command may change what BINARY is.
//
// The octets written are never more than those taken, and dst and raw may begin at
// the same octet.
func (d *decoder) decode(dst, raw []byte) (wrote, took int, c command) {
	for wrote < len(dst) && took < len(raw) {
		if d.at == inData && raw[took] != iac {
			run := raw[took:min(len(raw), took+len(dst)-wrote)]
			if i := bytes.IndexByte(run, iac); i >= 0 {
				run = run[:i]
			}
			took += len(run)
			wrote += d.data(dst[wrote:], run)
			continue
		}
		c, doubled := d.step(raw[took])
		took++
		if doubled {
			dst[wrote] = iac
			wrote++
			d.afterCR = false
		}
		if c.verb != 0 {
			return wrote, took, c
		}
	}
	return wrote, took, command{}
}

// setBinary says how the peer sends from here on.
func (d *decoder) setBinary(on bool) {
	if on != d.binary {
		d.binary, d.afterCR = on, false
	}
}

// data copies run, in which there is no IAC, to dst, which has room for it: without
// the NUL after each CR if it is not BINARY. It returns the number of octets written.
func (d *decoder) data(dst, run []byte) (wrote int) {
	if d.binary {
		return copy(dst, run)
	}
	for len(run) > 0 {
		if d.afterCR && run[0] == nul {
			run = run[1:]
		}
		line := run
		i := bytes.IndexByte(run, cr)
		if d.afterCR = i >= 0; d.afterCR {
			line = run[:i+1]
		}
		wrote += copy(dst[wrote:], line)
		run = run[len(line):]
	}
	return wrote
}

// step takes one octet of a command. doubled: it was IAC IAC.
func (d *decoder) step(b byte) (c command, doubled bool) {
	switch d.at {
	case inData: // an IAC
		d.at = inCommand
	case inCommand:
		switch b {
		case iac:
			d.at = inData
			return command{}, true
		case will, wont, do, dont:
			d.verb, d.at = b, inOption
		case sb:
			d.at = inSub
		default: // NOP, DM, GA, AYT, EC, EL ... and SE of no subnegotiation
			d.at = inData
		}
	case inOption:
		d.at = inData
		return command{verb: d.verb, option: b}, false
	case inSub:
		d.option, d.sub, d.subLong, d.at = b, d.sub[:0], false, inSubData
	case inSubData:
		if b == iac {
			d.at = inSubIAC
		} else {
			d.keepSub(b)
		}
	case inSubIAC:
		switch b {
		case iac:
			d.keepSub(b)
			d.at = inSubData
		case se:
			d.at = inData
			if !d.subLong {
				return command{sb, d.option, d.sub}, false
			}
		default: // it has no end: what follows is a command again, as telnetd has it
			d.at = inCommand
			return d.step(b)
		}
	}
	return command{}, false
}

// keepSub keeps an octet of a subnegotiation.
func (d *decoder) keepSub(b byte) {
	if len(d.sub) == maxSub {
		d.subLong = true
		return
	}
	if d.sub == nil {
		d.sub = make([]byte, 0, maxSub)
	}
	d.sub = append(d.sub, b)
}

// encode appends data to dst as it goes out, with IAC doubled and, if it is not
// BINARY, CR as CR NUL; as much of it as fits into dst's capacity. It returns how
// many octets of data that was.
//
// CR LF becomes CR NUL LF: servers make one CR of either, and the LF must arrive.
func encode(dst, data []byte, binary bool) (longer []byte, took int) {
	nextIAC, nextCR := -1, -1 // at or after took; len(data) if there is none
	if binary {
		nextCR = len(data)
	}
	for took < len(data) {
		if nextIAC < took {
			nextIAC = index(data, took, iac)
		}
		if nextCR < took {
			nextCR = index(data, took, cr)
		}
		run := data[took:min(nextIAC, nextCR)]
		if room := cap(dst) - len(dst); len(run) > room {
			return append(dst, run[:room]...), took + room
		}
		dst = append(dst, run...)
		took += len(run)
		if took == len(data) || cap(dst)-len(dst) < 2 {
			break
		}
		if data[took] == iac {
			dst = append(dst, iac, iac)
		} else {
			dst = append(dst, cr, nul)
		}
		took++
	}
	return dst, took
}

// index returns where b is in data at or after from, or len(data).
func index(data []byte, from int, b byte) int {
	if i := bytes.IndexByte(data[from:], b); i >= 0 {
		return from + i
	}
	return len(data)
}
