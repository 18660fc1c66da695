package session

import (
	"bytes"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/carrier"
)

func octets(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFrames(t *testing.T) {
	for _, c := range []struct {
		name, frames string
		data         string
		signs        signs
		fails        bool
	}{
		{"data", "21 000003 616263", "abc", signs{}, false},
		{"data after data", "21 000001 61 21 000002 6263", "abc", signs{}, false},
		{"acknowledgement between", "21 000001 61 22 000008 0000000000000102 21 000001 62", "ab", signs{acked: true, ack: 0x102}, false},
		{"of two the last", "22 000008 0000000000000001 22 000008 0000000000000002", "", signs{acked: true, ack: 2}, false},
		{"ping", "23 000008 0000000000000007", "", signs{ping: true, pinged: 7}, false},
		{"pong", "24 000008 0000000000000007", "", signs{pong: true, ponged: 7}, false},
		{"end", "21 000001 61 25 000008 0000000000000001", "a", signs{end: true, total: 1}, false},
		{"skipped", "80 000002 ffff 21 000001 61 ff 000000 21 000001 62", "ab", signs{}, false},
		{"header not whole", "21 000001 61 21 0000", "a", signs{}, false},
		{"number not whole", "21 000001 61 22 000008 00000000", "a", signs{}, false},
		{"empty data", "21 000001 61 21 000000", "a", signs{}, true},
		{"unknown", "26 000000", "", signs{}, true},
		{"a native link's", "01 000008 0000000000000007", "", signs{}, true},
		{"short number", "22 000007 00000000000007", "", signs{}, true},
		{"too much to skip", "80 001001", "", signs{}, true},
		{"back", "22 000008 0000000000000002 22 000008 0000000000000001", "", signs{acked: true, ack: 2}, true},
		{"after the end", "25 000008 0000000000000000 21 000001 61", "", signs{end: true}, true},
	} {
		var c2 cutter
		p := octets(t, c.frames)
		n, s, err := c2.cut(p)
		if string(p[:n]) != c.data || s != c.signs || (err != nil) != c.fails {
			t.Errorf("%s: %q %+v %v", c.name, p[:n], s, err)
		}
	}
}

func TestAppend(t *testing.T) {
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{appendHeader(nil, frameData, 0x010203), "21 010203"},
		{appendNumber(nil, frameAck, 0x0102), "22 000008 0000000000000102"},
		{refuse(ErrUnknown), "17 000001 01"},
		{refuse(io.EOF), "17 000004 04 454f46"},
	} {
		if !bytes.Equal(c.got, octets(t, c.want)) {
			t.Errorf("% x, want %s", c.got, c.want)
		}
	}
}

// FuzzFrames: however the octets are cut into reads, what they say is the same.
func FuzzFrames(f *testing.F) {
	f.Add(octets(f, "21 000003 616263 22 000008 0000000000000102 23 000008 0000000000000007 25 000008 0000000000000003"), uint8(3))
	f.Add(octets(f, "80 000002 ffff 21 000005 6162"), uint8(1))
	f.Add(octets(f, "21 000000"), uint8(2))
	f.Fuzz(func(t *testing.T, stream []byte, piece uint8) {
		var whole, cut cutter
		p := bytes.Clone(stream)
		n, all, err := whole.cut(p)
		if n > len(stream) {
			t.Fatalf("%d octets of %d", n, len(stream))
		}
		var data []byte
		var sum signs
		var err2 error
		for rest := bytes.Clone(stream); len(rest) > 0 && err2 == nil; {
			k := min(len(rest), int(piece)+1)
			var s signs
			var m int
			m, s, err2 = cut.cut(rest[:k])
			data = append(data, rest[:m]...)
			rest = rest[k:]
			if s.acked {
				sum.acked, sum.ack = true, s.ack
			}
			if s.ping {
				sum.ping, sum.pinged = true, s.pinged
			}
			if s.pong {
				sum.pong, sum.ponged = true, s.ponged
			}
			if s.end {
				sum.end, sum.total = true, s.total
			}
		}
		if !bytes.Equal(p[:n], data) || all != sum || (err == nil) != (err2 == nil) {
			t.Errorf("whole: %q %+v %v; in pieces: %q %+v %v", p[:n], all, err, data, sum, err2)
		}
	})
}

// FuzzGreeting: whatever is not refused can be given on octet for octet, and nothing
// behind it was read.
func FuzzGreeting(f *testing.F) {
	f.Add([]byte(append([]byte{nativeHello, 0, 0, 4}, "bodkin"...)))
	f.Add([]byte(append(newMessage(frameResume, versions, make([]byte, 16+nonceLen)), "more"...)))
	f.Add([]byte(append(newMessage(frameNew, versions, milliseconds(1), make([]byte, keyLen)), "more"...)))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, says []byte) {
		r := &script{Reader: bytes.NewReader(says)}
		c, err := Greet(t.Context(), carrier.Stream{ReadWriteCloser: r})
		if err != nil {
			if !r.closed {
				t.Errorf("%v, and the Stream is open", err)
			}
			return
		}
		if left := r.Reader.Len(); len(says)-left != len(c.greeting) {
			t.Errorf("%d octets were read of a greeting of %d", len(says)-left, len(c.greeting))
		}
		if all, _ := io.ReadAll(c.Stream()); !bytes.Equal(all, says) {
			t.Errorf("%q is left of %q", all, says)
		}
	})
}

// A script is a connection whose peer has said all that it will.
type script struct {
	*bytes.Reader
	closed bool
}

func (s *script) Write(p []byte) (int, error) { return len(p), nil }
func (s *script) Close() error                { s.closed = true; return nil }
