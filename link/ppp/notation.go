package ppp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/bodkin-net/bodkin/link/ppp/auth"
)

// This is how pppd's debug option writes packets, so that two logs can be laid
// side by side. What the peer chose is quoted or in hexadecimal; the passwords of
// PAP are not shown.

// maxHex is how many octets that mean nothing to us are shown, as in pppd.
const maxHex = 32

// logPacket tells Config.Log of a packet sent or received.
func (l *Link) logPacket(direction string, protocol uint16, b []byte, p packet, sound bool) {
	if l.c.Log == nil {
		return
	}
	if !sound {
		p = packet{}
	}
	l.c.Log(direction + " " + notation(protocol, b, p, sound))
}

// protocolNames are pppd's.
var protocolNames = map[uint16]string{
	protocolLCP: "LCP", protocolIPCP: "IPCP", protocolIPv6CP: "IPV6CP", protocolCCP: "CCP",
	protocolPAP: "PAP", protocolCHAP: "CHAP",
}

var codeNames = map[uint16][]string{
	protocolLCP:    {"ConfReq", "ConfAck", "ConfNak", "ConfRej", "TermReq", "TermAck", "CodeRej", "ProtRej", "EchoReq", "EchoRep", "DiscReq", "Ident", "TimeRem"},
	protocolIPCP:   {"ConfReq", "ConfAck", "ConfNak", "ConfRej", "TermReq", "TermAck", "CodeRej"},
	protocolIPv6CP: {"ConfReq", "ConfAck", "ConfNak", "ConfRej", "TermReq", "TermAck", "CodeRej"},
	protocolCCP:    {"ConfReq", "ConfAck", "ConfNak", "ConfRej", "TermReq", "TermAck", "CodeRej"},
	protocolPAP:    {"AuthReq", "AuthAck", "AuthNak"},
	protocolCHAP:   {"Challenge", "Response", "Success", "Failure"},
}

// notation writes a control packet: b as it is, or p if it was sound.
func notation(protocol uint16, b []byte, p packet, sound bool) string {
	var s strings.Builder
	name := protocolNames[protocol]
	if name == "" {
		fmt.Fprintf(&s, "[proto=0x%x]", protocol)
		writeHex(&s, b)
		return s.String()
	}
	s.WriteString("[" + name)
	if !sound {
		writeHex(&s, b)
		return s.String() + "]"
	}
	if names := codeNames[protocol]; p.code >= 1 && int(p.code) <= len(names) {
		s.WriteString(" " + names[p.code-1])
	} else {
		fmt.Fprintf(&s, " code=0x%x", p.code)
	}
	fmt.Fprintf(&s, " id=0x%x", p.id)
	switch {
	case protocol == protocolPAP:
		writePAP(&s, p)
	case protocol == protocolCHAP:
		writeCHAP(&s, p)
	case p.code >= confReq && p.code <= confRej:
		writeOptions(&s, protocol, p.data)
	case p.code == termReq || p.code == termAck:
		writeText(&s, p.data)
	case p.code >= echoReq && p.code <= timeRemaining && len(p.data) >= 4:
		fmt.Fprintf(&s, " magic=0x%x", binary.BigEndian.Uint32(p.data))
		rest := p.data[4:]
		if p.code == timeRemaining && len(rest) >= 4 {
			fmt.Fprintf(&s, " seconds=%d", binary.BigEndian.Uint32(rest))
			rest = rest[4:]
		}
		if p.code >= identification && len(rest) > 0 {
			s.WriteString(" " + quote(rest))
		} else {
			writeHex(&s, rest)
		}
	default:
		writeHex(&s, p.data)
	}
	s.WriteString("]")
	return s.String()
}

// writeOptions writes the options of a Configure packet, and what is none.
func writeOptions(s *strings.Builder, protocol uint16, b []byte) {
	for {
		o, rest, ok := cutOption(b)
		if !ok {
			writeHex(s, b)
			return
		}
		b = rest
		word := ""
		switch protocol {
		case protocolLCP:
			word = lcpWord(o)
		case protocolIPCP:
			word = ipcpWord(o)
		case protocolIPv6CP:
			word = ipv6cpWord(o)
		case protocolCCP:
			word = ccpWord(o)
		}
		if word == "" {
			var raw strings.Builder
			fmt.Fprintf(&raw, " %.2x %.2x", o.kind, 2+len(o.value))
			writeHex(&raw, o.value)
			word = raw.String()
		}
		s.WriteString(" <" + word + ">")
	}
}

