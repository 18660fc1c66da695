package ppp

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// octets makes octets of hexadecimal, with or without spaces.
func octets(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What each protocol makes of a peer's options, by what it wants.
func TestConsider(t *testing.T) {
	addr := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	four := func(w IPv4) func() layer {
		return func() layer { return &ipv4Layer{ipcp: ipcp{want: w, local: nowhere}} }
	}
	link := func(w LCP) func() layer {
		w.MRU = defaultMRU
		return func() layer {
			y := &lcpLayer{lcp: lcp{want: w, random: func() uint32 { return 0x11223344 }}}
			y.begin()
			y.ours.Magic = 0x55667788
			return y
		}
	}
	six := func(w IPv6) func() layer {
		return func() layer {
			y := &ipv6Layer{ipv6cp: ipv6cp{want: w, random: func() uint64 { return 0x1234 }}}
			y.begin()
			return y
		}
	}
	server := IPv4{Local: addr("10.0.0.1"), Remote: addr("10.0.0.2"), DNS: []netip.Addr{addr("10.0.0.3")}}
	tests := []struct {
		name   string
		layer  func() layer
		asked  string // the options of the Configure-Request
		answer string // code and options of the answer
	}{
		// RFC 1661, section 6; RFC 1662, section 7.1; RFC 1570.
		{"pppd's", link(LCP{}), "0206 00000000 0506 01020304 0702 0802", "2 0206 00000000 0506 01020304 0702 0802"},
		{"nothing", link(LCP{}), "", "2"},
		{"an MRU of 128", link(LCP{}), "0104 0080", "2 0104 0080"},
		{"an MRU of 65535", link(LCP{}), "0104 ffff", "2 0104 ffff"},
		{"an MRU too small", link(LCP{}), "0104 007f", "3 0104 0080"},
		{"an MRU of 0", link(LCP{}), "0104 0000", "3 0104 0080"},
		{"an MRU of three octets", link(LCP{}), "0105 000080", "4 0105 000080"},
		{"an ACCM that is none", link(LCP{}), "0204 0000", "4 0204 0000"},
		{"our own magic number", link(LCP{}), "0506 55667788", "3 0506 11223344"},
		{"no magic number", link(LCP{}), "0506 00000000", "3 0506 11223344"},
		{"magic where we have none", link(LCP{NoMagic: true}), "0506 01020304", "4 0506 01020304"},
		{"no compression", link(LCP{NoPFC: true, NoACFC: true}), "0702 0802", "4 0702 0802"},
		{"compression with more in it", link(LCP{}), "0703 00 0802", "4 0703 00"},
		{"authentication that we do not do", link(LCP{}), "0305 c22305", "4 0305 c22305"},
		{"EAP", link(LCP{}), "0304 c227", "4 0304 c227"},
		{"quality, callback, multilink, endpoint", link(LCP{}), "0408 c025 00000000 0d03 06 1104 05dc 1303 00", "4 0408 c025 00000000 0d03 06 1104 05dc 1303 00"},
		{"an FCS without our asking", link(LCP{}), "0903 04", "4 0903 04"},
		{"the 32-bit FCS", link(LCP{FCS32: true}), "0903 04", "2 0903 04"},
		{"no FCS", link(LCP{FCS32: true}), "0903 01", "3 0903 04"},
		{"a reject before a nak", link(LCP{}), "0104 0000 1104 05dc", "4 1104 05dc"},
		{"an option without a value", link(LCP{}), "0102", "4 0102"},

		// RFC 1332, section 3; RFC 1877.
		{"slirp's", four(server), "0306 00000000 0206 002d 0f01", "4 0206 002d 0f01"},
		{"slirp's second", four(server), "0306 00000000", "3 0306 0a000002"},
		{"the address that we want", four(server), "0306 0a000002", "2 0306 0a000002"},
		{"another address", four(server), "0306 0a000009", "3 0306 0a000002"},
		{"another, which we take", four(IPv4{Remote: addr("10.0.0.2"), AcceptRemote: true}), "0306 0a000009", "2 0306 0a000009"},
		{"none, which we cannot take", four(IPv4{Remote: addr("10.0.0.2"), AcceptRemote: true}), "0306 00000000", "3 0306 0a000002"},
		{"any", four(IPv4{}), "0306 0a000009", "2 0306 0a000009"},
		{"none of any", four(IPv4{}), "0306 00000000", "3 0306 0a000202"},
		{"none where none will do", four(IPv4{NoRemote: true}), "0306 00000000", "4 0306 00000000"},
		{"loopback", four(IPv4{}), "0306 7f000001", "3 0306 0a000202"},
		{"multicast", four(IPv4{}), "0306 e0000001", "3 0306 0a000202"},
		{"broadcast", four(IPv4{NoRemote: true}), "0306 ffffffff", "4 0306 ffffffff"},
		{"no word of an address", four(server), "", "3 0306 0a000002"},
		{"no word, where none will do", four(IPv4{NoRemote: true}), "", "2"},
		{"the addresses of old", four(server), "0306 0a000002 010a 0a000002 0a000001", "4 010a 0a000002 0a000001"},
		{"name servers", four(server), "0306 0a000002 8106 00000000", "3 8106 0a000003"},
		{"name servers that it knows", four(server), "0306 0a000002 8106 0a000003", "2 0306 0a000002 8106 0a000003"},
		{"a second name server", four(server), "0306 0a000002 8106 00000000 8306 00000000", "4 8306 00000000"},
		{"NetBIOS", four(server), "0306 0a000002 8206 00000000 8406 00000000", "4 8206 00000000 8406 00000000"},
		{"an address of three octets", four(server), "0305 0a0000", "4 0305 0a0000"},

		// RFC 5072, section 4.1.
		{"an identifier", six(IPv6{}), "010a 0000000000000005", "2 010a 0000000000000005"},
		{"our own identifier", six(IPv6{Local: 5}), "010a 0000000000000005", "3 010a 0000000000001234"},
		{"no identifier", six(IPv6{Local: 5}), "010a 0000000000000000", "3 010a 0000000000001234"},
		{"no word of one", six(IPv6{Local: 5, Remote: 6}), "", "3 010a 0000000000000006"},
		{"another one", six(IPv6{Local: 5, Remote: 6}), "010a 0000000000000007", "3 010a 0000000000000006"},
		{"another one, which we take", six(IPv6{Local: 5, Remote: 6, AcceptRemote: true}), "010a 0000000000000007", "2 010a 0000000000000007"},
		{"header compression", six(IPv6{}), "010a 0000000000000005 0204 0061", "4 0204 0061"},
	}
	for _, tt := range tests {
		m := machine{layer: tt.layer(), timers: Timers{}.withDefaults(), mru: func() int { return 1500 }}
		_, answer, ok := m.judge(packet{confReq, 1, octets(t, tt.asked)})
		code, options, _ := strings.Cut(tt.answer, " ")
		if !ok || answer.code != code[0]-'0' || !bytes.Equal(answer.data, octets(t, options)) {
			t.Errorf("%s: %s is answered with %d %x, want %s", tt.name, tt.asked, answer.code, answer.data, tt.answer)
		}
	}
}

// A peer that keeps no address to itself is asked for it once.
func TestMissingAddress(t *testing.T) {
	m := machine{layer: &ipv4Layer{ipcp: ipcp{local: nowhere}}, timers: Timers{}.withDefaults(), mru: func() int { return 1500 }}
	for i, want := range []byte{confNak, confAck} {
		if _, answer, _ := m.judge(packet{confReq, 1, nil}); answer.code != want {
			t.Errorf("request %d is answered with code %d", i, answer.code)
		}
	}
}

// What a peer makes of our options: the second request, after a Nak or Reject of
// the first.
func TestLearn(t *testing.T) {
	fixed := IPv4{Local: netip.MustParseAddr("10.0.0.1")}
	free := fixed
	free.AcceptLocal = true
	tests := []struct {
		name   string
		want   IPv4
		code   byte
		said   string
		second string
	}{
		{"an address for one who has none", IPv4{}, confNak, "0306 0a00000f", "0306 0a00000f"},
		{"an address for one who has one", fixed, confNak, "0306 0a00000f", "0306 0a000001"},
		{"a better one", free, confNak, "0306 0a00000f", "0306 0a00000f"},
		{"no address", IPv4{}, confNak, "0306 00000000", "0306 00000000"},
		{"loopback", IPv4{}, confNak, "0306 7f000001", "0306 00000000"},
		{"name servers", IPv4{AskDNS: true}, confNak, "8106 08080808 8306 08080404", "0306 00000000 8106 08080808 8306 08080404"},
		{"no name servers", IPv4{AskDNS: true}, confRej, "8106 00000000 8306 00000000", "0306 00000000"},
		{"no second one", IPv4{AskDNS: true}, confRej, "8306 00000000", "0306 00000000 8106 00000000"},
		{"nothing at all", fixed, confRej, "0306 0a000001", ""},
	}
	for _, tt := range tests {
		m := machine{state: reqSent, layer: &ipv4Layer{ipcp: ipcp{want: tt.want}}, timers: Timers{}.withDefaults()}
		m.layer.begin()
		m.request = m.layer.request(nil)
		if !m.learn(packet{tt.code, 0, octets(t, tt.said)}) {
			t.Errorf("%s: not taken", tt.name)
		}
		if got := m.layer.request(nil); !bytes.Equal(got, octets(t, tt.second)) {
			t.Errorf("%s: the second request is %x, want %s", tt.name, got, tt.second)
		}
	}
}

// The notation is pppd's: lines from its logs, and what a peer may do to a log.
func TestNotation(t *testing.T) {
	tests := []struct {
		protocol uint16
		octets   string // without the Length field, or with ! as they are
		want     string
	}{
		{protocolLCP, "01 01 0206 00000000 0506 5f1c9d2a 0702 0802", "[LCP ConfReq id=0x1 <asyncmap 0x0> <magic 0x5f1c9d2a> <pcomp> <accomp>]"},
		{protocolLCP, "01 02 0104 05dc 0305 c22381 0408 c025 00000064 1104 05dc", "[LCP ConfReq id=0x2 <mru 1500> <auth chap MS-v2> <quality lqr 00 00 00 64> <mrru 1500>]"},
		{protocolLCP, "04 03 1104 05f4 1309 03 001122334455 1202 0304 c027", "[LCP ConfRej id=0x3 <mrru 1524> <endpoint [MAC:0:11:22:33:44:55]> <ssnhf> <auth 0xc027>]"},
		{protocolLCP, "03 03 0304 c023 0305 c22305", "[LCP ConfNak id=0x3 <auth pap> <auth chap MD5>]"},
		{protocolLCP, "05 02 5573657220726571 75657374", `[LCP TermReq id=0x2 "User request"]`},
		{protocolLCP, "06 02", "[LCP TermAck id=0x2]"},
		{protocolLCP, "09 00 5f1c9d2a", "[LCP EchoReq id=0x0 magic=0x5f1c9d2a]"},
		{protocolLCP, "0a 00 5f1c9d2a 6869", "[LCP EchoRep id=0x0 magic=0x5f1c9d2a 68 69]"},
		{protocolLCP, "08 02 80fd 0101000a 1a047800 1804", "[LCP ProtRej id=0x2 80 fd 01 01 00 0a 1a 04 78 00 18 04]"},
		{protocolLCP, "0c 02 5f1c9d2a 4d5352415356352e", `[LCP Ident id=0x2 magic=0x5f1c9d2a "MSRASV5."]`},
		{protocolLCP, "0d 02 5f1c9d2a 0000003c", "[LCP TimeRem id=0x2 magic=0x5f1c9d2a seconds=60]"},
		{protocolLCP, "63 02 0102", "[LCP code=0x63 id=0x2 01 02]"},
		{protocolIPCP, "01 01 0206 002d 0f01 0306 0a000201 8106 00000000 8306 00000000", "[IPCP ConfReq id=0x1 <compress VJ 0f 01> <addr 10.0.2.1> <ms-dns1 0.0.0.0> <ms-dns2 0.0.0.0>]"},
		{protocolIPv6CP, "01 01 010a 24beace8 b3e6bed6", "[IPV6CP ConfReq id=0x1 <addr fe80::24be:ace8:b3e6:bed6>]"},
		{protocolCCP, "01 01 1a04 7800 1804 7800 1503 2f", "[CCP ConfReq id=0x1 <deflate 15> <deflate(old#) 15> <bsd v1 15>]"},
		{protocolPAP, "01 01 03616e6e 067365637265 74", `[PAP AuthReq id=0x1 user="ann" password=<hidden>]`},
		{protocolPAP, "01 01 ff616e6e 067365637265 74", `[PAP AuthReq id=0x1 <hidden>]`},
		{protocolPAP, "03 01 05 6e6f2121 0a", `[PAP AuthNak id=0x1 "no!!\n"]`},
		{protocolCHAP, "01 01 04 01020304 626f62", `[CHAP Challenge id=0x1 <01020304>, name = "bob"]`},
		{protocolCHAP, "04 01 1b5b324a 2207", `[CHAP Failure id=0x1 "\033[2J\"\007"]`},
		{0xc227, "01 01", "[proto=0xc227] 01 01 00 04"},
		{protocolLCP, "!01 01 00ff 0104", "[LCP 01 01 00 ff 01 04]"},
		{protocolLCP, "01 01 0106 05", "[LCP ConfReq id=0x1 01 06 05]"},
	}
	for _, tt := range tests {
		raw, as := strings.CutPrefix(tt.octets, "!")
		b := octets(t, raw)
		if !as {
			b = appendPacket(nil, packet{b[0], b[1], b[2:]})
		}
		p, sound := parsePacket(b)
		if got := notation(tt.protocol, b, p, sound); got != tt.want {
			t.Errorf("%s is\n %s, want\n %s", tt.octets, got, tt.want)
		}
	}
}

// TestNamelessPeer: a peer that names no address, and takes none, stands at the one
// that we would have told it, as with pppd; where none will do, at none.
func TestNamelessPeer(t *testing.T) {
	for _, test := range []struct {
		want   IPv4
		remote netip.Addr
	}{
		{IPv4{}, someAddress},
		{IPv4{Remote: live4Theirs}, live4Theirs},
		{IPv4{NoRemote: true}, netip.Addr{}},
	} {
		c := &ipcp{want: test.want}
		c.begin()
		c.listen()
		c.naked(option{optAddr, []byte{10, 0, 0, 1}})
		if got, err := c.agreed(); err != nil || got.remote != test.remote {
			t.Errorf("%+v: %v, %v", test.want, got.remote, err)
		}
	}
}
