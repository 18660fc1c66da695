package lab

import (
	"bytes"
	"testing"
)

func TestTelnetEnd(t *testing.T) {
	agree := func(_, option byte) bool { return option == optBinary }
	for _, tt := range []struct {
		name              string
		end               telnetEnd
		in, data, answers string
	}{
		{"data", telnetEnd{}, "a\xff\xffb", "a\xffb", ""},
		{"line ends", telnetEnd{}, "a\r\x00b\r\nc\nd\re", "a\rb\r\nc\nd\re", ""},
		{"two CR", telnetEnd{}, "\r\x00\r\x00\r\r\n", "\r\r\r\r\n", ""},
		{"lines", telnetEnd{lines: true}, "a\r\nb\r\x00c\nd\r\re", "a\nb\nc\nd\n\ne", ""},
		{"refused", telnetEnd{}, "\xff\xfd\x01a\xff\xfb\x18", "a", "\xff\xfc\x01\xff\xfe\x18"},
		{"never asked, never answered", telnetEnd{}, "\xff\xfe\x01\xff\xfc\x18", "", ""},
		{"agreed, once", telnetEnd{agree: agree}, "\xff\xfd\x00\xff\xfd\x00\xff\xfb\x00a\r\x00", "a\r\x00", "\xff\xfb\x00\xff\xfd\x00"},
		{"agreed and taken back", telnetEnd{agree: agree}, "\xff\xfb\x00\xff\xfc\x00a\r\x00", "a\r", "\xff\xfd\x00\xff\xfe\x00"},
		{"an answer to our offer", telnetEnd{offered: [256]bool{optEcho: true}}, "\xff\xfd\x01", "", ""},
		{"other commands, subnegotiation", telnetEnd{}, "a\xff\xf1b\xff\xfa\x18\x01\xff\xffx\xff\xf0c", "abc", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var data []byte
			for _, b := range []byte(tt.in) {
				data = tt.end.take(data, b)
			}
			if string(data) != tt.data || string(tt.end.answers) != tt.answers {
				t.Errorf("data %q, answers %q; want %q, %q", data, tt.end.answers, tt.data, tt.answers)
			}
		})
	}
}

// What one end puts, the other takes, whatever is binary.
func FuzzTelnetEnd(f *testing.F) {
	f.Add([]byte("a\r\nb\rc\xff\xfd\x00\r"), false)
	f.Add([]byte("\r\x00\r\r\n\n\xff"), true)
	f.Fuzz(func(t *testing.T, data []byte, binary bool) {
		var one, other telnetEnd
		one.ours[optBinary], other.theirs[optBinary] = binary, binary
		var got []byte
		for _, b := range one.put(nil, data) {
			got = other.take(got, b)
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%q became %q", data, got)
		}
		if len(other.answers) > 0 {
			t.Errorf("answers %q to data", other.answers)
		}
		// Anything at all is data or is answered with less.
		var any telnetEnd
		got = got[:0]
		for _, b := range data {
			got = any.take(got, b)
		}
		if len(got)+len(any.answers) > len(data) {
			t.Errorf("%q became %q and was answered with %q", data, got, any.answers)
		}
	})
}
