package ppp

import (
	"encoding/binary"
	"slices"

	"github.com/bodkin-net/bodkin/link/ppp/auth"
	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
)

// LCP's options (RFC 1661, section 6; RFC 1662, section 7.1; RFC 1570, section
// 2.1). All others are rejected.
const (
	optMRU   = 1
	optACCM  = 2
	optAuth  = 3
	optMagic = 5
	optPFC   = 7
	optACFC  = 8
	optFCS   = 9
)

// fcsAlternative32 is the bit of the 32-bit FCS (RFC 1570, section 2.1).
const fcsAlternative32 = 4

const (
	defaultMRU = 1500 // RFC 1661, section 6.1

	// minMRU is the least that we work with, as pppd: below it not even a long
	// option fits.
	minMRU = 128

	// maxLoops is how often our own Configure-Request, magic number and all, may
	// come back in a row before we know that we talk to ourselves. The first may
	// be chance, and is naked as the RFC says; the others only wait for the next
	// retransmission, because an echo may end when the far program starts.
	maxLoops = 4
)

// Terms is what LCP agreed on for one direction.
type Terms struct {
	MRU   int           // what a packet's data has at most, in octets
	ACCM  hdlc.ACCM     // what is escaped
	Auth  auth.Protocol // how the sender of the packets proves who it is; 0: not
	Magic uint32        // the receiver's number; 0: none
	PFC   bool          // the protocol may be sent in one octet
	ACFC  bool          // address and control may be left out
	FCS32 bool          // the FCS has 32 bits

	mapped bool // ACCM was agreed on, not left at its default
}

// defaultTerms holds before LCP has agreed on others.
var defaultTerms = Terms{MRU: defaultMRU, ACCM: hdlc.DefaultACCM}

// lcp is LCP's negotiation.
type lcp struct {
	want    LCP
	accm    hdlc.ACCM       // want.ACCM and the Stream's unsafe octets
	require []auth.Protocol // how the peer may prove who it is, the best first
	permit  []auth.Protocol // how we are willing to
	random  func() uint32

	ours Terms // what we ask the peer to do when it sends
	peer Terms // what the peer asks of us

	askMRU      bool
	authAt      int  // ours.Auth in require; len(require) when all are refused
	authRefused bool // the peer asked us to prove who we are in a way that we do not

	loops int // how often our own request came back
}

// begin starts over with what was wanted.
func (l *lcp) begin() {
	l.ours = Terms{MRU: l.want.MRU, ACCM: l.accm, mapped: !l.want.NoACCM, PFC: !l.want.NoPFC, ACFC: !l.want.NoACFC, FCS32: l.want.FCS32}
	l.askMRU = l.want.MRU != defaultMRU
	if !l.want.NoMagic {
		l.ours.Magic = l.newMagic()
	}
	l.setAuth(0)
}

// setAuth makes the at-th of the protocols that we require the one to ask for.
func (l *lcp) setAuth(at int) {
	l.authAt, l.ours.Auth = at, 0
	if at < len(l.require) {
		l.ours.Auth = l.require[at]
	}
}

// newMagic returns a magic number, which is not 0 (RFC 1661, section 6.4).
func (l *lcp) newMagic() uint32 { return max(1, l.random()) }

func (l *lcp) request(dst []byte) []byte {
	if l.askMRU {
		dst = appendOption16(dst, optMRU, uint16(l.ours.MRU))
	}
	if l.ours.mapped && l.ours.ACCM != hdlc.DefaultACCM {
		dst = appendOption32(dst, optACCM, uint32(l.ours.ACCM))
	}
	if l.ours.Auth != 0 {
		dst = appendOption(dst, optAuth, l.ours.Auth.Option()...)
	}
	if l.ours.Magic != 0 {
		dst = appendOption32(dst, optMagic, l.ours.Magic)
	}
	if l.ours.PFC {
		dst = appendOption(dst, optPFC)
	}
	if l.ours.ACFC {
		dst = appendOption(dst, optACFC)
	}
	if l.ours.FCS32 {
		dst = appendOption(dst, optFCS, fcsAlternative32)
	}
	return dst
}

