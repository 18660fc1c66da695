// Package ppp makes a tunnel.Port of a carrier.Stream whose other end speaks the
// Point-to-Point Protocol: the real pppd, the real slirp, or another of us. It is
// PPP in userland: no kernel driver and no privilege.
//
// It speaks RFC 1661 (LCP), RFC 1662 by way of hdlc, RFC 1332 and RFC 1877
// (IPCP), RFC 5072 (IPv6CP), RFC 1334 (PAP), RFC 1994 (CHAP) and RFC 2759
// (MS-CHAPv2) by way of auth. Both ends are the same code: who dialled, who
// authenticates whom and who gives addresses are separate settings.
//
// What was not negotiated is not parsed. Compression (CCP), Multilink (MRRU) and
// Van Jacobson's header compression are refused.
package ppp

import (
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/ppp/auth"
	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
)

// A Config says what is wanted of a link. The zero value asks for everything in
// the usual way: no authentication, an address from the peer, IPv4 and IPv6.
type Config struct {
	LCP  LCP
	Auth Auth
	IPv4 IPv4
	IPv6 IPv6

	// Log, if not nil, gets each control packet sent and received in pppd's own
	// notation, printable, without a line end. It must not block, nor call the link:
	//
	//	sent [LCP ConfReq id=0x1 <asyncmap 0x0> <magic 0x5f1c9d2a> <pcomp> <accomp>]
	Log func(line string)

	// Record, if not nil, gets all octets of the line both ways in the format of
	// pppd's record option, which pppdump(8) reads. What it fails at ends the
	// recording, not the link.
	Record io.Writer

	// Notify, if not nil, is called by the link as things happen, one event at a
	// time and in order. It must not block, nor call the link.
	Notify func(Event)

	// Rand gives magic numbers, identifiers and challenges. Nil is crypto/rand;
	// something else is for tests that replay a recording.
	Rand io.Reader
}

// LCP is what is wanted of the link itself.
type LCP struct {
	MRU int // what we take at most, in octets of a packet's data, 128 to 65535; 0 is 1500
	MTU int // what we send at most, whatever the peer takes; 0: as the peer takes

	// ACCM names the octets below 0x20 that the peer is to escape when it sends:
	// those that the way here eats or adds. Not with NoACCM: the option is not
	// asked for, and the peer escapes all of them (RFC 1662, section 7.1).
	ACCM   hdlc.ACCM
	NoACCM bool

	// Escape holds octets that we escape when we send, besides those that the
	// peer asks for. The Stream's Unsafe octets are always among them. 0x5e, and
	// 0x20 to 0x3f, cannot be escaped (RFC 1662, section 4.2).
	Escape carrier.ByteSet

	ReceiveAll bool // keep control octets that the peer should have escaped
	NoACFC     bool // neither ask for nor grant Address-and-Control-Field-Compression
	NoPFC      bool // the same for Protocol-Field-Compression
	NoMagic    bool // no magic number: a loop is not seen
	FCS32      bool // ask for the 32-bit FCS (RFC 1570, section 2.1), and use it if the peer agrees

	Silent  bool // send nothing until the peer's first good frame
	Passive bool // when nobody answered MaxConfigure requests, wait instead of failing

	// Settle is how long to wait for the peer's first good frame before our own
	// first request: a connect script's echo may still be on its way. 0: not at all.
	Settle time.Duration

	Timers Timers

	// EchoInterval is how often to ask an open link for an echo; 0: never.
	// EchoFailure is how many may stay unanswered; 0: as many as may be.
	// EchoAdaptive asks only if nothing came in meanwhile.
	EchoInterval time.Duration
	EchoFailure  int
	EchoAdaptive bool
}

// Timers are those of RFC 1661, section 4.6, for one protocol. A zero field takes
// pppd's default.
type Timers struct {
	Restart      time.Duration // 3 s
	MaxConfigure int           // 10
	MaxTerminate int           // 2
	MaxFailure   int           // 10
}

