package native

import (
	"bytes"
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/tunnel"
)

// ack is a segment from a port that acknowledges up to number and says no more.
func ack(port uint16, number uint32) tunnel.Packet {
	d := []byte{0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 203, 0, 113, 100, 10, 0, 2, 15,
		0, 0, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(d[20:], port)
	binary.BigEndian.PutUint32(d[28:], number)
	return tunnel.Packet{Data: d}
}

// TestAcknowledgementsWait: while much comes in, an acknowledgement gives way to
// the next of its connection; nothing else waits, and nothing overtakes it.
func TestAcknowledgementsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, _ := open(t, clientHello, serverHello)
		defer s.Close()
		defer c.Close()
		got := make(chan tunnel.Packet, 16)
		go func() {
			batch := make([]tunnel.Packet, 16)
			for {
				n, err := c.ReadPackets(batch)
				if err != nil {
					close(got)
					return
				}
				for _, p := range batch[:n] {
					got <- tunnel.Packet{Data: bytes.Clone(p.Data), GSO: p.GSO}
				}
			}
		}()
		expect := func(what string, want ...tunnel.Packet) {
			t.Helper()
			synctest.Wait()
			for _, w := range want {
				select {
				case p := <-got:
					if !bytes.Equal(p.Data, w.Data) {
						t.Errorf("%s: %x came, want %x", what, p.Data, w.Data)
					}
				default:
					t.Errorf("%s: nothing came, want %x", what, w.Data)
				}
			}
			select {
			case p := <-got:
				t.Errorf("%s: besides, %x came", what, p.Data)
			default:
			}
		}
		write := func(p ...tunnel.Packet) {
			t.Helper()
			if err := s.WritePackets(p); err != nil {
				t.Fatal(err)
			}
		}

		write(ack(80, 1))
		expect("with nothing coming in", ack(80, 1))

		s.bulk.Store(true)
		write(ack(80, 2))
		write(ack(80, 3), ack(443, 1))
		expect("at first")
		time.Sleep(holdTime)
		expect("after its time", ack(80, 3), ack(443, 1))

		datagram := tunnel.Packet{Data: unhex(t, udp)}
		write(ack(80, 4))
		write(datagram)
		expect("before another packet", ack(80, 4), datagram)
		time.Sleep(2 * holdTime)
		expect("and not again")

		write(ack(80, 5))
		write(ack(80, 5))
		expect("said twice, which means a loss", ack(80, 5), ack(80, 5))

		for n := range uint32(holdCount + 1) {
			write(ack(80, 10+n))
		}
		expect("for no more than it may stand for", ack(80, 10+holdCount-1), ack(80, 10+holdCount))

		for port := range uint16(holdFlows + 1) {
			write(ack(1000+port, 1))
		}
		time.Sleep(holdTime)
		synctest.Wait()
		if len(got) != holdFlows+1 {
			t.Errorf("%d acknowledgements came for %d connections", len(got), holdFlows+1)
		}
		for range len(got) {
			<-got
		}

		write(ack(80, 0xffffffff))
		write(ack(80, 5))
		time.Sleep(holdTime)
		expect("around the end of the numbers", ack(80, 5))
	})
}
