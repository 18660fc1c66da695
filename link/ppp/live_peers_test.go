package ppp

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/ppp/auth"
)

// A livePeer is one link with a real program: which, with what options, and what
// must come of it. Those with a recording are kept as testdata/NAME.pppdump, what
// we sent and received up to the end of the link.
type livePeer struct {
	name     string
	program  string   // "pppd" or "slirp"
	options  []string // of the program
	config   Config   // ours
	recorded bool

	fails  ErrorKind // of Open; 0: the link comes up
	goodby goodbye   // who ends it
	status int       // pppd's, when it ends
	size   int       // of the largest ping's data, in octets; it fits the smaller MRU
}

// A goodbye is who ends a link.
type goodbye int

const (
	byUs   goodbye = iota // Terminate
	byPeer                // SIGTERM
	byDeath
)

// liveRand is where a link to be recorded has its random octets from, so that
// whoever plays the recording says the same.
func liveRand(name string) io.Reader { return rand.NewChaCha8(sha256.Sum256([]byte(name))) }

// Who they are in secrets files; the secrets are of each direction.
const (
	liveName   = "bodkin"
	liveTheirs = "peer"
	liveSlirps = "gateway" // slirp's name is its machine's, whatever it is told
)

var liveSecrets = map[[2]string]string{ // client, server
	{liveName, liveTheirs}: "ours to prove",
	{liveTheirs, liveName}: "theirs to prove",
	{liveName, liveSlirps}: "ours to slirp",
	{liveSlirps, liveName}: "slirp's to prove",
}

// liveAuth is authentication with peer by the protocols, each way. wrong makes all
// secrets on our side other ones.
func liveAuth(peer string, proves, asks auth.Protocol, wrong bool) Auth {
	a := Auth{Name: liveName, RemoteName: peer, Secret: func(client, server string) ([]byte, bool) {
		secret, ok := liveSecrets[[2]string{client, server}]
		if wrong {
			secret = "something else"
		}
		return []byte(secret), ok
	}}
	if proves != 0 {
		a.Permit = []auth.Protocol{proves}
	}
	if asks != 0 {
		a.Require = []auth.Protocol{asks}
	}
	return a
}

var (
	live4Ours   = netip.MustParseAddr("10.9.0.1")
	live4Theirs = netip.MustParseAddr("10.9.0.2")
	liveDNS     = netip.MustParseAddr("192.0.2.53")
	liveDNS2    = netip.MustParseAddr("192.0.2.54")
)

// liveAsks takes what the peer gives; liveGives gives it.
var (
	liveAsks  = IPv4{AcceptLocal: true, AcceptRemote: true, AskDNS: true}
	liveGives = IPv4{Local: live4Ours, Remote: live4Theirs, DNS: []netip.Addr{liveDNS, liveDNS2}}
	liveSlirp = IPv4{Remote: netip.MustParseAddr("10.0.2.2"), AcceptLocal: true, AcceptRemote: true, AskDNS: true}
)

