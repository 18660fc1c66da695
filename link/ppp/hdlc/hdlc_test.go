package hdlc

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

// unhex reads hex with blanks.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// feed gives stream to d in reads of size octets, and returns the packets that
// came out, each with its protocol's two octets before it.
func feed(d *Decoder, stream []byte, size int) (packets [][]byte) {
	for len(stream) > 0 {
		n := copy(d.Buffer(), stream[:min(size, len(stream))])
		stream = stream[n:]
		d.Fill(n)
		for {
			protocol, data, ok := d.Next()
			if !ok {
				break
			}
			packets = append(packets, append([]byte{byte(protocol >> 8), byte(protocol)}, data...))
		}
	}
	return packets
}

// escape makes the Format that escapes a and the given other octets.
func escape(a ACCM, more ...byte) Format {
	var set [4]uint64
	for _, c := range more {
		set[c/64] |= 1 << (c % 64)
	}
	return Format{Escape: NewSet(a, set)}
}

// The format, in frames: a packet with its protocol, and its octets on the stream.
func TestFrames(t *testing.T) {
	tests := []struct {
		name   string
		packet string
		format Format
		frame  string
	}{
		{"nothing to escape", "8021 05420004", escape(0), "ff03 8021 05420004 fe2c 7e"},
		{"flag and escape", "0021 7e7d", escape(0), "ff03 0021 7d5e7d5d 388c 7e"},
		{"the FCS is escaped too", "0021 0155", escape(0), "ff03 0021 0155 7d5e52 7e"},
		{"all controls", "c021 05010004", escape(DefaultACCM), "ff7d23 c021 7d257d217d207d24 3dc7 7e"},
		{"XON and XOFF", "0021 11130a", escape(0xa0000), "ff03 0021 7d317d330a aa52 7e"},
		{"no data", "8021", escape(0), "ff03 8021 2f6a 7e"},
		{"others, and never 5e and 20 to 3f", "0021 ff1ddf5e20", escape(0, 0xff, 0x1d, 0x5e, 0x20, 0x3f),
			"7ddf03 0021 7ddf7d3ddf5e20 1416 7e"},
		{"what becomes an escape", "0021 5d", escape(0, 0x5d), "ff03 0021 7d7d 6bac 7e"},
		{"protocol compressed", "0021 4500", Format{PFC: true}, "ff03 21 4500 d97d5e 7e"},
		{"address and control compressed", "0021 4500", Format{ACFC: true}, "0021 4500 e79d 7e"},
		{"both compressed", "0021 4500", Format{ACFC: true, PFC: true}, "21 4500 f5a7 7e"},
		{"too little to compress", "0021", Format{ACFC: true, PFC: true}, "0021 cc3f 7e"},
		{"LCP is not", "c021 0901000800000000", Format{ACFC: true, PFC: true}, "ff03 c021 0901000800000000 6ef1 7e"},
		{"32-bit FCS", "0021 4500", Format{FCS: FCS32}, "ff03 0021 4500 28e727a6 7e"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			packet, frame := unhex(t, tt.packet), unhex(t, tt.frame)
			protocol := uint16(packet[0])<<8 | uint16(packet[1])
			before := []byte("before")
			if got := tt.format.Append(before, protocol, packet[2:]); !bytes.Equal(got, append(before, frame...)) {
				t.Errorf("Append:\n got % x\nwant % x", got[len(before):], frame)
			}
			for size := range len(frame) {
				d := NewDecoder(1500)
				d.SetFCS(tt.format.FCS)
				got := feed(d, frame, size+1)
				if len(got) != 1 || !bytes.Equal(got[0], packet) || d.Stats != (Stats{Frames: 1}) {
					t.Errorf("read by %d: got % x, %+v", size+1, got, d.Stats)
				}
			}
		})
	}
}

