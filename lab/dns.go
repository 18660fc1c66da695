package lab

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Zone is what the internet's DNS knows. Any other name is an NXDOMAIN, and so is
// every name outside example.
var Zone = map[string][]netip.Addr{
	"web.example.":    {Web4, Web6},
	"gw.example.":     {GatewayOut4, GatewayOut6},
	"hole.example.":   {Hole4, Hole6},
	"only4.example.":  {Web4},
	"only6.example.":  {Web6},
	"office.example.": {Office4, Office6},
}

// CorpZone is what the private network's DNS knows, and nobody else does.
var CorpZone = map[string][]netip.Addr{
	"files.corp.example.": {Corp4, Corp6},
	"gw.corp.example.":    {corpInside4, corpInside6},
}

// maxAsked bounds what a Resolver remembers: a test asks for a few names.
const maxAsked = 1000

// A Resolver answers DNS from a zone, and remembers what it was asked for.
type Resolver struct {
	zone map[string][]netip.Addr

	mu    sync.Mutex
	asked []string
}

// Asked lists the names that were asked for since the beginning or Forget, in lower
// case, with the dot at the end, the last 1,000 of them.
func (r *Resolver) Asked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked)
}

// Forget forgets what was asked for so far.
func (r *Resolver) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = nil
}

func (r *Resolver) remember(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.asked) == maxAsked {
		r.asked = r.asked[1:]
	}
	r.asked = append(r.asked, name)
}

// BigName has a TXT record of BigText: too large for any UDP answer, so that a
// client must come again over TCP (RFC 7766, section 5).
const BigName = "big.example."

// BigText is the text of BigName's record, in strings of 200 octets.
var BigText = func() (text []string) {
	for range 20 {
		text = append(text, strings.Repeat("bodkin lab ", 19)[:200])
	}
	return text
}()

// maxDatagramAnswer is the largest answer over UDP in octets (RFC 1035, section
// 2.3.4); what a client offers by EDNS is not taken, to keep the lab predictable.
const maxDatagramAnswer = 512

// dnsIdle ends a TCP connection that asks nothing (RFC 7766, section 6.2.3).
const dnsIdle = 30 * time.Second

// answer makes the reply to a query, or nil if there is none to make.
func (r *Resolver) answer(query []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	reply := dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true}
	name := strings.ToLower(q.Name.String())
	r.remember(name)
	addrs, known := r.zone[name]
	if !known && name != BigName {
		reply.RCode = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, reply)
	b.EnableCompression()
	err = errors.Join(b.StartQuestions(), b.Question(q), b.StartAnswers())
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60}
	for _, a := range addrs {
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			err = errors.Join(err, b.AResource(header, dnsmessage.AResource{A: a.As4()}))
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			err = errors.Join(err, b.AAAAResource(header, dnsmessage.AAAAResource{AAAA: a.As16()}))
		}
	}
	if name == BigName && q.Type == dnsmessage.TypeTXT {
		err = errors.Join(err, b.TXTResource(header, dnsmessage.TXTResource{TXT: BigText}))
	}
	msg, buildErr := b.Finish()
	if err != nil || buildErr != nil {
		return nil
	}
	return msg
}

// truncated cuts a reply down to its header and question, with TC set.
func truncated(reply []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(reply)
	if err != nil {
		return nil
	}
	qs, err := p.AllQuestions()
	if err != nil {
		return nil
	}
	h.Truncated = true
	msg, err := (&dnsmessage.Message{Header: h, Questions: qs}).Pack()
	if err != nil {
		return nil
	}
	return msg
}

func (r *Resolver) serveDatagrams(c net.PacketConn) {
	buf := make([]byte, 65535)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		reply := r.answer(buf[:n])
		if len(reply) > maxDatagramAnswer {
			reply = truncated(reply)
		}
		if reply != nil {
			c.WriteTo(reply, from)
		}
	}
}

// serveStream answers queries that follow a length of two octets (RFC 1035,
// section 4.2.2).
func (r *Resolver) serveStream(c net.Conn) {
	for {
		c.SetDeadline(time.Now().Add(dnsIdle))
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		reply := r.answer(query)
		if reply == nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}
