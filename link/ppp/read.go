package ppp

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
	"github.com/bodkin-net/bodkin/tunnel"
)

// patience is how long the reader waits for ReadPackets to take a batch, or to
// come back for another: then the packets are lost, so that a Link that nobody
// reads from still answers its peer. IP packets may be lost; the peer's keepalive
// may not.
const patience = time.Second

// A loan is a batch of packets that lie in the reader's buffer.
type loan struct {
	packets  []tunnel.Packet
	returned chan struct{} // length 1: ReadPackets is done with it
}

func newLoan() *loan {
	return &loan{packets: make([]tunnel.Packet, 0, tunnel.BatchSize), returned: make(chan struct{}, 1)}
}

// A receiveForm is how what we receive looks.
type receiveForm struct {
	accm hdlc.ACCM
	fcs  hdlc.FCS
}

// A reader is what the reading goroutine owns.
type reader struct {
	link    *Link
	decoder *hdlc.Decoder
	form    *receiveForm // that the decoder has
	loan    *loan        // what is lent, or is being filled
	out     bool         // it is lent
	timer   *time.Timer
	before  hdlc.Stats // of decoders that were given away
}

// ReadPackets returns packets that the peer sent, in the place where they were
// read. See patience.
func (l *Link) ReadPackets(p []tunnel.Packet) (int, error) {
	if len(l.rest) == 0 {
		if l.lent != nil {
			l.lent.returned <- struct{}{}
			l.lent = nil
		}
		select {
		case l.lent = <-l.batches:
			l.rest = l.lent.packets
		case <-l.closing:
			return 0, l.portError()
		case <-l.ended:
			return 0, l.portError()
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// read reads the Stream until it ends.
func (l *Link) read() {
	defer l.running.Done()
	r := reader{link: l, timer: time.NewTimer(patience)}
	defer r.timer.Stop()
	r.renew()
	for {
		r.reclaim()
		r.reform()
		b := r.decoder.Buffer()
		n, err := l.stream.Read(b)
		if n > 0 {
			if l.record != nil {
				l.record.Received(b[:n])
			}
			l.counts.lineIn.Add(uint64(n))
			r.quote(b[:n])
			r.decoder.Fill(n)
			r.take()
		}
		if err != nil {
			l.do(func(now time.Time) { l.hangup(err, now) })
			return
		}
	}
}

// quote keeps what comes before the first good frame.
func (r *reader) quote(b []byte) {
	l := r.link
	if l.counts.frames.Load() > 0 {
		return
	}
	l.mu.Lock()
	l.text = append(l.text, b[:min(len(b), maxText-len(l.text))]...)
	l.mu.Unlock()
}

// renew takes a new buffer, because what is in the old one is lent, or there is
// none. A frame that had only begun is lost.
func (r *reader) renew() {
	if r.decoder != nil {
		r.before = sum(r.before, r.decoder.Stats)
	}
	r.decoder = hdlc.NewDecoder(max(r.link.c.LCP.MRU, defaultMRU))
	r.form = &receiveForm{}
	r.loan, r.out = newLoan(), false
}

// reclaim waits for what is lent to come back, which must be before the buffer is
// read into again.
func (r *reader) reclaim() {
	if !r.out {
		return
	}
	select {
	case <-r.loan.returned:
		r.out = false
		return
	default:
	}
	r.timer.Reset(patience)
	select {
	case <-r.loan.returned:
		r.out = false
	case <-r.link.closing:
		r.renew()
	case <-r.link.ended:
		r.renew()
	case <-r.timer.C:
		r.renew()
	}
}

// reform makes the decoder expect what was agreed.
func (r *reader) reform() {
	if form := r.link.receive.Load(); form != r.form {
		r.form = form
		r.decoder.SetReceiveMap(form.accm)
		r.decoder.SetFCS(form.fcs)
	}
}

// take takes the frames out of what was read.
func (r *reader) take() {
	l := r.link
	r.loan.packets = r.loan.packets[:0]
	var octets uint64
	for {
		protocol, data, ok := r.decoder.Next()
		if !ok {
			break
		}
		l.counts.frames.Add(1)
		if l.isPacket(protocol, data) {
			r.loan.packets = append(r.loan.packets, tunnel.Packet{Data: data})
			octets += uint64(len(data))
			continue
		}
		l.do(func(now time.Time) { l.control(protocol, data, now) })
		r.reform()
	}
	l.counts.setLine(sum(r.before, r.decoder.Stats))
	if n := len(r.loan.packets); n > 0 {
		l.counts.packetsIn.Add(uint64(n))
		l.counts.octetsIn.Add(octets)
		r.lend()
	}
}

// isPacket reports whether a frame holds an IP packet of an open network.
func (l *Link) isPacket(protocol uint16, data []byte) bool {
	switch protocol {
	case protocolIPv4:
		return l.up4.Load() && len(data) > 0 && data[0]>>4 == 4
	case protocolIPv6:
		return l.up6.Load() && len(data) > 0 && data[0]>>4 == 6
	}
	return false
}

// lend offers the batch to ReadPackets.
func (r *reader) lend() {
	l := r.link
	select {
	case l.batches <- r.loan:
		r.out = true
		return
	default:
	}
	r.timer.Reset(patience)
	select {
	case l.batches <- r.loan:
		r.out = true
	case <-l.closing:
	case <-l.ended:
	case <-r.timer.C:
		l.counts.dropped.Add(uint64(len(r.loan.packets)))
	}
}

// reasonOf says why a Stream ended.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return "end of stream"
	}
	return carrier.Printable(err.Error())
}
