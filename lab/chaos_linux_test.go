package lab

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

// throughChaos is a connection from the gateway through a relay to an echo.
func throughChaos(t *testing.T, c Chaos) (*Relay, net.Conn) {
	t.Helper()
	m := sharedLab(t).Gateway
	relay, err := c.Listen(m, 0, netip.AddrPortFrom(Web4, EchoPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { relay.Close() })
	conn, err := dial(m, "tcp", netip.AddrPortFrom(Gateway4, relay.Port()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return relay, conn
}

// echoed sends octets and ends, and returns what comes back to the end.
func echoed(t *testing.T, c net.Conn, octets []byte) []byte {
	t.Helper()
	go func() {
		c.Write(octets)
		c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) { // as a cut may come
		t.Fatalf("%v after %d octets", err, len(got))
	}
	return got
}

func TestChaos(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	long, err := io.ReadAll(Bytes(1<<20, 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		chaos    Chaos
		in, want []byte
	}{
		{"no fault", Chaos{}, long, long},
		{"octet by octet", Chaos{Up: Faults{OctetPerWrite: true}, Down: Faults{OctetPerWrite: true}}, long[:5000], long[:5000]},
		{"late", Chaos{Up: Faults{Delay: time.Millisecond}, Down: Faults{Delay: time.Millisecond}}, long, long},
		{"fast line", Chaos{Up: Faults{Rate: 1e6}, Down: Faults{Rate: 1e6}}, long[:1e5], long[:1e5]},
		{"a banner", Chaos{Down: Faults{Prefix: []byte("welcome\r\n"), CRNL: true}}, []byte("a"), []byte("welcome\r\na")},
		{"the ways differ", Chaos{Up: Faults{Seven: true}, Down: Faults{Eat: all[10:]}}, all, bytes.Repeat(all[:10], 2)},
		{"cut", Chaos{Down: Faults{CutAfter: 70_000}}, long, long[:70_000]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			relay, c := throughChaos(t, tt.chaos)
			if got := echoed(t, c, tt.in); !bytes.Equal(got, tt.want) {
				t.Errorf("%d octets came back, want %d", len(got), len(tt.want))
			}
			relay.Close()
			if up, down := relay.Captured(); !bytes.Equal(down, tt.want) || !bytes.HasPrefix(newlyPassed(tt.chaos.Up, tt.in), up) {
				t.Errorf("captured %d octets up, %d down", len(up), len(down))
			}
			if _, down := relay.Passed(); down != int64(len(tt.want)) {
				t.Errorf("%d octets passed down", down)
			}
		})
	}
}

func newlyPassed(f Faults, octets []byte) []byte {
	out, _ := newFaulty(f).pass(nil, octets)
	return out
}

// A line of 2400 bit/s sends 240 characters each second, and no fewer.
func TestChaosRate(t *testing.T) {
	t.Parallel()
	_, c := throughChaos(t, Chaos{Down: Faults{Rate: 240}})
	began := time.Now()
	if got := echoed(t, c, make([]byte, 240)); len(got) != 240 {
		t.Errorf("%d octets", len(got))
	}
	if took := time.Since(began); took < 990*time.Millisecond || took > 3*time.Second { // this machine may be busy
		t.Errorf("it took %v, want a second", took)
	}
}

func TestChaosDelay(t *testing.T) {
	t.Parallel()
	_, c := throughChaos(t, Chaos{Up: Faults{Delay: 150 * time.Millisecond}, Down: Faults{Delay: 150 * time.Millisecond}})
	began := time.Now()
	for range 2 { // the second is not behind the first
		if _, err := c.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 300*time.Millisecond || took > 2*time.Second {
		t.Errorf("it took %v, want 300 ms", took)
	}
}

func TestChaosStall(t *testing.T) {
	t.Parallel()
	relay, c := throughChaos(t, Chaos{Up: Faults{StallAfter: 3}})
	if _, err := c.Write([]byte("abcdef")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	got, err := io.ReadAll(c)
	if string(got) != "abc" || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q came back, then %v", got, err)
	}
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	relay.Cut()
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("Cut cut nothing")
	}
}
