package native

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/tunnel"
)

// What spec.md leaves to an implementation, or recommends. To each of the waits comes
// the Stream's own Patience.
const (
	helloTimeout  = 20 * time.Second
	idleBeforeAsk = 10 * time.Second // of silence, then an echo request
	deadAfter     = 30 * time.Second // of silence
	closeTimeout  = time.Second      // for a CLOSE or ERROR to be written

	// readSize is the receive buffer in octets: several super-packets, so that a
	// read takes what the carrier has and the packets go on from where they lie.
	readSize = 512 << 10
)

// ErrSilent ends a link whose peer has not been heard for 30 seconds, or longer on a
// slow way.
var ErrSilent = errors.New("native: nothing heard from the peer for too long")

// A Link is a tunnel.Port to the peer's Port.
type Link struct {
	stream carrier.Stream
	caps   tunnel.Caps // what the peer takes: what WritePackets takes
	ours   tunnel.Caps // what we offered to take

	// Receiving: buf[start:end] is what was read and not yet cut. Owned by
	// ReadPackets.
	buf        []byte
	start, end int

	// Sending: what waits to be sent, and one writer at a time.
	entrance entrance
	sending  writing
	headers  []byte
	vectors  net.Buffers

	// Control frames that the reader owes; written by the keeper or before the
	// next packets, whichever comes first, so that a reader never waits for a
	// writer: two sides doing that would wait for each other.
	owed struct {
		sync.Mutex
		reply   bool
		payload [8]byte
	}
	wake chan struct{} // to the keeper: something is owed

	bulk   atomic.Bool  // much comes in
	heard  atomic.Int64 // when a frame last came, nanoseconds since opened
	asked  atomic.Int64 // when the last echo request left, likewise; 0 when answered
	opened time.Time

	packetsIn, packetsOut, octetsIn, octetsOut, dropped atomic.Uint64
	roundTrip                                           atomic.Int64 // nanoseconds; 0 before the first echo

	ended  chan struct{} // closed by Close
	once   sync.Once
	cause  atomic.Pointer[error]
	keeper sync.WaitGroup // the goroutines of keep and carry
}

// A writing is held by who writes to the Stream. It is no sync.Mutex since a write may
// take as long as the peer likes: whoever waits for it is seen to wait (testing/synctest).
type writing chan struct{}

func (w writing) Lock()   { w <- struct{}{} }
func (w writing) Unlock() { <-w }

// TryLock is Lock if nobody writes; it reports whether it was.
func (w writing) TryLock() bool {
	select {
	case w <- struct{}{}:
		return true
	default:
		return false
	}
}

// Stats are a link's counts since it opened.
type Stats struct {
	PacketsIn, PacketsOut uint64        // super-packets count once
	OctetsIn, OctetsOut   uint64        // of IP
	Dropped               uint64        // packets from the peer that were not what they said
	QueuedPackets         int           // that wait for the Stream now
	QueuedOctets          int           // of them
	DroppedQueue          uint64        // packets that waited for the Stream too long, or were too many
	Marked                uint64        // packets that were marked instead (RFC 3168)
	Quenched              uint64        // packets whose sender was told instead
	RoundTrip             time.Duration // of the last echo; 0 before the first
}

// Open opens a link on s as the client: it says mine first, and returns what
// the peer answered and what that makes agreed. It owns s from then on, and
// closes it when it fails or when ctx ends before the hellos are through.
func Open(ctx context.Context, s carrier.Stream, mine Hello) (*Link, Hello, tunnel.Agreed, error) {
	var l *Link
	var peer Hello
	var agreed tunnel.Agreed
	err := within(ctx, s, func() error {
		if _, err := s.Write(mine.append(nil)); err != nil {
			return fmt.Errorf("native: hello: %w", err)
		}
		l = newLink(s, mine.Receives)
		var err error
		if peer, err = l.readHello(); err != nil {
			return err
		}
		agreed, err = agree(mine, peer)
		return err
	})
	return l.begin(s, peer, agreed, err)
}

// Accept opens a link on s as the server: it reads the peer's hello, and says
// what answer makes of it. An error of answer's is told to the peer. It owns s
// from then on, and closes it when it fails or when ctx ends first.
func Accept(ctx context.Context, s carrier.Stream, answer func(peer Hello) (Hello, error)) (*Link, Hello, tunnel.Agreed, error) {
	var l *Link
	var peer Hello
	var agreed tunnel.Agreed
	err := within(ctx, s, func() error {
		l = newLink(s, tunnel.Caps{})
		var err error
		if peer, err = l.readHello(); err != nil {
			return err
		}
		mine, err := answer(peer)
		if err != nil {
			return protocolError(ErrorPolicy, "%v", err)
		}
		l.ours = mine.Receives
		if agreed, err = agree(mine, peer); err != nil {
			return err
		}
		if _, err := s.Write(mine.append(nil)); err != nil {
			return fmt.Errorf("native: hello: %w", err)
		}
		return nil
	})
	return l.begin(s, peer, agreed, err)
}

