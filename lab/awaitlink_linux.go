package lab

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// linkTimeout bounds the wait for a device to come up, or an address. The kernel does it in a
// work queue, within milliseconds unless the machine is overloaded.
const linkTimeout = 10 * time.Second

// linkRunning is when the kernel has found a device's carrier: from then on packets
// pass and IPv6 works.
func linkRunning(l netlink.Link) bool { return l.Attrs().OperState == netlink.OperUp }

// linkThere is when there is a device at all.
func linkThere(netlink.Link) bool { return true }

// awaitLink returns when the device is as wanted.
func (m *Machine) awaitLink(ctx context.Context, device string, wanted func(netlink.Link) bool) error {
	return await(ctx, m, device, func(to chan netlink.LinkUpdate, done chan struct{}, ns *netns.NsHandle) error {
		return netlink.LinkSubscribeWithOptions(to, done, netlink.LinkSubscribeOptions{Namespace: ns, ListExisting: true})
	}, func(u netlink.LinkUpdate) bool {
		return u.Header.Type == unix.RTM_NEWLINK && u.Link.Attrs().Name == device && wanted(u.Link)
	})
}

// awaitAddr returns when the machine takes packets for an IPv6 address that it was
// given: a work queue of the kernel's adds the local route, and answers its neighbours'
// solicitations, after the address is there already.
func (m *Machine) awaitAddr(ctx context.Context, addr netip.Addr) error {
	dst := ipNet(netip.PrefixFrom(addr, addr.BitLen())).String()
	return await(ctx, m, addr.String(), func(to chan netlink.RouteUpdate, done chan struct{}, ns *netns.NsHandle) error {
		return netlink.RouteSubscribeWithOptions(to, done, netlink.RouteSubscribeOptions{Namespace: ns, ListExisting: true})
	}, func(u netlink.RouteUpdate) bool {
		return u.Type == unix.RTM_NEWROUTE && u.Table == unix.RT_TABLE_LOCAL && u.Dst != nil && u.Dst.String() == dst
	})
}

// await returns at the first update, of those that subscribe brings, that is wanted.
// what is named in its errors.
func await[Update any](ctx context.Context, m *Machine, what string, subscribe func(chan Update, chan struct{}, *netns.NsHandle) error, wanted func(Update) bool) error {
	ctx, cancel := context.WithTimeout(ctx, linkTimeout)
	defer cancel()
	updates, done := make(chan Update), make(chan struct{})
	ns := netns.NsHandle(m.ns.net)
	if err := subscribe(updates, done, &ns); err != nil {
		close(done)
		return fmt.Errorf("lab: %s: watching %s: %w", m.Name, what, err)
	}
	defer func() {
		close(done)
		for range updates { // until the subscription has ended
		}
	}()
	for {
		select {
		case u, ok := <-updates:
			if !ok {
				return fmt.Errorf("lab: %s: watching %s: the kernel ended it", m.Name, what)
			}
			if wanted(u) {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("lab: %s: waiting for %s: %w", m.Name, what, context.Cause(ctx))
		}
	}
}
