package alert

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// groups are those of rtnetlink(7) whose messages may mean another way out.
const groups = 1<<(unix.RTNLGRP_LINK-1) |
	1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1) |
	1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1) |
	1<<(unix.RTNLGRP_IPV4_RULE-1) | 1<<(unix.RTNLGRP_IPV6_RULE-1)

// carrierChanges is IFLA_CARRIER_CHANGES of linux/if_link.h.
const carrierChanges = 35

// maxDrained is how many messages of the kernel's are thrown away at once; it keeps some
// 200 KiB of them, and drops the rest.
const maxDrained = 10000

// A network is what the kernel tells of it.
type network struct {
	o       Options
	kernel  *os.File        // its messages
	ask     *netlink.Handle // our questions
	changes chan struct{}   // something may have changed
	before  ways

	closed  chan struct{}
	reading sync.WaitGroup
}

func openNetwork(o Options) (*network, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("alert: the kernel's messages: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("alert: the kernel's messages: %w", err)
	}
	n := &network{o: o, kernel: os.NewFile(uintptr(fd), "rtnetlink"), changes: make(chan struct{}), closed: make(chan struct{})}
	if n.ask, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		n.kernel.Close()
		return nil, fmt.Errorf("alert: asking the kernel: %w", err)
	}
	n.look()
	n.reading.Go(n.read)
	return n, nil
}

// read passes on that there are messages. What they say does not matter, nor whether
// they fit, nor that some were lost (ENOBUFS).
func (n *network) read() {
	b := make([]byte, 16)
	for {
		if _, err := n.kernel.Read(b); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		select {
		case n.changes <- struct{}{}:
		case <-n.closed:
			return
		}
	}
}

// drain throws away the messages that are there: what they tell is looked at now.
func (n *network) drain() {
	raw, err := n.kernel.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		var b [16]byte
		for range maxDrained {
			if _, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_DONTWAIT); err != nil && err != unix.ENOBUFS && err != unix.EINTR {
				return
			}
		}
	})
}

// look looks up the ways out, and says what differs from the last time; empty: nothing.
func (n *network) look() string {
	n.drain()
	var order []netip.Addr
	if n.o.Toward != nil {
		order = n.o.Toward()
	}
	if len(order) == 0 {
		order = anywhere
	}
	now := make(ways, len(order))
	for _, a := range order {
		now[a] = n.way(a.Unmap().WithZone(""))
	}
	detail := now.differs(n.before, order)
	n.before = now
	return detail
}

// way looks up how packets to a destination leave.
func (n *network) way(to netip.Addr) way {
	if !to.IsValid() {
		return way{}
	}
	routes, err := n.ask.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{Mark: n.o.Mark})
	if err != nil || len(routes) == 0 {
		return way{}
	}
	r := routes[0]
	if r.Type != unix.RTN_UNICAST && r.Type != unix.RTN_LOCAL { // IPv6 has words for "unreachable"
		return way{}
	}
	w := way{index: r.LinkIndex, source: addr(r.Src), gateway: addr(r.Gw)}
	if w.device, w.downs = n.device(w.index); w.device == "" {
		return way{} // it has just gone
	}
	return w
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// device returns the name of a device, and how often it lost and found its other end.
func (n *network) device(index int) (name string, downs uint32) {
	request := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(index)
	request.AddData(message)
	request.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(1<<3))) // RTEXT_FILTER_SKIP_STATS
	answers, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil || len(answers) == 0 || len(answers[0]) < unix.SizeofIfInfomsg {
		return "", 0
	}
	attributes, err := nl.ParseRouteAttr(answers[0][unix.SizeofIfInfomsg:])
	if err != nil {
		return "", 0
	}
	for _, a := range attributes {
		switch {
		case a.Attr.Type == unix.IFLA_IFNAME:
			name = unix.ByteSliceToString(a.Value)
		case a.Attr.Type == carrierChanges && len(a.Value) == 4:
			downs = binary.NativeEndian.Uint32(a.Value)
		}
	}
	return name, downs
}

func (n *network) close() {
	close(n.closed)
	n.kernel.Close() // wakes read
	n.reading.Wait()
	n.ask.Close()
}

// HasAddress reports whether a, a socket's own address, is still this machine's: whether
// packets to it arrive here.
func HasAddress(a netip.Addr) bool {
	routes, err := netlink.RouteGet(a.Unmap().WithZone("").AsSlice())
	return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
}
