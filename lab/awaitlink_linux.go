package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// linkTimeout bounds the wait for a device to come up. The kernel does it in a
// work queue, within milliseconds unless the machine is overloaded.
const linkTimeout = 10 * time.Second

// linkRunning is when the kernel has found a device's carrier: from then on packets
// pass and IPv6 works.
func linkRunning(l netlink.Link) bool { return l.Attrs().OperState == netlink.OperUp }

// linkThere is when there is a device at all.
func linkThere(netlink.Link) bool { return true }

// awaitLink returns when the device is as wanted.
func (m *Machine) awaitLink(ctx context.Context, device string, wanted func(netlink.Link) bool) error {
	ctx, cancel := context.WithTimeout(ctx, linkTimeout)
	defer cancel()
	updates, done := make(chan netlink.LinkUpdate), make(chan struct{})
	ns := netns.NsHandle(m.ns.net)
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{Namespace: &ns, ListExisting: true})
	if err != nil {
		close(done)
		return fmt.Errorf("lab: %s: watching devices: %w", m.Name, err)
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
				return fmt.Errorf("lab: %s: watching devices: the kernel ended it", m.Name)
			}
			if u.Header.Type == unix.RTM_NEWLINK && u.Link.Attrs().Name == device && wanted(u.Link) {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("lab: %s: waiting for %s: %w", m.Name, device, context.Cause(ctx))
		}
	}
}