// What comes in: octets, the packets that are in them, and what is counted.
func TestStreams(t *testing.T) {
	const (
		ipcp = "ff03 8021 05420004 fe2c"        // a good frame
		lcp  = "ff7d23c0217d257d217d207d243dc7" // another
	)
	tests := []struct {
		name    string
		stream  string
		packets []string
		stats   Stats
	}{
		{"one flag between two", "7e" + ipcp + "7e" + lcp + "7e", []string{"8021 05420004", "c021 05010004"}, Stats{Frames: 2}},
		{"two flags", "7e" + ipcp + "7e7e" + lcp + "7e", []string{"8021 05420004", "c021 05010004"}, Stats{Frames: 2}},
		{"nothing but flags", "7e7e7e7e", nil, Stats{}},
		{"no flag yet", "7e" + ipcp, nil, Stats{}},
		{"text before the first flag", "6c6f67696e3a20 0d0a 7e" + ipcp + "7e", []string{"8021 05420004"}, Stats{Frames: 1}},
		{"an escape before the first flag", "7d7e" + ipcp + "7e", []string{"8021 05420004"}, Stats{Frames: 1}},
		{"the first flag lost", ipcp + "7e", []string{"8021 05420004"}, Stats{Frames: 1}},
		{"aborted", "7e" + ipcp + "7d7e" + ipcp + "7e", []string{"8021 05420004"}, Stats{Frames: 1, Aborted: 1}},
		{"an escape alone", "7e7d7e", nil, Stats{Aborted: 1}},
		{"too short", "7e ff03 ff 7e 7d007e", nil, Stats{Short: 2}},
		{"a bit wrong", "7e ff03 8021 05420005 fe2c 7e" + ipcp + "7e", []string{"8021 05420004"}, Stats{Frames: 1, FCS: 1}},
		{"FCS high octet first", "7e ff03 8021 05420004 2cfe 7e", nil, Stats{FCS: 1}},
		{"a flag lost", "7e" + ipcp + ipcp + "7e" + lcp + "7e", []string{"c021 05010004"}, Stats{Frames: 1, FCS: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var want [][]byte
			for _, p := range tt.packets {
				want = append(want, unhex(t, p))
			}
			stream := unhex(t, tt.stream)
			for size := range len(stream) {
				d := NewDecoder(1500)
				if got := feed(d, stream, size+1); !slices.EqualFunc(got, want, bytes.Equal) {
					t.Errorf("read by %d: got % x, want % x", size+1, got, want)
				}
				if d.Stats != tt.stats {
					t.Errorf("read by %d: counted %+v, want %+v", size+1, d.Stats, tt.stats)
				}
			}
		})
	}
}

// sound returns a frame of the octets of head, all escaped that can be.
func sound(t *testing.T, f FCS, head string) []byte {
	frame := unhex(t, head)
	frame = append(frame, naiveTrailer(f, frame)...)
	return append(escape(DefaultACCM).Escape.append(make([]byte, 1, 100), frame), Flag)[1:]
}

func TestProtocolField(t *testing.T) {
	tests := []struct {
		name, frame, packet string
	}{
		{"even", "ff03 0020 4500", ""},
		{"even, without address and control", "c020 4500", ""},
		{"cut off", "ff03 00", ""},
		{"none", "ff03", ""},
		{"another control", "ff13 0021 4500", ""},
		{"one octet", "ff03 21 4500", "0021 4500"},
		{"one octet, high", "ff03 c1 4500", "00c1 4500"},
		{"address and control as data", "0021 ff03", "0021 ff03"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDecoder(1500)
			got := feed(d, append([]byte{Flag}, sound(t, FCS16, tt.frame)...), 1000)
			if tt.packet == "" {
				if len(got) != 0 || d.Stats != (Stats{Protocol: 1}) {
					t.Errorf("got % x, %+v", got, d.Stats)
				}
			} else if len(got) != 1 || !bytes.Equal(got[0], unhex(t, tt.packet)) {
				t.Errorf("got % x, want %s; %+v", got, tt.packet, d.Stats)
			}
		})
	}
}

