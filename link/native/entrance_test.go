package native

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A way is one half of a Stream that carries rate octets per second and is a Meter: no
// more than window octets are under way, and a Write waits for room.
type way struct {
	net.Conn
	rate   int
	window int

	mu     sync.Mutex
	room   *sync.Cond
	flying int
	queue  chan []byte
	stands bool
	closed bool
	wrote  int
	moved  sync.WaitGroup
}

func newWay(c net.Conn, rate, window int) *way {
	w := &way{Conn: c, rate: rate, window: window, queue: make(chan []byte, 1<<16)}
	w.room = sync.NewCond(&w.mu)
	w.moved.Go(w.move)
	return w
}

// move is the wire.
func (w *way) move() {
	for b := range w.queue {
		for len(b) > 0 {
			n := min(len(b), 1514)
			w.mu.Lock()
			rate := w.rate
			w.mu.Unlock()
			time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
			w.mu.Lock()
			for w.stands && !w.closed {
				w.room.Wait()
			}
			w.mu.Unlock()
			w.Conn.Write(b[:n])
			b = b[n:]
			w.mu.Lock()
			w.flying -= n
			w.room.Broadcast()
			w.mu.Unlock()
		}
	}
}

func (w *way) Room() (octets, burst int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(w.window-w.flying, 0), max(w.rate/500, 1514)
}

func (w *way) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.flying > 0 && w.flying+len(b) > w.window && !w.closed {
		w.room.Wait()
	}
	if w.closed {
		return 0, net.ErrClosed
	}
	w.flying += len(b)
	w.wrote++
	w.queue <- bytes.Clone(b)
	return len(b), nil
}

// slow has the wire carry so many octets per second.
func (w *way) slow(rate int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rate = rate
}

// stand has the wire stand still, or go on.
func (w *way) stand(still bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stands = still
	w.room.Broadcast()
}

// Close has what was written still arrive, if the wire moves.
func (w *way) Close() error {
	w.mu.Lock()
	if w.stands {
		w.Conn.Close()
	}
	if !w.closed {
		w.closed = true
		close(w.queue)
	}
	w.room.Broadcast()
	w.mu.Unlock()
	w.moved.Wait()
	return w.Conn.Close()
}

// 20 Mbit/s, and what is under way in 10 ms.
const (
	wayRate   = 20_000_000 / 8
	wayWindow = wayRate / 100
)

// writes returns how many there were so far.
func (w *way) writes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wrote
}

// throughWay opens a link over a way to a peer that passes what comes to got, which must
// not block.
func throughWay(t *testing.T, got func(tunnel.Packet)) (c *Link, w *way, end func()) {
	t.Helper()
	a, b := net.Pipe()
	w = newWay(a, wayRate, wayWindow)
	hello := serverHello
	hello.Receives = all
	accepted := make(chan *Link, 1)
	go func() {
		s, _, _, _ := Accept(t.Context(), carrier.Stream{ReadWriteCloser: b, Lasting: true}, func(Hello) (Hello, error) { return hello, nil })
		accepted <- s
	}()
	c, _, _, err := Open(t.Context(), carrier.Stream{ReadWriteCloser: w, Lasting: true}, clientHello)
	if err != nil {
		t.Fatal(err)
	}
	s := <-accepted
	var reading sync.WaitGroup
	reading.Go(func() {
		batch := make([]tunnel.Packet, tunnel.BatchSize)
		for {
			n, err := s.ReadPackets(batch)
			if err != nil {
				return
			}
			for _, p := range batch[:n] {
				got(p)
			}
		}
	})
	reading.Go(func() {
		for {
			if _, err := c.ReadPackets(make([]tunnel.Packet, 1)); err != nil {
				return
			}
		}
	})
	return c, w, func() {
		c.Close()
		s.Close()
		reading.Wait()
	}
}

// segment is a TCP segment from a port with payload octets of payload.
func segment(port uint16, payload int) tunnel.Packet {
	d := make([]byte, 40+payload)
	copy(d, []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 2, 15, 203, 0, 113, 100})
	binary.BigEndian.PutUint16(d[2:], uint16(len(d)))
	binary.BigEndian.PutUint16(d[20:], port)
	d[32], d[33] = 0x50, 0x10
	return tunnel.Packet{Data: d}
}

func from(p tunnel.Packet) uint16 { return binary.BigEndian.Uint16(p.Data[20:]) }

