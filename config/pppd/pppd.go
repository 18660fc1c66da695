// Package pppd reads the option language of pppd(8), version 2.4.9, and makes a
// plain, checked value of it. It opens nothing itself, dials nothing and runs
// nothing: option files come through a function that is handed in.
//
// Every option of pppd is in one table (table.go), in one of three ways:
// accepted; ignored, with a note of why that does no harm; or refused, with a
// reason, since whoever wrote it counts on something that would not happen. Words
// of our own stand there too, in a group of their own.
//
// It differs from pppd in this: /etc/ppp/options, ~/.ppprc and the options.TTY
// file are read only if system-options is the first word, since what a
// distribution puts there (auth, crtscts, lock) is meant for its modems and
// breaks everything else; passwords are not taken from the command line, where
// every user can read them; names are not looked up, so addresses are written as
// addresses; and numbers out of range are refused instead of moved into range.
package pppd

import (
	"net/netip"
	"time"
)

// Options is what the words ask for. Parse fills in pppd's defaults.
type Options struct {
	Line Line
	LCP  LCP
	Auth Auth
	IPv4 IPv4
	IPv6 IPv6
	Host Host
	Life Life
	Log  Log

	// Notes says of each word that does nothing here why it does not, in the
	// order of the words; printable.
	Notes []string

	// Settings are the options as they were given, in order.
	Settings []Setting
}

// A Setting is one option that was given: its words and where they stood.
type Setting struct {
	Words  []string // the name as it was written, then its value if it has one
	Source string   // "command line", or the file with the line
}

// A LineKind says what the octets travel on.
type LineKind int

// The kinds of lines.
const (
	LineDefault LineKind = iota // the terminal on the standard input if there is one, else LineStdio
	LineDevice                  // a terminal device
	LinePTY                     // a command on a terminal of its own
	LinePipe                    // a command on two pipes; ours
	LineStdio                   // the standard input and output, as they are
	LineSocket                  // a TCP connection
)

// A Switch is on, off, or as it was found.
type Switch int

// The states of a Switch.
const (
	AsIs Switch = iota
	On
	Off
)

// A Line is the way to the peer.
type Line struct {
	Kind    LineKind
	Device  string // of LineDevice: the path
	Command string // of LinePTY and LinePipe, for sh -c
	Socket  string // of LineSocket: host:port

	Speed   int    // baud; 0: as it is
	CRTSCTS Switch // hardware flow control
	XONXOFF bool   // flow control by ^S and ^Q, which are then escaped both ways
	Local   Switch // On: the modem's lines are not looked at; Off: a lost carrier is a hangup

	// Commands for sh -c with the line as standard input and output; empty: none.
	Init, Connect, Welcome, Disconnect string

	// ConnectDelay is how long to wait for the peer's first frame after Connect,
	// LinePTY or LinePipe before speaking.
	ConnectDelay time.Duration

	Record string // file that gets all octets, for pppdump(8); empty: none
}

// Timers are those of one control protocol. A zero is the protocol's default.
type Timers struct {
	Restart                                time.Duration
	MaxConfigure, MaxTerminate, MaxFailure int
}

// LCP is what is wanted of the link.
type LCP struct {
	MRU, MTU int // octets, 128 to 16384; 0: default

	ACCM   uint32    // all asyncmap options ORed
	NoACCM bool      // default-asyncmap: not negotiated, so all are escaped
	Escape [256]bool // octets to escape when sending

	ReceiveAll, NoACFC, NoPFC, NoMagic bool
	Silent, Passive                    bool

	EchoInterval time.Duration // 0: never
	EchoFailure  int           // 0: as many as may be
	EchoAdaptive bool

	Timers Timers
}

// Auth says who proves who they are, and how.
type Auth struct {
	Want Want // whether the peer must

	// RequirePAP and so on are how it may, if it must; all of them if none is set.
	RequirePAP, RequireCHAP, RequireMSCHAPv2 bool

	// RefusePAP and so on are how we will not.
	RefusePAP, RefuseCHAP, RefuseMSCHAPv2 bool

	Name        string // name: this end's; empty: the host's name
	User        string // user: what we call ourselves to the peer; empty: Name
	RemoteName  string // remotename: what to take the peer for
	Domain      string // appended to the host's name
	UseHostname bool   // Name is the host's name whatever was said

	// Password is our secret, if HasPassword; it goes before those of the files.
	Password    string
	HasPassword bool

	CHAPInterval time.Duration // how often to challenge the peer again; 0: never
	Restart      time.Duration // of chap-restart and pap-restart; 0: default
	MaxTries     int           // of chap-max-challenge and pap-max-authreq; 0: default
	Timeout      time.Duration // of chap-timeout and pap-timeout; 0: default
}

// A Want says whether the peer must prove who it is.
type Want int

// The wants.
const (
	WantDefault Want = iota // it need not, but may then only use addresses that lead nowhere else
	WantAuth                // auth, or one of require-*: it must
	WantNone                // noauth: it need not, and may use any address
)

// IPv4 is what is wanted of IPCP.
type IPv4 struct {
	Off bool // noip

	Local, Remote             netip.Addr // invalid: the peer says
	AcceptLocal, AcceptRemote bool
	NoRemote                  bool
	UsePeerDNS                bool
	DNS, NBNS                 []netip.Addr // at most 2 each
	Timers                    Timers
}

// IPv6 is what is wanted of IPv6CP.
type IPv6 struct {
	Want Switch // On: +ipv6 or ipv6; Off: noipv6

	Local, Remote             uint64 // interface identifiers; 0: any
	UseIPv4                   bool   // ipv6cp-use-ipaddr: Local is made of the IPv4 address
	AcceptLocal, AcceptRemote bool
	Timers                    Timers
}

// Host is what becomes of the packets on this machine.
type Host struct {
	NAT       bool   // ours: a userspace NAT in the place of a network interface
	Interface string // the interface's name; empty: the first free pppN
	Scripts   Switch // run /etc/ppp/ip-up and its kin; AsIs: unless NAT

	DefaultRoute, DefaultRoute6 bool
}

// Life is how the link begins and ends.
type Life struct {
	Persist    bool
	MaxFail    int           // attempts in a row that may fail; 0: any number
	Holdoff    time.Duration // before dialling again
	Idle       time.Duration // end after so long without packets; 0: never
	MaxConnect time.Duration // end after so long; 0: never

	UpDetach     bool // return once the link is up, and let it run
	SDNotify     bool // tell the service manager once the link is up (sd_notify(3))
	ChildTimeout time.Duration

	LinkName, IPParam, CallFile string
	Set                         []string // variables for the scripts, NAME=value
	Unset                       []string // and those they do not get
}

// Log is what is said, and where.
type Log struct {
	Debug, Dump, DryRun bool
	File                string // appended to; empty: none
	FD                  int    // a descriptor; -1: none
}

// Defaults, those of pppd unless said otherwise.
const (
	defaultConnectDelay = time.Second
	defaultMaxFail      = 10
	defaultHoldoff      = 30 * time.Second
	defaultChildTimeout = 5 * time.Second
)

func defaults() Options {
	return Options{
		Line: Line{ConnectDelay: defaultConnectDelay},
		Life: Life{MaxFail: defaultMaxFail, Holdoff: defaultHoldoff, ChildTimeout: defaultChildTimeout},
		Log:  Log{FD: -1},
	}
}