// RFC 1662, section 4.2: what the peer should have escaped was put in on the way.
func TestReceiveMap(t *testing.T) {
	stream := unhex(t, "7e ff03 1180 2105 1342 00047d11 7d13fe 2c11 7e")
	plain := unhex(t, "7e ff1303 8021 1105 420004 fe13 2c 7e")
	tests := []struct {
		name   string
		accm   ACCM
		stream []byte
		ok     bool
	}{
		{"agreed on", 0xa0000, plain, true},
		{"one of two agreed on", 0x20000, plain, false},
		{"not agreed on", 0, plain, false},
		{"in the middle of an escape", 0xa0000, unhex(t, "7e ff7d1123 8021 05420004 fe2c 7e"), true},
		{"the agreed map and the default one", 0xa0000, unhex(t, "7e ff117d23 c0 13 217d257d217d207d2413 3dc7 7e"), true},
		{"in an aborted frame", 0xa0000, stream, false},
		{"all of them, of a peer that escapes none", DefaultACCM, unhex(t, "7e ff03 8021 05420004 fe2c 7e"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDecoder(1500)
			d.SetReceiveMap(tt.accm)
			if got := feed(d, tt.stream, 4); (len(got) == 1) != tt.ok {
				t.Errorf("got % x, %+v", got, d.Stats)
			}
			d.SetReceiveMap(0)
			if got := feed(d, unhex(t, "7e ff03 8021 05420004 fe2c 7e"), 4); len(got) != 1 {
				t.Errorf("after SetReceiveMap(0): got % x, %+v", got, d.Stats)
			}
		})
	}
}

func TestFCS32TakesLCPWithEither(t *testing.T) {
	tests := []struct {
		frame  string
		fcs    FCS
		wanted FCS
		ok     bool
	}{
		{"ff03 0021 4500", FCS32, FCS32, true},
		{"ff03 0021 4500", FCS16, FCS32, false},
		{"ff03 c021 05010004", FCS16, FCS32, true},
		{"ff03 c021 05010004", FCS32, FCS32, true},
		{"c021 05010004", FCS16, FCS32, false},
		{"ff03 c021 05010004", FCS32, FCS16, false},
		{"ff03 0021 4500", FCS32, FCS16, false},
	}
	for _, tt := range tests {
		d := NewDecoder(1500)
		d.SetFCS(tt.wanted)
		got := feed(d, append([]byte{Flag}, sound(t, tt.fcs, tt.frame)...), 1000)
		if (len(got) == 1) != tt.ok || !tt.ok && d.Stats != (Stats{FCS: 1}) {
			t.Errorf("%s with FCS %d, %d wanted: got % x, %+v", tt.frame, tt.fcs, tt.wanted, got, d.Stats)
		}
	}
}

// A frame without an end is dropped as far as it has come, and the one after it
// is found.
func TestTooLong(t *testing.T) {
	const max = 300
	format := escape(0)
	next := format.Append(nil, 0x21, make([]byte, max))
	for _, n := range []int{max + 1, 2 * max, 10_000, 1_000_000} {
		for _, size := range []int{7, 1000, 1 << 20} {
			stream := format.Append([]byte{Flag}, 0x21, make([]byte, n))
			stream = append(stream, next...)
			d := NewDecoder(max)
			room := len(d.buffer)
			got := feed(d, stream, size)
			if len(got) != 1 || len(got[0]) != 2+max || d.Stats != (Stats{Frames: 1, Long: 1}) {
				t.Errorf("%d octets read by %d: got %d packets, %+v", n, size, len(got), d.Stats)
			}
			if len(d.buffer) != room {
				t.Errorf("%d octets: the buffer grew from %d to %d", n, room, len(d.buffer))
			}
		}
	}
}

