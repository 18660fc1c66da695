package host

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
)

// maxResolvConf bounds the file we are ready to give back: glibc reads three
// servers and one search line; what is larger is something else.
const maxResolvConf = 64 << 10

// maxNameServers is the C library's MAXNS: it does not look at a fourth.
const maxNameServers = 3

// resolvConfText is the whole file, resolv.conf(5), while the tunnel is up. The
// search list and the options of the near network are left out: its names mean
// nothing at the far side, and whoever runs it does not choose them here.
func resolvConfText(name string, servers []netip.Addr) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Names are looked up through the tunnel %s. When it ends, this file\n# is again what it was.\n", name)
	for _, s := range servers[:min(len(servers), maxNameServers)] {
		fmt.Fprintf(&b, "nameserver %v\n", s)
	}
	return b.Bytes()
}

// splitConfText is the whole file while a forwarder tells the tunnel's names from
// others: what was there, with the forwarder in the place of the name servers.
// Other names mean what they meant, so the search list and the options stay.
func splitConfText(name string, forwarder netip.Addr, old []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Some names are looked up through the tunnel %s. When it ends, this file\n# is again what it was.\nnameserver %v\n", name, forwarder)
	for line := range strings.Lines(string(old)) {
		if !isNameServer(line) {
			b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	return b.Bytes()
}

// isNameServer reports whether the C library takes the line for one that names a
// server, or tries to: the keyword at its start, then white space.
func isNameServer(line string) bool {
	rest, ok := strings.CutPrefix(line, "nameserver")
	return ok && rest != strings.TrimLeft(rest, " \t")
}

// nameServers returns the servers of a resolv.conf as glibc finds them: the
// keyword at the line's start, white space, an address, and whatever follows.
func nameServers(text []byte) []netip.Addr {
	var servers []netip.Addr
	for line := range strings.Lines(string(text)) {
		if !isNameServer(line) {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, a)
		}
	}
	return servers
}

// asksStub reports whether programs that read this resolv.conf ask the stub of
// systemd-resolved, systemd-resolved.service(8).
func asksStub(text []byte) bool {
	for _, s := range nameServers(text) {
		if s == netip.AddrFrom4([4]byte{127, 0, 0, 53}) || s == netip.AddrFrom4([4]byte{127, 0, 0, 54}) {
			return true
		}
	}
	return false
}

// torn reports whether now is what a killed writer leaves of a file that held
// before and was to hold after, written from its start in place: the kernel ends
// a killed write(2) between pages only. The file's end is cut after that.
func torn(now, before, after []byte) bool {
	const page = 4096
	for cut := 0; ; cut += page {
		cut = min(cut, len(after))
		want := bytes.Clone(after[:cut])
		if cut < len(before) {
			want = append(want, before[cut:]...)
		}
		if bytes.Equal(now, want) {
			return true
		}
		if cut == len(after) {
			return false
		}
	}
}

// padded makes text at least n octets long with empty lines, so that one write
// replaces all of a longer file.
func padded(text []byte, n int) []byte {
	return append(bytes.Clone(text), bytes.Repeat([]byte("\n"), max(0, n-len(text)))...)
}
