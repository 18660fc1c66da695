package telnet

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
	"github.com/bodkin-net/bodkin/carrier/tcp"
)

// newServer is the other end of telnet, of the same machine and code: a telnetd
// without a terminal. It offers what the test has it offer.
func newServer(s carrier.Stream) *Conn {
	return newConn(s, nil, func() negotiation {
		return newNegotiation([]byte{optBinary, optSGA, optEcho}, []byte{optBinary, optSGA, optTType, optNAWS})
	})
}

// bare returns a server that agrees to nothing: NVT both ways.
func bare(s carrier.Stream) *Conn {
	return newConn(s, nil, func() negotiation { return newNegotiation(nil, nil) })
}

// ends returns the two ends of a connection in memory, on which a Write waits for
// the other end's Read.
func ends() (a, b carrier.Stream) {
	x, y := net.Pipe()
	return carrier.Stream{ReadWriteCloser: x}, carrier.Stream{ReadWriteCloser: y}
}

// TestCarrier runs the suite over TCP, BINARY both ways and not.
func TestCarrier(t *testing.T) {
	for name, server := range map[string]func(carrier.Stream) *Conn{"BINARY": newServer, "NVT": bare} {
		t.Run(name, func(t *testing.T) {
			address := serve(t, func(ctx context.Context, s carrier.Stream) {
				carriertest.Serve(ctx, server(s).Stream())
			})
			carriertest.Test(t, func(t *testing.T) carrier.Stream {
				s, err := tcp.Dial(t.Context(), address, nil)
				if err != nil {
					t.Fatal(err)
				}
				c := Open(s, Options{})
				if name == "BINARY" {
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
					defer cancel()
					if err := c.Settle(ctx); err != nil {
						t.Fatal(err)
					}
				}
				if m := c.Modes(); m.BinaryIn != (name == "BINARY") || m.BinaryOut != m.BinaryIn {
					t.Fatalf("modes %+v", m)
				}
				return c.Stream()
			})
		})
	}
}

// serve listens on loopback until the test ends and gives each connection to f.
func serve(t testing.TB, f func(context.Context, carrier.Stream)) string {
	t.Helper()
	l, err := tcp.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() {
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer s.Close()
				f(ctx, s)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		served.Wait()
	})
	return l.Addr().String()
}
