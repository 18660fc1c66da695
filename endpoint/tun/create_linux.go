package tun

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// path is the clone device of TUN and TAP interfaces
// (Documentation/networking/tuntap.rst).
const path = "/dev/net/tun"

// vnetHeaderLen is the size of struct virtio_net_hdr without num_buffers
// (Virtual I/O Device 1.2, section 5.1.6).
const vnetHeaderLen = 10

// Create makes a TUN device called name, or a free name of the kernel's choice
// where name holds %d, with super-packets on, and returns its queue and its
// name. The device exists as long as the file is open in some process. It needs
// CAP_NET_ADMIN; the file can then be handed to a process without, for Open. It
// is not in the runtime's poller: who only keeps it is not woken by each packet.
func Create(name string) (*os.File, string, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", fmt.Errorf("tun: opening %s: %w", path, err)
	}
	got, err := create(fd, name)
	if err != nil {
		unix.Close(fd)
		return nil, "", err
	}
	return os.NewFile(uintptr(fd), path), got, nil
}

func create(fd int, name string) (string, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return "", fmt.Errorf("tun: device name %q: %w", name, err)
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		if errors.Is(err, unix.EBUSY) {
			return "", fmt.Errorf("tun: device %s: in use by another program: %w", name, err)
		}
		return "", fmt.Errorf("tun: creating a device: %w", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnetHeaderLen); err != nil {
		return "", fmt.Errorf("tun: device %s: header size: %w", name, err)
	}
	if _, err := setOffload(fd); err != nil {
		return "", fmt.Errorf("tun: device %s: %w", req.Name(), err)
	}
	return req.Name(), nil
}

// setOffload turns on what the kernel has, and returns it: UDP super-packets
// came with Linux 6.2, the others long before.
func setOffload(fd int) (uso bool, err error) {
	const tso = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tso|unix.TUN_F_USO4|unix.TUN_F_USO6); err == nil {
		return true, nil
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tso); err != nil {
		return false, fmt.Errorf("super-packets: %w", err)
	}
	return false, nil
}
