// Package alert tells when what a connection stands on has changed: the machine's way out
// goes by another network, or the machine has slept. A connection that may have died of
// it is asked for a sign of life then, not when its heartbeat notices.
//
//	alert.go          Watch, and the loop that asks
//	clock.go          sleep, and standing still, by two clocks
//	network_linux.go  what the kernel tells
//	way_linux.go      ways out, and what differs between two of them
//
// The kernel says only that something has changed; what, is asked afterwards, by looking
// up the ways out as the carrier's own packets would. So nothing is missed where messages
// are lost, and a thousand routes that do not concern the carrier cost nothing.
package alert

import (
	"context"
	"net/netip"
	"time"
)

// Options say what concerns the carrier.
type Options struct {
	// Mark is the carrier's fwmark, by which its packets do not go by the tunnel; 0:
	// they have none.
	Mark uint32

	// Toward returns where the carrier's packets go, as it is now: the addresses of its
	// far ends. nil, or none returned: anywhere.
	Toward func() []netip.Addr
}

// An Event is something that happened.
type Event struct {
	Kind   Kind
	Detail string // one line, safe for a terminal: "eth0 has another address: 192.0.2.7"
}

// A Kind says what happened.
type Kind int

const (
	Network Kind = iota + 1 // the way out has changed, ended, or is there again
	Awake                   // the machine has slept, or this process stood still
)

const (
	// settleTime is how long after a change of the network it is looked at: what a DHCP
	// client does takes some milliseconds, and many messages.
	settleTime = 200 * time.Millisecond

	// tickTime is how often the clocks are looked at.
	tickTime = time.Second

	// pending is how many Events wait for their reader; more are dropped. He is told to
	// look, and one of each Kind would do.
	pending = 4
)

// Watch watches until ctx ends, and then closes the channel; its goroutines have ended
// by then. What the network is like when it begins is nothing new. Without an error it
// also tells of sleep; on systems other than Linux it tells of nothing else.
func Watch(ctx context.Context, o Options) (<-chan Event, error) {
	n, err := openNetwork(o)
	if err != nil {
		return nil, err
	}
	events := make(chan Event, pending)
	before := now() // here: what happens once Watch has returned is told
	go func() {
		defer close(events)
		defer n.close()
		watch(ctx, n, before, events)
	}()
	return events, nil
}

func watch(ctx context.Context, n *network, before moment, events chan<- Event) {
	say := func(kind Kind, detail string) {
		select {
		case events <- Event{kind, detail}:
		default:
		}
	}
	tick := time.NewTicker(tickTime)
	defer tick.Stop()
	changes := n.changes
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
			changes, settled = nil, time.After(settleTime)
		case <-settled:
			changes, settled = n.changes, nil
			if detail := n.look(); detail != "" {
				say(Network, detail)
			}
		case <-tick.C:
			at := now()
			if detail := at.since(before); detail != "" {
				say(Awake, detail)
			}
			before = at
		}
	}
}
