package tcp

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/carrier"
)

// congestionOf returns the congestion control that the kernel has for s.
func congestionOf(t *testing.T, s carrier.Stream) (name string) {
	t.Helper()
	raw, err := s.ReadWriteCloser.(conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// unsentOf returns how many octets may wait in the kernel that are not sent yet.
func unsentOf(t *testing.T, s carrier.Stream) (n int) {
	t.Helper()
	raw, err := s.ReadWriteCloser.(conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		n, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sysctl returns the words of a setting of TCP's.
func sysctl(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/ipv4/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// pair returns both ends of a connection on loopback, with this Congestion at both.
func pair(t *testing.T, c Congestion) (near, far carrier.Stream, err error) {
	t.Helper()
	l, err := ListenConfig{c}.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		return near, far, err
	}
	defer l.Close()
	if near, err = (Dialer{Congestion: c}).Dial(t.Context(), l.Addr().String()); err != nil {
		return near, far, err
	}
	t.Cleanup(func() { near.Close() })
	if far, err = l.Accept(); err != nil {
		return near, far, err
	}
	t.Cleanup(func() { far.Close() })
	return near, far, nil
}

// TestCongestion has at both ends what was asked for: BBR, the system's own, one by its
// name, and an error for a name that no kernel has. It needs root, and the kernel's
// tcp_bbr.
func TestCongestion(t *testing.T) {
	usual := sysctl(t, "tcp_congestion_control")[0]
	for _, c := range []struct {
		wish Congestion
		want string
	}{
		{"", "cubic"},
		{System, usual},
		{"reno", "reno"},
	} {
		near, far, err := pair(t, c.wish)
		if err != nil {
			t.Fatalf("%q: %v", c.wish, err)
		}
		if n, f := congestionOf(t, near), congestionOf(t, far); n != c.want || f != c.want {
			t.Errorf("%q: it is %s and %s, want %s", c.wish, n, f, c.want)
		}
		for _, s := range []carrier.Stream{near, far} {
			if n := unsentOf(t, s); n != maxUnsent {
				t.Errorf("%q: %d octets may wait unsent", c.wish, n)
			}
		}
		if paced := near.Socket.Path().Paced; paced != (c.want == "bbr") {
			t.Errorf("%q: paced: %v", c.wish, paced)
		}
	}
	if _, _, err := pair(t, "bodkin"); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), `"bodkin"`) {
		t.Errorf("one that no kernel has: %v", err)
	}
	if _, err := (Dialer{Congestion: "bodkin"}).Dial(t.Context(), "127.0.0.1:1"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("one that no kernel has: %v", err)
	}
}

// TestCongestionOfNobody is what a process without privilege gets where BBR is not for
// all: a connection, with what the system has. A name that it may not have is an error.
func TestCongestionOfNobody(t *testing.T) {
	child := exec.Command("/proc/self/exe", "-test.run=^TestAsNobody$", "-test.v")
	child.Env = append(os.Environ(), asNobody+"=1")
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestAsNobody") {
		t.Errorf("%v\n%s", err, out)
	}
}

const asNobody = "TCP_TEST_AS_NOBODY"

// TestAsNobody is a child of TestCongestionOfNobody.
func TestAsNobody(t *testing.T) {
	if os.Getenv(asNobody) == "" {
		return
	}
	forbidden := ""
	allowed := sysctl(t, "tcp_allowed_congestion_control")
	for _, name := range sysctl(t, "tcp_available_congestion_control") {
		if !strings.Contains(" "+strings.Join(allowed, " ")+" ", " "+name+" ") {
			forbidden = name
		}
	}
	if forbidden == "" {
		t.Log("this machine allows everybody every congestion control")
	} else if _, _, err := pair(t, Congestion(forbidden)); !errors.Is(err, unix.EPERM) {
		t.Errorf("%s: %v", forbidden, err)
	}
	if _, _, err := pair(t, ""); err != nil {
		t.Error(err)
	}
}

// TestPath reads what the kernel knows of a connection: round trips, what is not sent
// since the peer reads nothing, what was sent again since packets were dropped; and
// nothing once it is closed.
func TestPath(t *testing.T) {
	near, far, err := pair(t, "")
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, near, far)
	p := near.Socket.Path()
	if p.RoundTrip <= 0 || p.RoundTrip > time.Second || p.LeastRoundTrip <= 0 || p.LeastRoundTrip > p.RoundTrip || p.Unsent != 0 || p.Lost != 0 || p.Paced || !p.Local.IsLoopback() {
		t.Errorf("after an exchange: %+v", p)
	}

	// The peer reads nothing: its window fills, and then our queue.
	near.ReadWriteCloser.(conn).SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	block := make([]byte, 64<<10)
	for err = nil; err == nil; {
		_, err = near.Write(block)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if p := near.Socket.Path(); p.Unsent < 1 || p.Unsent > 1<<20 {
		t.Errorf("behind a full window: %+v", p)
	}

	// The peer's socket drops all that comes.
	near, far, err = pair(t, "")
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, near, far)
	lose(t, near, far)

	near.Close()
	if p := near.Socket.Path(); p != (carrier.Path{}) {
		t.Errorf("of a closed connection: %+v", p)
	}
}

