package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/term"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/farhalf"
	"github.com/bodkin-net/bodkin/carrier/tcp"
	"github.com/bodkin-net/bodkin/cmd/bodkin/addresses"
	"github.com/bodkin-net/bodkin/cmd/bodkin/farside"
	"github.com/bodkin-net/bodkin/cmd/bodkin/privilege"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/cmd/bodkin/serve"
	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/endpoint/tun"
	"github.com/bodkin-net/bodkin/host"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/splitdns"
	"github.com/bodkin-net/bodkin/tunnel"
)

// listen opens the control socket, which also keeps the name for us alone.
func (n *near) listen(cancel context.CancelCauseFunc) error {
	c, err := listenControl(n.config.Name, n.snapshot, cancel, n.reconnect)
	if err != nil {
		return report.At(report.Privilege, err, "give this one another name with --name, or end the other with `bodkin down`")
	}
	n.control = c
	return nil
}

// choose finds networks for the tunnel's own addresses that clash with none of
// the machine's, nor with what is to go through the tunnel.
func (n *near) choose(context.Context) error {
	networks, err := chooseNetworks(n.config.Routes)
	if err != nil {
		return report.At(report.Addresses, err, "")
	}
	n.networks = networks
	if n.config.Near.Kind == config.NAT {
		given, err := farside.Offer(software(), networks)
		if err != nil {
			return report.At(report.Addresses, err, "")
		}
		n.mine = tunnel.Agreed{Local: given.Yours, Peer: given.Mine, DNS: farside.Resolvers(networks)}
	}
	return nil
}

// candidates are where the tunnel's addresses may come from, the usual ones
// first.
func candidates() (v4, v6 []netip.Prefix) {
	v4, v6 = addresses.Networks[:1:1], addresses.Networks[1:2:2]
	for _, s := range []string{"10.0.66.0/24", "10.117.2.0/24", "172.30.66.0/24", "192.168.166.0/24", "198.18.66.0/24"} {
		v4 = append(v4, netip.MustParsePrefix(s))
	}
	for i := range 5 {
		v6 = append(v6, netip.MustParsePrefix(fmt.Sprintf("fd62:6f64:6b69:%x::/64", i+1)))
	}
	return v4, v6
}

func chooseNetworks(routes []netip.Prefix) ([]netip.Prefix, error) {
	var chosen []netip.Prefix
	v4, v6 := candidates()
	for _, list := range [][]netip.Prefix{v4, v6} {
		list = slices.DeleteFunc(list, func(p netip.Prefix) bool {
			return slices.ContainsFunc(routes, func(r netip.Prefix) bool { return r.Bits() > 0 && r.Overlaps(p) })
		})
		p, err := host.Choose(list)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, p)
	}
	return chosen, nil
}

// gainPrivilege starts the host helper.
func (n *near) gainPrivilege(ctx context.Context) (err error) {
	if n.privileged, err = privilege.Start(&n.helperWords); err != nil {
		return err
	}
	cleaned, err := n.privileged.Hello(ctx)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		hint := "run bodkin up as root, or as a user whom sudo lets"
		if !term.IsTerminal(int(os.Stdin.Fd())) {
			hint += "; there is no terminal here for sudo to ask on"
		}
		reason := "root was not granted (" + n.privileged.How() + ")"
		if words := n.helperWords.Last(); words != "" {
			reason += ": " + words
		}
		return report.At(report.Privilege, errors.New(reason), hint)
	}
	n.voice.done(report.Privilege, "the host helper runs %s", n.privileged.How())
	for _, text := range cleaned {
		n.voice.note("left by a killed tunnel: %s", text)
	}
	return nil
}

// renouncePrivilege gives up root where nothing of this machine is to be changed:
// no ssh, and nothing that reads the network, runs as root for a user.
func (n *near) renouncePrivilege(context.Context) error {
	name, err := privilege.GiveUp()
	if err != nil {
		return report.At(report.Privilege, err, "")
	}
	if name != "" {
		n.voice.done(report.Privilege, "not needed with --near %s: all runs as %s", n.config.Near, name)
	}
	return nil
}