var livePeers = []livePeer{
	// Either side calls: the other one is silent until it does.
	{name: "pppd-calls", program: "pppd", recorded: true,
		options: []string{"noauth", "10.9.0.2:10.9.0.1", "ms-dns", liveDNS.String(), "ms-dns", liveDNS2.String()},
		config:  Config{LCP: LCP{Silent: true}, IPv4: liveAsks},
		goodby:  byUs, status: 16, size: 1400},
	{name: "pppd-called", program: "pppd", recorded: true,
		options: []string{"silent", "noauth", "noipdefault", "usepeerdns"},
		config:  Config{LCP: LCP{Timers: liveTimers}, IPv4: liveGives},
		goodby:  byPeer, status: 5, size: 1400},
	{name: "pppd-killed", program: "pppd",
		options: []string{"silent", "noauth", "noipdefault"},
		config:  Config{LCP: LCP{Timers: liveTimers}, IPv4: liveGives},
		goodby:  byDeath, status: -1, size: 100},

	// What is escaped, compressed, and how large packets are.
	{name: "pppd-accm-all", program: "pppd",
		options: []string{"noauth", "10.9.0.2:10.9.0.1", "default-asyncmap", "noaccomp", "nopcomp", "mru", "552"},
		config:  Config{LCP: LCP{MRU: 552, NoACCM: true, NoACFC: true, NoPFC: true}, IPv4: liveAsks, IPv6: IPv6{Off: true}},
		goodby:  byUs, status: 16, size: 524},
	{name: "pppd-accm-xonxoff", program: "pppd",
		options: []string{"noauth", "10.9.0.2:10.9.0.1", "asyncmap", "a0000", "mru", "16384"},
		config:  Config{LCP: LCP{MRU: 16384, ACCM: 0xa0000}, IPv4: liveAsks},
		goodby:  byPeer, status: 5, size: 16000},
	{name: "pppd-accm-telnet", program: "pppd",
		options: []string{"noauth", "10.9.0.2:10.9.0.1", "asyncmap", "200a0000", "escape", "ff", "noaccomp", "novj", "noccp"},
		config:  Config{LCP: LCP{ACCM: 0x200a0000, Escape: liveEscape(0xff, 0x7f)}, IPv4: liveAsks},
		goodby:  byUs, status: 16, size: 1472},
	{name: "pppd-plain", program: "pppd",
		options: []string{"noauth", "10.9.0.2:10.9.0.1", "asyncmap", "0", "nopcomp", "nomagic", "mru", "1500"},
		config:  Config{LCP: LCP{NoACFC: true, FCS32: true}, IPv4: liveAsks},
		goodby:  byPeer, status: 5, size: 1472},

	// Who proves what to whom.
	{name: "pppd-pap", program: "pppd", recorded: true,
		options: liveNames("require-pap"), config: Config{LCP: LCP{Timers: liveTimers}, IPv4: liveGives, Auth: liveAuth(liveTheirs, auth.PAP, auth.PAP, false)},
		goodby: byUs, status: 16, size: 100},
	{name: "pppd-chap", program: "pppd", recorded: true,
		options: liveNames("require-chap"), config: Config{LCP: LCP{Timers: liveTimers}, IPv4: liveGives, Auth: liveAuth(liveTheirs, auth.CHAP, auth.CHAP, false)},
		goodby: byUs, status: 16, size: 100},
	{name: "pppd-mschapv2", program: "pppd", recorded: true,
		options: liveNames("require-mschap-v2"), config: Config{LCP: LCP{Timers: liveTimers}, IPv4: liveGives, Auth: liveAuth(liveTheirs, auth.MSCHAPv2, auth.MSCHAPv2, false)},
		goodby: byUs, status: 16, size: 100},
	{name: "pppd-pap-we-lie", program: "pppd", recorded: true,
		options: liveNames("require-pap"), config: Config{LCP: LCP{Timers: liveTimers}, IPv4: liveGives, Auth: liveAuth(liveTheirs, auth.PAP, 0, true)},
		fails: OurSecret, status: 11},
	{name: "pppd-chap-we-lie", program: "pppd", recorded: true,
		options: liveNames("require-chap"), config: Config{LCP: LCP{Timers: liveTimers}, IPv4: liveGives, Auth: liveAuth(liveTheirs, auth.CHAP, 0, true)},
		fails: OurSecret, status: 11},
	{name: "pppd-mschapv2-we-lie", program: "pppd", recorded: true,
		options: liveNames("require-mschap-v2"), config: Config{LCP: LCP{Timers: liveTimers}, IPv4: liveGives, Auth: liveAuth(liveTheirs, auth.MSCHAPv2, 0, true)},
		fails: OurSecret, status: 11},
	{name: "pppd-pap-it-lies", program: "pppd", recorded: true,
		options: liveNames("noauth"), config: Config{LCP: LCP{Timers: liveTimers}, IPv4: liveGives, Auth: liveAuth(liveTheirs, 0, auth.PAP, true)},
		fails: PeerRefused, status: 19},
	{name: "pppd-chap-it-lies", program: "pppd", recorded: true,
		options: liveNames("noauth"), config: Config{LCP: LCP{Timers: liveTimers}, IPv4: liveGives, Auth: liveAuth(liveTheirs, 0, auth.CHAP, true)},
		fails: PeerRefused, status: 19},
	{name: "pppd-mschapv2-it-lies", program: "pppd", recorded: true,
		options: liveNames("noauth"), config: Config{LCP: LCP{Timers: liveTimers}, IPv4: liveGives, Auth: liveAuth(liveTheirs, 0, auth.MSCHAPv2, true)},
		fails: PeerRefused, status: 19},

	// slirp waits for us, says nothing of its own address, never answers IPv6CP.
	{name: "slirp-called", program: "slirp", recorded: true,
		options: []string{"ppp"}, config: Config{IPv4: liveSlirp}, goodby: byUs, size: 1400},
	{name: "slirp-killed", program: "slirp",
		options: []string{"ppp"}, config: Config{IPv4: liveSlirp}, goodby: byDeath, size: 1400},
	{name: "slirp-small", program: "slirp",
		options: []string{"ppp", "-ac", "-pc", "mru 552", "mtu 552"},
		config:  Config{LCP: LCP{MRU: 552, NoACCM: true}, IPv4: liveSlirp}, goodby: byUs, size: 524},

	// slirp proves itself by CHAP with no word more, by PAP only if remotename stands
	// before ppp, the word at which it looks for its password. It knows no MS-CHAPv2
	// and offers CHAP instead, which is not what that row asks for.
	{name: "slirp-pap", program: "slirp", recorded: true,
		options: []string{"remotename " + liveName, "ppp", "auth", "+pap"}, config: Config{IPv4: liveSlirp, Auth: liveAuth(liveSlirps, auth.PAP, auth.PAP, false)},
		goodby: byUs, size: 100},
	{name: "slirp-chap", program: "slirp", recorded: true,
		options: []string{"ppp", "auth", "+chap"}, config: Config{IPv4: liveSlirp, Auth: liveAuth(liveSlirps, auth.CHAP, auth.CHAP, false)},
		goodby: byUs, size: 100},
	{name: "slirp-pap-we-lie", program: "slirp", recorded: true,
		options: []string{"ppp", "auth", "+pap"}, config: Config{IPv4: liveSlirp, Auth: liveAuth(liveSlirps, auth.PAP, 0, true)},
		fails: OurSecret},
	{name: "slirp-chap-we-lie", program: "slirp", recorded: true,
		options: []string{"ppp", "auth", "+chap"}, config: Config{IPv4: liveSlirp, Auth: liveAuth(liveSlirps, auth.CHAP, 0, true)},
		fails: OurSecret},
	{name: "slirp-pap-it-lies", program: "slirp", recorded: true,
		options: []string{"remotename " + liveName, "ppp"}, config: Config{IPv4: liveSlirp, Auth: liveAuth(liveSlirps, 0, auth.PAP, true)},
		fails: PeerRefused},
	{name: "slirp-chap-it-lies", program: "slirp", recorded: true,
		options: []string{"ppp"}, config: Config{IPv4: liveSlirp, Auth: liveAuth(liveSlirps, 0, auth.CHAP, true)},
		fails: PeerRefused},
	{name: "slirp-mschapv2", program: "slirp", recorded: true,
		options: []string{"ppp"}, config: Config{IPv4: liveSlirp, Auth: liveAuth(liveSlirps, 0, auth.MSCHAPv2, false)},
		fails: PeerRefused},
}

// liveTimers are for a peer that is silent at first and throws away what comes
// before it is there, in the second that its kernel takes to start.
var liveTimers = Timers{Restart: 300 * time.Millisecond, MaxConfigure: 100}

// liveNames are pppd's options besides who it is and where its secrets are found.
func liveNames(options ...string) []string {
	return append(options, "silent", "name", liveTheirs, "remotename", liveName, "noipdefault")
}

func liveEscape(octets ...byte) (s carrier.ByteSet) {
	for _, b := range octets {
		s.Add(b)
	}
	return s
}
