package enclosure

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/endpoint/tun"
	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/tunnel"
)

// The tests run on a machine of their own, in a fresh network and mount namespace: its
// /dev/net/tun is open to all, as udev makes it; its /run has sockets of daemons that
// resolve names; it has an ordinary user. That user runs this very program as "drive",
// which does what bodkin exec does, with a NAT in the same process for the far side.
const (
	movedEnv = "ENCLOSURE_TEST_IN_NAMESPACE"
	driver   = "/run/tester/drive" // this program, where the user can execute it
	home     = "/run/tester/home"
	user     = 4321
)

var (
	web4, web6 = netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("2001:db8:5::10")
	resolver   = netip.MustParseAddr("198.51.100.53")
	inside4    = netip.MustParsePrefix("10.0.2.15/24")
	inside6    = netip.MustParsePrefix("fd62:6f64:6b69::15/64")
	dns4       = netip.MustParseAddr("10.0.2.3")
	dns6       = netip.MustParseAddr("fd62:6f64:6b69::3")
)

// daemons are the sockets of those who must not be asked.
var daemons = []string{
	"/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve", "/run/dbus/system_bus_socket", "/run/avahi-daemon/socket",
}

// friends are sockets that must go on working.
var friends = []string{"/run/user/4321/bus", "/run/systemd/journal/dev-log", "/run/docker.sock"}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch arg := os.Args[1]; {
		case arg == Command:
			if err := Serve(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case arg == "drive":
			os.Exit(drive(os.Args[2:]))
		}
	}
	for _, arg := range os.Args {
		if strings.HasPrefix(arg, "-test.fuzzworker") {
			os.Exit(m.Run()) // fuzz targets need no machine, and workers no move
		}
	}
	if os.Getenv(movedEnv) == "" {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
			fmt.Fprintf(os.Stderr, "these tests make namespaces and need root: unshare: %v\n", err)
			os.Exit(1)
		}
		err := syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), movedEnv+"=1"))
		fmt.Fprintln(os.Stderr, "exec:", err)
		os.Exit(1)
	}
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "building the test's machine:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// build makes the machine.
func build() error {
	var errs []error
	do := func(err error) { errs = append(errs, err) }
	mount := func(source, target, kind, data string, flags uintptr) {
		if err := unix.Mount(source, target, kind, flags, data); err != nil {
			do(fmt.Errorf("mounting on %s: %w", target, err))
		}
	}
	mount("", "/", "", "", unix.MS_REC|unix.MS_PRIVATE)
	mount("tmpfs", "/dev/net", "tmpfs", "mode=0755", 0)
	do(unix.Mknod("/dev/net/tun", unix.S_IFCHR, int(unix.Mkdev(10, 200))))
	do(os.Chmod("/dev/net/tun", 0o666))
	mount("tmpfs", "/run", "tmpfs", "mode=0755", 0)
	// What of the real machine's /etc is changed lies in a directory nobody else has.
	do(os.MkdirAll("/run/etc/upper", 0o755))
	do(os.MkdirAll("/run/etc/work", 0o755))
	mount("overlay", "/etc", "overlay", "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work", 0)
	do(os.MkdirAll("/run/systemd/resolve", 0o755))
	do(os.WriteFile("/run/systemd/resolve/stub-resolv.conf", []byte("nameserver 127.0.0.53\n"), 0o644))
	do(os.RemoveAll("/etc/resolv.conf"))
	do(os.Symlink("../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf"))
	do(os.WriteFile("/etc/nsswitch.conf", []byte("passwd: files systemd\nhosts: files mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] myhostname dns\nnetworks: files\n"), 0o644))
	passwd, err := os.ReadFile("/etc/passwd")
	do(err)
	do(os.WriteFile("/etc/passwd", append(passwd, "ann:x:4321:4321::"+home+":/bin/sh\n"...), 0o644))
	do(os.MkdirAll(home, 0o755))
	do(os.Chown(home, user, user))
	self, err := os.ReadFile("/proc/self/exe")
	do(err)
	do(os.WriteFile(driver, self, 0o755))
	do(os.MkdirAll("/run/user/4321", 0o755))
	do(os.Chown("/run/user/4321", user, user))
	do(os.Symlink("/dev/shm", "/run/shm"))

	for name, addrs := range map[string][]string{"lo": {"198.51.100.10/32", "2001:db8:5::10/128", "198.51.100.53/32"}} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			addr, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			addr.Flags = unix.IFA_F_NODAD
			do(netlink.AddrAdd(l, addr))
		}
		do(netlink.LinkSetUp(l))
	}
	do(os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0))
	for _, path := range slices.Concat(daemons, friends) {
		do(listen(path))
	}
	do(serveWeb())
	do(serveDNS())
	// As systemd has it: what is mounted in one mount namespace shows in its copies.
	mount("", "/", "", "", unix.MS_REC|unix.MS_SHARED)
	return errors.Join(errs...)
}

var (
	called sync.Mutex
	calls  = map[string]int{} // connections to the Unix sockets
)

// listen opens a Unix socket that says hello, and counts.
func listen(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			called.Lock()
			calls[path]++
			called.Unlock()
			io.WriteString(c, "hello\n")
			c.Close()
		}
	}()
	return nil
}

