package netstack

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/tunnel"
)

// packetOf is a packet as c sends it, without payload.
func packetOf(c *Conn) []byte {
	n := c.name()
	d := make([]byte, 60)
	d[0], d[5], d[6], d[7], d[52] = 0x60, 20, tunnel.ProtoTCP, 64, 0x50
	copy(d[8:], n.from.Addr().AsSlice())
	copy(d[24:], n.to.Addr().AsSlice())
	d[40], d[41] = byte(n.from.Port()>>8), byte(n.from.Port())
	d[42], d[43] = byte(n.to.Port()>>8), byte(n.to.Port())
	return d
}

// TestQuench: however often a Conn is told to send less, all octets arrive; its buffer
// is small then, and grows again when nobody says so any more. Others are not touched, and
// what is nobody's is not claimed.
func TestQuench(t *testing.T) {
	b := newBench(t, Options{})
	l := b.listen()
	mine, theirs, c := b.splice(l)
	_, _, other := b.splice(l)
	const n = 64 << 20
	content := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(content)
	sent := make(chan error, 1)
	go func() {
		for range n / len(content) {
			if _, err := mine.Write(content); err != nil {
				sent <- err
				return
			}
		}
		sent <- mine.CloseWrite()
	}()
	packet := packetOf(c)
	piece := make([]byte, len(content))
	size := c.ep.SocketOptions().GetSendBufferSize
	large, small := size(), size()
	for i := range n / len(content) {
		if i < n/len(content)/2 { // asked in the midst of it, again and again
			stood := time.Second
			if i >= n/len(content)/4 { // what had to wait longer than this lasts is asked once only
				stood = time.Duration(rand.IntN(1000)) * time.Microsecond
			}
			for range 4 {
				large = max(large, size())
				if !b.near.Quench(packet, stood) {
					t.Fatal("nobody was told")
				}
				quarter := piece[:len(piece)/4]
				if _, err := io.ReadFull(theirs, quarter); err != nil {
					t.Fatal(err)
				}
				piece = append(piece[len(quarter):], quarter...)
				small = min(small, size())
			}
		} else if _, err := io.ReadFull(theirs, piece); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(piece, content) {
			t.Fatalf("other octets came than were sent, in the %d. MiB", i+1)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if small > max(sendBuffer, large/8) { // a second, where 50 ms are well: a twentieth
		t.Errorf("the buffer was never less than %d octets, of %d", small, large)
	}
	if other.quench.asked.Load() != 0 {
		t.Error("another was told as well")
	}
	for what, p := range map[string][]byte{
		"another port": bytes.Replace(packet, packet[40:42], []byte{1, 2}, 1),
		"no TCP":       append([]byte{0x60, 0, 0, 0, 0, 20, tunnel.ProtoUDP}, packet[7:]...),
		"no packet":    packet[:30],
		"nothing":      nil,
	} {
		if b.near.Quench(p, time.Second) {
			t.Errorf("%s was claimed", what)
		}
	}
	theirs.Close()
	eventually(t, "the Conn to end", func() bool { return b.near.Conns() == 1 })
	if b.near.Quench(packet, time.Second) {
		t.Error("a Conn that has ended was told")
	}
}

// TestQuenchBound: what is asked for again before the first could have been seen changes
// nothing, and a bound is lifted by and by.
func TestQuenchBound(t *testing.T) {
	b := newBench(t, Options{})
	_, _, c := b.splice(b.listen())
	const large = 1 << 20
	c.ep.SocketOptions().SetSendBufferSize(large, true)
	c.quench.least = 50 * time.Millisecond
	for range 3 {
		b.near.Quench(packetOf(c), 150*time.Millisecond)
		c.slower()
	}
	// A least round trip of nearly nothing, for the two are joined in memory.
	if got := c.ep.SocketOptions().GetSendBufferSize(); got < large/4 || got > large/2 {
		t.Errorf("the buffer is %d octets, of %d before", got, large)
	}
	now, steps := time.Now(), 0
	for ; c.quench.most(now, time.Second) > 0 && steps < 100; steps++ {
		now = now.Add(time.Second)
	}
	if steps < 10 || steps > 40 {
		t.Errorf("the bound was lifted after %d round trips", steps)
	}
}

// TestNames: a name that two had one after the other is the later's.
func TestNames(t *testing.T) {
	var names names
	a, b := &Conn{}, &Conn{}
	n := name{netip.AddrPortFrom(near6, 1), netip.AddrPortFrom(farAddr, 2)}
	names.add(n, a)
	names.add(n, b)
	names.remove(n, a)
	if names.m[n] != b {
		t.Error("the first took the name of the second along")
	}
}
