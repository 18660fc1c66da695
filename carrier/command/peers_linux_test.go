package command

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"testing"
)

// procTCP and procTCP6 are as a little-endian machine prints them.
const procTCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0 100 0 0 10 0
   1: 0100007F:C350 020000C0:0016 01 00000000:00000000 02:000A1B2C 00000000  1000        0 1002 2 0 20 4 30 10 -1
   2: broken
`

const procTCP6 = `   0: 00000000000000000000000000000000:0016 B80D0120000000000000000001000000:0016 01 00000000:00000000 00:00000000 00000000 0 0 1003 1
   1: 0000000000000000FFFF00000100007F:C350 0000000000000000FFFF0000020000C0:01BB 01 00000000:00000000 00:00000000 00000000 0 0 1004 1
`

func TestParseSockets(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Fatal("the texts are of a little-endian machine, this is none; the tests of carrier/ssh have this one's")
	}
	want := map[string]netip.AddrPort{"1002": netip.MustParseAddrPort("192.0.0.2:22")}
	if got := parseSockets([]byte(procTCP)); !reflect.DeepEqual(got, want) {
		t.Errorf("tcp: %v", got)
	}
	want = map[string]netip.AddrPort{
		"1003": netip.MustParseAddrPort("[2001:db8::1]:22"),
		"1004": netip.MustParseAddrPort("192.0.0.2:443"),
	}
	if got := parseSockets([]byte(procTCP6)); !reflect.DeepEqual(got, want) {
		t.Errorf("tcp6: %v", got)
	}
}

// FuzzSockets: whatever is parsed is a whole address.
func FuzzSockets(f *testing.F) {
	f.Add([]byte(procTCP))
	f.Add([]byte(procTCP6))
	f.Fuzz(func(t *testing.T, text []byte) {
		for inode, peer := range parseSockets(text) {
			if inode == "" || !peer.Addr().IsValid() || peer.Addr().Is4In6() {
				t.Fatalf("%q: %v", inode, peer)
			}
		}
	})
}