// within runs fn, and closes s to wake it when ctx or the hello's time ends.
func within(ctx context.Context, s carrier.Stream, fn func() error) error {
	wait := helloTimeout + s.Patience()
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("native: no hello from the peer in %.0f seconds", wait.Seconds()))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	err := fn()
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

func newLink(s carrier.Stream, ours tunnel.Caps) *Link {
	l := &Link{
		stream:  s,
		ours:    ours,
		buf:     make([]byte, readSize),
		wake:    make(chan struct{}, 1),
		sending: make(writing, 1),
		ended:   make(chan struct{}),
		opened:  time.Now(),
	}
	most := tunnel.BatchSize + holdFlows
	l.headers = make([]byte, 0, most*(headerLen+factsLen)+headerLen+8)
	l.vectors = make(net.Buffers, 0, 2*most+1)
	return l
}

// begin finishes Open and Accept: the link starts to carry, or the peer is told
// why not.
func (l *Link) begin(s carrier.Stream, peer Hello, agreed tunnel.Agreed, err error) (*Link, Hello, tunnel.Agreed, error) {
	if err != nil {
		var ours *ProtocolError
		if errors.As(err, &ours) && !ours.Remote {
			l.farewell(frameError, ours.Code, ours.Text)
		}
		s.Close()
		return nil, peer, agreed, err
	}
	l.caps = peer.Receives
	l.caps.MTU = agreed.MTU
	l.entrance.open(l)
	l.keeper.Go(l.keep)
	if l.entrance.queue != nil {
		l.keeper.Go(l.carry)
	}
	return l, peer, agreed, nil
}

// readHello reads frames until the peer's HELLO, which must be the first.
func (l *Link) readHello() (Hello, error) {
	for {
		frame, payload, rest, _, err := cutFrame(l.buf[l.start:l.end])
		switch {
		case err != nil && l.start == 0:
			return Hello{}, protocolError(ErrorHello, "hello: the other side is not a bodkin (it began with %q)", printable(l.buf[:l.end], 40))
		case err != nil:
			return Hello{}, err
		case payload != nil:
			l.start = l.end - len(rest)
			switch frame {
			case frameHello:
				return parseHello(payload)
			case frameClose, frameError:
				return Hello{}, ending(frame, payload)
			}
			return Hello{}, protocolError(ErrorHello, "hello: a frame of type 0x%02x came first", frame)
		}
		n, err := l.stream.Read(l.buf[l.end:])
		l.end += n
		if n == 0 && err != nil {
			return Hello{}, fmt.Errorf("native: waiting for the peer's hello: %w", err)
		}
	}
}

// Caps says what the peer takes.
func (l *Link) Caps() tunnel.Caps { return l.caps }

// ReadPackets returns the packets that the peer sent: it reads once from the
// stream when it holds none, and returns all that are whole. Their Data lies in
// the receive buffer.
func (l *Link) ReadPackets(p []tunnel.Packet) (int, error) {
	for {
		n, need, err := l.cut(p)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, l.fail(err)
		}
		// The packets given out last time are the caller's no more: what is
		// left of the buffer moves to its front when a frame would not fit.
		if l.start == l.end {
			l.start, l.end = 0, 0
		} else if l.start+need > len(l.buf) || len(l.buf)-l.end < len(l.buf)/4 {
			l.end = copy(l.buf, l.buf[l.start:l.end])
			l.start = 0
		}
		r, err := l.stream.Read(l.buf[l.end:])
		l.end += r
		if r > 0 {
			l.heard.Store(int64(time.Since(l.opened)))
			continue
		}
		if err != nil {
			return 0, l.fail(err)
		}
	}
}

// cut takes frames off the receive buffer until p is full or no whole frame is
// left; need is how long the next frame is. An error comes only with n == 0.
func (l *Link) cut(p []tunnel.Packet) (n, need int, err error) {
	for n < len(p) {
		frame, payload, rest, need, err := cutFrame(l.buf[l.start:l.end])
		if err != nil || need > 0 {
			if n > 0 {
				err = nil
			}
			return n, need, err
		}
		next := l.end - len(rest)
		switch frame {
		case framePacket, frameSuper:
			packet, ok := parsePacket(frame, payload, l.ours)
			if !ok {
				l.dropped.Add(1)
				break
			}
			p[n] = packet
			n++
			l.bulk.Store(len(packet.Data) >= bulkPacket)
			l.packetsIn.Add(1)
			l.octetsIn.Add(uint64(len(packet.Data)))
		case frameEchoRequest, frameEchoReply:
			if len(payload) != 8 {
				err = protocolError(ErrorFrame, "echo of %d octets", len(payload))
			} else {
				l.echo(frame, payload)
			}
		case frameClose, frameError:
			err = ending(frame, payload)
		case frameHello:
			err = protocolError(ErrorHello, "a second hello")
		}
		if err != nil {
			if n > 0 { // first what came before; the frame is still there next time
				return n, 0, nil
			}
			return 0, 0, err
		}
		l.start = next
	}
	return n, 0, nil
}