// connect makes the continuous connection to the far half.
func (n *near) connect(ctx context.Context) error {
	switch t := n.config.Target; {
	case t.Scheme == config.TCP:
		return n.connectTCP(ctx)
	case t.Scheme == config.Served:
		return n.connectServed(ctx)
	case t.Scheme != config.SSH:
		return n.connectInside(ctx)
	}
	builds, err := n.builds()
	if err != nil {
		return err
	}
	nonce := farhalf.NewNonce()
	if err := n.login(ctx, farhalf.Command(nonce, builds.Hashes()...), false); err != nil {
		return err
	}
	var result farhalf.Result
	n.stream, result, err = farhalf.Start(ctx, n.stream, farhalf.Options{Nonce: nonce, Builds: builds, Progress: n.sent()})
	if err != nil {
		return n.refine(report.FarHalf, err)
	}
	n.started(result)
	if n.redialling {
		return nil
	}
	return n.findPeers()
}

// builds are the far halves at hand.
func (n *near) builds() (farhalf.Builds, error) {
	builds, err := farhalf.Find(n.config.FarBinary)
	return builds, report.At(report.FarHalf, err, "name a bodkin for the far side with --far-binary FILE")
}

// sent returns what shows how much of the far half has gone over. It asks for the Path
// meanwhile, for what goes over is the first that a way with losses would be slow for.
func (n *near) sent() func(done, total int64) {
	socket := n.stream.Socket
	return func(done, total int64) {
		if socket != nil {
			socket.Path()
		}
		n.voice.progress("far half sent", done, total)
	}
}

// started says how the far half was started.
func (n *near) started(r farhalf.Result) {
	if r.Uploaded {
		n.done(report.FarHalf, "put into %s there, %.1f MB on the way", r.Directory, float64(r.Octets)/1e6)
		return
	}
	n.done(report.FarHalf, "was there already")
}

// connectTCP dials a far half that listens on a bare port, for measurements.
func (n *near) connectTCP(ctx context.Context) error {
	address := net.JoinHostPort(n.config.Target.Host, fmt.Sprint(n.config.Target.Port))
	far, err := netip.ParseAddrPort(address)
	if err != nil {
		return report.At(report.Reach, err, "a plain connection wants an address, not a name")
	}
	var control func(network, address string, c syscall.RawConn) error
	if n.privileged != nil {
		control = n.privileged.Control
	}
	if n.stream, err = (tcp.Dialer{Control: control, Congestion: tcp.Congestion(n.config.Congestion)}).Dial(ctx, address); err != nil {
		return report.At(report.Reach, err, "")
	}
	n.course = course{text: "tcp to " + address, marked: []netip.AddrPort{far}}
	n.done(report.Reach, "%s, not encrypted", n.course.text)
	return nil
}

// connectServed connects to a client of the server that runs on this machine, which
// carries what goes there from its own process to the client.
func (n *near) connectServed(ctx context.Context) (err error) {
	if n.stream, err = serve.Dial(ctx, n.config.Target.Host); err != nil {
		return n.refine(report.Reach, err)
	}
	n.course = course{text: "the server of this machine", encrypted: true, authenticated: true}
	n.done(report.Reach, "%s, where %s stands", n.course.text, n.config.Target.Host)
	return nil
}

// openLink says hello to the far half and learns the tunnel's addresses.
func (n *near) openLink(ctx context.Context) (err error) {
	n.noteEnds()
	n.watchNetwork(ctx)
	first, agreed, err := n.openNative(ctx)
	if err != nil {
		return err
	}
	n.agreed = agreed
	l := &keptLink{Port: first, now: first, stream: n.stream}
	n.redialling = true
	if !n.config.Once {
		n.keep(ctx, l, n.redialNative)
	}
	n.set(func(s *Status) {
		n.link = l
		s.Carrier, s.Line = n.course.text, n.course.line
		s.Encrypted, s.Authenticated = n.course.encrypted, n.course.authenticated
		s.Far, s.FarHalf = first.peer.Emulator.String(), first.peer.Software
		s.Addresses, s.MTU = agreed.Local, agreed.MTU
		s.Warnings = append(s.Warnings, first.peer.Notes...)
	})
	for _, text := range first.peer.Notes {
		n.voice.note("the far side says: %s", text)
	}
	return nil
}

