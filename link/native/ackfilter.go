package native

import (
	"time"

	"github.com/bodkin-net/bodkin/link/native/fair"
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
)

// held are the acknowledgements that wait, each as the Packet that will go out.
// Their owner holds Link.entrance.
type held struct {
	packets [holdFlows]tunnel.Packet
	data    [holdFlows][fair.AcknowledgementMax]byte
	n       int // packets that wait
	stand   int // for how many
}

// hold takes an acknowledgement that may wait. It reports false for any other
// packet, and when nothing more may wait.
func (h *held) hold(p tunnel.Packet) bool {
	tcp, ok := fair.Acknowledgement(p)
	if !ok {
		return false
	}
	at := h.n
	for i := range h.n {
		if fair.SameFlow(h.packets[i].Data, p.Data, tcp) {
			if !fair.Newer(h.packets[i].Data[tcp:], p.Data[tcp:]) {
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

// take empties h and returns what waited, valid until the next hold.
func (h *held) take() []tunnel.Packet {
	waiting := h.packets[:h.n]
	h.n, h.stand = 0, 0
	return waiting
}
