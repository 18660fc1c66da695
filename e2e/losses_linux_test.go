package e2e_test

import (
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/lab"
)

// A download is one through the tunnel that goes on until the test ends.
type download struct {
	t      *testing.T
	conn   net.Conn
	octets atomic.Int64 // that came
}

// pour has the internet send for as long as somebody reads, and returns how to begin.
func (w *world) pour() func() *download {
	w.t.Helper()
	server, err := w.Internet.Listen("tcp", ":8100")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { server.Close() })
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, lab.Bytes(math.MaxInt64, 1))
			}()
		}
	}()
	return func() *download {
		w.t.Helper()
		c, err := w.Laptop.Dial(within(w.t, patience), "tcp", net.JoinHostPort(lab.Web4.String(), "8100"))
		if err != nil {
			w.t.Fatal(err)
		}
		d := &download{t: w.t, conn: c}
		read := make(chan struct{})
		go func() {
			defer close(read)
			buf := make([]byte, 64<<10)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				d.octets.Add(int64(n))
			}
		}()
		w.t.Cleanup(func() { c.Close(); <-read })
		return d
	}
}

// outOfOrder is how many packets came to d before others that were lost, and had to be
// sent again.
func (d *download) outOfOrder() uint32 {
	d.t.Helper()
	var info *unix.TCPInfo
	raw, err := d.conn.(*net.TCPConn).SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO) })
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return info.Rcv_ooopack
}

// TestStartLosesNothing: downloads through the far side's NAT double their windows until
// they are told, which is long after a slow way is full. Nothing is lost by it.
func TestStartLosesNothing(t *testing.T) {
	const (
		rate  = 60_000_000 // bit/s
		delay = 25 * time.Millisecond
		long  = 5 * time.Second
	)
	way := lab.Way{Rate: rate, Delay: delay, Buffer: 512 << 10}
	w := newWorld(t, lab.Options{Shaped: true})
	w.Wire.Set(way, way)
	w.up("me@gw", lab.Web4.String()+"/32", "--dns", "off")
	defer w.down()
	begin := w.pour()
	var all [6]*download
	for i := range all {
		all[i] = begin()
	}
	time.Sleep(long) // they run
	octets := int64(0)
	for _, d := range all {
		octets += d.octets.Load()
		if n := d.outOfOrder(); n != 0 {
			t.Errorf("%d packets came out of order, since others before them were lost", n)
		}
	}
	part := float64(octets) * 8 / rate / long.Seconds()
	t.Logf("%.0f %% of the way's rate were used", 100*part)
	if part < .6 {
		t.Errorf("%.0f %% of the way's rate were used", 100*part)
	}
}

// TestLossesAreMended: a machine that loses three of four packets for a moment, just when a
// window has doubled until hundreds are under way, has them all again in a few seconds.
func TestLossesAreMended(t *testing.T) {
	const (
		rate     = 20_000_000 // bit/s
		delay    = 25 * time.Millisecond
		mended   = 15 * time.Second // at most
		transfer = rate / 8 * 3     // octets: three seconds without losses
	)
	way := lab.Way{Rate: rate, Delay: delay, Buffer: 128 << 10}
	w := newWorld(t, lab.Options{Shaped: true})
	w.Wire.Set(way, way)
	w.up("me@gw", lab.Web4.String()+"/32", "--dns", "off")
	defer w.down()
	nft := func(script string) {
		t.Helper()
		if r := w.on(w.Laptop, "root", "nft", script); r.status != 0 {
			t.Fatal(r.out)
		}
	}
	d := w.pour()()
	w.eventually("a download has a large window", func() bool { return d.octets.Load() > rate/16 })
	nft("table inet losses { chain input { type filter hook input priority 0; iifname " + tunnelDevice + " tcp sport 8100 numgen random mod 4 < 3 drop; }; }")
	time.Sleep(500 * time.Millisecond) // for a moment
	nft("delete table inet losses")
	start, before := time.Now(), d.octets.Load()
	for d.octets.Load()-before < transfer {
		if time.Since(start) > mended {
			t.Fatalf("%d KB came in the %v after losses, want %d", (d.octets.Load()-before)>>10, mended, transfer>>10)
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
	t.Logf("%d KB came in the %v after losses of %d packets", transfer>>10, time.Since(start).Round(time.Millisecond), d.outOfOrder())
}

// TestStatusQueue: status says what waits while an upload has more than the way carries.
func TestStatusQueue(t *testing.T) {
	t.Parallel()
	way := lab.Way{Rate: 5_000_000, Delay: 10 * time.Millisecond, Buffer: 64 << 10}
	w := newWorld(t, lab.Options{Shaped: true})
	w.up("me@gw", lab.Web4.String()+"/32", "--dns", "off")
	w.Wire.Set(way, way)
	defer w.down()
	sink, err := w.Internet.Listen("tcp", ":8100")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	c, err := w.Laptop.Dial(within(t, patience), "tcp", net.JoinHostPort(lab.Web4.String(), "8100"))
	if err != nil {
		t.Fatal(err)
	}
	far, err := sink.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	both.Go(func() { io.Copy(c, lab.Bytes(math.MaxInt64, 1)) })
	both.Go(func() { io.Copy(io.Discard, far) })
	w.eventually("something waits", func() bool { return w.session().Queue.Octets > 0 })
	w.eventually("status says so", func() bool { return strings.Contains(w.laptop("bodkin", "status"), "packets wait for room") })
	c.Close()
	far.Close()
	both.Wait()
	w.eventually("nothing waits", func() bool { return w.session().Queue.Packets == 0 })
}