// The largest frame, all of it escaped and every octet followed by one that the
// path put in, is still a frame.
func TestLongestFrame(t *testing.T) {
	const max = 1500
	data := bytes.Repeat([]byte{Flag}, max)
	format := escape(0xa0000)
	format.FCS = FCS32
	frame := format.Append([]byte{Flag}, 0x0e01, data)
	if most := 2*max + 17; len(frame)-1 > most {
		t.Errorf("%d octets, more than %d", len(frame)-1, most)
	}
	noisy := []byte{Flag}
	for _, c := range frame[1:] {
		noisy = append(noisy, c)
		if c == Escape {
			noisy = append(noisy, 0x11, 0x13)
		}
	}
	d := NewDecoder(max)
	d.SetFCS(FCS32)
	d.SetReceiveMap(0xa0000)
	if got := feed(d, noisy, 1); len(got) != 1 || !bytes.Equal(got[0][2:], data) {
		t.Errorf("got %d packets, %+v", len(got), d.Stats)
	}
}

// All packets of one read are valid together.
func TestPacketsOfOneRead(t *testing.T) {
	format := escape(DefaultACCM)
	var stream []byte
	for n := range byte(50) {
		stream = format.Append(stream, 0x21, bytes.Repeat([]byte{n}, 100))
	}
	d := NewDecoder(1500)
	d.Fill(copy(d.Buffer(), stream))
	var packets [][]byte
	for {
		_, data, ok := d.Next()
		if !ok {
			break
		}
		packets = append(packets, data)
		_ = append(data, "to the caller's own account"...)
	}
	for n, data := range packets {
		if !bytes.Equal(data, bytes.Repeat([]byte{byte(n)}, 100)) {
			t.Errorf("packet %d is % x", n, data)
		}
	}
	if len(packets) != 50 {
		t.Errorf("%d packets, want 50", len(packets))
	}
}

// One octet per read costs no more than one read for all: what was looked at is
// not looked at again, and what waits for its end moves once for each 64 KiB.
func TestEveryOctetOnce(t *testing.T) {
	const max = 65535
	frame := new(Format).Append(nil, 0x21, bytes.Repeat([]byte{Escape}, max))
	d := NewDecoder(max)
	moved, looked := 0, 0
	octets := 0
	for range 3 {
		for _, c := range frame {
			before := d.start
			room := d.Buffer()
			if d.start < before && d.start != d.end {
				moved += d.end - d.start
			}
			if len(room) < minRead {
				t.Fatalf("room for %d octets", len(room))
			}
			room[0] = c
			d.Fill(1)
			looked += d.end - d.scanned
			octets++
			d.Next()
		}
	}
	if d.Stats != (Stats{Frames: 3}) {
		t.Errorf("counted %+v", d.Stats)
	}
	if looked != octets {
		t.Errorf("looked at %d octets of %d", looked, octets)
	}
	if moved > 4*octets {
		t.Errorf("moved %d octets of %d", moved, octets)
	}
}

func TestNoAllocations(t *testing.T) {
	data := random(1500)
	for _, l := range lines {
		format := Format{Escape: NewSet(l.accm, [4]uint64{}), FCS: l.fcs}
		dst := make([]byte, 0, 2*len(data)+17)
		d := NewDecoder(len(data))
		d.SetFCS(l.fcs)
		d.SetReceiveMap(l.accm)
		n := testing.AllocsPerRun(100, func() {
			frame := format.Append(dst, 0x21, data)
			if cap(frame) != cap(dst) {
				t.Fatal("Append took other room than it was given")
			}
			d.Fill(copy(d.Buffer(), frame))
			if _, got, ok := d.Next(); !ok || len(got) != len(data) {
				t.Fatal("no packet")
			}
		})
		if n != 0 {
			t.Errorf("accm %x, fcs %d: %v allocations for each frame", l.accm, l.fcs, n)
		}
	}
}
