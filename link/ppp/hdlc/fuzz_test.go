package hdlc

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzRoundTrip: a packet in any Format has the octets that RFC 1662 gives it,
// none of them one that the stream cannot carry, and comes back as it was however
// it is read.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x04"), uint16(0xc021), uint32(0xffffffff), uint64(0), uint64(0), uint8(0), uint16(1))
	f.Add([]byte("~}^]\xff\x1d 0123456789abcdef"), uint16(0x0021), uint32(0x200a0000), ^uint64(0), ^uint64(0), uint8(7), uint16(3))
	f.Add([]byte{}, uint16(0x8057), uint32(0), uint64(0), uint64(0), uint8(4), uint16(100))
	f.Fuzz(func(t *testing.T, data []byte, protocol uint16, accm uint32, low, high uint64, form uint8, size uint16) {
		if len(data) > 512 {
			return // more of the same
		}
		protocol = protocol&^0x0100 | 1 // what RFC 1661, section 2, makes one
		if protocol == 0x00ff || protocol>>8 == 0xff {
			return // neither it nor 0xff03 can be told from an address
		}
		more := [4]uint64{low, low, high, high}
		format := Format{
			Escape: NewSet(ACCM(accm), more),
			ACFC:   form&1 != 0,
			PFC:    form&2 != 0,
			FCS:    FCS(form >> 2 & 1),
		}
		frame := format.Append([]byte{Flag}, protocol, data)
		if want := naiveFrame(format, ACCM(accm), more, protocol, data); !bytes.Equal(frame[1:], want) {
			t.Fatalf("Append:\n got % x\nwant % x", frame[1:], want)
		}
		// One more frame follows, in the default Format, whatever is agreed.
		stream := append(slices.Clone(frame), frame...)
		line := Format{Escape: NewSet(DefaultACCM, [4]uint64{})}
		stream = line.Append(stream, protocolLCP, []byte("\x09\x01\x00\x08\x7e\x7d\x00\x11"))

		d := NewDecoder(len(data) + 8)
		d.SetFCS(format.FCS)
		d.SetReceiveMap(ACCM(accm))
		packet := append([]byte{byte(protocol >> 8), byte(protocol)}, data...)
		got := feed(d, stream, int(size)+1)
		want := [][]byte{packet, packet, []byte("\xc0\x21\x09\x01\x00\x08\x7e\x7d\x00\x11")}
		if !slices.EqualFunc(got, want, bytes.Equal) || d.Stats != (Stats{Frames: 3}) {
			t.Fatalf("read by %d: got % x, want % x, %+v", int(size)+1, got, want, d.Stats)
		}
	})
}

// FuzzDecoder: any octets, however they are read, mean what RFC 1662 says, and
// the buffer stays as it was made.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte("login: \x7e\xff\x7d\x23\xc0\x21\x7d\x25\x7d\x21\x7d\x20\x7d\x24\x3d\xc7\x7e"), uint32(0), false, uint16(1), uint8(100))
	f.Add([]byte("\x7e\xff\x03\x00\x21\x7d\x5e\x7d\x11\x5d\x38\x8c\x7e\x7d\x7e\x7d\x7d\x7e"), uint32(0xa0000), false, uint16(3), uint8(2))
	f.Add([]byte("\x7e\xff\x03\x00\x21\x45\x00\x28\xe7\x27\xa6\x7e~\x00\x00\x00\x00~"), uint32(0), true, uint16(0), uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, accm uint32, wide bool, size uint16, max uint8) {
		d := NewDecoder(int(max))
		if len(stream) > 1024 {
			return // more of the same; and less than inserted, so that no end is lost
		}
		fcs := FCS16
		if wide {
			fcs = FCS32
		}
		d.SetFCS(fcs)
		d.SetReceiveMap(ACCM(accm))
		room := len(d.buffer)

		got := feed(d, stream, int(size)+1)
		want, stats := naivePackets(stream, ACCM(accm), fcs, int(max))
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("got % x, want % x", got, want)
		}
		if d.Stats != stats {
			t.Errorf("counted %+v, want %+v", d.Stats, stats)
		}
		if len(d.buffer) != room {
			t.Errorf("the buffer grew from %d to %d octets", room, len(d.buffer))
		}
	})
}
