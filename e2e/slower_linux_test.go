package e2e_test

import (
	"testing"
	"time"

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
	w.Wire.Set(way(rate), way(rate))
	d := w.pour()()
	passed := func() (octets int64) {
		octets = d.octets.Load()
		time.Sleep(long) // it goes on
		return d.octets.Load() - octets
	}
	quick := passed()
	w.Wire.Set(way(rate/5), way(rate/5))
	slow := passed()
	if n := d.outOfOrder(); n != 0 {
		t.Errorf("%d packets came out of order, since others before them were lost", n)
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
