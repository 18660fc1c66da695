package e2e_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

// The pairings: what either side runs, by each carrier, with the firewall around either
// side. The laptop is always the client, and the gateway the server.

// A side of the firewall is where the laptop is.
type side struct {
	name string
	corp lab.Place
	// What the far side has around it, which the near side wants, and the other way round.
	there, here network
}

var sides = []side{
	{"client inside", lab.CorpAroundLaptop, internet, corp},
	{"client outside", lab.CorpAroundGateway, corp, internet},
}

var (
	internet = network{"web.example", lab.Web4, lab.Web6, []string{"203.0.113.0/24", "2001:db8:f::/64"}}
	corp     = network{"files.corp.example", lab.Corp4, lab.Corp6, []string{"10.44.0.0/16", "fd44::/16"}}
)

// A pairing is an emulator on each side.
type pairing struct{ near, far string }

var pairings = []pairing{
	{"tun", "nat"},
	{"tun", "tun"},
	{"nat", "tun"},
	{"nat", "socks"},
	{"socks", "nat"},
	{"socks", "tun"},
}

// A bearer is a carrier of the table.
type bearer struct {
	name string
	// prepare is called once for a world, and wait before each tunnel; either may be nil.
	prepare func(w *world)
	wait    func(w *world, p pairing)
	// way is what `bodkin up` is given for the pair.
	way func(p pairing) []string
	// lacks is why a pairing cannot be, in the words of its refusal; empty: it can.
	lacks func(p pairing) string
	// use is called for a far side that has no interface before somebody there asks for
	// one; it returns what ends that. It may be nil.
	use func(w *world, here network) (end func())
}

const (
	rootKey   = "/home/me/.ssh/root_there" // opens the account root on the gateway
	servePort = 8443                       // where `bodkin serve` is
)

var bearers = []bearer{
	{
		name:    "ssh",
		prepare: (*world).rootsKey,
		way: func(p pairing) []string {
			if p.far == "tun" {
				return []string{"-e", "ssh -i " + rootKey, "root@gw"}
			}
			return []string{"me@gw"}
		},
	},
	{
		name:    "tls",
		prepare: func(w *world) { w.pairBoth("home"); w.serve() },
		wait: func(w *world, p pairing) {
			if p.far != "nat" { // which the server has no privilege to make, or no mind to
				w.farWaitsAs(p.account())
			}
		},
		way: func(p pairing) []string {
			if p.far != "nat" {
				return []string{"--known-as", "home", overTLS}
			}
			return []string{"--known-as", "home", fmt.Sprintf("tls://gw:%d", servePort)}
		},
	},
	{
		name:    "wss",
		prepare: func(w *world) { w.pair("home"); w.serve() },
		way:     func(pairing) []string { return []string{"--known-as", "home", fmt.Sprintf("wss://gw:%d", servePort)} },
		lacks: func(p pairing) string {
			if p.far == "tun" && p.near != "nat" || p.far == "socks" {
				return "the far side"
			}
			return ""
		},
		use: func(w *world, here network) func() { return w.useServed("me-laptop", here.prefixes) },
	},
	{
		name:    "telnet",
		prepare: (*world).telnetOnly,
		way: func(p pairing) []string {
			args := []string{"--password", "me@gw=@/home/me/password", "telnet://me@gw"}
			if p.far == "tun" {
				args = append([]string{"--become", "su", "--password", "root@gw=@/home/me/root-password"}, args...)
			}
			return args
		},
	},
}

// account is whose the far half is: a kernel interface is root's to make.
func (p pairing) account() string {
	if p.far == "tun" {
		return "root"
	}
	return "me"
}

func (p pairing) String() string { return p.near + " here, " + p.far + " there" }

// letsIn says whether a side's programs are reached through the tunnel.
func letsIn(emulator string) bool { return emulator == "tun" }

// TestPairings has every pair of emulators carry for whom it should, and nothing for
// whom it should not, by every carrier, and wherever the firewall is.
func TestPairings(t *testing.T) {
	for _, s := range sides {
		for _, b := range bearers {
			t.Run(s.name+", "+b.name, func(t *testing.T) {
				t.Parallel()
				w := newSideWorld(t, s)
				if b.prepare != nil {
					b.prepare(w)
				}
				for _, p := range pairings {
					t.Run(p.String(), func(t *testing.T) {
						w.in(t).tryPairing(s, b, p)
					})
				}
			})
		}
	}
}

// newSideWorld is a lab with a private network on one side of the firewall, and bodkin on
// both machines.
func newSideWorld(t *testing.T, s side) *world {
	t.Helper()
	w := newWorld(t, lab.Options{Corp: s.corp, AllowTCP: []uint16{lab.TelnetPort, servePort, farPort}})
	if err := w.Gateway.Install(program); err != nil {
		t.Fatal(err)
	}
	return w
}

