package privilege

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/host"
)

// inProcess returns a Helper whose other end runs in this process, until the test
// ends.
func inProcess(t *testing.T) *Helper {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "helper")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := (&server{conn: ends[1]}); s.serve() == nil; {
		}
	}()
	t.Cleanup(func() {
		ends[0].Close()
		<-done
		ends[1].Close()
	})
	return &Helper{conn: ends[0]}
}

// The helper opens one forwarder's sockets, which work on this side, and writes no
// other address into a resolv.conf.
func TestResolver(t *testing.T) {
	p := inProcess(t)
	r, err := p.Resolver()
	if err != nil {
		t.Fatal(err)
	}
	defer r.UDP.Close()
	defer r.TCP.Close()
	at := netip.AddrPortFrom(r.Addr, 53).String()
	if !r.Addr.IsLoopback() || r.UDP.LocalAddr().String() != at || r.TCP.Addr().String() != at {
		t.Errorf("%v: %v, %v", r.Addr, r.UDP.LocalAddr(), r.TCP.Addr())
	}
	c, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("question"))
	b := make([]byte, 16)
	if n, _, err := r.UDP.ReadFrom(b); err != nil || string(b[:n]) != "question" {
		t.Errorf("%q, %v", b[:n], err)
	}
	s, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if taken, err := r.TCP.Accept(); err != nil {
		t.Error(err)
	} else {
		taken.Close()
	}
	if _, err := p.Resolver(); err == nil || !strings.Contains(err.Error(), "one already") {
		t.Errorf("a second one: %v", err)
	}
}

// A wish's forwarder must be the helper's own.
func TestForeignResolver(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := &server{file: file, device: "bodkin0", resolver: netip.MustParseAddr("127.66.0.53")}
	_, err = s.set(&host.Wish{Device: "bodkin0", DNS: host.DNS{Forwarder: netip.MustParseAddr("127.0.0.9")}})
	if err == nil || !strings.Contains(err.Error(), "not opened here") {
		t.Errorf("%v", err)
	}
}
