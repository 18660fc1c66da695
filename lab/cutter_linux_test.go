package lab

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

// Each connection by a Cutter ends where its Cut says, and as it says, for both ends.
func TestCutter(t *testing.T) {
	l := closedLab(t)
	listener, err := l.Gateway.Listen("tcp", ":4100")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var cut Cut
	c, err := l.Firewall.Cutter(4101, netip.AddrPortFrom(Gateway4, 4100), func() Cut { return cut })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, tt := range []struct {
		how   Ending
		after int64
		came  int   // octets of 1000
		end   error // how each end sees it; nil: not at all
	}{
		{Reset, 300, 300, syscall.ECONNRESET},
		{Finish, 300, 300, io.EOF},
		{Silence, 300, 300, os.ErrDeadlineExceeded},
		{Spare, 300, 1000, os.ErrDeadlineExceeded},
		{Reset, -1, 1000, os.ErrDeadlineExceeded},
	} {
		told := make(chan time.Time, 1)
		cut = Cut{tt.after, tt.how, func(at time.Time) { told <- at }}
		near, err := l.Laptop.Dial(t.Context(), "tcp", netip.AddrPortFrom(FirewallInside4, 4101).String())
		if err != nil {
			t.Fatal(err)
		}
		far, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := near.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if tt.after >= 0 {
			select {
			case <-told:
			case <-time.After(5 * time.Second):
				t.Errorf("%v: nobody was told", tt.how)
			}
		}
		patience := 5 * time.Second
		if tt.end == os.ErrDeadlineExceeded {
			patience = 200 * time.Millisecond
		}
		for _, end := range []struct {
			name string
			conn net.Conn
			want int
		}{{"far", far, tt.came}, {"near", near, 0}} {
			end.conn.SetDeadline(time.Now().Add(patience))
			got, err := io.ReadAll(end.conn)
			if err == nil {
				err = io.EOF
			}
			if tt.end == syscall.ECONNRESET { // it may overtake octets
				if !errors.Is(err, tt.end) || len(got) > end.want {
					t.Errorf("%v after %d: the %s end reads %d octets and %v", tt.how, tt.after, end.name, len(got), err)
				}
			} else if len(got) != end.want || !errors.Is(err, tt.end) {
				t.Errorf("%v after %d: the %s end reads %d octets and %v, want %d and %v", tt.how, tt.after, end.name, len(got), err, end.want, tt.end)
			}
		}
		near.Close()
		far.Close()
	}
}

// An outage takes all there is, and what is forgotten one connection alone.
func TestOutage(t *testing.T) {
	l, err := New(t.Context(), Options{AllowTCP: []uint16{4200}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	listener, err := l.Gateway.Listen("tcp", ":4200")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	open := func() net.Conn {
		t.Helper()
		c, err := dial(l.Laptop, "tcp", netip.AddrPortFrom(Gateway4, 4200))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	turn := byte(0)
	passes := func(c net.Conn) bool {
		turn++
		c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		if _, err := c.Write([]byte{turn}); err != nil {
			return false
		}
		for {
			got := make([]byte, 1)
			if _, err := io.ReadFull(c, got); err != nil || got[0] == turn { // what was late comes first
				return err == nil
			}
		}
	}
	first, second := open(), open()
	defer first.Close()
	defer second.Close()
	if !passes(first) || !passes(second) {
		t.Fatal("nothing passes before the outage")
	}
	for _, step := range []struct {
		what          string
		do            func() error
		first, second bool
	}{
		{"an outage", l.Outage, false, false},
		{"its end", l.Restore, true, true},
		{"one forgotten", func() error { return l.Forget(uint16(first.LocalAddr().(*net.TCPAddr).Port)) }, false, true},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			conn net.Conn
			want bool
		}{"first": {first, step.first}, "second": {second, step.second}} {
			got := passes(c.conn)
			for tries := 0; got != c.want && c.want && tries < 20; tries++ { // until TCP sends again
				got = passes(c.conn)
			}
			if got != c.want {
				t.Errorf("%s: the %s connection passes: %v", step.what, name, got)
			}
		}
	}
	if c := open(); !passes(c) {
		t.Error("a new connection does not pass while another is forgotten")
	} else {
		c.Close()
	}
}

// A laptop that moves is elsewhere, and no more where it was.
func TestMove(t *testing.T) {
	l, err := New(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Elsewhere(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, where := range []netip.Addr{Laptop4, Elsewhere4} {
		for _, gateway := range []netip.Addr{Gateway4, Gateway6} {
			c, err := dial(l.Laptop, "tcp", netip.AddrPortFrom(gateway, SSHPort))
			if err != nil {
				t.Errorf("from %v: %v", where, err)
				continue
			}
			if at := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr(); gateway.Is4() && at != where {
				t.Errorf("the laptop dials from %v, want %v", at, where)
			}
			c.Close()
		}
		if where == Laptop4 {
			if err := l.Move(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
