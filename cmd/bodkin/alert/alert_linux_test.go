package alert

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What changes a network runs in a process of its own, in a network namespace of its
// own: the test's program starts itself again, with the name of the test.
const (
	envTest  = "ALERT_TEST"  // the test to run, in its namespace already
	envWatch = "ALERT_WATCH" // be a process that watches, and says what it is told
)

func TestMain(m *testing.M) {
	if os.Getenv(envWatch) != "" {
		events, err := Watch(context.Background(), Options{})
		if err != nil {
			panic(err)
		}
		fmt.Println("watching")
		for e := range events {
			fmt.Println(e.Kind, e.Detail)
		}
	}
	os.Exit(m.Run())
}

func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(envTest) == t.Name() {
		ip(t, "link set lo up")
		return true
	}
	if os.Geteuid() != 0 {
		t.Fatal("needs root: it makes network namespaces")
	}
	t.Parallel()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v="+strconv.FormatBool(testing.Verbose()), "-test.timeout=60s")
	cmd.Env = append(os.Environ(), envTest+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
	return false
}

// ip runs ip(8), once for each line.
func ip(t testing.TB, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
}

// await waits for an Event.
func await(t *testing.T, events <-chan Event, kind Kind, detail string) {
	t.Helper()
	select {
	case e := <-events:
		if e.Kind != kind || !strings.Contains(e.Detail, detail) {
			t.Errorf("%d %q, want %d %q", e.Kind, e.Detail, kind, detail)
		}
	case <-time.After(3 * time.Second):
		t.Errorf("nothing is told, want %q", detail)
	}
}

// quiet waits longer than an Event takes, for none.
func quiet(t *testing.T, events <-chan Event, why string) {
	t.Helper()
	select {
	case e := <-events:
		t.Errorf("%s: %q", why, e.Detail)
	case <-time.After(3 * settleTime):
	}
}

func watched(t *testing.T, o Options) <-chan Event {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	events, err := Watch(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		for range events { // until it is closed
		}
	})
	return events
}

// laptop gives the namespace two networks, each with a gateway; packets leave by eth0.
func laptop(t *testing.T) {
	t.Helper()
	ip(t,
		"link add eth0 type veth peer name far0", "link add wlan0 type veth peer name far1",
		"addr add 192.0.2.5/24 dev eth0", "addr add 198.51.100.5/24 dev wlan0",
		"-6 addr add 2001:db8:1::5/64 dev eth0 nodad",
		"link set eth0 up", "link set far0 up", "link set wlan0 up", "link set far1 up",
		"route add default via 192.0.2.1", "-6 route add default via 2001:db8:1::1",
	)
}

// TestNetwork moves a laptop about.
func TestNetwork(t *testing.T) {
	if !alone(t) {
		return
	}
	laptop(t)
	events := watched(t, Options{})
	quiet(t, events, "at the beginning")

	ip(t, "route add default via 198.51.100.1 metric 600", "addr add 192.0.2.77/24 dev eth0", "route add 203.0.113.0/24 via 198.51.100.1",
		"link add docker0 type bridge", "addr add 172.17.0.1/16 dev docker0", "link set docker0 up")
	quiet(t, events, "what changes nothing about how packets leave")

	ip(t, "addr add 192.0.2.6/24 dev eth0", "addr del 192.0.2.5/24 dev eth0") // takes the default route and its other addresses along
	await(t, events, Network, "the way to anywhere goes by wlan0, no longer by eth0")
	ip(t, "addr flush dev eth0 scope global", "addr add 192.0.2.6/24 dev eth0", "route add default via 192.0.2.1")
	await(t, events, Network, "the way to anywhere goes by eth0, no longer by wlan0")
	ip(t, "route replace default via 192.0.2.1 src 192.0.2.6", "route change default via 192.0.2.254")
	await(t, events, Network, "eth0 has another gateway: 192.0.2.254")
	ip(t, "addr add 192.0.2.7/24 dev eth0", "route change default via 192.0.2.254 src 192.0.2.7")
	await(t, events, Network, "eth0 has another address: 192.0.2.7")
	ip(t, "link set far0 down", "link set far0 up")
	await(t, events, Network, "eth0 was disconnected for a moment")
	ip(t, "link set wlan0 down", "route del default")
	await(t, events, Network, "there is no way to anywhere any more")
	ip(t, "route add default via 192.0.2.1")
	await(t, events, Network, "there is a way to anywhere again, by eth0")
	ip(t, "-6 route del default")
	await(t, events, Network, "there is no way to anywhere any more")
	ip(t, "-6 addr add 2001:db8:1::6/64 dev eth0 nodad", "-6 route add default via 2001:db8:1::1")
	await(t, events, Network, "there is a way to anywhere again, by eth0")
	quiet(t, events, "at the end")
}

