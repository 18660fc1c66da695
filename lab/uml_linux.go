package lab

import (
	_ "embed"
	"fmt"
	"net/netip"
	"os"
	"os/exec"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

//go:embed uml_pppd.sh
var umlPPPD []byte

//go:embed uml_init.sh
var umlInit []byte

// umlInitPath is where uml_pppd.sh looks for uml_init.sh, and that for pppd: a copy,
// as Debian's may be run by root and its group dip alone.
const (
	umlInitPath = "/usr/local/lib/lab/pppd-init"
	umlPPPDPath = "/usr/local/lib/lab/pppd"
	pppdProgram = "/usr/sbin/pppd"
)

// InstallPPPD gives the machine a pppd that works though the kernel here may have
// no PPP: a program of that name, ahead of Debian's in every account's path, which
// runs Debian's in a kernel of its own (User Mode Linux) that takes a second to
// start and about 64 MiB of memory. Options, signals and exit status are pppd's;
// the network that it makes is the guest's, see PPPD.
func (m *Machine) InstallPPPD() error {
	for _, need := range []struct{ program, pkg string }{
		{"/usr/bin/linux.uml", "user-mode-linux"},
		{pppdProgram, "ppp"},
		{"busybox", "busybox"},
	} {
		if _, err := exec.LookPath(need.program); err != nil {
			return fmt.Errorf("lab: %s: installing pppd: %s is missing (Debian's package %s)", m.Name, need.program, need.pkg)
		}
	}
	binary, err := os.ReadFile(pppdProgram)
	if err != nil {
		return fmt.Errorf("lab: %s: installing pppd: %w", m.Name, err)
	}
	if err := m.WriteFile(umlPPPDPath, binary, 0o755, "root"); err != nil {
		return err
	}
	if err := m.WriteFile(umlInitPath, umlInit, 0o755, "root"); err != nil {
		return err
	}
	return m.WriteFile("/usr/local/bin/pppd", umlPPPD, 0o755, "root")
}

// Where the gateway's guest is connected, see uml_pppd.sh.
const pppdCard = "lab-pppd"

var (
	pppdGateway4 = netip.MustParseAddr("192.168.9.1")
	pppdGuest4   = netip.MustParseAddr("192.168.9.2")
)

// RoutePPPD gives the pppd that an account of the gateway runs the internet: a card
// in its guest, and the gateway forwards. Addresses of peers names those of the
// other ends of its links, which the internet then knows the way to. There is one
// card, for one guest at a time.
func (l *Lab) RoutePPPD(account string, peers netip.Prefix) error {
	m := l.Gateway
	err := m.Do(func() error {
		a, err := lookupAccount(account)
		if err != nil {
			return err
		}
		if err := openTUN(); err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name = pppdCard
		return netlink.LinkAdd(&netlink.Tuntap{
			LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI,
			Owner: a.uid, Group: a.gid,
		})
	})
	if err != nil {
		return fmt.Errorf("lab: gateway: making the card of pppd's guest: %w", err)
	}
	if err := m.linkUp(pppdCard); err != nil {
		return err
	}
	if err := m.addAddrs(pppdCard, nets(pppdGateway4, 30)); err != nil {
		return err
	}
	if err := m.SetSysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	for _, r := range []route{
		{m, peers.String(), pppdGuest4},
		{l.Internet, peers.String(), GatewayOut4},
	} {
		if err := r.add(); err != nil {
			return err
		}
	}
	return nil
}

// openTUN lets every account of the calling thread's machine open /dev/net/tun, as
// udev does and not every container.
func openTUN() error {
	const dir, device, mode = "/dev/net", "/dev/net/tun", 0o666
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return fmt.Errorf("reading %s: %w", device, err)
	}
	if st.Mode&mode == mode {
		return nil
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return fmt.Errorf("mounting on %s: %w", dir, err)
	}
	if err := unix.Mknod(device, unix.S_IFCHR|mode, int(st.Rdev)); err != nil {
		return fmt.Errorf("making %s: %w", device, err)
	}
	return unix.Chmod(device, mode)
}