func lcpWord(o option) string {
	v := o.value
	switch {
	case o.kind == optMRU && len(v) == 2:
		return fmt.Sprintf("mru %d", binary.BigEndian.Uint16(v))
	case o.kind == optACCM && len(v) == 4:
		return fmt.Sprintf("asyncmap 0x%x", binary.BigEndian.Uint32(v))
	case o.kind == optAuth && len(v) >= 2:
		var s strings.Builder
		s.WriteString("auth ")
		p, ok := auth.ParseOption(v)
		switch {
		case ok:
			return "auth " + map[auth.Protocol]string{auth.PAP: "pap", auth.CHAP: "chap MD5", auth.MSCHAPv2: "chap MS-v2"}[p]
		case len(v) >= 3 && v[0] == 0xc2 && v[1] == 0x23 && v[2] == 0x80:
			return "auth chap MS"
		case v[0] == 0xc2 && v[1] == 0x27:
			s.WriteString("eap")
		default:
			fmt.Fprintf(&s, "0x%x", binary.BigEndian.Uint16(v))
		}
		writeHex(&s, v[2:])
		return s.String()
	case o.kind == 4 && len(v) >= 2:
		var s strings.Builder
		if binary.BigEndian.Uint16(v) == 0xc025 {
			s.WriteString("quality lqr")
		} else {
			fmt.Fprintf(&s, "quality 0x%x", binary.BigEndian.Uint16(v))
		}
		writeHex(&s, v[2:])
		return s.String()
	case o.kind == optMagic && len(v) == 4:
		return fmt.Sprintf("magic 0x%x", binary.BigEndian.Uint32(v))
	case o.kind == optPFC && len(v) == 0:
		return "pcomp"
	case o.kind == optACFC && len(v) == 0:
		return "accomp"
	case o.kind == 13 && len(v) >= 1:
		var s strings.Builder
		if v[0] == 6 {
			s.WriteString("callback CBCP")
		} else {
			fmt.Fprintf(&s, "callback 0x%x", v[0])
		}
		writeHex(&s, v[1:])
		return s.String()
	case o.kind == 17 && len(v) == 2:
		return fmt.Sprintf("mrru %d", binary.BigEndian.Uint16(v))
	case o.kind == 18 && len(v) == 0:
		return "ssnhf"
	case o.kind == 19 && len(v) >= 1:
		return "endpoint [" + endpoint(v[0], v[1:]) + "]"
	}
	return ""
}

// endpoint writes an endpoint discriminator (RFC 1990, section 5.1.3).
func endpoint(class byte, v []byte) string {
	names := []string{"null", "local", "IP", "MAC", "magic", "phone"}
	switch {
	case class == 0 && len(v) == 0:
		return "null"
	case class == 2 && len(v) == 4:
		return "IP:" + netip.AddrFrom4([4]byte(v)).String()
	case class == 3 && len(v) == 6:
		return fmt.Sprintf("MAC:%x:%x:%x:%x:%x:%x", v[0], v[1], v[2], v[3], v[4], v[5])
	}
	name := fmt.Sprint(class)
	if int(class) < len(names) {
		name = names[class]
	}
	var s strings.Builder
	for i, b := range v {
		if i > 0 && i%2 == 0 {
			s.WriteByte('.')
		}
		fmt.Fprintf(&s, "%.2x", b)
	}
	return name + ":" + s.String()
}

