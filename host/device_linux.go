package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A linkChange brings the device up with an MTU, and without the link-local
// address that the kernel would make up for it: nobody asked for one, and its
// multicast reports would be the tunnel's first packets.
type linkChange struct {
	Device  string `json:"device"`
	Index   int    `json:"index"`
	MTU     int    `json:"mtu"`
	OldMTU  int    `json:"old_mtu"`
	OldMode int    `json:"old_mode"` // how IPv6 addresses are generated; noAddresses: it was so, or there is no IPv6
	WasUp   bool   `json:"was_up"`

	Group    uint32 `json:"group,omitempty"` // 0: as it is
	OldGroup uint32 `json:"old_group,omitempty"`
}

// noAddresses is IN6_ADDR_GEN_MODE_NONE. It is set by netlink: /proc's way
// generates an address the moment the old mode is written back.
const noAddresses = 1

func (c *linkChange) String() string {
	s := fmt.Sprintf("ip link set dev %s mtu %d", c.Device, c.MTU)
	if c.OldMode != noAddresses {
		s += " addrgenmode none"
	}
	if c.Group != 0 {
		s += fmt.Sprintf(" group %d", c.Group)
	}
	return s + " up"
}

func (c *linkChange) do(m *machine) error {
	link, err := m.device(c.Device, c.Index)
	if err != nil {
		return err
	}
	if link == nil {
		return errors.New("no such device")
	}
	if err := m.nl.LinkSetMTU(link, c.MTU); err != nil {
		return err
	}
	if c.OldMode != noAddresses {
		if err := m.nl.LinkSetIP6AddrGenMode(link, noAddresses); err != nil {
			return err
		}
	}
	if c.Group != 0 {
		if err := m.nl.LinkSetGroup(link, int(c.Group)); err != nil {
			return err
		}
	}
	return m.nl.LinkSetUp(link)
}

func (c *linkChange) undo(m *machine) (string, error) {
	link, err := m.device(c.Device, c.Index)
	if link == nil || err != nil {
		return "", err
	}
	var did []string
	if !c.WasUp && link.Attrs().Flags&net.FlagUp != 0 {
		if err := m.nl.LinkSetDown(link); err != nil {
			return "", err
		}
		did = append(did, "down")
	}
	if c.OldMode != noAddresses && addrGenMode(c.Device) == noAddresses {
		if err := m.nl.LinkSetIP6AddrGenMode(link, c.OldMode); err != nil {
			return "", err
		}
		did = append(did, "addrgenmode as it was")
	}
	if link.Attrs().MTU == c.MTU && c.MTU != c.OldMTU {
		if err := m.nl.LinkSetMTU(link, c.OldMTU); err != nil {
			return "", err
		}
		did = append(did, fmt.Sprintf("mtu %d", c.OldMTU))
	}
	if c.Group != c.OldGroup && link.Attrs().Group == c.Group {
		if err := m.nl.LinkSetGroup(link, int(c.OldGroup)); err != nil {
			return "", err
		}
		did = append(did, fmt.Sprintf("group %d", c.OldGroup))
	}
	if did == nil {
		return "", nil
	}
	return fmt.Sprintf("ip link set dev %s %s", c.Device, strings.Join(did, " ")), nil
}

func (c *linkChange) present(m *machine) (bool, error) {
	link, err := m.device(c.Device, c.Index)
	return link != nil && link.Attrs().MTU == c.MTU && link.Attrs().Flags&net.FlagUp != 0 &&
		(c.Group == 0 || link.Attrs().Group == c.Group), err
}

// addrGenMode returns the device's, or noAddresses if it has no IPv6.
func addrGenMode(device string) int {
	v, err := readSysctl("net/ipv6/conf/" + device + "/addr_gen_mode")
	if err != nil {
		return noAddresses
	}
	mode, err := strconv.Atoi(v)
	if err != nil {
		return noAddresses
	}
	return mode
}

func (c *linkChange) lasts() bool { return false }

// An addressChange gives the device an address, without the route to the
// address's prefix that the kernel would put into the table main: ours is in the
// tunnel's table.
type addressChange struct {
	Device string       `json:"device"`
	Index  int          `json:"index"`
	Addr   netip.Prefix `json:"addr"`
}

// addressFlags: no route, and no duplicate address detection, which would ask
// the tunnel's peer and wait a second for no answer (RFC 4862, section 5.4).
const addressFlags = unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD

func (c *addressChange) String() string {
	return fmt.Sprintf("ip address add %v dev %s noprefixroute", c.Addr, c.Device)
}

func (c *addressChange) addr() *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(c.Addr), Flags: addressFlags}
	if c.Addr.Addr().Is4() {
		a.Flags = unix.IFA_F_NOPREFIXROUTE
		a.Broadcast = net.IPv4zero // a tunnel has none
	}
	if c.Addr.Addr().IsLinkLocalUnicast() {
		a.Scope = unix.RT_SCOPE_LINK
	}
	return a
}

func (c *addressChange) do(m *machine) error {
	link, err := m.device(c.Device, c.Index)
	if err != nil {
		return err
	}
	if link == nil {
		return errors.New("no such device")
	}
	return m.nl.AddrAdd(link, c.addr())
}

func (c *addressChange) undo(m *machine) (string, error) {
	link, err := m.device(c.Device, c.Index)
	if link == nil || err != nil {
		return "", err
	}
	if there, err := c.on(m, link); !there || err != nil {
		return "", err
	}
	err = m.nl.AddrDel(link, c.addr())
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return "", nil
	}
	return fmt.Sprintf("ip address del %v dev %s", c.Addr, c.Device), err
}

func (c *addressChange) present(m *machine) (bool, error) {
	link, err := m.device(c.Device, c.Index)
	if link == nil || err != nil {
		return false, err
	}
	return c.on(m, link)
}

func (c *addressChange) on(m *machine, link netlink.Link) (bool, error) {
	have, err := m.addrs(link, family(c.Addr.Addr()))
	for _, a := range have {
		if prefix(a.IPNet) == c.Addr && a.Flags&unix.IFA_F_NOPREFIXROUTE != 0 {
			return true, nil
		}
	}
	return false, err
}

func (c *addressChange) lasts() bool { return false }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// prefix is the way back from ipNet; not valid for what is no prefix.
func prefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if !ok || size == 0 {
		return netip.Prefix{}
	}
	if size == 32 {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, bits)
}
