package line_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier/line"
	"github.com/bodkin-net/bodkin/carrier/line/linetest"
)

// TestRate: both halves find the rate of the slower direction, however long the way
// is; and none where a way is only long.
func TestRate(t *testing.T) {
	for _, tt := range []struct {
		name        string
		there, back linetest.Faults
		want        float64
	}{
		{"fast", linetest.Faults{}, linetest.Faults{}, 0},
		{"600 ms there and back", linetest.Faults{Delay: 300 * time.Millisecond}, linetest.Faults{Delay: 300 * time.Millisecond}, 0},
		{"300 bit/s", linetest.Faults{Rate: 37}, linetest.Faults{Rate: 37}, 37},
		{"300 bit/s there, 1200 back", linetest.Faults{Rate: 37}, linetest.Faults{Rate: 150}, 37},
		{"1200 bit/s there, 300 back", linetest.Faults{Rate: 150}, linetest.Faults{Rate: 37}, 37},
		{"9600 bit/s, far", linetest.Faults{Rate: 1200, Delay: 300 * time.Millisecond}, linetest.Faults{Rate: 1200, Delay: 300 * time.Millisecond}, 1200},
		{"300 bit/s, and late", linetest.Faults{Rate: 37, Banner: noise(1, 300)}, linetest.Faults{Rate: 37, Banner: noise(2, 500)}, 37},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := linetest.Pipe(tt.there, tt.back)
				d, a, _ := measure(t.Context(), near, far, line.Options{}, 0)
				if d.err != nil || a.err != nil {
					t.Fatalf("Dial: %v; Accept: %v", d.err, a.err)
				}
				for _, h := range []half{d, a} {
					if h.m.Rate < .75*tt.want || h.m.Rate > 1.25*tt.want {
						t.Errorf("%.0f octets/s, want %.0f", h.m.Rate, tt.want)
					}
				}
				d.s.Close()
				a.s.Close()
			})
		})
	}
}
