package lab

import (
	"encoding/hex"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
)

// frame makes a frame of hexadecimal words; the addresses in it are from to to.
func frame(t testing.TB, words string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(words, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return append(make([]byte, 12), b...)
}

const (
	ip4 = "0800 45000028 00004000 4006 0000 c000020a " // + destination
	ip6 = "86dd 60000000 0014 06 40 20010db8000100000000000000000010 "
)

var leakTable = []struct {
	name, words, want string
}{
	{"the tunnel", ip4 + "c6336416 c000 0016 0000000000000000 5002 0000 00000000", ""},
	{"the tunnel over IPv6", ip6 + "20010db8000200000000000000000022 c000 0016 00000000 00000000 5002 0000 0000 0000", ""},
	{"another port of the gateway", ip4 + "c6336416 c000 0050 0000000000000000 5002 0000 00000000", "tcp from 192.0.2.10 to 198.51.100.22:80"},
	{"another host", ip4 + "cb007164 c000 0016 0000000000000000 5002 0000 00000000", "tcp from 192.0.2.10 to 203.0.113.100:22"},
	{"another host over IPv6", ip6 + "20010db8000f00000000000000000100 c000 0016 00000000 00000000 5002 0000 0000 0000", "tcp from 2001:db8:1::10 to [2001:db8:f::100]:22"},
	{"UDP to the gateway's port 22", "0800 4500001c 00004000 4011 0000 c000020a c6336416 c000 0016 0008 0000", "udp from 192.0.2.10 to 198.51.100.22:22"},
	{"a query", "0800 4500001c 00004000 4011 0000 c000020a c0000201 c000 0035 0008 0000", "udp from 192.0.2.10 to 192.0.2.1:53"},
	{"a ping", "0800 4500001c 00004000 4001 0000 c000020a cb007164 0800 0000 0001 0001", "icmp type 8 code 0 from 192.0.2.10 to 203.0.113.100"},
	{"a later fragment", "0800 4500001c 00000005 4006 0000 c000020a c6336416 c000 0016 0000 0000", "a fragment from 192.0.2.10 to 198.51.100.22, protocol 6"},
	{"options before TCP", "0800 4600002c 00004000 4006 0000 c000020a c6336416 01010101 c000 0016 0000000000000000 5002 0000 00000000", ""},
	{"GRE", "0800 45000018 00004000 402f 0000 c000020a cb007164 0000 0800", "protocol 47 from 192.0.2.10 to 203.0.113.100"},
	{"who has", "0806 0001 0800 06 04 0001 000000000000 c000020a 000000000000 c0000201", ""},
	{"IGMP report", "0800 46c00028 00004000 0102 0000 c000020a e0000016 94040000 2200 0000 0000 0000", ""},
	{"neighbour solicitation", "86dd 60000000 0020 3a ff 20010db8000100000000000000000010 ff0200000000000000000001ff000001 8700 0000 00000000 20010db8000100000000000000000001", ""},
	{"listener report", "86dd 60000000 0024 00 01 fe800000000000000000000000000001 ff020000000000000000000000000016 3a00 0502 0000 0100 8f00 0000 0000 0001", ""},
	{"a ping over IPv6", "86dd 60000000 0008 3a 40 20010db8000100000000000000000010 20010db8000f00000000000000000100 8000 0000 0001 0001", "icmp type 128 code 0 from 2001:db8:1::10 to 2001:db8:f::100"},
	{"a hop-by-hop header to the world", "86dd 60000000 0010 00 40 20010db8000100000000000000000010 20010db8000f00000000000000000100 3a00 0502 0000 0100 8f00 0000 0000 0001", "protocol 0 from 2001:db8:1::10 to 2001:db8:f::100"},
	{"half a header", "0800 4500", "a malformed IPv4 packet"},
	{"another protocol", "8847 0000", "a frame of EtherType 0x8847"},
}

func TestLeak(t *testing.T) {
	for _, tt := range leakTable {
		if got := leak(frame(t, tt.words), passage{Gateway4, Gateway6, []uint16{SSHPort}}); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// filterOf is the record's filter without its first three instructions, which ask
// the kernel for the direction: the simulator cannot.
func filterOf(t testing.TB) *bpf.VM {
	vm, err := bpf.NewVM(passWhatMayLeak(passage{Gateway4, Gateway6, []uint16{SSHPort, 4000}})[3:])
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// What the kernel does not show the record must be nothing that it would report.
func FuzzFilterHidesNoLeak(f *testing.F) {
	for _, tt := range leakTable {
		f.Add(frame(f, tt.words))
	}
	vm := filterOf(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < etherHeader+60+20 {
			b = append(b, make([]byte, etherHeader+60+20-len(b))...) // all headers are there
		}
		n, err := vm.Run(b)
		if err != nil {
			t.Fatal(err)
		}
		if what := leak(b, passage{Gateway4, Gateway6, []uint16{SSHPort, 4000}}); n == 0 && what != "" {
			t.Errorf("hidden: %s: %x", what, b)
		}
	})
}

func TestFilterHidesTheTunnel(t *testing.T) {
	vm := filterOf(t)
	for _, tt := range leakTable {
		b := append(frame(t, tt.words), make([]byte, 80)...)
		n, err := vm.Run(b)
		if err != nil {
			t.Fatal(err)
		}
		tunnel := strings.HasPrefix(tt.name, "the tunnel") || tt.name == "options before TCP"
		if hidden := n == 0; hidden != tunnel {
			t.Errorf("%s: hidden %v, want %v", tt.name, hidden, tunnel)
		}
	}
}
