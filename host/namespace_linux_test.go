package host

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/host/hosttest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Every test that changes a machine runs in a process of its own, in network and
// mount namespaces of its own, with a copy of /etc: the test binary starts
// itself again with the name of the test. A test that must kill a process in the
// middle of its work starts the binary once more, see attempt.

const (
	envTest    = "HOST_TEST"    // the test to run, in its namespaces already
	envAttempt = "HOST_ATTEMPT" // an attempt, as JSON
)

func TestMain(m *testing.M) {
	if a := os.Getenv(envAttempt); a != "" {
		os.Exit(runAttempt(a))
	}
	if os.Getenv(envTest) != "" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "furnishing the namespaces:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// alone reports whether the test runs in its own namespaces. If not, it runs it
// there and reports what came of it, and the caller returns.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(envTest) == t.Name() {
		return true
	}
	if os.Geteuid() != 0 {
		t.Fatal("needs root: it makes network namespaces")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v="+strconv.FormatBool(testing.Verbose()), "-test.timeout=60s")
	cmd.Env = append(os.Environ(), envTest+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL,
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
	return false
}

// furnish gives the new namespaces a loopback device, a /proc, a /run, and an
// /etc to spoil.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/mnt", "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	files, err := filepath.Glob("/etc/*")
	if err != nil {
		return err
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil || !info.Mode().IsRegular() || strings.HasPrefix(filepath.Base(f), "resolv.conf") {
			continue
		}
		b, err := os.ReadFile(f)
		if err == nil {
			err = os.WriteFile(filepath.Join("/mnt", filepath.Base(f)), b, info.Mode().Perm())
		}
		if err != nil {
			return err
		}
	}
	if err := unix.Mount("/mnt", "/etc", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	if err := os.WriteFile(resolvConf, []byte(nearResolvConf), 0o640); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

const nearResolvConf = "# the near network's\nsearch lan\nnameserver 192.0.2.53\noptions edns0"

// snapshot returns the machine as text.
func snapshot(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	if err := hosttest.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// snapshotUp is snapshot after Set of fullWish: the kernel adds the local route
// of an IPv6 address on its own time.
func snapshotUp(t *testing.T) string {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); routeTo(t, "fd00:2::15", 0) != "lo"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no local route for fd00:2::15")
		}
	}
	return snapshot(t)
}

// sameAs fails the test with the lines that differ.
func sameAs(t *testing.T, before string) {
	t.Helper()
	after := snapshot(t)
	if before == after {
		return
	}
	count := make(map[string]int)
	for line := range strings.Lines(before) {
		count[line]--
	}
	for line := range strings.Lines(after) {
		count[line]++
	}
	for line, n := range count {
		if n != 0 {
			t.Errorf("%+d %s", n, line)
		}
	}
	t.Fatal("the machine is not what it was (- before, + after)")
}

// A tun is the tunnel's device, as a caller of Set makes it.
type tun struct {
	*os.File
	link netlink.Link
}

func newTun(t *testing.T, name string) *tun {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "tun")
	t.Cleanup(func() { f.Close() })
	return &tun{f, linkNamed(t, name)}
}

func linkNamed(t *testing.T, name string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// newEth gives the machine a network: eth0 with addresses, a gateway behind it
// that is known without asking, and default routes. What leaves eth0 can be read
// at the other end, peer, which is a device of the same machine and deaf.
func newEth(t *testing.T) (eth, peer netlink.Link) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer"}))
	eth, peer = linkNamed(t, "eth0"), linkNamed(t, "peer")
	for _, name := range []string{"eth0", "peer"} {
		must(writeSysctl("net/ipv6/conf/"+name+"/accept_dad", "0"))
		must(writeSysctl("net/ipv6/conf/"+name+"/router_solicitations", "0"))
	}
	must(writeSysctl("net/ipv6/conf/peer/disable_ipv6", "1"))
	for _, l := range []netlink.Link{peer, eth} {
		must(netlink.LinkSetUp(l))
	}
	for _, a := range []string{"192.0.2.10/24", "2001:db8:1::10/64"} {
		addr := mustPrefix(a)
		flags := 0
		if addr.Addr().Is6() {
			flags = unix.IFA_F_NODAD
		}
		must(netlink.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(addr), Flags: flags}))
	}
	for _, gw := range []string{"192.0.2.1", "2001:db8:1::1"} {
		gateway := netip.MustParseAddr(gw)
		must(netlink.NeighAdd(&netlink.Neigh{
			LinkIndex: eth.Attrs().Index, IP: gateway.AsSlice(), State: netlink.NUD_PERMANENT,
			HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1},
		}))
		must(addRoute(eth, everything(family(gateway)), gateway))
	}
	for !settled(t, eth) {
		time.Sleep(time.Millisecond) // the kernel does the rest on its own time, and tells nobody
	}
	return eth, peer
}

// settled reports whether the kernel has made the local routes of eth0's IPv6
// addresses: its own, and the link-local one.
func settled(t *testing.T, eth netlink.Link) bool {
	t.Helper()
	local := &netlink.Route{Table: unix.RT_TABLE_LOCAL, LinkIndex: eth.Attrs().Index}
	all, err := netlink.RouteListFiltered(unix.AF_INET6, local, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_OIF)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range all {
		if p := prefix(r.Dst); p.IsSingleIP() && r.Type == unix.RTN_LOCAL {
			n++
		}
	}
	return n == 2
}

func addRoute(link netlink.Link, p netip.Prefix, via netip.Addr) error {
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(p), Family: family(p.Addr())}
	if via.IsValid() {
		r.Gw = via.AsSlice()
	}
	return netlink.RouteAdd(r)
}

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func prefixes(all ...string) (p []netip.Prefix) {
	for _, s := range all {
		p = append(p, mustPrefix(s))
	}
	return p
}

// fullWish is what `bodkin up me@gw` wants.
func fullWish() Wish {
	return Wish{
		Name: "bodkin0", Device: "bodkin0", MTU: 1500,
		Addrs:   prefixes("10.0.2.15/24", "fd00:2::15/64"),
		Routes:  prefixes("0.0.0.0/0", "::/0"),
		Carrier: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.7:22")},
		DNS:     DNS{Servers: []netip.Addr{netip.MustParseAddr("10.0.2.3"), netip.MustParseAddr("fd00:2::3")}},
	}
}

func journals(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "journals")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// An attempt is one process that sets a wish, undoes it if it may, and is killed
// at the point with the number Kill.
type attempt struct {
	Wish Wish
	Dir  string
	Undo bool
	Kill int    // 0: not at all
	Only string // count only the points with this in their name
}

func runAttempt(text string) int {
	var a attempt
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	points := 0
	reached = func(point string) {
		if !strings.Contains(point, a.Only) {
			return
		}
		if points++; points == a.Kill {
			fmt.Println(point)
			unix.Kill(os.Getpid(), unix.SIGKILL)
		}
	}
	s, err := Set(a.Wish, a.Dir)
	if err == nil && a.Undo {
		err = s.Undo()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if !a.Undo {
		fmt.Println("set")
		unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	return 0
}

// run runs the attempt in the test's namespaces. It returns the point at which
// it was killed, or "" if it came to its end.
func (a attempt) run(t *testing.T) string {
	t.Helper()
	text, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envAttempt+"="+string(text))
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err == nil {
		return ""
	}
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		t.Fatalf("%v: %s", err, complaint.Bytes())
	}
	return strings.TrimSpace(string(out))
}
