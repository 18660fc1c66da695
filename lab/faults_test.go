package lab

import (
	"bytes"
	"testing"
)

func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name    string
		faults  Faults
		in, out string
		after   fate
	}{
		{"none", Faults{}, "a\x00\r\n\xff", "a\x00\r\n\xff", flows},
		{"seven bits", Faults{Seven: true}, "A\xc1\xff", "AA\x7f", flows},
		{"some vanish", Faults{Eat: []byte{0, 0x11, 0xff}}, "\x00a\x11\x91\xff", "a\x91", flows},
		{"seven bits, then some vanish", Faults{Seven: true, Eat: []byte{0x11, 0xff}}, "a\x91\xff", "a\x7f", flows},
		{"line ends", Faults{CRNL: true}, "a\rb\nc\r\nd", "a\nb\r\nc\n\r\nd", flows},
		{"line ends, one of them eaten", Faults{CRNL: true, Eat: []byte{'\n'}}, "a\r\nb", "a\nb", flows},
		{"every third has a bit changed", Faults{FlipEvery: 3}, "\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x02\x00\x00\x04\x00", flows},
		{"the end", Faults{CutAfter: 2}, "abc", "ab", ends},
		{"the end within a line end", Faults{CRNL: true, CutAfter: 2}, "a\nb", "a\r", ends},
		{"nothing more", Faults{StallAfter: 3, CutAfter: 4}, "abcde", "abc", stalls},
		{"what vanishes does not count", Faults{Eat: []byte{'a'}, CutAfter: 1}, "aab", "b", ends},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, after := newFaulty(tt.faults).pass(nil, []byte(tt.in))
			if string(got) != tt.out || after != tt.after {
				t.Errorf("%q became %q and then %d, want %q and %d", tt.in, got, after, tt.out, tt.after)
			}
			// The same octets one by one.
			one, out, end := newFaulty(tt.faults), []byte(nil), flows
			for i := 0; i < len(tt.in) && end == flows; i++ {
				out, end = one.pass(out, []byte{tt.in[i]})
			}
			if !bytes.Equal(out, got) || end != after {
				t.Errorf("one by one it became %q and then %d", out, end)
			}
		})
	}
}
