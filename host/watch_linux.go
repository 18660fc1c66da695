package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// eventQueue is how many Events wait for a reader; more are dropped. A reader
	// that is so far behind shows the present state instead.
	eventQueue = 64

	// repairPause is the least time between two repairs: two programs that undo
	// each other's work must not fill the machine with it. A rule removed by hand
	// is back within two seconds either way.
	repairPause = 100 * time.Millisecond

	// groups are rtnetlink(7)'s multicast groups that we listen to.
	groups = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_RULE-1) | 1<<(unix.RTNLGRP_IPV6_RULE-1) |
		1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1) |
		1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1)
)

// Watch listens to the kernel until ctx ends or Undo was called, and then closes
// the channel. It makes again what somebody removes of our rules, routes,
// addresses and filter, and says so; it says what else happens that matters. A
// resolv.conf that somebody else has written is left to them.
func (s *State) Watch(ctx context.Context) (<-chan Event, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("host: watch: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("host: watch: %w", err)
	}
	w := &watcher{s: s, kernel: os.NewFile(uintptr(fd), "rtnetlink"), events: make(chan Event, eventQueue), failed: make(map[change]bool)}
	stop := context.AfterFunc(ctx, func() { w.kernel.Close() }) // closing is what wakes the reader
	go func() {
		defer close(w.events)
		defer w.kernel.Close()
		defer stop()
		w.run(ctx)
	}()
	return w.events, nil
}

// A watcher belongs to the goroutine that runs it.
type watcher struct {
	s      *State
	kernel *os.File
	events chan Event

	deviceGone, namesLost bool // said already

	// What could not be made again at the first try gets a second one: the kernel
	// tells of a device that goes down while it is still about it.
	failed map[change]bool
	again  bool
}

func (w *watcher) say(kind EventKind, format string, args ...any) {
	select {
	case w.events <- Event{kind, fmt.Sprintf(format, args...)}:
	default:
	}
}

func (w *watcher) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	b := make([]byte, 32<<10) // as large as the kernel's messages get (NLMSG_GOODSIZE)
	look := true              // at once: something may have happened since Set
	for {
		if look {
			if !w.repair() {
				return
			}
			pause.Reset(repairPause)
			select {
			case <-ctx.Done():
				return
			case <-pause.C:
			}
			if w.again {
				continue
			}
		}
		n, err := w.kernel.Read(b)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			look = true // more happened than the kernel keeps for us
			continue
		case err != nil:
			return
		}
		look = w.read(b[:n])
	}
}

// read takes in the kernel's messages. It reports whether something may be
// missing.
func (w *watcher) read(b []byte) (look bool) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return true
	}
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_DELRULE, unix.RTM_DELADDR, unix.RTM_DELLINK, unix.RTM_NEWLINK:
			look = true
		case unix.RTM_DELROUTE:
			look = true
			w.route(m, false)
		case unix.RTM_NEWROUTE:
			w.route(m, true)
		}
	}
	return look
}

// route looks at one route that came or went.
func (w *watcher) route(m syscall.NetlinkMessage, came bool) {
	r, ok := routeOf(m)
	if !ok {
		return
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.s.journal == nil {
		return
	}
	if prefix(r.Dst).Bits() == 0 && r.Table == unix.RT_TABLE_MAIN {
		w.say(Gateway, "the default route beside the tunnel changed")
	}
	if !came {
		return
	}
	if x, ok := w.s.overrides(r, w.s.carriedOf(r.Family)); ok {
		x.Device = w.s.m.deviceName(x.Device)
		w.say(ForeignRoute, "the route %v does not apply: the tunnel takes it", x)
	}
}

// routeOf reads as much of an rtmsg as overrides looks at.
func routeOf(m syscall.NetlinkMessage) (r netlink.Route, ok bool) {
	attrs, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil || len(m.Data) < unix.SizeofRtMsg {
		return r, false
	}
	size := 0
	switch m.Data[0] {
	case unix.AF_INET:
		size = 4
	case unix.AF_INET6:
		size = 16
	default:
		return r, false
	}
	bits := int(m.Data[1])
	r.Family, r.Table, r.Protocol, r.Type = int(m.Data[0]), int(m.Data[4]), netlink.RouteProtocol(m.Data[5]), int(m.Data[7])
	if binary.NativeEndian.Uint32(m.Data[8:])&unix.RTM_F_CLONED != 0 || bits > 8*size {
		return r, false
	}
	r.Dst = &net.IPNet{IP: make(net.IP, size), Mask: net.CIDRMask(bits, 8*size)}
	for _, a := range attrs {
		switch {
		case a.Attr.Type == unix.RTA_DST && len(a.Value) == size:
			r.Dst.IP = a.Value
		case a.Attr.Type == unix.RTA_GATEWAY && len(a.Value) == size:
			r.Gw = a.Value
		case a.Attr.Type == unix.RTA_OIF && len(a.Value) == 4:
			r.LinkIndex = int(binary.NativeEndian.Uint32(a.Value))
		case a.Attr.Type == unix.RTA_TABLE && len(a.Value) == 4:
			r.Table = int(binary.NativeEndian.Uint32(a.Value))
		}
	}
	return r, true
}

// repair makes again what is missing. It reports whether there is still
// something to watch.
func (w *watcher) repair() bool {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	j := w.s.journal
	if j == nil {
		return false
	}
	link, err := w.s.m.nl.LinkByName(w.s.wish.Device)
	_, gone := err.(netlink.LinkNotFoundError)
	if err == nil {
		gone = link.Attrs().Index != deviceIndex(j.changes)
	}
	if gone && !w.deviceGone {
		w.say(DeviceGone, "the device %s is gone: what went through it is refused", w.s.wish.Device)
	}
	w.deviceGone, w.again = gone, false
	for _, c := range j.changes {
		w.check(c)
	}
	return true
}

func deviceIndex(changes []change) int {
	for _, c := range changes {
		if l, ok := c.(*linkChange); ok {
			return l.Index
		}
	}
	return 0
}

func (w *watcher) check(c change) {
	switch c := c.(type) {
	case *sysctlChange, *resolvedChange:
		return // whoever changes these has a reason that we do not know
	case *routeChange:
		if w.deviceGone && c.Device != "" {
			return
		}
	case *linkChange, *addressChange:
		if w.deviceGone {
			return
		}
	}
	there, err := c.present(w.s.m)
	if _, names := c.(*resolvConfChange); names {
		if lost := err == nil && !there; lost && !w.namesLost {
			w.say(NamesChanged, "%s was written by another program: names may not be looked up through the tunnel", resolvConf)
			w.namesLost = true
		} else if there {
			w.namesLost = false
		}
		return
	}
	if there {
		delete(w.failed, c)
	}
	if there || err != nil {
		return
	}
	if err := c.do(w.s.m); err != nil {
		if !w.failed[c] {
			w.failed[c], w.again = true, true
			return
		}
		w.say(Failed, "host: making again %s: %v", firstLine(c), err)
		return
	}
	delete(w.failed, c)
	w.say(Remade, "%s: was removed, and is there again", firstLine(c))
}