// tryPairing is one row of the table.
func (w *world) tryPairing(s side, b bearer, p pairing) {
	laptop, gateway := w.snapshot(), w.snapshotOf(w.Gateway)
	args := append([]string{"--near", p.near, "--far", p.far}, b.way(p)...)
	if b.lacks != nil {
		if why := b.lacks(p); why != "" {
			r := w.bodkin(append([]string{"up", "-d"}, args...)...)
			if r.status == 0 {
				w.t.Errorf("%v is up", p)
			}
			w.says(r.out, why, "bodkin: hint: ")
			return
		}
	}
	if b.wait != nil {
		b.wait(w, p)
	}
	switch {
	case p.near == "nat":
		args = append(args, s.here.prefixes...)
	case p.near == "tun" && p.far == "tun":
		args = append(args, "10.77.0.0/16") // it forwards nothing: its own end is what is reached
	}
	w.up(args...)
	w.says(w.laptop("bodkin", "status"), p.String())
	end := func() {}
	if b.use != nil && p.far == "tun" {
		end = b.use(w, s.here)
	}

	near := user{machine: w.Laptop, proxied: p.near == "socks"}
	far := user{machine: w.Gateway, resolver: innerResolver, proxied: p.far == "socks"}
	switch {
	case p.near == "nat":
		w.uses(far, s.here)
	case p.far == "nat":
		w.uses(near, s.there)
	default:
		near.resolver = innerFar.four.String()
		w.usesHost(near, w.Gateway, innerFar)
		if letsIn(p.near) {
			far.resolver = innerNear.four.String()
			w.usesHost(far, w.Laptop, innerNear)
		}
	}
	if (!letsIn(p.near) || !letsIn(p.far)) && p.far != "socks" { // there is no interface then to come out of
		w.oneWay(p)
	}

	end()
	w.down()
	w.asBefore(laptop, p.String())
	w.gone(w.Gateway, gateway)
}

// rootsKey gives the laptop's me, who is not root there, a key for root's account on the
// gateway.
func (w *world) rootsKey() {
	w.t.Helper()
	key, err := w.Laptop.ReadFile("/root/.ssh/id_ed25519")
	if err == nil {
		err = w.Laptop.WriteFile(rootKey, key, 0o600, "me")
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// pairBoth pairs the laptop's me with both accounts of the gateway, which have one key.
func (w *world) pairBoth(names ...string) {
	w.t.Helper()
	w.pair(names...)
	if r := w.on(w.Gateway, "root", "sh", "-c", "mkdir -p /root/.config && cp -r "+farDir+" /root/.config/ && chown -R root: /root/.config"); r.status != 0 {
		w.t.Fatal(r.out)
	}
}

// telnetOnly is a gateway with telnet and no word of bodkin's, but for the keys.
func (w *world) telnetOnly() {
	w.t.Helper()
	if _, err := w.Gateway.Telnetd(w.t.Context(), lab.TelnetdOptions{Password: password}); err != nil {
		w.t.Fatal(err)
	}
	if err := w.Gateway.SetPassword(w.t.Context(), "root", rootPassword); err != nil {
		w.t.Fatal(err)
	}
	w.write(w.Laptop, "/home/me/password", password+"\n", "me")
	w.write(w.Laptop, "/home/me/root-password", rootPassword+"\n", "me")
	w.pairBoth("gw")
}

// farWaitsAs starts a far half on the gateway that waits for one near half.
func (w *world) farWaitsAs(account string) {
	w.t.Helper()
	said := new(said)
	cmd := w.Gateway.Command(w.t.Context(), "bodkin", "far", "--listen", netip.AddrPortFrom(lab.Gateway4, farPort).String()).As(account)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if w.t.Failed() {
			w.t.Logf("the far half said:\n%s", said)
		}
	})
	w.listens(w.Gateway, farPort)
}

// TestPairingsThatCannotBe: two sides with nobody to connect are refused as a wrong call,
// with what to do instead, before a single packet leaves the machine.
func TestPairingsThatCannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	cable, err := w.Laptop.Capture("eth0")
	if err != nil {
		t.Fatal(err)
	}
	defer cable.Close()
	targets := []string{"me@gw", overTLS, "bodkin://gw:7000", "telnet://me@gw", "wss://gw", "served:home"}
	for _, row := range []struct {
		near, far string
		says      []string
	}{
		{"nat", "nat", []string{"both are NATs", "--near tun --far nat"}},
		{"nat", "slirp", []string{"both are NATs", "--near tun --far nat"}},
		{"slirp", "nat", []string{"both are NATs"}},
		{"slirp", "slirp", []string{"both are NATs"}},
		{"socks", "slirp", []string{"--near socks goes with bodkin's own far half"}},
		{"socks", "pppd", []string{"--near socks goes with bodkin's own far half"}},
		{"tun", "socks", []string{"--far socks", "--near nat"}},
		{"socks", "socks", []string{"--far socks", "--near nat"}},
	} {
		for _, target := range targets {
			if (row.far == "slirp" || row.far == "pppd") && target != "me@gw" {
				continue // what protects nothing is refused for that
			}
			r := w.bodkin("up", "--near", row.near, "--far", row.far, target)
			if r.status != 2 {
				t.Errorf("--near %s --far %s %s: exit status %d, want 2", row.near, row.far, target, r.status)
			}
			w.says(r.out, append(row.says, "bodkin: error: ", "bodkin: hint: ")...)
		}
	}
	for _, line := range cable.Out() {
		if !strings.HasPrefix(line, "icmp") { // the kernel's own
			t.Errorf("the laptop sent: %s", line)
		}
	}
	// The same eye sees somebody dial.
	w.up("me@gw")
	if out := strings.Join(cable.Out(), "\n"); !strings.Contains(out, "tcp from") {
		t.Errorf("a tunnel is up, and its carrier is not seen in:\n%s", out)
	}
}
