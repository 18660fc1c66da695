package usernat

import (
	"net/netip"
	"slices"
	"time"
)

// Bounds of the reassembly. A peer that fills them loses its own fragments.
const (
	maxParts    = 64               // packets in the making; a kernel sends one packet's fragments together
	maxPartMem  = 4 << 20          // octets of their buffers: maxParts whole ones of 65,535
	maxSpans    = 64               // gaps in one packet; in order there is none
	partTimeout = 30 * time.Second // RFC 8200, section 4.5 says 60, Linux 30 for IPv4
)

// A partKey names the packet that a fragment is of (RFC 791, section 3.2; RFC
// 8200, section 4.5).
type partKey struct {
	src, dst netip.Addr
	proto    uint8
	id       uint32
}

// A span is octets first to end-1 of a payload.
type span struct{ first, end int }

// A part is a packet in the making.
type part struct {
	since time.Time
	ttl   uint8
	buf   []byte
	spans []span // what is there, in order, neighbours merged
	total int    // length of the whole payload; -1 until the last fragment came
}

// A reassembler makes whole packets of fragments. It is used by one goroutine.
//
// It is strict: a fragment that overlaps another in part ends its packet (RFC
// 5722, section 4), for both IP versions; one that repeats another is ignored.
type reassembler struct {
	parts   map[partKey]*part
	mem     int    // octets of all bufs
	dropped uint64 // fragments and unfinished packets given up
}

// add takes the fragment packet with header h. When it was the last missing one
// it returns the whole packet, with a plain header, and true; the packet is the
// caller's.
func (r *reassembler) add(h *header, packet []byte, now time.Time) ([]byte, bool) {
	data := h.payload(packet)
	end := h.frag + len(data)
	room := headerLenOf(h.src)
	if len(data) == 0 || (h.more && len(data)%8 != 0) || end > 65535-headerLen4 {
		r.dropped++ // no sender makes these; the last is the "ping of death"
		return nil, false
	}
	key := partKey{h.src, h.dst, h.proto, h.id}
	p := r.parts[key]
	if p == nil {
		if len(r.parts) >= maxParts {
			r.dropOldest()
		}
		if r.parts == nil {
			r.parts = make(map[partKey]*part)
		}
		p = &part{since: now, ttl: h.ttl, total: -1}
		r.parts[key] = p
	}
	fits, fresh := p.place(span{h.frag, end}, h.more)
	if !fits {
		r.drop(key, p)
		return nil, false
	}
	if !fresh {
		return nil, false
	}
	if len(p.buf) < room+end {
		r.mem -= cap(p.buf)
		p.buf = slices.Grow(p.buf, room+end-len(p.buf))[:room+end]
		r.mem += cap(p.buf)
	}
	copy(p.buf[room+h.frag:], data)
	if p.total < 0 || len(p.spans) != 1 || p.spans[0] != (span{0, p.total}) {
		for r.mem > maxPartMem {
			r.dropOldest()
		}
		return nil, false
	}
	delete(r.parts, key)
	r.mem -= cap(p.buf)
	whole := p.buf[:room+p.total]
	putHeader(whole, h.src, h.dst, h.proto, p.ttl, p.total, uint16(h.id))
	return whole, true
}

// place records that s came. It says whether s fits what came before, and
// whether it is new.
func (p *part) place(s span, more bool) (fits, fresh bool) {
	if !more {
		if p.total >= 0 && p.total != s.end {
			return false, false
		}
		p.total = s.end
	}
	if p.total >= 0 && (s.end > p.total || (len(p.spans) > 0 && p.spans[len(p.spans)-1].end > p.total)) {
		return false, false
	}
	i := 0
	for i < len(p.spans) && p.spans[i].end <= s.first {
		i++
	}
	if i < len(p.spans) && p.spans[i].first < s.end {
		// Merged spans forget their seams: a repeat is one that lies within.
		return p.spans[i].first <= s.first && s.end <= p.spans[i].end, false
	}
	before := i > 0 && p.spans[i-1].end == s.first
	after := i < len(p.spans) && p.spans[i].first == s.end
	switch {
	case before && after:
		p.spans[i-1].end = p.spans[i].end
		p.spans = slices.Delete(p.spans, i, i+1)
	case before:
		p.spans[i-1].end = s.end
	case after:
		p.spans[i].first = s.first
	default:
		if len(p.spans) >= maxSpans {
			return false, false
		}
		p.spans = slices.Insert(p.spans, i, s)
	}
	return true, true
}

// expire gives up the packets that have waited too long.
func (r *reassembler) expire(now time.Time) {
	for key, p := range r.parts {
		if now.Sub(p.since) > partTimeout {
			r.drop(key, p)
		}
	}
}

func (r *reassembler) drop(key partKey, p *part) {
	delete(r.parts, key)
	r.mem -= cap(p.buf)
	r.dropped++
}

func (r *reassembler) dropOldest() {
	var oldest partKey
	var p *part
	for key, q := range r.parts {
		if p == nil || q.since.Before(p.since) {
			oldest, p = key, q
		}
	}
	if p != nil {
		r.drop(oldest, p)
	}
}
