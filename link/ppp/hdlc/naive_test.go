package hdlc

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// RFC 1662 once more, the way it is written: one bit or one octet at a time.

// naiveFCS runs p, low bit first, through the shift register of RFC 1662,
// appendix C, that has the given polynomial and as many bits as ones.
func naiveFCS(p []byte, polynomial, ones uint32) uint32 {
	register := ones
	for _, c := range p {
		for bit := range 8 {
			feedback := (register ^ uint32(c)>>bit) & 1
			register >>= 1
			if feedback != 0 {
				register ^= polynomial
			}
		}
	}
	return register ^ ones
}

func naiveTrailer(f FCS, p []byte) []byte {
	if f == FCS32 {
		v := naiveFCS(p, 0xedb88320, 0xffffffff)
		return []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)}
	}
	v := naiveFCS(p, 0x8408, 0xffff)
	return []byte{byte(v), byte(v >> 8)}
}

// escapes reports whether octet c has to be escaped.
func escapes(a ACCM, more [4]uint64, c byte) bool {
	switch {
	case c == 0x7d || c == 0x7e:
		return true
	case c < 0x20 && a>>c&1 != 0:
		return true
	case c >= 0x20 && c < 0x40, c == 0x5e:
		return false
	}
	return more[c/64]>>(c%64)&1 != 0
}

func naiveFrame(f Format, a ACCM, more [4]uint64, protocol uint16, data []byte) []byte {
	var frame []byte
	if !f.ACFC || protocol == 0xc021 {
		frame = append(frame, 0xff, 0x03)
	}
	if !f.PFC || protocol >= 0x100 || len(data) == 0 {
		frame = append(frame, byte(protocol>>8))
	}
	frame = append(frame, byte(protocol))
	frame = append(frame, data...)
	frame = append(frame, naiveTrailer(f.FCS, frame)...)
	var out []byte
	for _, c := range frame {
		if escapes(a, more, c) {
			out = append(out, 0x7d, c^0x20)
		} else {
			out = append(out, c)
		}
	}
	return append(out, 0x7e)
}

// naivePackets is a Decoder for a whole stream, with the results of feed.
func naivePackets(stream []byte, a ACCM, f FCS, max int) (packets [][]byte, stats Stats) {
	var frame []byte
	empty, escaped, synced := true, false, false
	for _, c := range stream {
		switch {
		case c == 0x7e:
			if !empty {
				packet, result := naiveTake(frame, escaped, f, max, &stats)
				if result == &stats.Frames {
					packets = append(packets, packet)
					*result++
				} else if synced {
					*result++
				}
			}
			frame, empty, escaped, synced = nil, true, false, true
			continue
		case c < 0x20 && a>>c&1 != 0:
		case escaped:
			frame = append(frame, c^0x20)
			escaped = false
		case c == 0x7d:
			escaped = true
		default:
			frame = append(frame, c)
		}
		empty = false
	}
	return packets, stats
}

func naiveTake(frame []byte, escaped bool, f FCS, max int, stats *Stats) ([]byte, *uint64) {
	if escaped {
		return nil, &stats.Aborted
	}
	if len(frame) < 4 {
		return nil, &stats.Short
	}
	sound := func(f FCS, trailer int) bool {
		n := len(frame) - trailer
		return string(naiveTrailer(f, frame[:n])) == string(frame[n:])
	}
	isLCP := string(frame[:4]) == "\xff\x03\xc0\x21"
	switch {
	case f == FCS32 && sound(FCS32, 4):
		frame = frame[:len(frame)-4]
	case f == FCS32 && !isLCP, !sound(FCS16, 2):
		return nil, &stats.FCS
	default:
		frame = frame[:len(frame)-2]
	}
	if len(frame) >= 2 && frame[0] == 0xff {
		if frame[1] != 0x03 {
			return nil, &stats.Protocol
		}
		frame = frame[2:]
	}
	if len(frame) >= 1 && frame[0]&1 == 1 {
		frame = append([]byte{0}, frame...)
	}
	if len(frame) < 2 || frame[1]&1 == 0 {
		return nil, &stats.Protocol
	}
	if len(frame)-2 > max {
		return nil, &stats.Long
	}
	return frame, &stats.Frames
}

// Packets with anything from no flag and escape to nothing else.
func TestAgainstNaive(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		data := make([]byte, random.IntN(300))
		percent := random.IntN(101)
		for i := range data {
			data[i] = byte(random.Uint32())
			if random.IntN(100) < percent {
				data[i] = []byte{Flag, Escape, 0x00, 0x5d, 0x5e}[random.IntN(5)]
			}
		}
		accm := []ACCM{0, 0xa0000, DefaultACCM}[random.IntN(3)]
		format := Format{Escape: NewSet(accm, [4]uint64{}), FCS: FCS(random.IntN(2))}
		frame := format.Append(nil, 0x21, data)
		if want := naiveFrame(format, accm, [4]uint64{}, 0x21, data); !bytes.Equal(frame, want) {
			t.Fatalf("Append:\n got % x\nwant % x", frame, want)
		}
		for _, receive := range []ACCM{0, accm} {
			d := NewDecoder(300)
			d.SetFCS(format.FCS)
			d.SetReceiveMap(receive)
			if got := feed(d, frame, 1000); len(got) != 1 || !bytes.Equal(got[0][2:], data) {
				t.Fatalf("% x: got % x, want % x, %+v", frame, got, data, d.Stats)
			}
		}
	}
}