// Auth says who proves who they are, to whom and how.
type Auth struct {
	// Require is how the peer may prove who it is, the best first. Empty: it
	// need not.
	Require []auth.Protocol

	// Permit is how we are willing to prove who we are, if the peer requires it.
	// Empty: not at all.
	Permit []auth.Protocol

	Name       string // what we call ourselves
	RemoteName string // what we take the peer for, where it does not say (PAP), or says nothing

	// Secret returns what client and server share, client being the one who
	// proves. It is called with our Name on the side that we are, and must not
	// call the link; nor must Allow.
	Secret func(client, server string) (secret []byte, ok bool)

	// Allow reports whether the peer, by the name it proved (empty if it did
	// not), may use addr. Nil: any address.
	Allow func(peer string, addr netip.Addr) bool

	Timeout      time.Duration // for all of it, either way; 0 is 60 s
	Restart      time.Duration // between repetitions; 0 is 3 s
	MaxTries     int           // requests or challenges without an answer; 0 is 10
	ChapRechecks time.Duration // how often to challenge the peer again on an open link; 0: never
}

// IPv4 is what is wanted of IPCP.
type IPv4 struct {
	Off bool // no IPv4: IPCP is answered with Protocol-Reject

	Local  netip.Addr // our address; invalid: the peer must give one
	Remote netip.Addr // the peer's address; invalid: the peer must say one

	AcceptLocal  bool // let the peer give us another Local
	AcceptRemote bool // let the peer have another Remote
	NoRemote     bool // a peer without an address will do

	AskDNS bool         // ask the peer for name servers (RFC 1877)
	DNS    []netip.Addr // what a peer that asks is given, at most 2
	NBNS   []netip.Addr // the same of NetBIOS name servers

	Timers Timers
}

// IPv6 is what is wanted of IPv6CP.
type IPv6 struct {
	Off bool // no IPv6: IPv6CP is answered with Protocol-Reject

	Local, Remote uint64 // interface identifiers; 0: a random one, or what the peer says

	AcceptLocal, AcceptRemote bool // let the peer choose another, as in IPv4

	Timers Timers
}

// An Event is something that happened to a link.
type Event struct {
	Kind EventKind

	// Of IPv4Up and IPv6Up: the addresses. IPv6's are link-local ones.
	Local, Remote netip.Addr
	DNS           []netip.Addr // of IPv4Up: what the peer gave

	Peer string // of Authenticated: the name that the peer proved; printable
	MRU  int    // of LinkUp: what we may send at most
	Text string // of Note: for people, printable
}

// An EventKind says what happened.
type EventKind int

// The events. Up and Down of a network come in turns, and again if the peer
// negotiates anew; between LinkUp and LinkDown of one link.
const (
	LinkUp        EventKind = iota // LCP is open
	Authenticated                  // the peer proved who it is
	IPv4Up
	IPv4Down
	IPv6Up
	IPv6Down
	LinkDown
	Note // something the user may want to know
)

// An Error says how a link ended, or why it did not come up.
type Error struct {
	Kind   ErrorKind
	Reason string // both sides' facts, printable, one line
	Err    error  // the cause below; may be nil
}

func (e *Error) Error() string { return "ppp: " + e.Reason }
func (e *Error) Unwrap() error { return e.Err }

// An ErrorKind says at what a link failed.
type ErrorKind int

// The kinds of errors, with pppd's exit status for each (pppd(8)).
const (
	Negotiation    ErrorKind = iota + 1 // 10: LCP or every network protocol found no agreement
	PeerRefused                         // 11: the peer did not prove who it is
	OurSecret                           // 19: the peer does not take our proof, or we have none
	EchoLost                            // 15: echo requests stayed unanswered
	Hangup                              // 16: the Stream ended
	Loop                                // 17: we talk to ourselves
	PeerTerminated                      // 0 by pppd's count of a hangup in order: the peer said goodbye
)

// errorf makes an Error of a kind.
func errorf(kind ErrorKind, err error, format string, args ...any) *Error {
	return &Error{Kind: kind, Reason: fmt.Sprintf(format, args...), Err: err}
}
