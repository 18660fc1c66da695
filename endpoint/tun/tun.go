// Package tun is the kernel's own network interface as a tunnel.Port: the IP
// emulator that gives full access. On Linux it is a TUN device whose packets
// carry a virtio_net_hdr, so that the kernel hands over super-packets of up to
// 64 KiB whole, and takes them.
//
// It makes the device and moves packets. Addresses, routes and the device's MTU
// are the business of package host.
package tun

import "errors"

// ErrUnsupported is what Create returns on systems that this package does not
// know yet.
var ErrUnsupported = errors.New("tun: this system's network interfaces are not supported yet")
