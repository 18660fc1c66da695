package ppp

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A treadmill gives the same octets again and again, and takes any.
type treadmill struct {
	octets []byte
	at     int
	once   sync.Once
	closed chan struct{}
}

func newTreadmill(octets []byte) *treadmill {
	return &treadmill{octets: octets, closed: make(chan struct{})}
}

func (s *treadmill) Read(p []byte) (int, error) {
	select {
	case <-s.closed:
		return 0, io.EOF
	default:
	}
	n := copy(p[:min(len(p), 64<<10)], s.octets[s.at:])
	s.at = (s.at + n) % len(s.octets)
	return n, nil
}

func (s *treadmill) Write(p []byte) (int, error) {
	select {
	case <-s.closed:
		return 0, net.ErrClosed
	default:
		return len(p), nil
	}
}

func (s *treadmill) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// clean are the terms of two of ours on a clean line.
var clean = Terms{MRU: 1500, mapped: true, PFC: true, ACFC: true}

// running returns a Link as if terms and both network protocols had been agreed
// on, with its goroutines running.
func running(t testing.TB, octets []byte, terms Terms) *Link {
	c, err := Config{LCP: LCP{MRU: terms.MRU}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	l := newLink(carrier.Stream{ReadWriteCloser: newTreadmill(octets)}, c)
	l.begun = true
	l.format.Store(l.formatOf(terms))
	l.receive.Store(&receiveForm{accm: terms.ACCM})
	l.mtu.Store(int64(terms.MRU))
	l.up4.Store(true)
	l.up6.Store(true)
	l.running.Add(2)
	go l.read()
	go l.write()
	go l.keep()
	t.Cleanup(func() { l.Close() })
	return l
}

// frames returns n frames with a packet of size octets.
func frames(terms Terms, n, size int) []byte {
	f := &hdlc.Format{Escape: hdlc.NewSet(terms.ACCM, [4]uint64{}), ACFC: terms.ACFC, PFC: terms.PFC}
	b := []byte{hdlc.Flag}
	for range n {
		b = f.Append(b, protocolIPv4, packet4(size))
	}
	return b
}

func batchOf(n, size int) []tunnel.Packet {
	batch := make([]tunnel.Packet, n)
	for i := range batch {
		batch[i].Data = packet4(size)
	}
	return batch
}

// The data path allocates nothing, however the batches fall.
func TestNoAllocation(t *testing.T) {
	l := running(t, []byte{hdlc.Flag}, clean)
	out := batchOf(tunnel.BatchSize, 1500)
	l.WritePackets(out)
	if n := testing.AllocsPerRun(100, func() { l.WritePackets(out) }); n > 0 {
		t.Errorf("WritePackets allocates %v times", n)
	}
	if s := l.Stats(); s.Dropped != 0 || s.PacketsOut != 102*tunnel.BatchSize {
		t.Errorf("%+v", s)
	}

	l = running(t, frames(clean, 64, 1500), clean)
	in := make([]tunnel.Packet, tunnel.BatchSize)
	l.ReadPackets(in)
	if n := testing.AllocsPerRun(1000, func() { l.ReadPackets(in) }); n > 0 {
		t.Errorf("ReadPackets allocates %v times", n)
	}
	if s := l.Stats(); s.PacketsIn == 0 || s.Line.Frames != s.PacketsIn || s.Line.FCS != 0 {
		t.Errorf("%+v", s)
	}
}

func benchmarkTerms(b *testing.B, run func(b *testing.B, terms Terms)) {
	dense := clean
	dense.ACCM = hdlc.DefaultACCM
	jumbo := clean
	jumbo.MRU = 65535
	b.Run("1500", func(b *testing.B) { run(b, clean) })
	b.Run("1500/escaped", func(b *testing.B) { run(b, dense) })
	b.Run("65535", func(b *testing.B) { run(b, jumbo) })
}

func BenchmarkWritePackets(b *testing.B) {
	benchmarkTerms(b, func(b *testing.B, terms Terms) {
		l := running(b, []byte{hdlc.Flag}, terms)
		batch := batchOf(64, terms.MRU)
		b.SetBytes(int64(len(batch) * terms.MRU))
		for b.Loop() {
			l.WritePackets(batch)
		}
	})
}

func BenchmarkReadPackets(b *testing.B) {
	benchmarkTerms(b, func(b *testing.B, terms Terms) {
		l := running(b, frames(terms, 64, terms.MRU), terms)
		batch := make([]tunnel.Packet, tunnel.BatchSize)
		var octets, reads int64
		for b.Loop() {
			n, err := l.ReadPackets(batch)
			if err != nil {
				b.Fatal(err)
			}
			for _, p := range batch[:n] {
				octets += int64(len(p.Data))
			}
			reads++
		}
		b.SetBytes(octets / reads)
	})
}