// TestWatch: who watches a connection is told of it also when another program has it, and
// keeps it open no longer than that.
func TestWatch(t *testing.T) {
	near, far, err := pair(t, "")
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, near, far)
	watch, release := near.ReadWriteCloser.(conn).Watch()
	near.Close()
	if p := watch.Path(); p.RoundTrip <= 0 || !p.Local.IsLoopback() {
		t.Errorf("of one that is closed here alone: %+v", p)
	}
	release()
	release()
	if p := watch.Path(); p != (carrier.Path{}) {
		t.Errorf("released: %+v", p)
	}
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("its peer reads %v, want its end", err)
	}
}

// lose has the peer's socket drop an octet that is written until it is sent again.
func lose(t *testing.T, near, far carrier.Stream) {
	t.Helper()
	raw, _ := far.ReadWriteCloser.(conn).SyscallConn()
	filter := func(option int, program *unix.SockFprog) {
		var err error
		raw.Control(func(fd uintptr) { err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, option, program) })
		if err != nil {
			t.Fatal(err)
		}
	}
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	program := &unix.SockFprog{Len: 1, Filter: &drop[0]}
	filter(unix.SO_ATTACH_FILTER, program)
	defer filter(unix.SO_DETACH_FILTER, program)
	before := near.Socket.Path().Lost
	near.Write([]byte{1})
	for late := time.Now().Add(30 * time.Second); near.Socket.Path().Lost == before; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("nothing was sent again: %+v", near.Socket.Path())
		}
	}
}

// TestLossWithoutQueue: where segments are lost though nothing waits, BBR takes over; but
// not what was chosen.
func TestLossWithoutQueue(t *testing.T) {
	for wish, want := range map[Congestion]string{"": "bbr", "cubic": "cubic"} {
		near, far, err := pair(t, wish)
		if err != nil {
			t.Fatal(err)
		}
		if name := congestionOf(t, near); name != "cubic" {
			t.Errorf("%q: before any loss it is %s", wish, name)
		}
		for range enough {
			lose(t, near, far)
			if _, err := io.ReadFull(far, make([]byte, 1)); err != nil { // what was sent again
				t.Fatal(err)
			}
		}
		near.Socket.Path()
		if name := congestionOf(t, near); name != want {
			t.Errorf("%q: after %d losses it is %s, want %s", wish, enough, name, want)
		}
		if paced := near.Socket.Path().Paced; paced != (want == "bbr") {
			t.Errorf("%q: paced: %v", wish, paced)
		}
	}
}

// TestLossesOfAQueue: what a full buffer drops is no reason.
func TestLossesOfAQueue(t *testing.T) {
	l := loss{watched: true}
	for i := range uint32(100) {
		if l.seen(&unix.TCPInfo{Total_retrans: i, Rtt: 100_000, Min_rtt: 50_000}) {
			t.Fatal("losses of a queue count")
		}
	}
	if !l.seen(&unix.TCPInfo{Total_retrans: 100, Rtt: 60_000, Min_rtt: 50_000}) {
		t.Errorf("without a queue: %+v", l)
	}
	l = loss{watched: true}
	for i := range uint32(enough) {
		if l.seen(&unix.TCPInfo{Total_retrans: i + 1, Rtt: 1_000, Min_rtt: 500}) != (i == enough-1) {
			t.Errorf("on a short way, after %d: %+v", i+1, l)
		}
	}
}

// exchange sends an octet there and back.
func exchange(t *testing.T, near, far carrier.Stream) {
	t.Helper()
	b := []byte{1}
	near.Write(b)
	far.Read(b)
	far.Write(b)
	if _, err := near.Read(b); err != nil {
		t.Fatal(err)
	}
}

func TestPathAllocates(t *testing.T) {
	near, far, err := pair(t, "")
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, near, far)
	if n := testing.AllocsPerRun(100, func() { near.Socket.Path() }); n != 0 {
		t.Errorf("a Path costs %v allocations", n)
	}
}

// TestSocketOfOthers: what is no TCP connection has no Socket, and not one that is nil
// inside.
func TestSocketOfOthers(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if s := SocketOf(a, ""); s != nil {
		t.Errorf("a pipe has %v", s)
	}
}

func BenchmarkPath(b *testing.B) {
	l, err := Listen(b.Context(), "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	s, err := Dial(b.Context(), l.Addr().String(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.ReportAllocs()
	for b.Loop() {
		s.Socket.Path()
	}
}

// TestControl: what a listener of others accepts is as what ours do.
func TestControl(t *testing.T) {
	config := net.ListenConfig{Control: Congestion("reno").Control}
	config.SetMultipathTCP(false)
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := Dial(t.Context(), l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted := carrier.Stream{ReadWriteCloser: conn{c.(*net.TCPConn), ""}}
	if name := congestionOf(t, accepted); name != "reno" {
		t.Errorf("it accepts %s", name)
	}
	if n := unsentOf(t, accepted); n != maxUnsent {
		t.Errorf("%d octets may wait unsent", n)
	}
	local := net.ListenConfig{Control: Congestion("").Control}
	if l, err := local.Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "s")); err != nil {
		t.Errorf("a Unix socket: %v", err)
	} else {
		l.Close()
	}
}