// redialNative makes the connection to the far half anew, and a link on it.
func (n *near) redialNative(ctx context.Context) (link, carrier.Stream, tunnel.Agreed, error) {
	if err := n.connect(ctx); err != nil {
		return nil, n.stream, tunnel.Agreed{}, err
	}
	l, agreed, err := n.openNative(ctx)
	return l, n.stream, agreed, err
}

// openNative opens a link to the far half on the connection that there is.
func (n *near) openNative(ctx context.Context) (nativeLink, tunnel.Agreed, error) {
	mine := n.hello()
	began := time.Now()
	c, err := n.openSession(ctx)
	var l *native.Link
	var peer native.Hello
	var agreed tunnel.Agreed
	if err == nil {
		if l, peer, agreed, err = native.Open(ctx, c.session.Stream(), mine); err != nil {
			c.close()
		}
	}
	if err != nil {
		if isDamage(err) {
			return nativeLink{}, agreed, broke(report.Link, err)
		}
		err = n.refine(report.Link, err)
		switch {
		case report.HintOf(err) != "":
		case mine.Asks&native.AskKernel != 0:
			err = report.At(report.Link, err, "the far side's kernel interface needs root there: log in as root, or let the account use /dev/net/tun; --far nat needs nothing")
		case mine.Asks&native.AskProxy != 0:
			err = report.At(report.Link, err, "the far side's programs get a proxy from a far half that a login starts; at `bodkin serve` stand with --far tun, and `bodkin up served:NAME --near socks` on its machine makes one")
		case carrier.IsClosed(err), errors.Is(err, io.ErrUnexpectedEOF):
			err = report.At(report.Link, err, hintAgain)
		}
		return nativeLink{}, agreed, err
	}
	switch {
	case !n.config.Near.Reaches():
		agreed.Local, agreed.Peer = hostPrefixes(n.mine.Peer), addrsOf(n.mine.Local)
	case len(agreed.Local) == 0:
		nativeLink{l, peer, c}.Close()
		return nativeLink{}, agreed, report.At(report.Addresses, errors.New("the far side gives no address"), "")
	}
	n.done(report.Link, "%s, answers in %.1f ms", peer.Software, float64(time.Since(began).Microseconds())/1000)
	return nativeLink{l, peer, c}, agreed, nil
}

// makeDevice makes the network device.
func (n *near) makeDevice(context.Context) error {
	file, name, err := n.privileged.Device(n.config.Name)
	if err != nil {
		hint := "see `ip link`: another program may have a device of this name; --name chooses another"
		if strings.Contains(err.Error(), "/dev/net/tun") {
			hint = "load the kernel's driver with `modprobe tun`; in a container, start it with --device /dev/net/tun"
		}
		return report.At(report.Device, err, hint)
	}
	n.wish.Device = name
	device, err := tun.Open(file, n.agreed.MTU)
	if err != nil {
		return report.At(report.Device, err, "")
	}
	n.port = device
	n.voice.done(report.Device, "%s, MTU %d", name, n.agreed.MTU)
	return nil
}

// setHost has the machine use the device, and lets packets pass.
func (n *near) setHost(ctx context.Context) error {
	n.wish = n.wishFor(n.wish.Device)
	n.wish.Pins, n.wish.Carrier = n.course.pins, n.course.marked
	if err := n.splitNames(ctx); err != nil {
		return err
	}
	notes, err := n.privileged.Set(n.wish)
	if err != nil {
		l, hint := report.Routes, "see what would be changed with --plan"
		switch {
		case errors.Is(err, privilege.ErrSplitDNS):
			l, hint = report.DNS, "leave the domain out, or use systemd-resolved"
		case errors.Is(err, privilege.ErrBusy):
			hint = "end it with `bodkin down`, or choose another name with --name"
		}
		return report.At(l, err, hint)
	}
	n.set(func(s *Status) {
		s.Device, s.DNS = n.wish.Device, n.wish.DNS.Servers
		s.Warnings = append(s.Warnings, notes...)
	})
	n.voice.done(report.Routes, "%s on %s", joinText(n.agreed.Local), n.wish.Device)
	n.voice.notes(notes)
	return nil
}

