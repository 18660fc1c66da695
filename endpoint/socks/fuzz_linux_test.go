package socks

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/bodkin-net/bodkin/tunnel"
)

// FuzzTake: whatever comes through the tunnel does not upset the proxy, leaves the
// packet as it was, and is answered, if at all, to who seems to have sent it.
func FuzzTake(f *testing.F) {
	syn := []byte("\x45\x00\x00\x28\x00\x00\x40\x00\x40\x06\x00\x00\xc6\x33\x64\x0a\x0a\x00\x02\x0f" +
		"\x00\x50\x13\x88\x00\x00\x00\x01\x00\x00\x00\x00\x50\x02\xff\xff\x00\x00\x00\x00")
	f.Add(syn, uint8(1), uint16(0))
	f.Add(append([]byte("\x45\x00\x00\x44\x00\x00\x40\x00\x40\x01\x00\x00\xc6\x33\x64\x0a\x0a\x00\x02\x0f\x03\x0d\xfc\xf2\x00\x00\x00\x00"), syn...), uint8(0), uint16(0))
	f.Add([]byte("\x45\x00\x00\x20\x00\x07\x20\x00\x40\x11\x00\x00\xc6\x33\x64\x0a\x0a\x00\x02\x0f\x00\x35\x13\x88\x00\x0c\x00\x00data"), uint8(0), uint16(0))
	f.Add([]byte("\x60\x00\x00\x00\x00\x0c\x11\x40\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"+
		"\xfd\x00\x0b\x0d\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x15\x00\x35\x13\x88\x00\x0c\x00\x00data"), uint8(1), uint16(0))
	p, err := New(Config{
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		Local:  []netip.Prefix{netip.MustParsePrefix("10.0.2.15/24"), netip.MustParsePrefix("fd00:b0d::15/64")},
		MTU:    65535,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { p.Close() })
	f.Fuzz(func(t *testing.T, packet []byte, kind uint8, size uint16) {
		before := bytes.Clone(packet)
		o := tunnel.Offload{Type: tunnel.GSOType(kind >> 1 & 3), NeedsChecksum: kind&1 != 0, SegmentSize: size}
		if err := p.WritePackets([]tunnel.Packet{{Data: packet, GSO: o}}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(packet, before) {
			t.Fatal("the packet has changed")
		}
		for p.stack.Out.Waiting() > 0 {
			var out [1]tunnel.Packet
			if _, err := p.ReadPackets(out[:]); err != nil {
				t.Fatal(err)
			}
			if _, err := out[0].Check(); err != nil {
				t.Fatalf("answer %x: %v", out[0].Data, err)
			}
			if src, _ := ends(out[0].Data); src != p.local4 && src != p.local6 {
				t.Fatalf("answer %x comes from %v", out[0].Data, src)
			}
		}
	})
}
