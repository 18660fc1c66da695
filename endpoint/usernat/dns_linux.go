package usernat

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/bodkin-net/bodkin/tunnel"
)

const (
	dnsPort = 53

	// maxQueries are the questions on their way to a resolver at once. A
	// resolver of a home router takes some hundred; more wait for their asker
	// to ask again.
	maxQueries = 256

	// resolverPatience is how long one resolver may take before the next is
	// asked. A stub gives up after 5 s (resolv.conf(5)), so two are asked in
	// its time.
	resolverPatience = 2 * time.Second

	// maxResolvers are asked at most, as in resolv.conf(5), MAXNS.
	maxResolvers = 3

	// maxAnswer is the longest answer over UDP that is taken, in octets: more
	// than the 4,096 that resolvers are asked for at most (RFC 6891, section
	// 6.2.5), and little enough to have maxQueries of them.
	maxAnswer = 8192
)

// takeQuery forwards a DNS query that came over UDP; key says from and to where.
func (n *NAT) takeQuery(key flowKey, data []byte) {
	q, ok := parseQuery(data)
	if !ok {
		n.malformed(&header{src: key.src.Addr(), dst: key.dst.Addr(), proto: key.proto})
		return
	}
	select {
	case n.queries <- struct{}{}:
	default:
		n.full(&header{src: key.src.Addr(), dst: key.dst.Addr(), proto: key.proto}, nil)
		n.emitUDP(key.dst, key.src, ttlOwn, servfail(data, q), tunnel.Offload{}, false)
		return
	}
	n.count.queries.Add(1)
	query := append([]byte(nil), data...)
	if !n.start(func() {
		defer func() { <-n.queries }()
		n.emitUDP(key.dst, key.src, ttlOwn, n.resolve(query, q), tunnel.Offload{}, true)
	}) {
		<-n.queries
	}
}

// resolve asks the host's resolvers one after the other and returns what the
// first one that has something to say answers, else SERVFAIL.
func (n *NAT) resolve(query []byte, q dnsmessage.Question) []byte {
	var refused []byte // an answer that says a resolver could not
	for _, r := range first(n.resolvers(), maxResolvers) {
		ctx, cancel := context.WithTimeout(n.ctx, resolverPatience)
		a, err := ask(ctx, r, query, q)
		cancel()
		if err != nil {
			continue
		}
		switch rcode := a[3] & 0xf; dnsmessage.RCode(rcode) {
		case dnsmessage.RCodeServerFailure, dnsmessage.RCodeRefused, dnsmessage.RCodeNotImplemented:
			refused = a
			continue
		}
		return a
	}
	if refused != nil {
		return refused
	}
	return servfail(query, q)
}

// ask sends query to the resolver r over UDP and returns its answer, with the
// query's message id. The id sent and the source port are fresh and random, and
// what does not repeat both id and question is ignored (RFC 5452, section 9).
func ask(ctx context.Context, r netip.AddrPort, query []byte, q dnsmessage.Question) ([]byte, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", r.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	asked := append([]byte(nil), query...)
	rand.Read(asked[:2])
	if _, err := c.Write(asked); err != nil {
		return nil, err
	}
	answer := make([]byte, maxAnswer)
	for {
		k, err := c.Read(answer)
		if err != nil {
			return nil, err // refused, or silent for too long
		}
		if k < len(answer) && answers(answer[:k], asked, q) { // a full buffer holds a part of one
			a := answer[:k]
			copy(a[:2], query[:2])
			return a, nil
		}
	}
}

// parseQuery reads a DNS query with one question (RFC 1035, section 4.1).
func parseQuery(data []byte) (q dnsmessage.Question, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(data)
	if err != nil || h.Response || h.OpCode != 0 {
		return q, false
	}
	q, err = p.Question()
	if err != nil {
		return q, false
	}
	if _, err = p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return q, false
	}
	return q, true
}

// answers reports whether a is an answer to the query asked, whose question is q.
func answers(a, asked []byte, q dnsmessage.Question) bool {
	var p dnsmessage.Parser
	h, err := p.Start(a)
	if err != nil || !h.Response || h.ID != binary.BigEndian.Uint16(asked) {
		return false
	}
	got, err := p.Question()
	if errors.Is(err, dnsmessage.ErrSectionDone) {
		return h.RCode != dnsmessage.RCodeSuccess // an error may leave the question out
	}
	return err == nil && got.Type == q.Type && got.Class == q.Class && sameName(got.Name, q.Name)
}

// sameName compares names as RFC 1035, section 2.3.3 does: ASCII case is nothing.
func sameName(a, b dnsmessage.Name) bool {
	if a.Length != b.Length {
		return false
	}
	lower := func(c byte) byte {
		if 'A' <= c && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}
	for i := range a.Length {
		if lower(a.Data[i]) != lower(b.Data[i]) {
			return false
		}
	}
	return true
}

// servfail is the answer SERVFAIL to query, whose question is q.
func servfail(query []byte, q dnsmessage.Question) []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID:                 binary.BigEndian.Uint16(query),
			Response:           true,
			RecursionDesired:   query[2]&1 != 0,
			RecursionAvailable: true,
			RCode:              dnsmessage.RCodeServerFailure,
		},
		Questions: []dnsmessage.Question{q},
	}
	b, err := m.Pack()
	if err != nil { // a question that was parsed can be packed
		return nil
	}
	return b
}

// dialResolver connects to the first of the host's resolvers that takes the
// connection. An error is that of the last one.
func (n *NAT) dialResolver(ctx context.Context) (*net.TCPConn, error) {
	err := error(&net.OpError{Op: "dial", Net: "tcp", Err: errNoResolver})
	for _, r := range first(n.resolvers(), maxResolvers) {
		var c *net.TCPConn
		patience, cancel := context.WithTimeout(ctx, resolverPatience)
		c, err = dialTCP(patience, r)
		cancel()
		if err == nil {
			return c, nil
		}
	}
	return nil, err
}

var errNoResolver = errors.New("the host has no resolver")

// first returns the first n of s, or all.
func first[T any](s []T, n int) []T { return s[:min(n, len(s))] }