// join lets packets pass between this side's emulator and the link.
func (n *near) join(ctx context.Context) error {
	joining, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop, n.joined, n.ended = stop, make(chan error, 1), make(chan struct{})
	go func() {
		defer close(n.ended)
		n.joined <- tunnel.Join(joining, n.port, n.link)
	}()
	return nil
}

// wishFor is what is wanted of the machine, as far as is known before the
// carrier is up.
func (n *near) wishFor(device string) host.Wish {
	w := host.Wish{
		Name: n.config.Name, Device: device, MTU: n.agreed.MTU, Addrs: n.agreed.Local,
		Routes: n.routes(), Exclude: n.config.Exclude,
	}
	if f := n.config.ForwardNear; f.Forward {
		w.Forward, w.Masquerade, w.Forwarded = true, f.Masquerade, n.config.Back
	}
	if d := n.config.DNS; !d.Off {
		w.DNS.Servers, w.DNS.Domains = n.agreed.DNS, d.Domains
		if d.Server.IsValid() {
			w.DNS.Servers = []netip.Addr{d.Server}
		}
	} else {
		w.DNS.Mode = host.DNSOff
	}
	return w
}

// routes is what goes through the tunnel: what was asked for, of the families that
// the far side gives addresses of, and the far side's own end.
func (n *near) routes() []netip.Prefix {
	if !n.config.Far.Foreign() {
		return n.config.Routes
	}
	var routes []netip.Prefix
	for _, p := range n.config.Routes {
		if slices.ContainsFunc(n.agreed.Local, func(l netip.Prefix) bool { return l.Addr().Is4() == p.Addr().Is4() }) {
			routes = append(routes, p)
		}
	}
	for _, p := range hostPrefixes(n.agreed.Peer) {
		if !slices.Contains(routes, p) {
			routes = append(routes, p)
		}
	}
	return routes
}

// hostPrefixes returns each address as a prefix of one.
func hostPrefixes(addrs []netip.Addr) []netip.Prefix {
	var list []netip.Prefix
	for _, a := range addrs {
		list = append(list, netip.PrefixFrom(a, a.BitLen()))
	}
	return list
}

// addrsOf returns each prefix's address.
func addrsOf(prefixes []netip.Prefix) []netip.Addr {
	var list []netip.Addr
	for _, p := range prefixes {
		list = append(list, p.Addr())
	}
	return list
}

// How long the first packets may take to come back: a question for the far
// side's resolvers over the longest of ways.
const (
	probeTries   = 3
	probeTimeout = 4 * time.Second
	probeSize    = 2048 // octets there and back at most, with what is around them
)

// probe sends the first packets through: a question for names, which the far
// side answers even when its own resolvers are silent.
func (n *near) probe(ctx context.Context) error {
	servers := n.wish.DNS.Servers
	if len(servers) == 0 {
		servers = n.agreed.DNS
	}
	if n.config.Far.Foreign() && n.config.DNS.Off {
		return nil // its resolvers are not in the tunnel's own network, and not asked for
	}
	if len(servers) == 0 {
		if n.config.TakesEverything() && !n.config.DNS.Off {
			n.warn("the far side names no resolver: give one with --dns ADDR, or pppd's option ms-dns there")
		}
		return nil // nobody there to answer; the hello went both ways
	}
	asking, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { // a tunnel that has ended answers nothing
		select {
		case <-n.ended:
			cancel()
		case <-asking.Done():
		}
	})
	code, err := askRoot(asking, netip.AddrPortFrom(servers[0], 53), probeTimeout+n.slowness(probeSize))
	cancel()
	watching.Wait()
	select {
	case ended := <-n.joined:
		return broke(report.Tunnel, ended)
	default:
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil && n.config.DNS.Server.IsValid():
		n.warn("the resolver %v does not answer: names will not resolve; --dns auto takes the far side's", servers[0])
	case err != nil:
		return report.At(report.Tunnel, fmt.Errorf("no packet came back: %w", err), "run it again with -v; `ip rule` and `nft list ruleset` show what else rules this machine's packets")
	case code == dnsmessage.RCodeServerFailure && !n.config.DNS.Off:
		n.warn("the far side's resolver does not answer: names will not resolve; give another with --dns ADDR, or keep this machine's with --dns off")
	default:
		n.voice.done(report.DNS, "%s answers", servers[0])
	}
	return nil
}