// TestToward asks for the carrier's own way: by its mark, to its far end.
func TestToward(t *testing.T) {
	if !alone(t) {
		return
	}
	laptop(t)
	far := []netip.Addr{netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("::ffff:203.0.113.10")}
	events := watched(t, Options{Mark: 0xb0, Toward: func() []netip.Addr { return far }})

	// A tunnel comes up, as host makes it.
	ip(t, "link add bodkin0 type veth peer name far2", "link set bodkin0 up", "link set far2 up", "addr add 10.0.2.15/24 dev bodkin0",
		"route add default dev bodkin0 table 77", "rule add not fwmark 0xb0 lookup 77 priority 232")
	quiet(t, events, "the tunnel itself")
	ip(t, "route change default via 192.0.2.1 dev eth0 mtu 1400", "link set far2 down")
	quiet(t, events, "what leaves the way as it is")

	ip(t, "route add 203.0.113.8/30 via 198.51.100.1 dev wlan0")
	await(t, events, Network, "the way to 203.0.113.9 goes by wlan0, no longer by eth0")
	ip(t, "route add unreachable 203.0.113.9/32")
	await(t, events, Network, "there is no way to 203.0.113.9 any more")
	ip(t, "route del default")
	quiet(t, events, "the default route, which the carrier does not go by")
}

// TestStorm: a thousand changes are one Event, with what came of them.
func TestStorm(t *testing.T) {
	if !alone(t) {
		return
	}
	laptop(t)
	events := watched(t, Options{})
	var batch strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&batch, "route replace default via 192.0.2.%d\naddr add 10.1.%d.%d/32 dev eth0\n", 2+i%200, i/250, 1+i%250)
	}
	batch.WriteString("route replace default via 198.51.100.9\n")
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch.String())
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	most := 1 + int(time.Since(began)/settleTime) // as often as it is looked at
	n, last := 0, ""
	for quietFor := time.After(time.Second); ; {
		select {
		case e := <-events:
			n, last = n+1, e.Detail
			continue
		case <-quietFor:
		}
		break
	}
	if n < 1 || n > most || !strings.Contains(last, "wlan0") {
		t.Errorf("%d events, at most %d, the last %q", n, most, last)
	}
}

// TestEnds: Watch leaves nothing behind, also in the middle of a storm that nobody reads.
func TestEnds(t *testing.T) {
	if !alone(t) {
		return
	}
	laptop(t)
	count := func() (goroutines, files int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(entries)
	}
	goroutines, files := count()
	for i := range 20 {
		ctx, cancel := context.WithCancel(context.Background())
		events, err := Watch(ctx, Options{})
		if err != nil {
			t.Fatal(err)
		}
		ip(t, fmt.Sprintf("route replace default via 192.0.2.%d", 2+i))
		cancel()
		for range events {
		}
	}
	if g, f := count(); g > goroutines || f > files {
		t.Errorf("%d goroutines and %d files more", g-goroutines, f-files)
	}
}

