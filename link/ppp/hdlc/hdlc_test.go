package hdlc

import (
	"bytes"
	"encoding/hex"
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

func format(a ACCM) Format { return Format{Escape: NewSet(a, [4]uint64{})} }

// The format, in frames: a packet with its protocol, and its octets on the stream.
func TestFrames(t *testing.T) {
	line := format(DefaultACCM)
	tests := []struct {
		name   string
		packet string
		format Format
		frame  string
	}{
		{"nothing to escape", "8021 05420004", format(0), "ff03 8021 05420004 fe2c 7e"},
		{"the zero Format", "8021 05420004", Format{}, "ff03 8021 05420004 fe2c 7e"},
		{"flag and escape", "0021 7e7d", format(0), "ff03 0021 7d5e7d5d 388c 7e"},
		{"all controls", "c021 05010004", line, "ff7d23 c021 7d257d217d207d24 3dc7 7e"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			packet, frame := unhex(t, tt.packet), unhex(t, tt.frame)
			protocol := uint16(packet[0])<<8 | uint16(packet[1])
			if got := tt.format.Append(nil, protocol, packet[2:]); !bytes.Equal(got, frame) {
				t.Errorf("Append:\n got % x\nwant % x", got, frame)
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
