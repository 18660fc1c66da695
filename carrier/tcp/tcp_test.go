package tcp

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
)

// serve listens on loopback until the test ends and gives each connection to f.
func serve(t testing.TB, f func(context.Context, carrier.Stream)) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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

func TestCarrier(t *testing.T) {
	address := serve(t, func(ctx context.Context, s carrier.Stream) { carriertest.Serve(ctx, s) })
	carriertest.Test(t, func(t *testing.T) carrier.Stream {
		s, err := Dial(t.Context(), address, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestDialErrors(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	if _, err := Dial(t.Context(), address, nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed port: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	refuse := errors.New("not this socket")
	if _, err := Dial(ctx, address, func(string, string, syscall.RawConn) error { return refuse }); !errors.Is(err, refuse) {
		t.Errorf("Control's error: %v", err)
	}
}