// TestQuickUnderLoad: while two transfers offer more than a way of 20 Mbit/s carries, one
// in frames and one in super-packets, a ping waits no longer than what is under way and a
// burst, they have half each, and the way is full.
func TestQuickUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		octets := map[uint16]int{}
		sent, delays := map[uint16]time.Time{}, []time.Duration(nil)
		var mu sync.Mutex
		c, w, end := throughWay(t, func(p tunnel.Packet) {
			mu.Lock()
			defer mu.Unlock()
			if p.Data[9] == tunnel.ProtoUDP {
				delays = append(delays, time.Since(sent[from(p)]))
				return
			}
			if _, err := p.Check(); err != nil {
				t.Errorf("%v", err)
			}
			octets[from(p)] += len(p.Data)
		})
		defer end()
		super := segment(2000, 44*1460)
		super.GSO = tunnel.Offload{Type: tunnel.GSOTCP4, NeedsChecksum: true, SegmentSize: 1460}
		datagram := unhex(t, udp)
		for tick := range 10_000 {
			// 30 Mbit/s of each transfer, in ticks of 1 ms.
			batch := []tunnel.Packet{}
			for range 3 {
				batch = append(batch, segment(1000, 1210))
			}
			if tick%17 == 0 {
				batch = append(batch, super)
			}
			if tick%100 == 99 {
				n := uint16(tick / 100)
				binary.BigEndian.PutUint16(datagram[20:], n)
				mu.Lock()
				sent[n] = time.Now()
				mu.Unlock()
				batch = append(batch, tunnel.Packet{Data: datagram})
			}
			began := time.Now()
			if err := c.WritePackets(batch); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 0 {
				t.Fatalf("tick %d: WritePackets waited %v", tick, took)
			}
			time.Sleep(time.Millisecond)
		}
		mu.Lock()
		defer mu.Unlock()
		worst := time.Duration(0)
		for _, d := range delays {
			worst = max(worst, d)
		}
		// 10 ms are under way, 2 ms wait for room, and a frame may be half sent.
		if len(delays) < 99 || worst > 15*time.Millisecond {
			t.Errorf("%d of 100 datagrams came, the slowest after %v", len(delays), worst)
		}
		a, b := octets[1000], octets[2000]
		if sum := a + b; sum < wayRate*10*97/100 || max(a, b) > sum*52/100 {
			t.Errorf("in 10 s came %d octets in frames and %d in super-packets, of %d", a, b, wayRate*10)
		}
		s := c.Stats()
		if s.QueuedPackets == 0 || s.QueuedOctets > 4<<20 || s.DroppedQueue == 0 {
			t.Errorf("%+v", s)
		}
		t.Logf("slowest of %d datagrams: %v; %d and %d octets; %d writes; %+v", len(delays), worst, a, b, w.writes(), s)
	})
}

// A source is a Port that sends less when it is told to.
type source struct {
	tunnel.Port
	told atomic.Int64
}

func (s *source) Quench(packet []byte, stood time.Duration) bool {
	s.told.Add(1)
	return true
}

// TestSourceIsTold: packets of a source that stand are not dropped, and it is told.
func TestSourceIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count, wrote int64
		var mu sync.Mutex
		c, _, end := throughWay(t, func(tunnel.Packet) {
			mu.Lock()
			defer mu.Unlock()
			count++
		})
		defer end()
		s := &source{}
		c.SetSource(s)
		for s.told.Load() < 5 { // half as much again as the way carries, until then
			for range 3 {
				if err := c.WritePackets([]tunnel.Packet{segment(1000, 1210)}); err != nil {
					t.Fatal(err)
				}
				wrote++
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if stats := c.Stats(); count != wrote || stats.DroppedQueue != 0 || stats.Quenched != uint64(s.told.Load()) {
			t.Errorf("of %d packets came %d, %+v", wrote, count, stats)
		}
	})
}

// TestRoomIsUsedUncopied: what there is room for does not go by the queue.
func TestRoomIsUsedUncopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count atomic.Int64
		c, w, end := throughWay(t, func(tunnel.Packet) { count.Add(1) })
		defer end()
		before := w.writes()
		for range 100 {
			if err := c.WritePackets([]tunnel.Packet{segment(1000, 1000), segment(1001, 100)}); err != nil {
				t.Fatal(err)
			}
			if s := c.Stats(); s.QueuedPackets != 0 {
				t.Fatalf("%+v", s)
			}
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if count.Load() != 200 || w.writes()-before != 100 {
			t.Errorf("%d packets came in %d writes", count.Load(), w.writes()-before)
		}
	})
}

