package e2e_test

import (
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// serveOn answers HTTP with text at an address of a machine, for the time of the
// test.
func serveOn(t *testing.T, m *lab.Machine, address, text string) {
	t.Helper()
	l, err := m.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }),
		ReadHeaderTimeout: 5 * time.Second,
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

// TestTunAtBothEnds: with a kernel interface at each end, either side reaches the
// other's programs, whoever dialled.
func TestTunAtBothEnds(t *testing.T) {
	w := newWorld(t, lab.Options{})
	before := w.snapshotOf(w.Gateway)
	r := w.upAs("root", "--far", "tun", "root@gw", "10.77.0.0/16")
	w.says(r.out, "10.0.2.15/24")
	serveOn(t, w.Laptop, "10.0.2.15:8080", "from the laptop")
	serveOn(t, w.Gateway, "10.0.2.2:8080", "from the gateway")
	for _, c := range []struct {
		m        *lab.Machine
		url, ans string
	}{
		{w.Laptop, "http://10.0.2.2:8080/", "from the gateway"},
		{w.Gateway, "http://10.0.2.15:8080/", "from the laptop"},
	} {
		if got := w.on(c.m, "root", "curl", "-sS", "-m", "10", c.url); got.out != c.ans {
			t.Errorf("%s at %s: %q", c.url, c.m.Name, got.out)
		}
	}
	for _, c := range []struct {
		m  *lab.Machine
		to string
	}{{w.Laptop, "10.0.2.2"}, {w.Laptop, "fd62:6f64:6b69::2"}, {w.Gateway, "10.0.2.15"}, {w.Gateway, "fd62:6f64:6b69::15"}} {
		if r := w.on(c.m, "root", "ping", "-c", "1", "-W", "5", c.to); r.status != 0 {
			t.Errorf("%s pings %s:\n%s", c.m.Name, c.to, r.out)
		}
	}
	w.says(w.on(w.Laptop, "root", "bodkin", "status").out, "tun here, tun there")
	w.rootDown()
	w.gone(w.Gateway, before)
}

// rootDown takes root's tunnel down.
func (w *world) rootDown() {
	w.t.Helper()
	if r := w.on(w.Laptop, "root", "bodkin", "down"); r.status != 0 {
		w.t.Errorf("down exits %d:\n%s", r.status, r.out)
	}
}

