package telnet

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// octets reads "ff fb 00 'text'": hex, with text in quotes.
func octets(s string) []byte {
	var out []byte
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			out = append(out, part...)
			continue
		}
		b, err := hex.DecodeString(strings.ReplaceAll(part, " ", ""))
		if err != nil {
			panic(err)
		}
		out = append(out, b...)
	}
	return out
}

// TestEncode has what goes out, and that a decoder in the same mode gets it back.
func TestEncode(t *testing.T) {
	for _, tt := range []struct{ name, data, nvt, binary string }{
		{"nothing", "", "", ""},
		{"text", "'ls'", "'ls'", "'ls'"},
		{"IAC is doubled, in BINARY too", "fe ff 00", "fe ffff 00", "fe ffff 00"},
		{"IACs", "ff ff ff", "ffff ffff ffff", "ffff ffff ffff"},
		{"what looks like a command", "ff fb 00", "ffff fb 00", "ffff fb 00"},
		{"CR becomes CR NUL", "'user' 0d", "'user' 0d00", "'user' 0d"},
		{"CR LF stays two octets", "0d 0a", "0d00 0a", "0d 0a"},
		{"CR NUL", "0d 00", "0d00 00", "0d 00"},
		{"CR CR LF", "0d 0d 0a", "0d00 0d00 0a", "0d 0d 0a"},
		{"LF and NUL alone stay", "0a 00 0a", "0a 00 0a", "0a 00 0a"},
		{"CR IAC", "0d ff 0d", "0d00 ffff 0d00", "0d ffff 0d"},
		{"other controls stay", "03 04 11 13 1d 7f 80 9b", "03 04 11 13 1d 7f 80 9b", "03 04 11 13 1d 7f 80 9b"},
	} {
		for _, binary := range []bool{false, true} {
			data, want := octets(tt.data), octets(tt.nvt)
			if binary {
				want = octets(tt.binary)
			}
			got, took := encode(make([]byte, 0, 64), data, binary)
			if !bytes.Equal(got, want) || took != len(data) {
				t.Errorf("%s, BINARY %v: % x, %d of %d; want % x", tt.name, binary, got, took, len(data), want)
			}
			if back, commands := decodeAll(got, binary, 64, 64); !bytes.Equal(back, data) || commands != "" {
				t.Errorf("%s, BINARY %v: comes back as % x %s", tt.name, binary, back, commands)
			}
		}
	}
}

