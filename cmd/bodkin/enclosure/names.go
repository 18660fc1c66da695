package enclosure

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// resolvConf is the file resolv.conf(5) for these settings. glibc heeds three servers;
// the rest stands there for others. Without a server the C libraries would ask one on
// the loopback, where there is none: a name fails at once.
func resolvConf(servers []netip.Addr, search []string) string {
	var b strings.Builder
	b.WriteString("# The resolvers of the tunnel that this command runs in.\n")
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s.WithZone(""))
	}
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	return b.String()
}

// nsswitch returns the text of an nsswitch.conf(5) with its line for hosts reduced to
// the sources that ask nobody outside, and all else as it is. Sources such as resolve,
// mdns4_minimal or sss talk to daemons by Unix sockets; their reactions, such as
// [NOTFOUND=return], go with them, for they could end the search before DNS.
func nsswitch(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		words, _, _ := strings.Cut(line, "#")
		database, sources, ok := strings.Cut(words, ":")
		if !ok || strings.TrimSpace(database) != "hosts" {
			b.WriteString(line)
			continue
		}
		kept := []string{"files"}
		if slices.Contains(strings.Fields(sources), "myhostname") {
			kept = append(kept, "myhostname")
		}
		fmt.Fprintf(&b, "hosts: %s dns\n", strings.Join(kept, " "))
	}
	return b.String()
}
