package serve

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/trust"
	"github.com/bodkin-net/bodkin/tunnel"
)

// status returns what the server says of a client's first session.
func (r *running) status(name string) Session {
	r.t.Helper()
	var st Status
	if err := json.Unmarshal([]byte(r.bodkin("status", "--json")), &st); err != nil {
		r.t.Fatal(err)
	}
	for _, s := range st.Sessions {
		if s.Client == name {
			return s
		}
	}
	r.t.Fatalf("%s is not there", name)
	return Session{}
}

// TestKeys: who is not let in hears nothing but that, and the log says why, once.
func TestKeys(t *testing.T) {
	good, old, elsewhere, stranger := trust.Generate(), trust.Generate(), trust.Generate(), trust.Generate()
	r := start(t, []string{
		lineFor(good, `from="127.0.0.0/8"`, "good"),
		lineFor(old, `expires="2020-01-01"`, "old"),
		lineFor(elsewhere, `from="192.0.2.0/24"`, "elsewhere"),
	})
	if _, _, err := r.must(good, usualHello()).roundTrip(netip.MustParseAddr("10.0.2.15"), netip.MustParseAddr("10.0.2.3"), 1); err != nil {
		t.Errorf("a good key: %v", err)
	}
	for result, k := range map[string]trust.Key{"stranger": stranger, "expired": old, "elsewhere": elsewhere} {
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			_, err := r.dial(ctx, k, usualHello(), "")
			cancel()
			var refused *carrier.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), "does not know our key") {
				t.Errorf("%s: %v", result, err)
			}
		}
		eventually(t, result+" is logged", func() bool { return len(r.said("result="+result)) > 0 })
		if lines := r.said("result=" + result); len(lines) != 1 || !strings.Contains(lines[0], trust.Fingerprint(k.Public())) {
			t.Errorf("%s is logged as %q", result, lines)
		}
	}
}

// TestRevoked: a key that expires by the clock ends its session, and so does a line that
// says something else; one that only changed its rate or its end does not.
func TestRevoked(t *testing.T) {
	k, other := trust.Generate(), trust.Generate()
	soon := time.Now().Add(2500 * time.Millisecond).Truncate(time.Second).Add(time.Second)
	r := start(t, []string{lineFor(k, `expires="`+trust.FormatExpiry(soon)+`"`, "k"), lineFor(other, "", "other")})
	c, o := r.must(k, usualHello()), r.must(other, usualHello())
	var closed *native.ClosedError
	if err := c.ended(t, 10*time.Second); !errors.As(err, &closed) || !strings.Contains(closed.Text, "not taken") {
		t.Errorf("at the end of its time: %v", err)
	}
	if late := time.Since(soon); late < -50*time.Millisecond || late > endWithin {
		t.Errorf("the session ends %v after its key", late)
	}
	r.allow([]string{lineFor(k, "", "k"), lineFor(other, `rate="100M",expires="2099-01-01"`, "other")})
	eventually(t, "the key is taken again", func() bool {
		var err error
		c, err = r.dial(t.Context(), k, usualHello(), "")
		return err == nil
	})
	defer c.link.Close()
	if _, _, err := o.roundTrip(o.self(), o.resolver(), 1); err != nil {
		t.Errorf("with another rate: %v", err)
	}
	began := time.Now()
	r.allow([]string{lineFor(k, "", "k"), lineFor(other, `deny="192.0.2.1"`, "other")})
	if err := o.ended(t, 10*time.Second); !errors.As(err, &closed) || !strings.Contains(closed.Text, "has changed") || time.Since(began) > endWithin {
		t.Errorf("with another line: %v after %v", err, time.Since(began))
	}
	if _, _, err := c.roundTrip(c.self(), c.resolver(), 2); err != nil {
		t.Errorf("another client: %v", err)
	}
}

// TestKick: a session is ended by its client's name, and the client told.
func TestKick(t *testing.T) {
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "laptop")})
	c := r.must(k, usualHello())
	if out := r.bodkin("status"); !strings.Contains(out, "laptop") || !strings.Contains(out, "127.0.0.1") {
		t.Errorf("status says %q", out)
	}
	if s := r.status("laptop"); s.By != "tls" || s.Software != "test" || s.Key != trust.Fingerprint(k.Public()) {
		t.Errorf("status says %+v", s)
	}
	if out := r.bodkin("kick", "laptop"); out != "1 session ended\n" {
		t.Errorf("kick says %q", out)
	}
	var closed *native.ClosedError
	if err := c.ended(t, 5*time.Second); !errors.As(err, &closed) || closed.Code != native.CloseUser {
		t.Errorf("the client hears %v", err)
	}
	eventually(t, "its end is logged", func() bool { return len(r.said("kicked: ")) == 1 })
}