// TestDecode has what comes in, cut at every octet and not at all.
func TestDecode(t *testing.T) {
	long := strings.Repeat("41", maxSub)
	for _, tt := range []struct{ name, raw, nvt, binary, commands string }{
		{"text", "'login: '", "'login: '", "'login: '", ""},
		{"CR LF", "'a' 0d0a 'b'", "'a' 0d0a 'b'", "'a' 0d0a 'b'", ""},
		{"CR NUL", "'a' 0d00 'b'", "'a' 0d 'b'", "'a' 0d00 'b'", ""},
		{"CR NUL NUL", "0d00 00", "0d 00", "0d00 00", ""},
		{"CR alone, as busybox sends it", "0d 'b' 0d0d0a", "0d 'b' 0d0d0a", "0d 'b' 0d0d0a", ""},
		{"CR CR NUL", "0d0d00", "0d0d", "0d0d00", ""},
		{"NUL alone", "00 'a' 00", "00 'a' 00", "00 'a' 00", ""},
		{"IAC", "'a' ffff 'b'", "'a' ff 'b'", "'a' ff 'b'", ""},
		{"IACs", "ffff ffff ffff", "ff ff ff", "ff ff ff", ""},
		{"CR IAC NUL", "0d ffff 00", "0d ff 00", "0d ff 00", ""},
		{"CR NUL with a command between", "0d fff1 00 'a'", "0d 'a'", "0d 00 'a'", ""},
		{"WILL in data", "'a' fffb01 'b'", "'ab'", "'ab'", "WILL 1;"},
		{"all four", "fffb01 fffc02 fffd03 fffeff", "", "", "WILL 1;WONT 2;DO 3;DONT 255;"},
		{"EOR, SE, NOP, DM, BRK, IP, AO, AYT, EC, EL, GA and unknown ones are nothing",
			"'a' ffef fff0 fff1 fff2 fff3 fff4 fff5 fff6 fff7 fff8 fff9 ff00 ff0d ff41 'b'", "'ab'", "'ab'", ""},
		{"a subnegotiation", "fffa 18 01 fff0 'a'", "'a'", "'a'", "SB 24 01;"},
		{"an empty one", "fffa 18 fff0", "", "", "SB 24 ;"},
		{"IAC in it", "fffa 1f 00ffff0018 fff0", "", "", "SB 31 00ff0018;"},
		{"of option 255, and SE in it", "fffa ff f0f0 fff0 'a'", "'a'", "'a'", "SB 255 f0f0;"},
		{"CR NUL in it stays", "fffa 27 0d00 fff0", "", "", "SB 39 0d00;"},
		{"the longest", "fffa 27" + long + "fff0 'a'", "'a'", "'a'", "SB 39 " + long + ";"},
		{"a longer one is skipped", "fffa 27" + long + "42 fff0 'a'", "'a'", "'a'", ""},
		{"without its end, a command follows", "fffa 27 4142 fffb01 'a'", "'a'", "'a'", "WILL 1;"},
		{"without its end, one more follows", "fffa 27 4142 fffa 18 01 fff0 'a'", "'a'", "'a'", "SB 24 01;"},
		{"no end at all", "fffa 27 'abc'", "", "", ""},
		{"a NUL after SE", "fffa 18 01 fff0 00 'a'", "00 'a'", "00 'a'", "SB 24 01;"},
		{"cut off", "'a' ff", "'a'", "'a'", ""},
		{"cut off in an option", "'a' fffb", "'a'", "'a'", ""},
	} {
		for _, binary := range []bool{false, true} {
			raw, want := octets(tt.raw), octets(tt.nvt)
			if binary {
				want = octets(tt.binary)
			}
			for _, cut := range [][2]int{{1000, 2000}, {1, 2000}, {1000, 1}, {1, 1}, {2, 3}} {
				got, commands := decodeAll(raw, binary, cut[0], cut[1])
				if !bytes.Equal(got, want) || commands != tt.commands {
					t.Errorf("%s, BINARY %v, %d octets each into %d: % x %q; want % x %q",
						tt.name, binary, cut[0], cut[1], got, commands, want, tt.commands)
				}
			}
		}
	}
}

// decodeAll decodes raw, of which in octets come at a time, into out octets at a
// time, and where they are.
func decodeAll(raw []byte, binary bool, in, out int) (data []byte, commands string) {
	d := decoder{binary: binary}
	for len(raw) > 0 {
		piece := bytes.Clone(raw[:min(in, len(raw))])
		raw = raw[len(piece):]
		for len(piece) > 0 {
			dst := piece // where they are
			if out < len(piece) {
				dst = make([]byte, out)
			}
			wrote, took, c := d.decode(dst, piece)
			data = append(data, dst[:wrote]...)
			piece = piece[took:]
			switch {
			case c.verb == sb:
				commands += fmt.Sprintf("SB %d %x;", c.option, c.sub)
			case c.verb != 0:
				commands += fmt.Sprintf("%s %d;", verbNames[c.verb], c.option)
			case wrote < len(dst) && len(piece) > 0:
				panic("decode stopped for no reason")
			}
		}
	}
	return data, commands
}

// TestDecodeIsLazy: once dst is full nothing more is taken, not even what is no data.
func TestDecodeIsLazy(t *testing.T) {
	var d decoder
	raw := octets("'a' fffb01 'b'")
	if wrote, took, c := d.decode(make([]byte, 1), raw); wrote != 1 || took != 1 || c.verb != 0 {
		t.Errorf("wrote %d, took %d, command %v; want 1, 1, none", wrote, took, c)
	}
}

