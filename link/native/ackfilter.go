package native

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/bodkin-net/bodkin/tunnel"
)

// A bulk transfer one way makes a stream of acknowledgements the other way: one
// for each super-packet, 50 octets that cost each program on the way as much as
// 32 KiB do. Since they are cumulative, the last one says it all: while much
// comes in, an acknowledgement that goes out waits for the next of its
// connection, which takes its place (ACK filtering, RFC 3449, section 5.2.2). The
// wait is short beside any round trip over a network, and whatever else goes
// out takes the waiting ones with it.
const (
	bulkPacket = 16 << 10         // octets: an incoming packet this large is part of much
	holdTime   = time.Millisecond // how long an acknowledgement waits at most
	holdCount  = 4                // how many the waiting ones stand for at most
	holdFlows  = holdCount        // connections that wait at most
	holdPacket = 40 + 60          // octets of an acknowledgement at most: IPv6 and the largest TCP header
)

// held are the acknowledgements that wait, each as the Packet that will go out.
// Their owner holds Link.sending.
type held struct {
	packets [holdFlows]tunnel.Packet
	data    [holdFlows][holdPacket]byte
	n       int // packets that wait
	stand   int // for how many
}

// acknowledgement finds, in a TCP packet that says nothing but how far its
// sender has received, where its TCP header lies.
func acknowledgement(p tunnel.Packet) (tcp int, ok bool) {
	if len(p.Data) > holdPacket || p.GSO.Type != tunnel.GSONone {
		return 0, false
	}
	h, err := tunnel.Parse(p.Data)
	if err != nil || h.Protocol != tunnel.ProtoTCP || h.Fragment || len(p.Data) != h.Payload {
		return 0, false
	}
	return h.Transport, p.Data[h.Transport+13] == tcpACK // no SYN, FIN, RST, URG, CWR, ECE
}

// tcpACK is the flag of a segment that acknowledges (RFC 9293, section 3.1).
const tcpACK = 0x10

// hold takes an acknowledgement that may wait. It reports false for any other
// packet, and when nothing more may wait.
func (h *held) hold(p tunnel.Packet) bool {
	tcp, ok := acknowledgement(p)
	if !ok {
		return false
	}
	at := h.n
	for i := range h.n {
		if sameFlow(h.packets[i].Data, p.Data, tcp) {
			if !newer(h.packets[i].Data[tcp:], p.Data[tcp:]) {
				return false // the same again: that means something to the peer (RFC 5681, section 3.2)
			}
			at = i
		}
	}
	if at == holdFlows || h.stand == holdCount {
		return false
	}
	h.packets[at] = tunnel.Packet{Data: append(h.data[at][:0], p.Data...), GSO: p.GSO}
	h.n = max(h.n, at+1)
	h.stand++
	return true
}

// sameFlow reports whether two packets with their TCP headers at tcp have the
// same addresses and ports.
func sameFlow(a, b []byte, tcp int) bool {
	addresses := 12
	if b[0]>>4 == 6 {
		addresses = 8
	}
	return len(a) >= tcp+4 && a[0] == b[0] && bytes.Equal(a[addresses:tcp+4], b[addresses:tcp+4])
}

// newer reports whether TCP header b acknowledges more than a.
func newer(a, b []byte) bool {
	return int32(binary.BigEndian.Uint32(b[8:])-binary.BigEndian.Uint32(a[8:])) > 0
}

// take empties h and returns what waited, valid until the next hold.
func (h *held) take() []tunnel.Packet {
	waiting := h.packets[:h.n]
	h.n, h.stand = 0, 0
	return waiting
}