func TestHasAddress(t *testing.T) {
	if !alone(t) {
		return
	}
	laptop(t)
	for _, c := range []struct {
		address string
		want    bool
	}{
		{"192.0.2.5", true}, {"::ffff:192.0.2.5", true}, {"2001:db8:1::5", true}, {"127.0.0.1", true},
		{"192.0.2.6", false}, {"203.0.113.1", false}, {"2001:db8:1::6", false},
	} {
		if got := HasAddress(netip.MustParseAddr(c.address)); got != c.want {
			t.Errorf("%s: %v", c.address, got)
		}
	}
	if HasAddress(netip.Addr{}) {
		t.Error("no address at all is here")
	}
	ip(t, "addr del 192.0.2.5/24 dev eth0")
	if HasAddress(netip.MustParseAddr("192.0.2.5")) {
		t.Error("an address that was taken away is still here")
	}
}

// A watcher is a child that watches.
type watcher struct {
	*exec.Cmd
	said *bufio.Scanner
}

func startWatcher(t *testing.T) *watcher {
	t.Helper()
	w := &watcher{Cmd: exec.Command("/proc/self/exe")}
	w.Env = append(os.Environ(), envWatch+"=1")
	w.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Cloneflags: unix.CLONE_NEWNET}
	w.Stderr = os.Stderr
	out, err := w.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.said = bufio.NewScanner(out)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Process.Kill()
		io.Copy(io.Discard, out)
		w.Wait()
	})
	if line := w.next(); line != "watching" {
		t.Fatalf("it says %q", line)
	}
	return w
}

func (w *watcher) next() string {
	w.said.Scan()
	return w.said.Text()
}

// standsStill expects a child to say that it stood still, within a second after it did so
// for 5 s. The shell that sees to that is in a session of its own and goes on if this
// test is killed: nobody is left frozen.
func standsStill(t *testing.T, w *watcher, stop, goOn string) {
	t.Helper()
	shell := exec.Command("sh", "-c", stop+"; sleep 5; "+goOn)
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	began := time.Now()
	line := w.next()
	if took := time.Since(began); took > time.Second {
		t.Errorf("it is told after %v", took)
	}
	var kind Kind
	var seconds int
	if n, _ := fmt.Sscanf(line, "%d stood still for %d s", &kind, &seconds); n != 2 || kind != Awake || seconds < 4 || seconds > 6 {
		t.Errorf("it is told %q", line)
	}
}

func TestStopped(t *testing.T) {
	t.Parallel()
	w := startWatcher(t)
	pid := strconv.Itoa(w.Process.Pid)
	standsStill(t, w, "kill -STOP "+pid, "kill -CONT "+pid)
}

// TestFrozen uses the freezer of whichever version of cgroups is there.
func TestFrozen(t *testing.T) {
	t.Parallel()
	group, file, frozen, thawed := freezer(t)
	w := startWatcher(t)
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(w.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	set := func(state string) string { return "echo " + state + " >" + filepath.Join(group, file) }
	standsStill(t, w, set(frozen), set(thawed))
}

// freezer makes a cgroup that can be frozen, for as long as the test runs.
func freezer(t *testing.T) (group, file, frozen, thawed string) {
	t.Helper()
	name := "bodkin-alert-test-" + strconv.Itoa(os.Getpid())
	for _, x := range []struct{ parent, file, frozen, thawed string }{
		{"/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED"},
		{"/sys/fs/cgroup/unified", "cgroup.freeze", "1", "0"},
		{"/sys/fs/cgroup", "cgroup.freeze", "1", "0"},
	} {
		group = filepath.Join(x.parent, name)
		if os.Mkdir(group, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			for range 1000 { // the child leaves it when it is gone
				if unix.Rmdir(group) == nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
			t.Errorf("%s is left over", group)
		})
		if _, err := os.Stat(filepath.Join(group, x.file)); err == nil {
			return group, x.file, x.frozen, x.thawed
		}
	}
	t.Fatal("needs a cgroup that can be frozen: /sys/fs/cgroup/freezer, or version 2")
	return
}
