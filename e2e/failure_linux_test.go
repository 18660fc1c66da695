package e2e_test

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/lab"
)

// failures breaks one layer after another. Each must be named, with its exit
// status, the reason and the next thing to try.
var failures = []struct {
	name    string
	arrange func(w *world) // breaks something; nil: the arguments do
	args    []string       // after "bodkin up -d"; nil: me@gw

	status int
	layer  string
	reason string
	hint   string
}{
	{
		name:   "the target is no name",
		args:   []string{"-x", "10.0.0.0/8", "--", "-oProxyCommand=id"},
		status: 2, reason: "is not a host's name", hint: "[user@]host[:port]",
	},
	{
		name:   "no ssh program",
		args:   []string{"-e", "no-such-ssh", "me@gw"},
		status: 12, layer: "ssh", reason: "no-such-ssh", hint: "openssh-client",
	},
	{
		name: "no such host",
		arrange: func(w *world) { // the laptop's resolver is silent: do not wait for it
			if err := w.Laptop.WriteFile("/etc/nsswitch.conf", []byte("hosts: files\npasswd: files\ngroup: files\n"), 0o644, "root"); err != nil {
				w.t.Fatal(err)
			}
		},
		args:   []string{"me@nowhere.example"},
		status: 11, layer: "reach", reason: "nowhere.example", hint: "name",
	},
	{
		name:   "connection refused",
		args:   []string{"me@gw:2222"}, // the firewall lets it pass, nothing listens
		status: 11, layer: "reach", reason: "refused", hint: "port",
	},
	{
		name: "another host key than the known one",
		arrange: func(w *world) {
			key, err := w.Laptop.ReadFile("/home/me/.ssh/id_ed25519.pub")
			if err != nil {
				w.t.Fatal(err)
			}
			known := "gw," + lab.Gateway4.String() + "," + lab.Gateway6.String() + " " + string(key)
			w.write(w.Laptop, "/home/me/.ssh/known_hosts", known, "me")
		},
		status: 12, layer: "ssh", reason: "host key", hint: "ssh-keygen -R",
	},
	{
		name: "a host key that nobody knows, and nobody to ask",
		arrange: func(w *world) {
			w.write(w.Laptop, "/home/me/.ssh/known_hosts", "", "me")
		},
		status: 12, layer: "ssh", reason: "host key unknown", hint: "fingerprint",
	},
	{
		name: "a key that the server does not take",
		arrange: func(w *world) {
			w.write(w.Gateway, "/home/me/.ssh/authorized_keys", "", "me")
		},
		status: 12, layer: "ssh", reason: "ermission denied", hint: "key",
	},
	{
		name: "an account without a shell",
		arrange: func(w *world) {
			if err := w.Gateway.SetShell("me", "/usr/sbin/nologin"); err != nil {
				w.t.Fatal(err)
			}
		},
		status: 13, layer: "far half", reason: "This account is currently not available", hint: "shell",
	},
	{
		name: "a key that is there for something else",
		arrange: func(w *world) {
			key, err := w.Gateway.ReadFile("/home/me/.ssh/authorized_keys")
			if err != nil {
				w.t.Fatal(err)
			}
			w.write(w.Gateway, "/home/me/.ssh/authorized_keys", `restrict,command="echo backups only" `+string(key), "me")
		},
		status: 13, layer: "far half", reason: "backups only", hint: "forced command",
	},
	{
		name:    "nowhere to run from",
		arrange: func(w *world) { w.cover(w.Gateway, unix.MS_NOEXEC, "mode=1777") },
		status:  13, layer: "far half", reason: "lets no program run", hint: `command="bodkin far"`,
	},
	{
		name:    "a full disk",
		arrange: func(w *world) { w.cover(w.Gateway, 0, "mode=1777,size=64k") },
		status:  13, layer: "far half", reason: "disk is full", hint: "make room there",
	},
	{
		name: "another architecture",
		arrange: func(w *world) {
			fake := "#!/bin/sh\ncase \"$*\" in -m) echo riscv64;; -s) echo Linux;; *) echo Linux riscv64;; esac\n"
			if err := w.Gateway.WriteFile("/usr/local/bin/uname", []byte(fake), 0o755, "root"); err != nil {
				w.t.Fatal(err)
			}
		},
		status: 13, layer: "far half", reason: "riscv64", hint: "--far-binary",
	},
	{
		name: "no /dev/net/tun",
		arrange: func(w *world) {
			err := w.Laptop.Do(func() error { return unix.Mount("tmpfs", "/dev/net", "tmpfs", 0, "") })
			if err != nil {
				w.t.Fatal(err)
			}
		},
		status: 16, layer: "device", reason: "/dev/net/tun", hint: "modprobe tun",
	},
	{
		name: "a device of that name is somebody else's",
		arrange: func(w *world) {
			err := w.Laptop.Netlink().LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "bodkin0"}})
			if err != nil {
				w.t.Fatal(err)
			}
		},
		status: 16, layer: "device", reason: "bodkin0", hint: "--name",
	},
	{
		name: "no room for the journal",
		arrange: func(w *world) {
			err := w.Laptop.Do(func() error {
				if err := os.MkdirAll("/var/lib/bodkin", 0o700); err != nil {
					return err
				}
				if err := unix.Mount("tmpfs", "/var/lib/bodkin", "tmpfs", 0, "mode=0700,size=4k"); err != nil {
					return err
				}
				return os.WriteFile("/var/lib/bodkin/full", make([]byte, 4096), 0o600)
			})
			if err != nil {
				w.t.Fatal(err)
			}
		},
		status: 17, layer: "routes", reason: "no space left on device", hint: "",
	},
	{
		name: "no privilege",
		arrange: func(w *world) {
			err := w.Laptop.Do(func() error { return os.Remove("/etc/sudoers.d/me") })
			if err != nil {
				w.t.Fatal(err)
			}
		},
		status: 10, layer: "privilege", reason: "sudo", hint: "root",
	},
}