// TestManySessions: a client that comes a fifth time keeps out nobody but itself.
func TestManySessions(t *testing.T) {
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "laptop")})
	first := r.must(k, usualHello())
	for range 4 {
		r.must(k, usualHello())
	}
	var closed *native.ClosedError
	if err := first.ended(t, 5*time.Second); !errors.As(err, &closed) || !strings.Contains(closed.Text, "another session") {
		t.Errorf("the oldest hears %v", err)
	}
}

// TestFull: a server that is full says so.
func TestFull(t *testing.T) {
	a, b := trust.Generate(), trust.Generate()
	r := start(t, []string{lineFor(a, "", "a"), lineFor(b, "", "b")}, "--max-clients", "1")
	r.must(a, usualHello())
	_, err := r.dial(t.Context(), b, usualHello(), "")
	if err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("the second hears %v", err)
	}
}

// TestKernelRefused: who asks for what takes privilege hears that there is none.
func TestKernelRefused(t *testing.T) {
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "k")})
	hello := usualHello()
	hello.Asks = native.AskKernel
	if _, err := r.dial(t.Context(), k, hello, ""); err == nil || !strings.Contains(err.Error(), "no privileges") {
		t.Errorf("it hears %v", err)
	}
}

// TestAddress: a client has the address that its line gives it, where its side has that
// free.
func TestAddress(t *testing.T) {
	k := trust.Generate()
	r := start(t, []string{lineFor(k, `address="10.77.0.5/24"`, "k")})
	hello := usualHello()
	hello.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	c := r.must(k, hello)
	if got := c.agreed.Local; len(got) != 1 || got[0].String() != "10.77.0.5/24" {
		t.Errorf("the client is %v", got)
	}
	if _, _, err := c.roundTrip(c.self(), c.resolver(), 1); err != nil {
		t.Error(err)
	}
	c = r.must(k, usualHello())
	if got := c.agreed.Local[0].String(); got != "10.0.2.15/24" || len(c.hello.Notes) == 0 || !strings.Contains(strings.Join(c.hello.Notes, " "), "10.77.0.5") {
		t.Errorf("where it is not free the client is %s, and hears %q", got, c.hello.Notes)
	}
}

// TestForbidden: however a client spells the server's loopback, its own addresses and a
// cloud's metadata, it is told that they are prohibited; and it speaks for nobody else.
func TestForbidden(t *testing.T) {
	k := trust.Generate()
	r := start(t, []string{lineFor(k, "", "k")})
	c := r.must(k, usualHello())
	self6 := c.agreed.Local[1].Addr()
	prohibited := 0
	forbidden := []string{
		"127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.2.2", "169.254.169.254", "169.254.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1",
		"::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
		"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::1", "2002:a9fe:a9fe::",
		"fe80::1", "fec0::1", "fd00:ec2::254", "fd62:6f64:6b69::2",
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if ip, _ := netip.ParsePrefix(a.String()); ip.IsValid() && !ip.Addr().IsLoopback() && !ip.Addr().IsLinkLocalUnicast() {
			forbidden = append(forbidden, ip.Addr().String())
		}
	}
	for _, text := range forbidden {
		dst := netip.MustParseAddr(text)
		src := c.self()
		if dst.Is6() {
			src = self6
		}
		// UDP, so that a NAT that lets it out shows: something listens nowhere, and
		// what comes back then is port unreachable.
		b := make([]byte, 20+8)
		if dst.Is6() {
			b = make([]byte, 40+8)
		}
		udp := ipHeader(b, 17, src, dst)
		copy(udp, []byte{0x12, 0x34, 0, 9, 0, 8})
		if err := c.link.WritePackets([]tunnel.Packet{{Data: b, GSO: tunnel.Offload{NeedsChecksum: true}}}); err != nil {
			t.Fatal(err)
		}
		prohibited++
	}
	eventually(t, "all of them are refused", func() bool { return r.status("k").Refused["policy"] == uint64(prohibited) })

	spoofed := []string{"127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "10.0.2.2", "10.0.2.3", "10.0.2.16", "192.0.2.1"}
	for i, text := range spoofed {
		if err := c.ping(netip.MustParseAddr(text), c.resolver(), uint16(100+i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "what comes from others is dropped", func() bool { return r.status("k").Refused["source"] == uint64(len(spoofed)) })
	if kind, _, err := c.roundTrip(c.self(), c.resolver(), 7); kind != 0 || err != nil {
		t.Errorf("its own ping: %d, %v", kind, err)
	}
	if s := r.status("k"); s.Flows != 0 {
		t.Errorf("%d flows are open", s.Flows)
	}
	for _, reason := range []string{"reason=policy", "reason=source"} {
		if n := len(r.said(reason)); n != 1 {
			t.Errorf("%s is logged %d times", reason, n)
		}
	}
}
