package usernat

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"

	"github.com/bodkin-net/bodkin/tunnel"
)

// Readers inside that take nothing while the far side sends: the buffers reach
// the limit, new connections are refused, and those that end give back what they were charged with.
func TestMemoryLimit(t *testing.T) {
	const sendBuffer, maxBuffer = 64 << 10, 4 << 20 // of netstack
	const limit = 8 * sendBuffer
	b := newBench(t, Config{Limits: Limits{Buffered: limit}})
	addr := serve(t, worldSpace, "198.51.100.10:0", pour)
	var slow []net.Conn
	refused := false
	for range 64 {
		c, err := b.dial("tcp", addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			refused = true
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		slow = append(slow, c)
		at := len(slow)
		eventually(t, "the connection to stand still", func() bool {
			return b.nat.Stats().Buffered >= at*sendBuffer
		}, func() string { return fmt.Sprintf("%d connections, %+v", at, b.nat.Stats()) })
	}
	if s := b.nat.Stats(); !refused || s.Buffered > limit+2*maxBuffer || s.RefusedMemory == 0 {
		t.Fatalf("%d slow readers, refused %v: %+v", len(slow), refused, s)
	}
	for _, c := range slow {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	eventually(t, "the charges to be given back", func() bool { return b.nat.Stats().Buffered == 0 },
		func() string { return fmt.Sprintf("%+v", b.nat.Stats()) })
	b.mustDial("tcp", addr)
}

// A server holds a NAT for each client, and most of them are idle: such a one costs
// little, also after it has worked.
func TestIdleIsSmall(t *testing.T) {
	const nats, most = 50, 128 << 10 // octets each
	heap := func() int64 {
		var m runtime.MemStats
		for range 3 { // what a pool lent is free after two collections
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	before := heap()
	for range nats {
		n, err := New(Config{MTU: 65535, DNS: []netip.Addr{dns4}})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		ping := make([]byte, headerLen4+headerLenICMP)
		putHeader(ping, netip.MustParseAddr("10.0.2.15"), dns4, protoICMP, 64, headerLenICMP, 1)
		ping[headerLen4] = echoRequest4
		putSumICMP(ping[headerLen4:], dns4, dns4)
		if err := n.WritePackets([]tunnel.Packet{{Data: ping}}); err != nil {
			t.Fatal(err)
		}
		var p [1]tunnel.Packet
		if _, err := n.ReadPackets(p[:]); err != nil { // the reply
			t.Fatal(err)
		}
		read := make(chan error)
		go func() { _, err := n.ReadPackets(p[:]); read <- err }()
		defer func() { n.Close(); <-read }()
	}
	var each int64
	eventually(t, "the readers to wait and the NATs to be small", func() bool { // only who waits gives its slabs back
		each = (heap() - before) / nats
		return each <= most
	}, func() string { return fmt.Sprintf("an idle NAT takes %d octets", each) })
}
