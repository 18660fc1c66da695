package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// The two ends of the comparison's tunnel. Far is the gateway's.
var (
	sshTunnelNear = netip.MustParseAddr("198.18.1.2")
	sshTunnelFar  = netip.MustParseAddr("198.18.1.1")
)

const sshTunnelDevice = "tun9"

// An SSHTunnel is OpenSSH's own (ssh -w), for comparison: root at both ends, and
// the gateway forwards.
type SSHTunnel struct {
	lab    *Lab
	ssh    *Cmd
	stderr bytes.Buffer
	back   *netlink.Route // from the internet to the tunnel
}

// SSHTunnel brings up ssh -w from the laptop to the gateway with a cipher ("" for
// ssh's own choice), and routes to the destinations through it. The caller closes it.
func (l *Lab) SSHTunnel(ctx context.Context, cipher string, destinations ...netip.Addr) (*SSHTunnel, error) {
	args := []string{"-N", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-w", "9:9"}
	if cipher != "" {
		args = append(args, "-c", cipher)
	}
	t := &SSHTunnel{lab: l, ssh: l.Laptop.Command(ctx, "ssh", append(args, "gw")...)}
	t.ssh.Stderr = &t.stderr
	if err := t.ssh.Start(); err != nil {
		return nil, err
	}
	if err := t.open(ctx, destinations); err != nil {
		t.Close()
		return nil, fmt.Errorf("lab: ssh -w: %w: %s", err, bytes.TrimSpace(t.stderr.Bytes()))
	}
	return t, nil
}

func (t *SSHTunnel) open(ctx context.Context, destinations []netip.Addr) error {
	// ssh may end without a tunnel; then there is no device to wait for.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		t.ssh.Wait()
		cancel(errors.New("ssh ended"))
	}()
	ends := []struct {
		m          *Machine
		near, peer netip.Addr
	}{{t.lab.Laptop, sshTunnelNear, sshTunnelFar}, {t.lab.Gateway, sshTunnelFar, sshTunnelNear}}
	for _, e := range ends {
		if err := e.m.awaitLink(ctx, sshTunnelDevice, linkThere); err != nil {
			return err
		}
		link, err := e.m.netlink.LinkByName(sshTunnelDevice)
		if err != nil {
			return err
		}
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(e.near, 32)), Peer: ipNet(netip.PrefixFrom(e.peer, 32))}
		if err := e.m.netlink.AddrAdd(link, addr); err != nil {
			return err
		}
		if err := e.m.netlink.LinkSetUp(link); err != nil {
			return err
		}
	}
	link, err := t.lab.Laptop.netlink.LinkByName(sshTunnelDevice)
	if err != nil {
		return err
	}
	for _, d := range destinations {
		if err := t.lab.Laptop.netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.PrefixFrom(d, d.BitLen()))}); err != nil {
			return err
		}
	}
	if err := t.lab.Gateway.SetSysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	t.back = &netlink.Route{Dst: ipNet(netip.PrefixFrom(sshTunnelNear, 32)), Gw: GatewayOut4.AsSlice()}
	return t.lab.Internet.netlink.RouteAdd(t.back)
}

// Close ends ssh. Its devices and what hangs on them go with it.
func (t *SSHTunnel) Close() error {
	t.ssh.Process.Kill()
	t.ssh.Wait()
	var errs []error
	if t.back != nil {
		errs = append(errs, t.lab.Internet.netlink.RouteDel(t.back), t.lab.Gateway.SetSysctl("net/ipv4/ip_forward", "0"))
	}
	return errors.Join(errs...)
}