// send writes the control frames that are owed, and the packets. Its caller holds
// l.sending.
func (l *Link) send(first, then []tunnel.Packet) error {
	l.headers = l.appendOwed(l.headers[:0])
	l.vectors = l.vectors[:0]
	if len(l.headers) > 0 {
		l.vectors = append(l.vectors, l.headers)
	}
	octets, packets := 0, 0
	for _, list := range [...][]tunnel.Packet{first, then} {
		for _, packet := range list {
			if !l.fits(packet) {
				l.dropped.Add(1)
				continue
			}
			at := len(l.headers)
			l.headers = appendPacketHeader(l.headers, packet)
			l.vectors = append(l.vectors, l.headers[at:], packet.Data)
			octets += len(packet.Data)
			packets++
		}
	}
	if len(l.vectors) == 0 {
		return nil
	}
	if err := l.stream.WriteBuffers(l.vectors); err != nil {
		return l.fail(err)
	}
	l.packetsOut.Add(uint64(packets))
	l.octetsOut.Add(uint64(octets))
	return nil
}

// fits reports whether the peer takes a packet of this size.
func (l *Link) fits(p tunnel.Packet) bool {
	return len(p.Data) <= l.caps.MTU || p.GSO.Type != tunnel.GSONone && len(p.Data) <= tunnel.MaxPacket
}

// fail keeps the first cause of the link's end, or what the peer says of it, and returns it. A protocol
// error of the peer's is told to the peer.
func (l *Link) fail(err error) error {
	select {
	case <-l.ended:
		l.cause.CompareAndSwap(nil, &net.ErrClosed)
	default:
	}
	if l.cause.CompareAndSwap(nil, &err) {
		var ours *ProtocolError
		if errors.As(err, &ours) && !ours.Remote {
			l.farewell(frameError, ours.Code, ours.Text)
		}
	} else if said(err) {
		// A peer that ends the link closes the Stream after its word, so that a write may
		// have failed before that was read.
		if cause := l.cause.Load(); *cause != net.ErrClosed && !said(*cause) {
			l.cause.CompareAndSwap(cause, &err)
		}
	}
	return *l.cause.Load()
}

// said reports whether err is the peer's word.
func said(err error) bool {
	var closed *ClosedError
	var broken *ProtocolError
	return errors.As(err, &closed) || errors.As(err, &broken) && broken.Remote
}

// Close ends the link in good order: the peer is told, the stream closed.
func (l *Link) Close() error { return l.CloseWith(CloseNoReason, "") }

// CloseWith is Close with a code of CLOSE and a text for people.
func (l *Link) CloseWith(code uint8, text string) error {
	l.once.Do(func() {
		close(l.ended)
		l.entrance.release.Stop()
		if l.cause.CompareAndSwap(nil, &net.ErrClosed) {
			l.farewell(frameClose, code, text)
		}
		l.stream.Close()
	})
	l.keeper.Wait()
	return nil
}

// farewell writes a CLOSE or ERROR if that can be done soon: a peer that does
// not read must not hold us.
func (l *Link) farewell(frame, code uint8, text string) {
	text = text[:min(len(text), textMax-1)]
	b := append(appendHeader(nil, frame, 1+len(text)), code)
	b = append(b, text...)
	done := make(chan struct{})
	late := time.AfterFunc(closeTimeout, func() { l.stream.Close() })
	defer late.Stop()
	go func() {
		defer close(done)
		l.sending.Lock()
		defer l.sending.Unlock()
		l.stream.Write(b)
	}()
	<-done
}

// Stats returns the link's counts.
func (l *Link) Stats() Stats {
	return Stats{
		PacketsIn: l.packetsIn.Load(), PacketsOut: l.packetsOut.Load(),
		OctetsIn: l.octetsIn.Load(), OctetsOut: l.octetsOut.Load(),
		Dropped:       l.dropped.Load(),
		QueuedPackets: int(l.entrance.packets.Load()),
		QueuedOctets:  int(l.entrance.octets.Load()),
		DroppedQueue:  uint64(l.entrance.dropped.Load()),
		Marked:        uint64(l.entrance.marked.Load()),
		Quenched:      uint64(l.entrance.quenched.Load()),
		RoundTrip:     time.Duration(l.roundTrip.Load()),
	}
}

// ending makes the error of a CLOSE's or ERROR's payload.
func ending(frame byte, payload []byte) error {
	code, text := uint8(0), ""
	if len(payload) > 0 {
		code, text = payload[0], printable(payload[1:], textMax-1)
	}
	if frame == frameError {
		return &ProtocolError{Remote: true, Code: code, Text: text}
	}
	return &ClosedError{Code: code, Text: text}
}