// serveWeb serves files of the user's home, and who asks for them.
func serveWeb() error {
	mux := http.NewServeMux()
	mux.HandleFunc("/whoami", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.Host, "for", r.RemoteAddr) })
	mux.Handle("/files/", http.StripPrefix("/files/", http.FileServer(http.Dir(home))))
	for _, a := range []string{"198.51.100.10:80", "[2001:db8:5::10]:80", "127.0.0.1:80"} {
		l, err := net.Listen("tcp", a)
		if err != nil {
			return err
		}
		go http.Serve(l, mux)
	}
	return nil
}

// serveDNS knows web.example alone.
func serveDNS() error {
	c, err := net.ListenPacket("udp", netip.AddrPortFrom(resolver, 53).String())
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			r := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}, Questions: m.Questions}
			h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type, TTL: 60}
			switch {
			case q.Name.String() != "web.example.":
				r.RCode = dnsmessage.RCodeNameError
			case q.Type == dnsmessage.TypeA:
				r.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: web4.As4()}}}
			case q.Type == dnsmessage.TypeAAAA:
				r.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AAAAResource{AAAA: web6.As16()}}}
			}
			if answer, err := r.Pack(); err == nil {
				c.WriteTo(answer, from)
			}
		}
	}()
	return nil
}

// drive is bodkin exec with the far side in the same process.
func drive(args []string) int {
	var s Settings
	f := flag.NewFlagSet("drive", flag.ExitOnError)
	become := f.Int("become", 0, "another user to be from now on")
	f.Func("route", "", func(v string) error { s.Routes = append(s.Routes, netip.MustParsePrefix(v)); return nil })
	f.Func("exclude", "", func(v string) error { s.Exclude = append(s.Exclude, netip.MustParsePrefix(v)); return nil })
	f.Func("search", "", func(v string) error { s.Search = append(s.Search, v); return nil })
	slow := f.Bool("slow", false, "be in a login that does not end")
	f.Parse(args)
	if *become != 0 {
		if err := errors.Join(syscall.Setgroups([]int{*become}), syscall.Setresgid(*become, *become, *become), syscall.Setresuid(*become, *become, *become)); err != nil {
			panic(err)
		}
	}
	status, err := driveRun(s, *slow, f.Args())
	if err != nil {
		report.Say(os.Stderr, err)
		if status == 0 {
			status = report.Status(err)
		}
	}
	return status
}

func driveRun(s Settings, slow bool, command []string) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e, err := New(Config{Name: "bodkin0", Command: command, Interrupted: cancel})
	if err != nil {
		return 0, err
	}
	defer e.Close()
	if slow {
		login := exec.Command("sh", "-c", "trap 'echo login interrupted' INT; echo logging in; exec sleep 1000")
		login.Stdout = os.Stdout
		if err := login.Start(); err != nil {
			return 0, err
		}
		<-ctx.Done()
		fmt.Println("interrupted")
		login.Process.Kill()
		fmt.Println("the login ended by itself:", login.Wait().Error() != "signal: killed")
		return 9, nil
	}
	const mtu = 65535
	file, _ := e.Device()
	device, err := tun.Open(file, mtu)
	if err != nil {
		return 0, err
	}
	nat, err := usernat.New(usernat.Config{
		DNS: []netip.Addr{dns4, dns6}, MTU: mtu, Allow: usernat.Policy{Host: true},
		Resolvers: func() []netip.AddrPort { return []netip.AddrPort{netip.AddrPortFrom(resolver, 53)} },
	})
	if err != nil {
		return 0, err
	}
	joining, end := context.WithCancel(context.Background())
	joined := make(chan error, 1)
	go func() { joined <- tunnel.Join(joining, device, nat) }()
	defer func() { end(); <-joined }()
	breaks := make(chan os.Signal, 1)
	signal.Notify(breaks, syscall.SIGUSR1)
	go func() {
		<-breaks // the tunnel, and the command shall go on
		device.Close()
	}()
	s.Addrs, s.MTU, s.DNS = []netip.Prefix{inside4, inside6}, mtu, []netip.Addr{dns4, dns6}
	if err := e.Set(s); err != nil {
		return 0, err
	}
	for _, note := range e.Notes() {
		fmt.Fprintln(os.Stderr, "note:", note)
	}
	return e.Run(ctx)
}

// patience bounds one program in a test, far beyond what any needs.
const patience = 30 * time.Second

// A result is how a program ended.
type result struct {
	status   int
	out, err string
}

// asUser makes a command that runs as the ordinary user.
func asUser(t *testing.T, name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = home
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + home, "USER=ann", "LANG=C.UTF-8",
		"https_proxy=http://127.0.0.1:1", "http_proxy=http://127.0.0.1:1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	return cmd
}

// finish runs a command to its end.
func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errw bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &errw
	}
	err := cmd.Run()
	r := result{out: out.String(), err: errw.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		if r.status = exit.ExitCode(); r.status < 0 {
			t.Fatalf("%q: %v\n%s%s", cmd.Args, err, r.out, r.err)
		}
	case err != nil:
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	return r
}

// inside runs a shell's line inside, as the ordinary user, and fails the test unless it
// exits 0.
func inside(t *testing.T, line string) string {
	t.Helper()
	r := finish(t, asUser(t, driver, "drive", "sh", "-c", line))
	if r.status != 0 {
		t.Fatalf("%s: exit status %d\n%s%s", line, r.status, r.out, r.err)
	}
	return r.out
}
