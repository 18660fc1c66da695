package splitdns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// answer answers one message over its network; nil if it deserves no answer. With
// maxQueries on their way it does not ask.
func (f *Forwarder) answer(ctx context.Context, network string, message []byte) []byte {
	q, refusal, ok := parseQuery(message)
	if !ok {
		return refusal
	}
	select {
	case f.queries <- struct{}{}:
		defer func() { <-f.queries }()
	default:
		return q.failure(dnsmessage.RCodeServerFailure)
	}
	a := f.resolve(ctx, network, q)
	if network == "udp" {
		return q.fit(a)
	}
	return a
}

func (f *Forwarder) serveUDP(ctx context.Context, wg *sync.WaitGroup, udp net.PacketConn) error {
	// As many may be in work as may be on their way, and as many again to be told
	// that there are too many.
	working := make(chan struct{}, 2*maxQueries)
	b := make([]byte, maxQuery+1)
	for {
		n, from, err := udp.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("splitdns: %w", err)
		}
		if n > maxQuery || !fromHere(from) {
			continue
		}
		select {
		case working <- struct{}{}:
		default:
			continue // it asks again
		}
		message := append([]byte(nil), b[:n]...)
		wg.Go(func() {
			defer func() { <-working }()
			if a := f.answer(ctx, "udp", message); a != nil {
				udp.WriteTo(a, from) // who does not get it asks again
			}
		})
	}
}

// acceptPause is the wait after an accept that failed for want of descriptors.
const acceptPause = 100 * time.Millisecond

func (f *Forwarder) serveTCP(ctx context.Context, wg *sync.WaitGroup, tcp net.Listener) error {
	for {
		c, err := tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(acceptPause):
			}
			continue
		}
		select {
		case f.conns <- struct{}{}:
		default:
			c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-f.conns }()
			f.serveConn(ctx, c)
		})
	}
}

// serveConn answers the questions of one connection, one after the other.
func (f *Forwarder) serveConn(ctx context.Context, c net.Conn) {
	defer c.Close()
	if !fromHere(c.RemoteAddr()) {
		return
	}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	for {
		c.SetDeadline(time.Now().Add(idle))
		message, err := readMessage(c)
		if err != nil {
			return
		}
		a := f.answer(ctx, "tcp", message)
		if a == nil {
			return
		}
		c.SetDeadline(time.Now().Add(idle))
		if _, err := c.Write(withLength(a)); err != nil {
			return
		}
	}
}

// fromHere reports whether a question comes from this machine: the kernel lets
// others in to a loopback address where route_localnet is set.
func fromHere(from net.Addr) bool {
	a, err := netip.ParseAddrPort(from.String())
	return err == nil && a.Addr().Unmap().IsLoopback()
}