func TestFailures(t *testing.T) {
	for _, tt := range failures {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, lab.Options{AllowTCP: []uint16{2222}})
			if tt.arrange != nil {
				tt.arrange(w)
			}
			args := tt.args
			if args == nil {
				args = []string{"me@gw"}
			}
			before := w.snapshot()
			r := w.bodkin(append([]string{"up", "-d"}, args...)...)
			if r.status == 0 {
				t.Fatalf("it came up:\n%s", r.out)
			}
			if r.status != tt.status {
				t.Errorf("exit status %d, want %d", r.status, tt.status)
			}
			said := map[string]string{}
			for line := range strings.Lines(r.out) {
				for _, kind := range []string{"error", "hint"} {
					if text, ok := strings.CutPrefix(line, "bodkin: "+kind+": "); ok {
						said[kind] += text
					}
				}
			}
			if tt.layer != "" && !strings.HasPrefix(said["error"], tt.layer+":") {
				t.Errorf("the error does not begin with the layer, %q", tt.layer)
			}
			if !strings.Contains(said["error"], tt.reason) {
				t.Errorf("the reason does not say %q", tt.reason)
			}
			if !strings.Contains(said["hint"], tt.hint) {
				t.Errorf("the hint does not say %q", tt.hint)
			}
			if t.Failed() {
				t.Logf("it said:\n%s", r.out)
			}
			w.asBefore(before, "a failed up")
			w.noProcesses()
		})
	}
}

// TestAddressClash gives the laptop a network that the tunnel would have used: it
// takes another, and what was there stays reachable by its old way.
func TestAddressClash(t *testing.T) {
	w := newWorld(t, lab.Options{})
	link, err := w.Laptop.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	own := &net.IPNet{IP: net.IPv4(10, 0, 2, 1), Mask: net.CIDRMask(24, 32)}
	if err := w.Laptop.Netlink().AddrAdd(link, &netlink.Addr{IPNet: own}); err != nil {
		t.Fatal(err)
	}
	before := w.snapshot()
	w.up("me@gw")
	w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", "http://web.example/")
	for _, a := range w.status().Addresses {
		if own.Contains(a.Addr().AsSlice()) {
			t.Errorf("the tunnel has the address %v, inside the laptop's own %v", a, own)
		}
	}
	w.down()
	w.asBefore(before, "up, down")
}

// TestFarResolverSilent has a far side whose resolver answers nothing: the tunnel
// works, names do not, and both are said.
func TestFarResolverSilent(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Gateway.SetResolvConf(lab.ResolvFile, lab.Hole4.String()); err != nil {
		t.Fatal(err)
	}
	r := w.upAs("me", "me@gw")
	w.says(r.out, "resolver")
	w.clean("names do not resolve", func() {
		w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", url(lab.Web4, "/"))
		w.says(w.laptop("dig", "+time=10", "+tries=1", "web.example"), "status: SERVFAIL")
	})
}

// TestNoPingThere has a far side that permits no ping sockets: that is said, and a
// ping is refused at once instead of being made up or lost.
func TestNoPingThere(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Gateway.SetSysctl("net/ipv4/ping_group_range", "1 0"); err != nil {
		t.Fatal(err)
	}
	r := w.upAs("me", "me@gw")
	w.says(r.out, "ping does not work")
	for _, f := range families {
		r := w.on(w.Laptop, "me", "ping", f.flag, "-c", "1", "-W", "5", f.web.String())
		if r.status != 1 || r.took > 2*time.Second {
			t.Errorf("%s: ping: exit status %d after %v, want 1 at once\n%s", f.name, r.status, r.took, r.out)
		}
		w.says(r.out, " 0 received, +1 errors")
	}
}

func (w *world) write(m *lab.Machine, path, text, account string) {
	w.t.Helper()
	if err := m.WriteFile(path, []byte(text), 0o600, account); err != nil {
		w.t.Fatal(err)
	}
}

// cover mounts an empty file system on every directory of m where an account may
// write but on its home's .ssh.
func (w *world) cover(m *lab.Machine, flags uintptr, data string) {
	w.t.Helper()
	err := m.Do(func() error {
		if err := os.MkdirAll("/home/me/.cache", 0o777); err != nil {
			return err
		}
		if err := os.MkdirAll("/run/user/"+strconv.Itoa(lab.GatewayUID), 0o777); err != nil {
			return err
		}
		for _, dir := range []string{"/home/me/.cache", "/run/user", "/run/lock", "/dev/shm", "/var/tmp", "/tmp"} {
			if err := unix.Mount("tmpfs", dir, "tmpfs", flags, data); err != nil {
				return &os.PathError{Op: "mount", Path: dir, Err: err}
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}
