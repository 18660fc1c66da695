package host

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// startBus runs a system bus at its usual place, in the test's own /run.
func startBus(t *testing.T) *dbus.Conn {
	t.Helper()
	const config = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow send_type="method_call"/><allow receive_sender="*"/>
  </policy>
</busconfig>`
	if err := errors.Join(os.MkdirAll("/run/dbus", 0o755), os.WriteFile("/run/bus.conf", []byte(config), 0o644)); err != nil {
		t.Fatal(err)
	}
	out := start(t, nil, "/usr/bin/dbus-daemon", "--config-file=/run/bus.conf", "--nofork", "--print-address=1")
	if _, err := out.Read(make([]byte, 256)); err != nil { // the address, once it listens
		t.Fatalf("dbus-daemon (Debian: dbus-daemon): %v", err)
	}
	bus, err := dbus.Connect(systemBus)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close() })
	return bus
}

// start runs a program until the test's end, and returns its output.
func start(t *testing.T, env []string, path string, args ...string) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		r.Close()
	})
	return r
}

// A fakeResolved is org.freedesktop.resolve1 as far as we use it.
type fakeResolved struct {
	mu      sync.Mutex
	calls   []string
	unknown int    // how many calls it takes until it has heard of the device
	fail    string // the method that fails
}

func (f *fakeResolved) called(method string, format string, args ...any) *dbus.Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unknown > 0 {
		f.unknown--
		return dbus.NewError("org.freedesktop.resolve1.NoSuchLink", []any{"Link not known"})
	}
	if f.fail == method {
		return dbus.NewError("org.freedesktop.resolve1.LinkBusy", []any{"Link is managed"})
	}
	f.calls = append(f.calls, fmt.Sprintf(method+" "+format, args...))
	return nil
}

// behave says how the next calls go.
func (f *fakeResolved) behave(unknown int, fail string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unknown, f.fail = unknown, fail
}

func (f *fakeResolved) take() (calls []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls, f.calls = f.calls, nil
	return calls
}

func (f *fakeResolved) SetLinkDNS(index int32, servers []busServer) *dbus.Error {
	var s []string
	for _, x := range servers {
		a, _ := netip.AddrFromSlice(x.Addr)
		s = append(s, fmt.Sprintf("%d:%v", x.Family, a))
	}
	return f.called("SetLinkDNS", "%d %v", index, s)
}

func (f *fakeResolved) SetLinkDomains(index int32, domains []busDomain) *dbus.Error {
	return f.called("SetLinkDomains", "%d %v", index, domains)
}

func (f *fakeResolved) SetLinkDefaultRoute(index int32, on bool) *dbus.Error {
	return f.called("SetLinkDefaultRoute", "%d %v", index, on)
}

func (f *fakeResolved) RevertLink(index int32) *dbus.Error {
	return f.called("RevertLink", "%d", index)
}

func TestResolvedDialogue(t *testing.T) {
	if !alone(t) {
		return
	}
	bus := startBus(t)
	fake := &fakeResolved{}
	if err := bus.Export(fake, "/org/freedesktop/resolve1", resolvedIface); err != nil {
		t.Fatal(err)
	}
	dir := journals(t)
	d := newTun(t, "bodkin0")
	i := d.link.Attrs().Index
	stub := func() error { return os.WriteFile(resolvConf, []byte("nameserver 127.0.0.53\n"), 0o644) }
	w := namesWish()

	reshape(t, stub)
	w.DNS.Mode = DNSResolved
	if _, err := Set(w, dir); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("nobody has the name: %v", err)
	}
	w.DNS.Mode = DNSAuto
	if _, err := bus.RequestName(resolvedName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t)

	for _, c := range []struct {
		name    string
		shape   func() error
		domains []string
		mode    DNSMode
		unknown int
		want    []string
		file    bool
		note    string
	}{
		{"everything, by the stub", stub, nil, DNSAuto, 0, []string{
			fmt.Sprintf("SetLinkDNS %d [2:10.0.2.3 10:fd00:2::3]", i),
			fmt.Sprintf("SetLinkDomains %d [{. true}]", i),
			fmt.Sprintf("SetLinkDefaultRoute %d true", i),
		}, false, ""},
		{"some domains, to a resolved that has not heard of the device", stub, []string{"corp.example", "lab.example"}, DNSAuto, 3, []string{
			fmt.Sprintf("SetLinkDNS %d [2:10.0.2.3 10:fd00:2::3]", i),
			fmt.Sprintf("SetLinkDomains %d [{corp.example false} {lab.example false}]", i),
			fmt.Sprintf("SetLinkDefaultRoute %d false", i),
		}, false, ""},
		{"resolved runs, but the file names other servers", shapes[0].make, nil, DNSAuto, 0, []string{
			fmt.Sprintf("SetLinkDNS %d [2:10.0.2.3 10:fd00:2::3]", i),
			fmt.Sprintf("SetLinkDomains %d [{. true}]", i),
			fmt.Sprintf("SetLinkDefaultRoute %d true", i),
		}, true, ""},
		{"some domains, and the file names other servers", shapes[0].make, []string{"corp.example"}, DNSAuto, 0, []string{
			fmt.Sprintf("SetLinkDNS %d [2:10.0.2.3 10:fd00:2::3]", i),
			fmt.Sprintf("SetLinkDomains %d [{corp.example false}]", i),
			fmt.Sprintf("SetLinkDefaultRoute %d false", i),
		}, false, "do not find corp.example"},
		{"the file, by demand", stub, nil, DNSFile, 0, nil, true, ""},
		{"off", stub, nil, DNSOff, 0, nil, false, ""},
	} {
		reshape(t, c.shape)
		fake.behave(c.unknown, "")
		w := w
		w.DNS.Domains, w.DNS.Mode = c.domains, c.mode
		s, err := Set(w, dir)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := fake.take(); !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%q\nwant\n%q", c.name, got, c.want)
		}
		text, _ := os.ReadFile(resolvConf)
		if file := bytes.Contains(text, []byte("10.0.2.3")); file != c.file {
			t.Errorf("%s: the file is written: %v", c.name, file)
		}
		if n := strings.Join(s.Notes(), "\n"); !strings.Contains(n, c.note) || c.note == "" && n != "" {
			t.Errorf("%s: notes %q", c.name, n)
		}
		if err := s.Undo(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		var revert []string
		if c.want != nil {
			revert = []string{fmt.Sprintf("RevertLink %d", i)}
		}
		if got := fake.take(); !slices.Equal(got, revert) {
			t.Errorf("%s: undone by %q", c.name, got)
		}
	}

	reshape(t, stub)
	fake.behave(0, "SetLinkDomains")
	if _, err := Set(w, dir); err == nil || !strings.Contains(err.Error(), "systemd-resolved: SetLinkDomains: Link is managed") {
		t.Errorf("resolved refuses: %v", err)
	}
	if got := fake.take(); len(got) != 2 || got[1] != fmt.Sprintf("RevertLink %d", i) {
		t.Errorf("resolved refuses: %q", got)
	}
	sameAs(t, before)
	fake.behave(0, "")

	if point := (attempt{Wish: w, Dir: dir, Kill: 1, Only: "told resolved"}).run(t); point == "" {
		t.Fatal("not killed")
	}
	if _, err := CleanUp(dir); err != nil {
		t.Fatal(err)
	}
	if got := fake.take(); len(got) != 2 || got[1] != fmt.Sprintf("RevertLink %d", i) {
		t.Errorf("killed in the middle: %q", got)
	}
	sameAs(t, before)

	s, err := Set(w, dir)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	fake.take()
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
	if got := fake.take(); got != nil {
		t.Errorf("the device is gone, and resolved is told %q", got)
	}
}

// Real names go through the real systemd-resolved into the tunnel.
func TestRealResolved(t *testing.T) {
	const program = "lib/systemd/systemd-resolved"
	if os.Getenv(envTest) == "" {
		unpackResolved(t)
	}
	if !alone(t) {
		return
	}
	_, peer := newEth(t)
	outside := newOracle(t, peer)
	startBus(t)
	root := os.Getenv(envUnpacked)
	if err := errors.Join(os.MkdirAll("/run/systemd/resolve", 0o755), os.Chown("/run/systemd/resolve", 995, 995), addUser("systemd-resolve", 995),
		os.MkdirAll("/etc/systemd", 0o755), os.WriteFile("/etc/systemd/resolved.conf", []byte("[Resolve]\nDNS=198.51.100.53\nFallbackDNS=\nDNSSEC=no\nLLMNR=no\nMulticastDNS=no\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	libraries, err := filepath.Glob(filepath.Join(root, "usr/lib/*/systemd"))
	if err != nil {
		t.Fatal(err)
	}
	start(t, []string{"LD_LIBRARY_PATH=" + strings.Join(libraries, ":")}, filepath.Join(root, program))
	for deadline := time.Now().Add(10 * time.Second); !resolvedRuns() || !exists("/run/systemd/resolve/stub-resolv.conf"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("systemd-resolved does not come up")
		}
	}
	reshape(t, func() error { return os.Symlink("../run/systemd/resolve/stub-resolv.conf", resolvConf) })

	d := newTun(t, "bodkin0")
	dir := journals(t)
	before := snapshot(t)
	w := fullWish()
	w.Routes = nil // names alone; what goes to 198.51.100.53 stays outside
	w.DNS.Servers = w.DNS.Servers[:1]
	for _, c := range []struct {
		domains []string
		inside  map[string]bool
	}{
		{nil, map[string]bool{"www.corp.example.": true, "www.example.org.": true}},
		{[]string{"corp.example"}, map[string]bool{"www.corp.example.": true, "www.example.org.": false}},
	} {
		w.DNS.Domains = c.domains
		s, err := Set(w, dir)
		if err != nil {
			t.Fatal(err)
		}
		for name, inside := range c.inside {
			name = strings.Replace(name, "www", fmt.Sprintf("n%d", len(c.domains)), 1) // none from a cache
			askStub(t, name)
			wire := wireName(name)
			if inside {
				d.SetReadDeadline(time.Now().Add(5 * time.Second))
				for found := false; !found; {
					b := make([]byte, 2048)
					n, err := d.Read(b)
					if err != nil {
						t.Fatalf("%s does not come into the tunnel: %v", name, err)
					}
					found = bytes.Contains(b[:n], wire) && bytes.Contains(b[:20], netip.MustParseAddr("10.0.2.3").AsSlice())
				}
			} else {
				outside.until(t, string(wire))
			}
		}
		if err := say("203.0.113.200:9", endOfProbes, 0); err != nil {
			t.Fatal(err)
		}
		for _, f := range outside.until(t, endOfProbes) {
			if bytes.Contains(f, []byte("\x04corp\x07example")) {
				t.Error("a name of the tunnel's is asked outside")
			}
		}
		if err := s.Undo(); err != nil {
			t.Fatal(err)
		}
		sameAs(t, before)
		after := fmt.Sprintf("after%d.corp.example.", len(c.domains))
		askStub(t, after)
		outside.until(t, string(wireName(after)))
	}
}

func wireName(name string) []byte { // RFC 1035, section 4.1.2
	var b []byte
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return b
}

// askStub asks the machine's own resolver and does not wait for the answer.
func askStub(t *testing.T, name string) {
	t.Helper()
	q := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", "127.0.0.53:53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// addUser adds a system user to the test's own /etc if it is not there.
func addUser(name string, id int) error {
	for path, line := range map[string]string{
		"/etc/passwd": fmt.Sprintf("%s:x:%d:%d::/:/usr/sbin/nologin\n", name, id, id),
		"/etc/group":  fmt.Sprintf("%s:x:%d:\n", name, id),
	} {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var kept []byte
		for l := range strings.Lines(string(b)) {
			if !strings.HasPrefix(l, name+":") {
				kept = append(kept, l...)
			}
		}
		if err := os.WriteFile(path, append(kept, line...), 0o644); err != nil {
			return err
		}
	}
	return nil
}

const envUnpacked = "HOST_TEST_UNPACKED" // where systemd-resolved was unpacked

// unpackResolved fetches Debian's systemd-resolved and the library it needs, and
// unpacks them into a directory of the test's. Installing it would replace the
// machine's resolv.conf.
func unpackResolved(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	get := exec.Command("/usr/bin/apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", "systemd-resolved", "libsystemd-shared")
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		t.Fatalf("apt-get download systemd-resolved: %v\n%s", err, out)
	}
	packages, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		if out, err := exec.Command("/usr/bin/dpkg", "-x", p, dir).CombinedOutput(); err != nil {
			t.Fatalf("dpkg -x: %v\n%s", err, out)
		}
	}
	t.Setenv(envUnpacked, dir)
}
