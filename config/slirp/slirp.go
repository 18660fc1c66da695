// Package slirp reads the option language of slirp(1), version 1.0.17, and makes a
// plain, checked value of it. It opens nothing itself and looks nothing up: files
// and the names of services come through functions that are handed in.
//
// Every command of slirp is in one table (table.go): taken; ignored, with a note
// of why that does no harm; or refused, with a reason. A few of our own stand
// there too.
//
// It differs from slirp in this: PPP is the only protocol of the line, so the word
// ppp may stand anywhere or be left out, and resets nothing; a word that is not
// understood is an error, where slirp says so and goes on without it; a command of
// one value may stand unquoted on the command line (mtu 552); redirections listen
// at 127.0.0.1 unless an address says otherwise; and nothing runs programs or
// takes commands from the inner side.
package slirp

import (
	"net/netip"
	"time"
)

// Options is what the commands ask for. Parse fills in the defaults.
type Options struct {
	Help    *string // help was asked for, of commands that begin so
	Version bool    // version was asked for

	TTY string // the line's device; empty: standard input and output

	// MRU is what we take and MTU what we send at most, in octets; 0: 1500, and
	// as the peer takes.
	MRU, MTU int

	ACCM   uint32    // octets below 0x20 that the peer is to escape
	NoACCM bool      // not spoken of: all of them
	Escape [256]bool // octets that we escape

	NoMRU, NoACFC, NoPFC, NoMagic bool // not spoken of in LCP
	NoIP                          bool // a peer that has no address will do

	Initiate bool // speak first
	PPPExit  bool // exit when PPP goes down

	// Wait is how long to wait for a new link when one has gone down.
	Wait time.Duration

	NoZeros bool // five zeros while the link is down do not mean exit

	EchoInterval time.Duration // between LCP echo requests; 0: none
	EchoFailure  int           // unanswered ones that end the link; 0: none do

	LCP, IPCP Timers

	// Special is the network that the NAT's own addresses are in: .2 the host,
	// .3 names, .15 the peer.
	Special netip.Prefix

	AcceptLocal  bool // the peer may give us another address
	AcceptRemote bool // the peer may have another address than .15, as it may in any case

	DNS []netip.Addr // the resolvers to ask, at most two; empty: the host's

	Redirects []Redirect

	AllowHost      bool // the inner side may reach the host's loopback and addresses
	AllowLinkLocal bool // and link-local ones

	Auth Auth

	DebugPPP string // file that gets what PPP says; "-": standard error
	Record   string // file that gets all octets of the line, for pppdump(8)

	// Notes says of each word that does nothing here why it does not, in the
	// order of the words; printable.
	Notes []string
}

// A Redirect is a port of the host that leads to one inside.
type Redirect struct {
	Network string // "tcp" or "udp"
	Listen  netip.AddrPort
	To      netip.AddrPort
	Once    bool          // TCP: for one connection
	Idle    time.Duration // UDP: until nothing has passed for so long; 0: for ever
}

// Timers are those of one control protocol. A zero is the protocol's default.
type Timers struct {
	Restart                                time.Duration
	MaxConfigure, MaxTerminate, MaxFailure int
}

// Auth says who proves who they are, and how.
type Auth struct {
	Require     bool // auth: the peer must prove who it is
	RequirePAP  bool // +pap: by PAP
	RequireCHAP bool // +chap: by CHAP
	RefusePAP   bool // -pap: we do not prove who we are by PAP
	RefuseCHAP  bool // -chap: nor by CHAP

	Name        string // what this end is called; empty: the host's name
	User        string // what we call ourselves to a peer that asks by PAP; empty: Name
	RemoteName  string // what the peer is taken for
	Domain      string // goes behind the host's name
	UseHostname bool   // Name is the host's name, whatever was said

	Restart  time.Duration // of pap-restart and chap-restart; 0: default
	MaxTries int           // of pap-max-authreq and chap-max-challenge; 0: default
	Timeout  time.Duration // of pap-timeout; 0: default
	Interval time.Duration // how often to challenge the peer again; 0: never
}

// Defaults of slirp.
const (
	defaultMTU  = 1500
	defaultWait = 10 * time.Minute // slirp.doc: a link may be away for so long

	// idleRedirect is when a redirection of UDP with the word time ends: slirp's
	// SO_EXPIRE.
	idleRedirect = 4 * time.Minute
)

var defaultSpecial = netip.MustParsePrefix("10.0.2.0/24")

func defaults() Options {
	return Options{Special: defaultSpecial, Wait: defaultWait}
}

// Host, DNSAlias and Peer are the addresses of the special network.
func (o *Options) Host() netip.Addr     { return o.at(2) }
func (o *Options) DNSAlias() netip.Addr { return o.at(3) }
func (o *Options) Peer() netip.Addr     { return o.at(15) }

func (o *Options) at(host byte) netip.Addr {
	a := o.Special.Addr().As4()
	a[3] = host
	return netip.AddrFrom4(a)
}
