package lab

import (
	"fmt"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// newNetwork makes a machine that is a network namespace alone, with no addresses of
// its own, not even IPv6's: it says nothing on its devices. It has no files and no
// processes, and closes with close.
func newNetwork(name string) (*Machine, error) {
	m := &Machine{Name: name, ns: namespaces{-1, -1, -1, -1, -1}}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if m.ns.net, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		return setSysctl("net/ipv6/conf/default/disable_ipv6", "1")
	})
	if err == nil {
		m.netlink, err = netlink.NewHandleAt(netns.NsHandle(m.ns.net))
	}
	if err != nil {
		m.close()
		return nil, fmt.Errorf("making a network: %w", err)
	}
	return m, nil
}

// withoutOffloads has the kernel complete checksums and cut up packets before it gives
// them to a device of the calling thread's network.
func withoutOffloads(device string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Segmentation hangs on checksums: it goes with them.
	value := struct{ command, on uint32 }{unix.ETHTOOL_STXCSUM, 0} // struct ethtool_value
	request := struct {                                            // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], device)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}