func ipcpWord(o option) string {
	v := o.value
	ip := func() string { return netip.AddrFrom4([4]byte(v)).String() }
	switch {
	case o.kind == 1 && len(v) == 8:
		return "addrs " + netip.AddrFrom4([4]byte(v[:4])).String() + " " + netip.AddrFrom4([4]byte(v[4:])).String()
	case o.kind == 2 && len(v) >= 2:
		var s strings.Builder
		switch n := binary.BigEndian.Uint16(v); n {
		case 0x2d:
			s.WriteString("compress VJ")
		case 0x37:
			s.WriteString("compress old-VJ")
		default:
			fmt.Fprintf(&s, "compress 0x%x", n)
		}
		writeHex(&s, v[2:])
		return s.String()
	case len(v) != 4:
		return ""
	case o.kind == optAddr:
		return "addr " + ip()
	case o.kind == optDNS1:
		return "ms-dns1 " + ip()
	case o.kind == optDNS2:
		return "ms-dns2 " + ip()
	case o.kind == optNBNS1, o.kind == optNBNS2:
		return "ms-wins " + ip()
	}
	return ""
}

func ipv6cpWord(o option) string {
	v := o.value
	if o.kind == optInterfaceID && len(v) == 8 {
		return fmt.Sprintf("addr fe80::%.2x%.2x:%.2x%.2x:%.2x%.2x:%.2x%.2x", v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7])
	}
	return ""
}

func ccpWord(o option) string {
	v := o.value
	switch {
	case (o.kind == 24 || o.kind == 26) && len(v) == 2:
		old := ""
		if o.kind == 24 {
			old = "(old#)"
		}
		return fmt.Sprintf("deflate%s %d", old, v[0]>>4+8)
	case o.kind == 21 && len(v) == 1:
		return fmt.Sprintf("bsd v%d %d", v[0]>>5, v[0]&0x1f)
	case o.kind == 1 && len(v) == 0:
		return "predictor 1"
	case o.kind == 2 && len(v) == 0:
		return "predictor 2"
	}
	return ""
}

func writePAP(s *strings.Builder, p packet) {
	if p.code == 1 && len(p.data) > 0 && len(p.data) > int(p.data[0]) {
		s.WriteString(" user=" + quote(p.data[1:1+int(p.data[0])]) + " password=<hidden>")
		return
	}
	if p.code == 1 {
		s.WriteString(" <hidden>")
		return
	}
	if (p.code == 2 || p.code == 3) && len(p.data) > 0 && len(p.data) > int(p.data[0]) {
		s.WriteString(" " + quote(p.data[1:1+int(p.data[0])]))
		return
	}
	writeHex(s, p.data)
}

func writeCHAP(s *strings.Builder, p packet) {
	switch {
	case (p.code == 1 || p.code == 2) && len(p.data) > 0 && len(p.data) > int(p.data[0]):
		n := 1 + int(p.data[0])
		fmt.Fprintf(s, " <%x>, name = %s", p.data[1:n], quote(p.data[n:]))
	case p.code == 3 || p.code == 4:
		s.WriteString(" " + quote(p.data))
	default:
		writeHex(s, p.data)
	}
}

// writeText writes the reason of a Terminate packet, as text if it begins as one.
func writeText(s *strings.Builder, b []byte) {
	if len(b) > 0 && b[0] >= ' ' && b[0] < 0x7f {
		s.WriteString(" " + quote(b))
	} else {
		writeHex(s, b)
	}
}

// quote writes text of the peer's, at most 255 octets of it, in quotes. What is no
// printable ASCII is written as an octal escape.
func quote(b []byte) string {
	var s strings.Builder
	s.WriteByte('"')
	for _, c := range b[:min(len(b), 255)] {
		switch {
		case c == '\\' || c == '"':
			s.WriteByte('\\')
			s.WriteByte(c)
		case c == '\n':
			s.WriteString(`\n`)
		case c == '\r':
			s.WriteString(`\r`)
		case c == '\t':
			s.WriteString(`\t`)
		case c < ' ' || c > '~':
			fmt.Fprintf(&s, `\%.3o`, c)
		default:
			s.WriteByte(c)
		}
	}
	s.WriteByte('"')
	return s.String()
}

func writeHex(s *strings.Builder, b []byte) {
	for _, c := range b[:min(len(b), maxHex)] {
		fmt.Fprintf(s, " %.2x", c)
	}
	if len(b) > maxHex {
		s.WriteString(" ...")
	}
}
