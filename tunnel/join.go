package tunnel

import (
	"context"
	"net"

	"golang.org/x/sync/errgroup"
)

// Join carries packets between a and b, in order and one batch at a time each
// way, until ctx ends or a Port fails. Super-packets and unfinished checksums
// pass whole; they are completed here, and only here, for a Port that cannot
// take them. Join closes both Ports before it returns the first cause.
func Join(ctx context.Context, a, b Port) error {
	introduce(a, b)
	introduce(b, a)
	g, joined := errgroup.WithContext(ctx)
	g.Go(func() error { return pump(b, a) })
	g.Go(func() error { return pump(a, b) })
	<-joined.Done()
	a.Close() // reads take no context: closing is what wakes the two pumps
	b.Close()
	if err := g.Wait(); ctx.Err() == nil {
		return err
	}
	return context.Cause(ctx)
}

// pump carries packets from src to dst until one of them fails.
func pump(dst, src Port) error {
	batch := make([]Packet, BatchSize)
	f := fitter{caps: dst.Caps()}
	for {
		n, err := src.ReadPackets(batch)
		if err != nil {
			return err
		}
		if err := dst.WritePackets(f.fit(batch[:n])); err != nil {
			return err
		}
	}
}

// Pipe returns two Ports joined in memory: what is written to one is read from
// the other. It is the fake for tests of everything that takes a Port. A
// packet larger than caps.MTU that is no super-packet is dropped. Writes block
// while pipeDepth batches wait.
func Pipe(caps Caps) (Port, Port) {
	ab, ba := make(chan []Packet, pipeDepth), make(chan []Packet, pipeDepth)
	closed := make(chan struct{})
	once := make(chan struct{}, 1)
	once <- struct{}{}
	end := func() error {
		select {
		case <-once:
			close(closed)
		default:
		}
		return nil
	}
	return &pipePort{caps: caps, in: ba, out: ab, closed: closed, end: end},
		&pipePort{caps: caps, in: ab, out: ba, closed: closed, end: end}
}

// pipeDepth is how many batches a Pipe holds each way: enough for a writer and
// a reader to overlap.
const pipeDepth = 4

type pipePort struct {
	caps    Caps
	in, out chan []Packet
	rest    []Packet
	closed  chan struct{}
	end     func() error
}

func (p *pipePort) ReadPackets(batch []Packet) (int, error) {
	if len(p.rest) == 0 {
		select {
		case p.rest = <-p.in:
		case <-p.closed:
			return 0, net.ErrClosed
		}
	}
	n := copy(batch, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func (p *pipePort) WritePackets(batch []Packet) error {
	copies := make([]Packet, 0, len(batch))
	for _, packet := range batch {
		if packet.GSO.Type == GSONone && len(packet.Data) > p.caps.MTU {
			continue
		}
		copies = append(copies, Packet{append([]byte(nil), packet.Data...), packet.GSO})
	}
	if len(copies) == 0 {
		return nil
	}
	select {
	case p.out <- copies:
		return nil
	case <-p.closed:
		return net.ErrClosed
	}
}

func (p *pipePort) Caps() Caps   { return p.caps }
func (p *pipePort) Close() error { return p.end() }
