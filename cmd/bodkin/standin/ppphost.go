package standin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/privilege"
	"github.com/bodkin-net/bodkin/config/pppd"
	"github.com/bodkin-net/bodkin/endpoint/tun"
	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/host"
	"github.com/bodkin-net/bodkin/pty"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A pppHost is what is behind the link on this machine: an interface that the host
// helper makes, or a NAT.
type pppHost struct {
	options    *pppd.Options
	log        *logger
	privileged *privilege.Helper // nil: a NAT
	words      carrier.Words

	file   *os.File // of the interface, until it is a Port
	device string   // its name
	set    bool     // the machine uses it
}

// gainPrivilege starts the host helper. Where the line is the terminal, nobody can be
// asked for a password there.
func (h *pppHost) gainPrivilege(ctx context.Context) (err error) {
	if h.options.Host.NAT {
		return nil
	}
	const hint = "run it as root, as a user whom sudo lets without a password, or with nat, which needs no root"
	if onTerminal(&h.options.Line) && os.Geteuid() != 0 && !privilege.HasNetAdmin() {
		if exec.CommandContext(ctx, "sudo", "-n", "true").Run() != nil {
			return failedAs(statusNotRoot, hint, errors.New("a network interface needs root, and the terminal is the line: sudo cannot ask there"))
		}
	}
	if h.privileged, err = privilege.Start(&h.words); err != nil {
		return failedAs(statusNotRoot, "", err)
	}
	cleaned, err := h.privileged.Hello(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return endedAs(statusUserRequest, context.Cause(ctx).Error())
		}
		return failedAs(statusNotRoot, hint, withWords(fmt.Errorf("root was not granted (%s)", h.privileged.How()), h.words.Last()))
	}
	for _, text := range cleaned {
		h.log.printf("left by a killed tunnel: %s", text)
	}
	return nil
}

// onTerminal reports whether the line is the terminal that we were started on.
func onTerminal(o *pppd.Line) bool {
	return o.Kind == pppd.LineDefault && pty.IsTerminal(os.Stdin)
}

// makeDevice makes the interface. With a NAT there is none.
func (h *pppHost) makeDevice() error {
	if h.privileged == nil {
		h.device = "nat"
		return nil
	}
	name := h.options.Host.Interface
	if name == "" {
		name = "ppp%d"
	}
	file, device, err := h.privileged.Device(name)
	if err != nil {
		status, hint := statusFatal, "ifname gives it another name"
		if strings.Contains(err.Error(), "/dev/net/tun") {
			status, hint = statusNoDevice, "load the kernel's driver with `modprobe tun`"
		}
		return failedAs(status, hint, err)
	}
	h.file, h.device = file, device
	h.log.printf("Using interface %s", device)
	return nil
}

// open gives the machine what was agreed upon, and returns the Port behind the link.
func (h *pppHost) open(agreed tunnel.Agreed, l *line) (tunnel.Port, error) {
	if h.privileged == nil {
		return h.openNAT(agreed)
	}
	port, err := tun.Open(h.file, agreed.MTU)
	h.file = nil
	if err != nil {
		return nil, failedAs(statusFatal, "", err)
	}
	notes, err := h.privileged.Set(h.wish(agreed, l))
	if err != nil {
		port.Close()
		return nil, failedAs(statusFatal, "", err)
	}
	h.set = true
	for _, text := range notes {
		h.log.printf("%s", text)
	}
	return port, nil
}

// wish is what is wanted of the machine.
func (h *pppHost) wish(agreed tunnel.Agreed, l *line) host.Wish {
	o := &h.options.Host
	w := host.Wish{Name: wishName(h.device), Device: h.device, MTU: agreed.MTU, Addrs: agreed.Local, Carrier: l.marked}
	for _, a := range agreed.Peer {
		w.Routes = append(w.Routes, netip.PrefixFrom(a, a.BitLen()))
	}
	if agreed.MTU < 1280 {
		six := func(p netip.Prefix) bool { return p.Addr().Is6() }
		w.Addrs, w.Routes = slices.DeleteFunc(slices.Clone(w.Addrs), six), slices.DeleteFunc(w.Routes, six)
	}
	has := func(is func(netip.Addr) bool) bool {
		return slices.ContainsFunc(w.Addrs, func(p netip.Prefix) bool { return is(p.Addr()) })
	}
	if o.DefaultRoute && has(netip.Addr.Is4) {
		w.Routes = append(w.Routes, netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	}
	if o.DefaultRoute6 && has(netip.Addr.Is6) {
		w.Routes = append(w.Routes, netip.PrefixFrom(netip.IPv6Unspecified(), 0))
	}
	w.DNS.Mode = host.DNSOff
	if servers := usableServers(agreed.DNS); h.options.IPv4.UsePeerDNS && len(servers) > 0 {
		w.DNS = host.DNS{Servers: servers}
	}
	if w.Full() && len(w.Carrier) == 0 {
		if w.Pins = l.pins(); len(w.Pins) == 0 {
			h.log.printf("no TCP connection is seen that carries the link, so none is kept outside of the default route; an ssh that shares another's needs -o ControlPath=none")
		}
	}
	return w
}

// usableServers leaves out what cannot be asked through the link: the peer's own
// loopback, which slirp names where that is its resolver.
func usableServers(list []netip.Addr) (usable []netip.Addr) {
	for _, a := range list {
		if !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast() && a.As4()[0] < 240 {
			usable = append(usable, a)
		}
	}
	return usable
}

// wishName makes a name for the wish of an interface's.
func wishName(device string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(device))
	if name[0] < 'a' || name[0] > 'z' {
		name = "p" + name[:min(len(name), 14)]
	}
	return name
}

// openNAT makes the NAT.
func (h *pppHost) openNAT(agreed tunnel.Agreed) (tunnel.Port, error) {
	c := usernat.Config{MTU: agreed.MTU}
	for _, p := range agreed.Local {
		if a := p.Addr(); a.Is4() {
			resolver := natResolver(a)
			c.DNS = []netip.Addr{resolver}
			if resolver != a {
				c.Host = []netip.Addr{a}
			}
		}
	}
	nat, err := usernat.New(c)
	if err != nil {
		return nil, failedAs(statusFatal, "", err)
	}
	for _, text := range nat.Notes() {
		h.log.printf("%s", text)
	}
	return nat, nil
}

// undo takes the interface back, and all that led to it.
func (h *pppHost) undo() error {
	if h.privileged == nil || h.device == "" {
		return nil
	}
	if h.file != nil {
		h.file.Close()
		h.file = nil
	}
	notes, err := h.privileged.Undo()
	for _, text := range notes {
		h.log.printf("%s", text)
	}
	h.device, h.set = "", false
	if errors.Is(err, privilege.ErrGone) {
		return nil // its own end says how it went
	}
	return err
}

// gone is closed when the helper is gone; never with a NAT.
func (h *pppHost) gone() <-chan struct{} {
	if h.privileged == nil {
		return nil
	}
	return h.privileged.Gone()
}

// close lets the helper go.
func (h *pppHost) close() error {
	if h.privileged == nil {
		return nil
	}
	if err := h.privileged.Close(); err != nil {
		return fmt.Errorf("the host helper ended with %w", err)
	}
	return nil
}
