package e2e_test

import (
	"io"
	"math"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/lab"
)

// TestSlowerWayLosesNothing: a download through the far side's NAT stands in its queue, and
// then the way becomes five times slower. Its sender is told so: no packet of it is
// dropped, none is sent twice, and the way is busy all the time.
func TestSlowerWayLosesNothing(t *testing.T) {
	const (
		rate  = 20_000_000 // bit/s
		delay = 10 * time.Millisecond
		long  = 4 * time.Second // at each rate
	)
	way := func(rate int64) lab.Way { return lab.Way{Rate: rate, Delay: delay, Buffer: 512 << 10} }
	w := newWorld(t, lab.Options{Shaped: true})
	w.Wire.Set(way(5*rate), way(5*rate))
	w.up("me@gw", lab.Web4.String()+"/32", "--dns", "off")
	defer w.down()
	server, err := w.Internet.Listen("tcp", ":8100")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	w.Wire.Set(way(rate), way(rate))
	c, err := w.Laptop.Dial(within(t, patience), "tcp", net.JoinHostPort(lab.Web4.String(), "8100"))
	if err != nil {
		t.Fatal(err)
	}
	far, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	poured := make(chan struct{})
	go func() {
		defer close(poured)
		io.Copy(far, lab.Bytes(math.MaxInt64, 1))
	}()
	defer func() { c.Close(); far.Close(); <-poured }()
	passed := func() (octets int64) {
		buf := make([]byte, 64<<10)
		for end := time.Now().Add(long); time.Now().Before(end); {
			c.SetReadDeadline(time.Now().Add(patience))
			n, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			octets += int64(n)
		}
		return octets
	}
	quick := passed()
	w.Wire.Set(way(rate/5), way(rate/5))
	slow := passed()
	var info *unix.TCPInfo
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO) })
	}
	if err != nil {
		t.Fatal(err)
	}
	if info.Rcv_ooopack != 0 {
		t.Errorf("%d packets came out of order, since others before them were lost", info.Rcv_ooopack)
	}
	for name, part := range map[string]float64{
		"at first": float64(quick) * 8 / rate / long.Seconds(),
		"then":     float64(slow) * 8 / (rate / 5) / long.Seconds(),
	} {
		t.Logf("%s %.0f %% of the way's rate were used", name, 100*part)
		if part < .6 {
			t.Errorf("%s %.0f %% of the way's rate were used", name, 100*part)
		}
	}
}