// snapshotOf is the state of a machine's network.
func (w *world) snapshotOf(m *lab.Machine) string {
	w.t.Helper()
	text, err := m.Snapshot()
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// gone waits until a machine is as it was: the far half takes its own away once the
// login has ended.
func (w *world) gone(m *lab.Machine, before string) {
	w.t.Helper()
	w.eventually(m.Name+" is as it was", func() bool { return w.snapshotOf(m) == before })
}

// TestReverse: the laptop dials, and it is the gateway's programs that come out of
// the laptop, with nothing changed there and no root.
func TestReverse(t *testing.T) {
	w := newWorld(t, lab.Options{})
	serveOn(t, w.Laptop, "127.0.0.1:8080", "the laptop's own")
	before := w.snapshotOf(w.Gateway)
	laptop := w.snapshot()
	// The laptop's me is not root there; its root's key opens that account.
	key, err := w.Laptop.ReadFile("/root/.ssh/id_ed25519")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Laptop.WriteFile("/home/me/.ssh/root_there", key, 0o600, "me"); err != nil {
		t.Fatal(err)
	}
	reverse := []string{"-e", "ssh -i /home/me/.ssh/root_there", "--near", "nat", "--far", "tun", "root@gw"}

	r := w.upAs("me", reverse...)
	if strings.Contains(r.out, "privilege") {
		t.Errorf("root was asked for:\n%s", r.out)
	}
	get := func(url string) result { return w.on(w.Gateway, "root", "curl", "-sS", "-m", "10", url) }
	if got := get("http://10.0.2.2:8080/"); got.status == 0 {
		t.Errorf("the laptop's loopback is open to the gateway: %q", got.out)
	}
	if r := w.on(w.Gateway, "root", "ping", "-c", "1", "-W", "5", "10.0.2.3"); r.status != 0 {
		t.Errorf("the NAT's resolver does not answer a ping:\n%s", r.out)
	}
	w.asBefore(laptop, "up")
	w.down()
	w.gone(w.Gateway, before)

	// Root by sudo has nothing to do here, and no ssh runs as root for a user.
	if r := w.on(w.Laptop, "me", "sudo", append([]string{"bodkin", "up", "-d"}, reverse...)...); r.status != 0 {
		t.Fatalf("by sudo: %s", r.out)
	}
	for _, p := range w.processes() {
		if name := filepath.Base(p.Args[0]); name != "sudo" && p.UID != lab.LaptopUID {
			t.Errorf("%q is run by %d", p.Args, p.UID)
		}
	}
	if r := w.on(w.Laptop, "me", "sudo", "bodkin", "down"); r.status != 0 {
		t.Error(r.out)
	}
	w.gone(w.Gateway, before)

	// The prefix holds where the login itself comes from: that stays outside.
	w.upAs("me", append(reverse, "192.0.2.0/24", "--allow", "host")...)
	outer := net.JoinHostPort(lab.Laptop4.String(), "8081")
	serveOn(t, w.Laptop, outer, "the laptop's own")
	for _, url := range []string{"http://10.0.2.2:8080/", "http://" + outer + "/"} {
		if got := get(url); got.out != "the laptop's own" {
			t.Errorf("%s: %q", url, got.out)
		}
	}
	w.says(w.laptop("bodkin", "status"), "nat here, tun there")
	w.down()
	w.gone(w.Gateway, before)
}

// TestFarKernelKilled: what a killed far half leaves of its kernel interface, the
// next one takes back.
func TestFarKernelKilled(t *testing.T) {
	w := newWorld(t, lab.Options{})
	before, laptop := w.snapshotOf(w.Gateway), w.snapshot()
	w.upAs("root", "--once", "--far", "tun", "root@gw", "10.77.0.0/16")
	killed := 0
	all, err := w.Gateway.Processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if len(p.Args) > 0 && strings.HasPrefix(filepath.Base(p.Args[0]), "bodkin") {
			killed++
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if killed != 1 {
		t.Fatalf("%d far halves ran", killed)
	}
	w.eventually("the near half has ended", func() bool { return len(w.processes()) == 0 })
	w.asBefore(laptop, "the far half's death")
	if w.snapshotOf(w.Gateway) == before {
		t.Error("nothing is left of a killed far half: this test shows nothing")
	}
	w.upAs("root", "--far", "tun", "root@gw", "10.77.0.0/16")
	w.rootDown()
	w.gone(w.Gateway, before)
}

// TestNobodyToConnect: two NATs are refused, before anything is dialled.
func TestNobodyToConnect(t *testing.T) {
	w := newWorld(t, lab.Options{})
	for _, pair := range [][2]string{{"nat", "nat"}, {"nat", "slirp"}, {"slirp", "nat"}, {"slirp", "slirp"}} {
		r := w.bodkin("up", "--near", pair[0], "--far", pair[1], "me@gw")
		if r.status != 2 || r.took > 5*time.Second {
			t.Errorf("%v: status %d after %v", pair, r.status, r.took)
		}
		w.says(r.out, "both are NATs", "hint: ", "--near tun --far nat")
	}
	if log := w.SSHLog(); strings.Contains(log, "Accepted") {
		t.Errorf("somebody dialled:\n%s", log)
	}
}

// TestFarSlirp: the real SLiRP at the far side of a real sshd, and nothing of ours.
// When it dies another is started, and what the machine uses stays as it was.
func TestFarSlirp(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Gateway.InstallSlirp(); err != nil {
		t.Fatal(err)
	}
	before := w.snapshot()
	r := w.upAs("me", "--far", "slirp", "me@gw")
	w.says(r.out, "starts slirp", "PPP with slirp, 10.0.2.15/32 to 10.0.2.2")
	w.carries()
	w.changed(before)
	w.nothingOfOurs(w.Gateway)

	all, err := w.Gateway.Processes()
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for _, p := range all {
		if len(p.Args) > 0 && strings.Contains(p.Args[0], "slirp") {
			killed++
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if killed != 1 {
		t.Fatalf("%d slirps ran", killed)
	}
	w.eventually("the link is up again", func() bool {
		return w.on(w.Laptop, "me", "curl", "-sS", "-m", "2", url(lab.Web4, "/")).status == 0
	})
	w.carries()
	w.down()
	w.asBefore(before, "down")
	w.noProcesses()
}

// carries wants web pages and names to come through the tunnel.
func (w *world) carries() {
	w.t.Helper()
	w.laptop("curl", "-sS", "-m", "20", url(lab.Web4, "/"))
	w.laptop("dig", "+time=5", "+tries=3", "web.example")
}

// nothingOfOurs wants neither a process nor a file of bodkin's on a machine.
func (w *world) nothingOfOurs(m *lab.Machine) {
	w.t.Helper()
	all, err := m.Processes()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range all {
		if len(p.Args) > 0 && strings.HasPrefix(filepath.Base(p.Args[0]), "bodkin") {
			w.t.Errorf("%s runs %q", m.Name, p.Args)
		}
	}
	found := w.on(m, "root", "find", "/home/me", "/root", "/tmp", "/var/tmp", "/run/user", "/dev/shm", "-name", "*bodkin*").out
	for line := range strings.Lines(found) {
		if !strings.Contains(line, "No such file") {
			w.t.Errorf("%s has %s", m.Name, line)
		}
	}
}

// attached is the one real pppd that runs on a machine, once its IPv4 is up.
func (w *world) attached(m *lab.Machine) *lab.PPPD {
	w.t.Helper()
	p, err := m.AttachPPPD()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.Close() })
	if _, _, err := p.AwaitUp(within(w.t, patience), "ipv4"); err != nil {
		w.t.Fatalf("%v\n%s", err, p.Log())
	}
	return p
}

// inGuest runs a program in a pppd's guest, and fails the test unless it exits 0.
func (w *world) inGuest(p *lab.PPPD, name string, args ...string) string {
	w.t.Helper()
	out, err := p.Run(within(w.t, patience), name, args...)
	if err != nil {
		w.t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestNearPPPD: this side's own pppd makes the interface, on a kernel that has
// PPP, and the far side is our NAT.
func TestNearPPPD(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Laptop.InstallPPPD(); err != nil {
		t.Fatal(err)
	}
	before := w.snapshot()
	w.upAs("root", "--near", "pppd nodetach noauth noipdefault ipcp-accept-local ipcp-accept-remote defaultroute usepeerdns", "root@gw")
	w.asBefore(before, "up, which leaves this machine to pppd,")
	p := w.attached(w.Laptop)
	if page := w.inGuest(p, "busybox", "wget", "-q", "-O", "-", url(lab.Web4, "/")); page != "bodkin lab\n" {
		t.Errorf("the page is %q", page)
	}
	w.says(w.inGuest(p, "cat", "/etc/ppp/resolv.conf"), "nameserver 10.0.2.3")
	w.inGuest(p, "ping", "-c", "1", "-W", "5", lab.Web4.String())
	w.says(w.on(w.Laptop, "root", "bodkin", "status").out, "pppd here, nat there")
	w.rootDown()
	if status, err := p.Exit(within(t, patience)); err != nil || status != 0 {
		t.Logf("pppd ended with %d, %v\n%s", status, err, p.Log())
	}
	w.noProcesses()
}

// TestPPPDByItsName: pppd alone stands for a command line that works, on either side
// and on both at once.
func TestPPPDByItsName(t *testing.T) {
	w := newWorld(t, lab.Options{})
	for _, m := range []*lab.Machine{w.Laptop, w.Gateway} {
		if err := m.InstallPPPD(); err != nil {
			t.Fatal(err)
		}
	}
	w.upAs("root", "--near", "pppd", "--far", "pppd", "root@gw")
	near, far := w.attached(w.Laptop), w.attached(w.Gateway)
	w.inGuest(near, "ping", "-c", "1", "-W", "5", "10.0.2.2")
	w.inGuest(far, "ping", "-c", "1", "-W", "5", "10.0.2.15")
	w.nothingOfOurs(w.Gateway)
	w.rootDown()

	w.upAs("root", "--far", "pppd", "--dns", "off", "root@gw")
	if r := w.on(w.Laptop, "root", "ping", "-c", "1", "-W", "5", "10.0.2.2"); r.status != 0 {
		t.Errorf("the far pppd does not answer:\n%s", r.out)
	}
	w.rootDown()
}

// TestNearSlirp: the real SLiRP is this side's NAT, and the far side's kernel has
// the interface.
func TestNearSlirp(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Laptop.InstallSlirp(); err != nil {
		t.Fatal(err)
	}
	serveOn(t, w.Laptop, "127.0.0.1:8080", "the laptop's own")
	before := w.snapshotOf(w.Gateway)
	w.upAs("root", "--near", "slirp", "--far", "tun", "root@gw")
	if r := w.on(w.Gateway, "root", "curl", "-sS", "-m", "10", "http://10.0.2.2:8080/"); r.out != "the laptop's own" {
		t.Errorf("slirp's alias of its host: %q", r.out)
	}
	w.rootDown()
	w.gone(w.Gateway, before)
}

// TestNATForPPPD: the far side's own pppd reaches out through this side's NAT, and
// the two of them know nothing of each other.
func TestNATForPPPD(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Gateway.InstallPPPD(); err != nil {
		t.Fatal(err)
	}
	serveOn(t, w.Laptop, "127.0.0.1:8080", "the laptop's own")
	w.upAs("root", "--near", "nat", "--allow", "host", "--far", "pppd notty nodetach noauth noipdefault ipcp-accept-local ipcp-accept-remote defaultroute", "root@gw")
	p := w.attached(w.Gateway)
	if page := w.inGuest(p, "busybox", "wget", "-q", "-O", "-", "http://10.0.2.2:8080/"); page != "the laptop's own" {
		t.Errorf("the page is %q", page)
	}
	w.nothingOfOurs(w.Gateway)
	w.rootDown()
}

// TestFarGoesWrong: what is the matter with a foreign emulator is told by its layer,
// with what it said itself and the next thing to try.
func TestFarGoesWrong(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Gateway.InstallPPPD(); err != nil {
		t.Fatal(err)
	}
	before := w.snapshot()
	for _, c := range []struct {
		far, target string
		status      int
		says        []string
	}{
		{"cmd:no-such-ppp -x", "me@gw", 13, []string{"no such program: no-such-ppp", "hint: install it there"}},
		{"cmd:echo Sorry, closed today.; exit 3", "me@gw", 14, []string{"Sorry, closed today.", "status 3"}},
		{"cmd:cat", "me@gw", 14, []string{"what we send comes back"}},
		{"pppd notty nodetach auth", "root@gw", 14, []string{"any suitable secret", "hint: ssh has proved already who we are: add noauth"}},
		{"pppd notty nodetach auth debug", "root@gw", 14, []string{"prove", "hint: ssh has proved already who we are: add noauth"}},
	} {
		t.Run(c.far, func(t *testing.T) {
			w := w.in(t)
			if strings.HasSuffix(c.far, "debug") { // it knows whom to ask
				if err := w.Gateway.Secrets("chap-secrets", `* * "sesame" *`); err != nil {
					t.Fatal(err)
				}
			}
			account, _, _ := strings.Cut(c.target, "@")
			r := w.on(w.Laptop, account, "bodkin", "up", "--far", c.far, c.target)
			if r.status != c.status {
				t.Errorf("status %d, want %d", r.status, c.status)
			}
			w.says(r.out, c.says...)
			w.asBefore(before, "it went wrong,")
		})
	}
}
