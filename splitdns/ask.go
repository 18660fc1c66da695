package splitdns

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// resolve asks those who know the name, over the network that the question came
// by, "udp" or "tcp", and returns the answer. It takes no longer than patience.
func (f *Forwarder) resolve(ctx context.Context, network string, q query) []byte {
	servers := f.zones.servers(q.question.Name.String())
	if servers == nil {
		servers = f.others
	}
	tries := servers
	if network == "udp" { // a datagram may be lost, and the next one not
		for i := 0; len(tries) < maxServers; i++ {
			tries = append(tries[:len(tries):len(tries)], servers[i%len(servers)])
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f.race(ctx, network, q, tries, len(servers))
}

// An outcome is what came of asking one server.
type outcome struct {
	server netip.AddrPort
	answer []byte // nil: none
}

// race asks the first of tries, a second later the next one besides, and so on;
// at once, when a server says that it cannot. The first good answer wins. When
// all of the so many servers said that they cannot, that is the answer.
func (f *Forwarder) race(ctx context.Context, network string, q query, tries []netip.AddrPort, servers int) []byte {
	ctx, cancel := context.WithCancel(ctx)
	outcomes := make(chan outcome)
	running := 0
	defer func() { // all that was begun ends here
		cancel()
		for ; running > 0; running-- {
			<-outcomes
		}
	}()
	gone := make(map[netip.AddrPort]bool) // those that cannot
	next := func() {
		for len(tries) > 0 {
			server := tries[0]
			if tries = tries[1:]; !gone[server] {
				running++
				go func() { outcomes <- outcome{server, f.ask(ctx, network, server, q)} }()
				return
			}
		}
	}
	var refusal []byte
	clock := time.NewTicker(another)
	defer clock.Stop()
	for next(); ; {
		select {
		case o := <-outcomes:
			running--
			if o.answer != nil && !gaveUp(o.answer) {
				return q.reply(o.answer)
			}
			if o.answer != nil {
				refusal = o.answer
			}
			if gone[o.server] = true; len(gone) < servers {
				next()
				continue
			}
		case <-clock.C:
			next()
			continue
		case <-ctx.Done():
		}
		if refusal != nil {
			return q.reply(refusal)
		}
		return q.failure(dnsmessage.RCodeServerFailure)
	}
}

// ask asks one server, and returns its answer with the server's id, or nil when
// there is none before ctx ends.
func (f *Forwarder) ask(ctx context.Context, network string, server netip.AddrPort, q query) []byte {
	c, err := f.dial(ctx, network, server.String())
	if err != nil {
		return nil
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	asked := q.asked()
	if network == "tcp" {
		return askTCP(c, asked, q)
	}
	if _, err := c.Write(asked); err != nil {
		return nil
	}
	b := make([]byte, maxAnswer+1)
	for {
		n, err := c.Read(b)
		switch {
		case err != nil:
			return nil // refused, or silent for too long
		case !q.answers(b[:n], asked): // somebody's guess, or late
		case n > maxAnswer:
			h, _ := new(dnsmessage.Parser).Start(b[:n]) // which answers has read
			h.Truncated = true
			return q.pack(h)
		default:
			return b[:n]
		}
	}
}

// askTCP is ask for a connection; RFC 7766, section 8: each message after its
// length.
func askTCP(c net.Conn, asked []byte, q query) []byte {
	if _, err := c.Write(withLength(asked)); err != nil {
		return nil
	}
	a, err := readMessage(c)
	if err != nil || !q.answers(a, asked) {
		return nil
	}
	return a
}

func withLength(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

// readMessage reads a length of two octets, and so many. The length is what a
// peer says, and 65,535 octets at most.
func readMessage(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}
