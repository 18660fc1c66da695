package ppp

import (
	"net"
	"time"

	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
	"github.com/bodkin-net/bodkin/tunnel"
)

const (
	// maxWrite is how many octets of frames are gathered before they are written:
	// enough that a system call costs little, and no more than a packet of control
	// has to wait for.
	maxWrite = 128 << 10

	// idle is after how long a silent line may have made noise, which a flag
	// closes off (RFC 1662, section 4.4).
	idle = time.Second
)

// WritePackets encodes the packets behind the control packets that wait, and
// writes them at once. Packets of a network protocol that is not open, that are
// larger than the peer takes, or that are not whole, are dropped and counted.
func (l *Link) WritePackets(p []tunnel.Packet) error {
	l.writing <- struct{}{}
	defer func() { <-l.writing }()
	for len(p) > 0 {
		select {
		case <-l.closing:
			return l.portError()
		case <-l.ended:
			return l.portError()
		default:
		}
		b := l.outbox.appendTo(l.lead())
		format := l.format.Load()
		mtu := int(l.mtu.Load())
		var packets, octets uint64
		for len(p) > 0 && len(b) < maxWrite {
			packet := p[0]
			p = p[1:]
			protocol := l.protocolOf(packet.Data)
			if protocol == 0 || len(packet.Data) > mtu || packet.GSO != (tunnel.Offload{}) {
				l.counts.dropped.Add(1)
				continue
			}
			b = format.Append(b, protocol, packet.Data)
			packets++
			octets += uint64(len(packet.Data))
		}
		if err := l.put(b); err != nil {
			l.broken(err)
			return l.portError()
		}
		l.counts.packetsOut.Add(packets)
		l.counts.octetsOut.Add(octets)
	}
	return nil
}

// protocolOf returns the protocol that carries an IP packet; 0: none does now.
func (l *Link) protocolOf(data []byte) uint16 {
	switch {
	case len(data) == 0:
	case data[0]>>4 == 4 && l.up4.Load():
		return protocolIPv4
	case data[0]>>4 == 6 && l.up6.Load():
		return protocolIPv6
	}
	return 0
}

// lead returns the empty buffer, with a flag in it after an idle time. Its caller
// holds writing.
func (l *Link) lead() []byte {
	if time.Since(l.lastWrite) > idle {
		return append(l.buffer[:0], hdlc.Flag)
	}
	return l.buffer[:0]
}

// put writes b, which began with lead. Its caller holds writing.
func (l *Link) put(b []byte) error {
	l.buffer = b
	if len(b) == 0 || len(b) == 1 && b[0] == hdlc.Flag {
		return nil
	}
	l.lastWrite = time.Now()
	if l.record != nil {
		l.record.Sent(b)
	}
	n, err := l.stream.Write(b)
	l.counts.lineOut.Add(uint64(n))
	return err
}

// flush writes what is in the outbox.
func (l *Link) flush() error {
	l.writing <- struct{}{}
	defer func() { <-l.writing }()
	return l.put(l.outbox.appendTo(l.lead()))
}

// broken ends the link because the Stream cannot be written to. The reader may
// still find a better reason, in what the peer or the carrier said at the end.
func (l *Link) broken(err error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-l.ended:
	case <-timer.C:
		l.do(func(now time.Time) { l.hangup(err, now) })
	}
}

// write writes control frames as they come, if no packet takes them along.
func (l *Link) write() {
	defer l.running.Done()
	for {
		select {
		case <-l.wake:
			if err := l.flush(); err != nil {
				l.broken(err)
				return
			}
		case <-l.ended:
			return
		}
	}
}

// portError returns what the Port's methods do at the end.
func (l *Link) portError() error {
	select {
	case <-l.closing:
		return net.ErrClosed
	default:
	}
	if err := l.Err(); err != nil {
		return err
	}
	return net.ErrClosed
}