func (l *lcp) listen() { l.peer = defaultTerms }

func (l *lcp) consider(o option) (verdict, []byte) {
	switch o.kind {
	case optMRU:
		if len(o.value) != 2 {
			break
		}
		mru := int(binary.BigEndian.Uint16(o.value))
		if mru < minMRU {
			return nak, binary.BigEndian.AppendUint16(nil, minMRU)
		}
		l.peer.MRU = mru
		return take, nil
	case optACCM:
		if len(o.value) != 4 {
			break
		}
		l.peer.ACCM, l.peer.mapped = hdlc.ACCM(binary.BigEndian.Uint32(o.value)), true
		return take, nil
	case optAuth:
		p, ok := auth.ParseOption(o.value)
		if ok && slices.Contains(l.permit, p) {
			l.peer.Auth = p
			l.authRefused = false
			return take, nil
		}
		l.authRefused = true
		if len(l.permit) > 0 {
			return nak, l.permit[0].Option()
		}
	case optMagic:
		if len(o.value) != 4 || l.want.NoMagic {
			break
		}
		magic := binary.BigEndian.Uint32(o.value)
		if magic == 0 || magic == l.ours.Magic {
			return nak, binary.BigEndian.AppendUint32(nil, l.newMagic())
		}
		l.peer.Magic = magic
		l.loops = 0
		return take, nil
	case optPFC:
		if len(o.value) != 0 || l.want.NoPFC {
			break
		}
		l.peer.PFC = true
		return take, nil
	case optACFC:
		if len(o.value) != 0 || l.want.NoACFC {
			break
		}
		l.peer.ACFC = true
		return take, nil
	case optFCS:
		if len(o.value) != 1 || !l.want.FCS32 {
			break
		}
		if o.value[0] != fcsAlternative32 {
			return nak, []byte{fcsAlternative32}
		}
		l.peer.FCS32 = true
		return take, nil
	}
	return reject, nil
}

func (l *lcp) missing(dst []byte) []byte { return dst }

func (l *lcp) naked(o option) {
	switch o.kind {
	case optMRU: // smaller is no harm; larger is ours to say
		if len(o.value) == 2 {
			if mru := int(binary.BigEndian.Uint16(o.value)); mru >= minMRU {
				l.ours.MRU, l.askMRU = min(mru, l.want.MRU), true
			}
		}
	case optACCM: // what the peer escapes anyway does no harm
		if len(o.value) == 4 {
			l.ours.ACCM |= hdlc.ACCM(binary.BigEndian.Uint32(o.value))
		}
	case optAuth:
		if l.ours.Auth == 0 {
			return
		}
		if p, ok := auth.ParseOption(o.value); ok {
			if i := slices.Index(l.require, p); i > l.authAt {
				l.setAuth(i)
				return
			}
		}
		l.setAuth(l.authAt + 1)
	case optMagic:
		if l.ours.Magic != 0 {
			l.ours.Magic = l.newMagic()
		}
	case optPFC, optACFC, optFCS: // the first two have no value to choose: a Reject is meant
		l.rejected(o)
	}
}

func (l *lcp) rejected(o option) {
	switch o.kind {
	case optMRU:
		l.askMRU = false
		l.ours.MRU = defaultMRU
	case optACCM:
		l.ours.mapped = false
	case optAuth:
		l.setAuth(len(l.require))
	case optMagic:
		l.ours.Magic = 0
	case optPFC:
		l.ours.PFC = false
	case optACFC:
		l.ours.ACFC = false
	case optFCS:
		l.ours.FCS32 = false
	}
}

// agreed returns the terms of what comes in and of what goes out, once LCP is
// open.
func (l *lcp) agreed() (in, out Terms) {
	in, out = l.ours, l.peer
	if !in.mapped {
		in.ACCM = hdlc.DefaultACCM
	}
	return in, out
}
