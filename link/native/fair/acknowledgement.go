package fair

import (
	"bytes"
	"encoding/binary"

	"github.com/bodkin-net/bodkin/tunnel"
)

// AcknowledgementMax is the largest packet in octets that Acknowledgement accepts: IPv6
// and the largest TCP header.
const AcknowledgementMax = 40 + 60

// Acknowledgement finds, in a TCP packet that says nothing but how far its
// sender has received, where its TCP header lies.
func Acknowledgement(p tunnel.Packet) (tcp int, ok bool) {
	if len(p.Data) > AcknowledgementMax || p.GSO.Type != tunnel.GSONone {
		return 0, false
	}
	h, err := tunnel.Parse(p.Data)
	if err != nil || h.Protocol != tunnel.ProtoTCP || h.Fragment || len(p.Data) != h.Payload {
		return 0, false
	}
	return h.Transport, p.Data[h.Transport+13] == tcpACK // no SYN, FIN, RST, URG, CWR, ECE
}

// SameFlow reports whether two packets with their TCP headers at tcp have the
// same addresses and ports.
func SameFlow(a, b []byte, tcp int) bool {
	addresses := 12
	if b[0]>>4 == 6 {
		addresses = 8
	}
	return len(a) >= tcp+20 && a[0] == b[0] && bytes.Equal(a[addresses:tcp+4], b[addresses:tcp+4])
}

// Newer reports whether TCP header b acknowledges more than a.
func Newer(a, b []byte) bool {
	return int32(binary.BigEndian.Uint32(b[8:])-binary.BigEndian.Uint32(a[8:])) > 0
}
