package ssh

import (
	"net"
	"net/netip"
	"os"
	"strings"
)

// Client returns where the ssh connection comes from that this process was started
// through, and false if it was not, or ssh says nothing of it.
func Client() (netip.AddrPort, bool) {
	f := strings.Fields(os.Getenv("SSH_CONNECTION")) // sshd(8): client address, port, server address, port
	if len(f) != 4 {
		return netip.AddrPort{}, false
	}
	a, err := netip.ParseAddrPort(net.JoinHostPort(f[0], f[1]))
	return a, err == nil
}
