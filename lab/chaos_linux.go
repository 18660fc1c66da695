package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	maxRelayed  = 256      // connections of one Relay at once
	chaosChunk  = 32 << 10 // octets read at once where no rate holds
	chaosQueue  = 64       // chunks on their way where a delay holds: 2 MiB of flight
	maxCaptured = 16 << 20 // octets kept of each direction, the first ones: no test looks for a word in more

	// rateStep is how long a line with a rate collects octets for one write. The
	// kernel may hold rateWaits of them, or rateBuffer octets if that is more: a
	// modem's, or the tests would measure our buffers.
	rateStep   = 20 * time.Millisecond
	rateWaits  = 250 * time.Millisecond
	rateBuffer = 4096
)

// Chaos is a way with faults in it. Up is from who connects, Down towards them.
type Chaos struct{ Up, Down Faults }

// A Relay passes TCP connections on with the faults of a Chaos.
type Relay struct {
	chaos    Chaos
	to       netip.AddrPort
	services *services
	port     uint16
	ctx      context.Context
	up, down tap
}

// Listen begins to relay from a port of all the machine's addresses to an address as
// the machine sees it. Port 0 is any, see Relay.Port. It ends with the Lab unless
// Close ends it before.
func (c Chaos) Listen(m *Machine, port uint16, to netip.AddrPort) (*Relay, error) {
	s, err := newServices(m, maxRelayed)
	if err != nil {
		return nil, err
	}
	listener, err := m.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		s.close()
		return nil, fmt.Errorf("lab: %s: listening for a relay: %w", m.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Relay{chaos: c, to: to, services: s, port: listenerPort(listener), ctx: ctx}
	s.closers = append(s.closers, closerFunc(cancel))
	s.accept(listener, func(client net.Conn) {
		server, err := m.Dial(ctx, "tcp", to.String())
		if err != nil {
			return
		}
		if !s.hold(server) {
			server.Close()
			return
		}
		defer s.release(server)
		r.relay(client.(*net.TCPConn), server.(*net.TCPConn))
	})
	return r, nil
}

// Port is where it listens.
func (r *Relay) Port() uint16 { return r.port }

// Passed is how many octets went on in each direction, all connections together.
func (r *Relay) Passed() (up, down int64) { return r.up.total(), r.down.total() }

// Captured is a copy of the first 16 MiB that went on in each direction, as they went
// on, all connections together.
func (r *Relay) Captured() (up, down []byte) { return r.up.copy(), r.down.copy() }

// Cut ends the connections that there are. New ones are taken as before.
func (r *Relay) Cut() {
	r.services.mu.Lock()
	defer r.services.mu.Unlock()
	for c := range r.services.conns {
		c.Close()
	}
}

// Close ends the relay and its connections, and waits for them.
func (r *Relay) Close() error {
	r.services.close()
	return nil
}

// relay carries one connection until both directions have ended.
func (r *Relay) relay(client, server *net.TCPConn) {
	ctx, end := context.WithCancel(r.ctx)
	defer end()
	stop := context.AfterFunc(ctx, func() {
		client.Close()
		server.Close()
	})
	defer stop()
	var both sync.WaitGroup
	for _, way := range []struct {
		to, from *net.TCPConn
		faults   Faults
		tap      *tap
	}{{server, client, r.chaos.Up, &r.up}, {client, server, r.chaos.Down, &r.down}} {
		both.Go(func() {
			d := flow{ctx, way.to, newFaulty(way.faults), way.tap, time.Time{}}
			if d.carry(way.from) != nil {
				end() // an orderly end is passed on instead, and the other direction lives
			}
		})
	}
	both.Wait()
}

// A flow is one direction of a connection.
type flow struct {
	ctx  context.Context
	to   *net.TCPConn
	line *faulty
	tap  *tap
	free time.Time // when the line has sent what it was given last, with a rate
}

// A chunk is what one read brought.
type chunk struct {
	octets []byte
	came   time.Time
}

var errCut = errors.New("lab: the connection is cut here")

// carry brings octets from a connection on to the other until it ends, and passes
// that end on. Any other end is an error.
func (d *flow) carry(from *net.TCPConn) error {
	size, queue := chaosChunk, 0
	if d.line.Rate > 0 {
		size = d.octetsIn(rateStep)
		if err := from.SetReadBuffer(max(rateBuffer, d.octetsIn(rateWaits))); err != nil {
			return err
		}
	}
	if d.line.Delay > 0 {
		queue = chaosQueue
	}
	if err := d.write(d.line.Prefix, time.Now()); err != nil {
		return err
	}
	chunks := make(chan chunk, queue)
	var reader sync.WaitGroup
	var ended error // why reading did, once chunks is closed
	reader.Go(func() {
		defer close(chunks)
		for {
			buf := make([]byte, size)
			n, err := from.Read(buf)
			if n > 0 {
				select {
				case chunks <- chunk{buf[:n], time.Now()}:
				case <-d.ctx.Done():
					ended = d.ctx.Err()
					return
				}
			}
			if err != nil {
				ended = err
				return
			}
		}
	})
	defer reader.Wait()
	if err := d.passOn(chunks); err != nil {
		from.Close() // wakes the reader
		for range chunks {
		}
		return err
	}
	if !errors.Is(ended, io.EOF) {
		return ended
	}
	return d.to.CloseWrite()
}

// passOn sends on what comes, with its faults, until no more does.
func (d *flow) passOn(chunks <-chan chunk) error {
	for c := range chunks {
		due := c.came.Add(d.line.Delay)
		if err := d.wait(due); err != nil {
			return err
		}
		octets, after := d.line.pass(nil, c.octets)
		if err := d.write(octets, due); err != nil {
			return err
		}
		switch after {
		case stalls:
			<-d.ctx.Done()
			return d.ctx.Err()
		case ends:
			return errCut
		}
	}
	return nil
}

// write sends octets on, due at a time, in the line's own pieces and pace.
func (d *flow) write(octets []byte, due time.Time) error {
	if d.free.Before(due) {
		d.free = due
	}
	for len(octets) > 0 {
		n := len(octets)
		if d.line.Rate > 0 {
			n = min(n, d.octetsIn(rateStep))
		}
		if d.line.OctetPerWrite {
			n = 1
		}
		if d.line.Rate > 0 {
			d.free = d.free.Add(time.Duration(n) * time.Second / time.Duration(d.line.Rate))
			if err := d.wait(d.free); err != nil { // an octet is there when its last bit is
				return err
			}
		}
		if _, err := d.to.Write(octets[:n]); err != nil {
			return err
		}
		d.tap.add(octets[:n])
		octets = octets[n:]
	}
	return nil
}

// octetsIn is how many octets the line sends in a time, and at least one.
func (d *flow) octetsIn(t time.Duration) int {
	return max(1, int(int64(d.line.Rate)*int64(t)/int64(time.Second)))
}

// wait returns at a time, or with an error if the connection ends before.
func (d *flow) wait(until time.Time) error {
	left := time.Until(until)
	if left <= 0 {
		return d.ctx.Err()
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-d.ctx.Done():
		return d.ctx.Err()
	}
}

// A tap counts octets and keeps the first ones.
type tap struct {
	mu     sync.Mutex
	n      int64
	octets []byte
}

func (t *tap) add(octets []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n += int64(len(octets))
	t.octets = append(t.octets, octets[:min(len(octets), maxCaptured-len(t.octets))]...)
}

func (t *tap) total() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

func (t *tap) copy() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.octets)
}