// TestBinaryFromTheCommandOn changes the mode between two octets that would be one.
func TestBinaryFromTheCommandOn(t *testing.T) {
	var d decoder
	dst := make([]byte, 8)
	d.decode(dst, []byte{cr})
	d.setBinary(true)
	if n, _, _ := d.decode(dst, []byte{nul, cr}); n != 2 {
		t.Errorf("CR, WILL BINARY, NUL CR: %d octets came after; want 2", n)
	}
	d.setBinary(false)
	if n, _, _ := d.decode(dst, []byte{nul}); n != 1 {
		t.Errorf("CR, WONT BINARY, NUL: %d octets came after; want 1", n)
	}
}

// FuzzCodec: what is encoded decodes to the same, cut up anyhow, in each mode, with
// commands between; and hostile input decodes to the same however it is cut.
func FuzzCodec(f *testing.F) {
	f.Add([]byte("user\r\n\x00\xff\xff\r\x00"), byte(1), byte(1), uint64(1), true)
	f.Add([]byte("\xff\xfa\x18\x01\xff\xf0\xff\xfb\x00\xff"), byte(3), byte(2), uint64(7), false)
	f.Fuzz(func(t *testing.T, data []byte, in, out byte, seed uint64, binary bool) {
		cutIn, cutOut := int(in)+1, int(out)+1
		random := rand.New(rand.NewPCG(seed, 0))
		commands := []string{"\xff\xf1", "\xff\xfb\x2a", "\xff\xfa\x2a\xff\xff\r\x00\xff\xf0", "\xff\xf2"}
		var wire []byte
		for rest := data; len(rest) > 0; {
			dst := make([]byte, 0, 2+random.IntN(40))
			got, took := encode(dst, rest, binary)
			if took == 0 || len(got) > cap(dst) {
				t.Fatalf("encode of %d octets into %d: took %d, made %d", len(rest), cap(dst), took, len(got))
			}
			wire = append(wire, got...)
			rest = rest[took:]
			if random.IntN(2) == 0 {
				wire = append(wire, commands[random.IntN(len(commands))]...)
			}
		}
		if len(wire) < len(data) {
			t.Fatalf("%d octets went out as %d", len(data), len(wire))
		}
		if back, _ := decodeAll(wire, binary, cutIn, cutOut); !bytes.Equal(back, data) {
			t.Fatalf("% x went out as % x and came back as % x", data, wire, back)
		}

		want, wantCommands := decodeAll(data, binary, len(data)+1, len(data)+1)
		got, gotCommands := decodeAll(data, binary, cutIn, cutOut)
		if !bytes.Equal(got, want) || gotCommands != wantCommands {
			t.Fatalf("whole: % x %q; in pieces: % x %q", want, wantCommands, got, gotCommands)
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	random := make([]byte, 64<<10)
	rand.NewChaCha8([32]byte{}).Read(random)
	for _, c := range []struct {
		name   string
		data   []byte
		binary bool
	}{
		{"plain", bytes.Repeat([]byte("without any of them "), 3277), false},
		{"random-BINARY", random, true},
		{"random-NVT", random, false},
		{"CR", bytes.Repeat([]byte{cr}, 64<<10), false},
		{"IAC", bytes.Repeat([]byte{iac}, 64<<10), true},
	} {
		wire, _ := encode(make([]byte, 0, 2*len(c.data)), c.data, c.binary)
		b.Run("decode/"+c.name, func(b *testing.B) {
			dst := make([]byte, len(wire))
			b.SetBytes(int64(len(c.data)))
			for b.Loop() {
				d := decoder{binary: c.binary}
				d.decode(dst, wire)
			}
		})
		b.Run("encode/"+c.name, func(b *testing.B) {
			dst := make([]byte, 0, len(wire))
			b.SetBytes(int64(len(c.data)))
			for b.Loop() {
				encode(dst, c.data, c.binary)
			}
		})
	}
}
