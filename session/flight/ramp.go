package flight

import "time"

// A ramp is what a pause ends with: nothing tells how fast to send then but the rate.
type ramp struct {
	from  uint64        // octets acknowledged when it began
	at    time.Duration // when it began
	rate  float64       // octets per second; 0: there is none
	limit float64       // octets in flight
}

// climb raises the ramp's limit to what it is now.
func (b *Bound) climb(now time.Duration) {
	r := &b.ramp
	if r.rate == 0 {
		return
	}
	r.limit = r.rate*(now-r.at+2*burst).Seconds() + frame - float64(b.acked-r.from)
	if r.limit >= b.limit {
		*r = ramp{}
		b.round = round{from: b.sent, before: b.round.before}
	}
}