// TestSuperPacketComesInPieces: of a super-packet for which there is room, the first part
// comes before the whole could, and the parts are all of it.
func TestSuperPacketComesInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const payload = 12 * 1460
		octets, first := 0, time.Duration(0)
		var began time.Time
		var mu sync.Mutex
		c, _, end := throughWay(t, func(p tunnel.Packet) {
			mu.Lock()
			defer mu.Unlock()
			if first == 0 {
				first = time.Since(began)
			}
			octets += len(p.Data) - 40
		})
		defer end()
		super := segment(2000, payload)
		super.GSO = tunnel.Offload{Type: tunnel.GSOTCP4, NeedsChecksum: true, SegmentSize: 1460}
		began = time.Now()
		if err := c.WritePackets([]tunnel.Packet{super}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if whole := time.Second * payload / wayRate; first > whole/2 {
			t.Errorf("the first part came after %v, and all of it takes %v", first, whole)
		}
		if octets != payload {
			t.Errorf("%d octets came, of %d", octets, payload)
		}
	})
}

// TestOrderOfAFlow: whichever way packets take, those of a flow stay in order, and a link
// that has room for them loses none.
func TestOrderOfAFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last := map[uint16]uint32{}
		var count atomic.Int64
		c, _, end := throughWay(t, func(p tunnel.Packet) {
			n := binary.BigEndian.Uint32(p.Data[24:])
			if n <= last[from(p)] {
				t.Errorf("flow %d: %d after %d", from(p), n, last[from(p)])
			}
			last[from(p)] = n
			count.Add(1)
		})
		defer end()
		n := uint32(0)
		for round := range 300 {
			batch := []tunnel.Packet{}
			for i := range round % 30 {
				n++
				p := segment(uint16(1000+i%3), 700*(i%3))
				binary.BigEndian.PutUint32(p.Data[24:], n)
				p.Data[33] = 0x18 // no bare acknowledgement
				batch = append(batch, p)
			}
			if err := c.WritePackets(batch); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if count.Load() != int64(n) {
			t.Errorf("%d of %d packets came; %+v", count.Load(), n, c.Stats())
		}
	})
}

// TestAwayAndBack: a Stream that stands still for five minutes makes nobody wait, and
// what waited is not thrown away for its age.
func TestAwayAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count atomic.Int64
		c, w, end := throughWay(t, func(tunnel.Packet) { count.Add(1) })
		defer end()
		w.stand(true)
		const packets, atOnce = 1000, 200
		for i := range packets {
			began := time.Now()
			if err := c.WritePackets([]tunnel.Packet{segment(1000, 1400)}); err != nil {
				t.Fatal(err)
			}
			if time.Since(began) > 0 {
				t.Fatal("WritePackets waited")
			}
			if i > atOnce {
				time.Sleep(300 * time.Millisecond)
			}
		}
		if s := c.Stats(); s.DroppedQueue > 0 || s.QueuedPackets < packets-20 {
			t.Errorf("meanwhile %+v", s)
		}
		w.stand(false)
		time.Sleep(5 * time.Second)
		if s := c.Stats(); s.DroppedQueue > 0 {
			t.Errorf("%d packets came; %+v", count.Load(), s)
		}
	})
}

// TestSlowIsNotAway: on a way where each write takes seconds, a queue that stands is one.
func TestSlowIsNotAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, end := throughWay(t, func(tunnel.Packet) {})
		defer end()
		w.slow(300)
		for range 400 {
			if err := c.WritePackets([]tunnel.Packet{segment(1000, 1000)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
		}
		w.slow(wayRate) // for the end
		if s := c.Stats(); s.DroppedQueue < 100 {
			t.Errorf("%+v", s)
		}
	})
}

// TestFullAndAway: while the Stream stands still, the queue holds so much and no more,
// and WritePackets does not wait for it.
func TestFullAndAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, end := throughWay(t, func(tunnel.Packet) {})
		defer end()
		w.stand(true)
		batch := []tunnel.Packet{segment(1000, 60_000), segment(1000, 60_000)}
		began := time.Now()
		for range 100 {
			if err := c.WritePackets(batch); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began); took > 200*time.Millisecond {
			t.Errorf("100 calls took %v", took)
		}
		if s := c.Stats(); s.QueuedOctets > 4<<20 || s.QueuedOctets < 3<<20 || s.DroppedQueue == 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestCloseBehindAQueue: the peer is told within a second though much waits; on a Stream