// slowness is how long so many octets take on a slow line; 0 on any other.
func (n *near) slowness(octets float64) time.Duration {
	if n.stream.Rate <= 0 {
		return 0
	}
	return time.Duration(octets / n.stream.Rate * float64(time.Second))
}

// warn says what is wrong though the tunnel works, now and in the status.
func (n *near) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	n.voice.note("%s", text)
	n.set(func(s *Status) { s.Warnings = append(s.Warnings, text) })
}

// askRoot asks a resolver for the root's name servers and returns its response
// code.
func askRoot(ctx context.Context, server netip.AddrPort, timeout time.Duration) (dnsmessage.RCode, error) {
	question := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 0x626b, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("."), Type: dnsmessage.TypeNS, Class: dnsmessage.ClassINET}},
	}
	query, err := question.Pack()
	if err != nil {
		return 0, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", server.String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, 4096)
	for range probeTries {
		conn.SetDeadline(time.Now().Add(timeout))
		if _, err = conn.Write(query); err != nil {
			continue
		}
		var k int
		if k, err = conn.Read(buf); err != nil {
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			continue
		}
		var p dnsmessage.Parser
		header, parseErr := p.Start(buf[:k])
		if parseErr == nil && header.ID == question.ID && header.Response {
			return header.RCode, nil
		}
		err = errors.New("what came back is no answer")
	}
	return 0, err
}

// plan prints every change that up would make, and makes none.
func plan(u *config.Up, out io.Writer) error {
	defer func() {
		if u.Near.Foreign() {
			fmt.Fprintf(out, "run      %s, as you; what it changes is its own affair\n", u.Near.Command)
		}
	}()
	for _, h := range u.Via {
		fmt.Fprintf(out, "way      by %s\n", h)
	}
	if u.Target.Scheme == config.SSH {
		fmt.Fprintf(out, "run      %s to %s, as you\n", strings.Join(u.SSH, " "), u.Target)
	} else {
		fmt.Fprintf(out, "way      to %s\n", u.Target)
	}
	switch {
	case u.Far.Foreign():
		fmt.Fprintf(out, "far      run there: %s\n", u.Far.Command)
	case u.Target.Scheme == config.SSH, u.Target.Shell():
		fmt.Fprintf(out, "far      put bodkin into ~/.cache/bodkin of %s, if it is not there, and run it there\n", u.Target)
	}
	if u.Near.Kind != config.Tun {
		fmt.Fprintf(out, "nothing  of this machine's is changed with --near %s\n", u.Near)
		return nil
	}
	networks, err := chooseNetworks(u.Routes)
	if err != nil {
		return report.At(report.Addresses, err, "")
	}
	n := &near{config: u, agreed: tunnel.Agreed{MTU: farside.MTU}}
	for _, p := range networks {
		n.agreed.Local = append(n.agreed.Local, netip.PrefixFrom(addresses.In(p, addresses.Peer), p.Bits()))
		n.agreed.DNS = append(n.agreed.DNS, addresses.In(p, addresses.Resolver))
	}
	wish := n.wishFor(u.Name)
	if len(wish.DNS.Domains) > 0 {
		wish.DNS.Forwarder = splitdns.FirstAddress
	}
	lines, err := host.Plan(wish)
	if err != nil {
		return report.At(report.Routes, err, "")
	}
	fmt.Fprintf(out, "device   ip tuntap add %s mode tun vnet_hdr\n", u.Name)
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
	return nil
}
