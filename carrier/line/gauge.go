package line

import (
	"math"
	"time"
)

// A gauge finds out how many octets per second a way carries, from what the measuring
// sends anyway: a pattern takes its length longer than a hello does, however long the
// way is. What stands still for other reasons makes a rate look smaller, never larger,
// so of several the largest counts.
type gauge struct {
	trip    time.Duration // the quickest short question and its answer; 0: none yet
	in, out float64       // octets per second; 0: not known
}

// short notes how long a hello took that was answered, or an answer to one that was
// followed by the next question.
func (g *gauge) short(took time.Duration) {
	if g.trip == 0 || took < g.trip {
		g.trip = took
	}
}

// came notes that as many octets came, from the first to the last.
func (g *gauge) came(octets int, took time.Duration) {
	g.in = max(g.in, perSecond(octets, took))
}

// went notes that something followed what we sent that was as many octets longer than
// a hello.
func (g *gauge) went(octets int, took time.Duration) {
	g.out = max(g.out, perSecond(octets, took-g.trip))
}

func perSecond(octets int, took time.Duration) float64 {
	if took <= 0 {
		return math.Inf(1)
	}
	return float64(octets) / took.Seconds()
}

// rate is that of the slower direction; 0 if it takes no time that can be seen.
func (g *gauge) rate() float64 {
	slower := math.Inf(1)
	for _, r := range []float64{g.in, g.out} {
		if r > 0 {
			slower = min(slower, r)
		}
	}
	if math.IsInf(slower, 1) {
		return 0
	}
	return slower
}