// that stands still nobody waits longer.
func TestCloseBehindAQueue(t *testing.T) {
	for name, still := range map[string]bool{"moving": false, "standing still": true} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			w := newWay(a, wayRate, wayWindow)
			told := make(chan error, 1)
			go func() {
				s, _, _, _ := Accept(t.Context(), carrier.Stream{ReadWriteCloser: b}, func(Hello) (Hello, error) { return serverHello, nil })
				for {
					if _, err := s.ReadPackets(make([]tunnel.Packet, 16)); err != nil {
						s.Close()
						told <- err
						return
					}
				}
			}()
			c, _, _, err := Open(t.Context(), carrier.Stream{ReadWriteCloser: w, Lasting: true}, clientHello)
			if err != nil {
				t.Fatal(err)
			}
			w.stand(still)
			for range 1000 {
				c.WritePackets([]tunnel.Packet{segment(1000, 1400)})
			}
			began := time.Now()
			c.CloseWith(CloseUser, "enough")
			if took := time.Since(began); took > closeTimeout+100*time.Millisecond || !still && took > 100*time.Millisecond {
				t.Errorf("%s: Close took %v", name, took)
			}
			if _, ok := (<-told).(*ClosedError); ok == still {
				t.Errorf("%s: the peer was told: %v", name, ok)
			}
			if err := c.WritePackets([]tunnel.Packet{segment(1000, 1)}); err != net.ErrClosed {
				t.Errorf("%s: WritePackets after Close: %v", name, err)
			}
		})
	}
}

// TestLasting: silence on a Stream that lasts ends nothing, and nobody asks.
func TestLasting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, end := throughWay(t, func(tunnel.Packet) {})
		defer end()
		before := w.writes()
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := c.Stats(); w.writes() != before || s.RoundTrip != 0 || c.cause.Load() != nil {
			t.Errorf("after an hour of silence %d writes, %+v, %v", w.writes()-before, s, c.cause.Load())
		}
	})
}

// A metered is a connection that is a Meter, which always says the same.
type metered struct {
	net.Conn
	room, burst int
}

func (m metered) Room() (octets, burst int) { return m.room, m.burst }
func (m metered) WriteBuffers(b net.Buffers) error {
	_, err := b.WriteTo(m.Conn)
	return err
}

// BenchmarkEntrance sends super-packets over TCP: as ever, with room for all, and with
// room for none, so that all of it goes by the queue.
func BenchmarkEntrance(b *testing.B) {
	for name, m := range map[string]*metered{"no meter": nil, "room": {room: math.MaxInt, burst: math.MaxInt}, "queue": {room: 0, burst: math.MaxInt}} {
		b.Run(name, func(b *testing.B) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer listener.Close()
			hello := serverHello
			hello.Receives = all
			done := make(chan *Link)
			go func() {
				conn, _ := listener.Accept()
				l, _, _, _ := Accept(context.Background(), carrier.Stream{ReadWriteCloser: conn}, func(Hello) (Hello, error) { return hello, nil })
				done <- l
				in := make([]tunnel.Packet, tunnel.BatchSize)
				for {
					if _, err := l.ReadPackets(in); err != nil {
						close(done)
						return
					}
				}
			}()
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			var rwc io.ReadWriteCloser = metered{Conn: conn}.Conn
			if m == nil {
				rwc = struct {
					net.Conn
					carrier.BuffersWriter
				}{conn, metered{Conn: conn}}
			} else {
				m.Conn = conn
				rwc = *m
			}
			c, _, _, err := Open(context.Background(), carrier.Stream{ReadWriteCloser: rwc}, clientHello)
			if err != nil {
				b.Fatal(err)
			}
			s := <-done
			super := segment(1000, 44*1460)
			super.GSO = tunnel.Offload{Type: tunnel.GSOTCP4, NeedsChecksum: true, SegmentSize: 1460}
			batch := []tunnel.Packet{super, super, super}
			b.SetBytes(int64(3 * len(super.Data)))
			b.ReportAllocs()
			for b.Loop() {
				if err := c.WritePackets(batch); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			stats := c.Stats()
			b.ReportMetric(float64(stats.DroppedQueue)/float64(b.N), "dropped/op")
			c.Close()
			<-done
			s.Close()
		})
	}
}
