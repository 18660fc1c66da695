package e2e_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// A network is what is behind one side of a tunnel: a host with a name, and where it is.
type network struct {
	name      string
	four, six netip.Addr
	prefixes  []string
}

// The ends of a tunnel's own network, and where a NAT answers DNS.
var (
	innerNear = network{name: "here.example", four: netip.MustParseAddr("10.0.2.15"), six: netip.MustParseAddr("fd62:6f64:6b69::15")}
	innerFar  = network{name: "here.example", four: netip.MustParseAddr("10.0.2.2"), six: netip.MustParseAddr("fd62:6f64:6b69::2")}
)

const innerResolver = "10.0.2.3"

// A user is somebody with programs on a machine.
type user struct {
	machine  *lab.Machine
	resolver string // asked for names; empty: the machine's own
	proxied  bool   // the programs use the SOCKS and web proxy on the loopback
	root     bool   // there is no account me
}

// account is whose the programs are.
func (u user) account() string {
	if u.root {
		return "root"
	}
	return "me"
}

// proxyAddress is where --near socks has its proxy.
const proxyAddress = "127.0.0.1:1080"

// smallBulk is what a row of the table fetches.
const smallBulk = 300_000

// uses has a user reach a network by TCP, UDP, ping and DNS, in both families.
func (w *world) uses(u user, n network) {
	w.t.Helper()
	if got := w.resolved(u, n.name); got != n.four.String() && !u.proxied {
		w.t.Errorf("DNS: %s is %q there, want %v", n.name, got, n.four)
	}
	if u.resolver == "" {
		w.fetched(u, "by name", "http://"+n.name)
	}
	for _, addr := range []netip.Addr{n.four, n.six} {
		if err := w.echoed(u, netip.AddrPortFrom(addr, lab.EchoPort)); err != nil {
			w.t.Errorf("UDP to %v: %v", addr, err)
		}
		w.fetched(u, "by address", "http://"+netip.AddrPortFrom(addr, lab.WebPort).String())
		if !u.proxied { // a proxy knows no ping
			if r := w.on(u.machine, u.account(), "ping", "-c", "1", "-w", "10", addr.String()); r.status != 0 {
				w.t.Errorf("ping of %v: exit status %d\n%s", addr, r.status, r.out)
			}
		}
	}
}

// usesHost is uses with the programs of the other end's own machine.
func (w *world) usesHost(u user, other *lab.Machine, end network) {
	w.t.Helper()
	services, err := other.Answer(end.four, end.six)
	if err != nil {
		w.t.Error(err)
		return
	}
	defer services.Close()
	w.uses(u, end)
}

// fetched has curl fetch something large enough to need many packets.
func (w *world) fetched(u user, how, base string) {
	w.t.Helper()
	args := []string{"-sS", "-f", "-m", "20"}
	if u.proxied {
		args = append(args, "--socks5-hostname", proxyAddress)
	}
	var got, errs bytes.Buffer
	cmd := u.machine.Command(within(w.t, patience), "curl", append(args, fmt.Sprintf("%s/bytes/%d?seed=5", base, smallBulk))...).As(u.account())
	cmd.Stdout, cmd.Stderr = &got, &errs
	err := cmd.Run()
	want, failed := io.ReadAll(lab.Bytes(smallBulk, 5))
	if failed != nil {
		w.t.Fatal(failed)
	}
	if err != nil || !bytes.Equal(got.Bytes(), want) {
		w.t.Errorf("TCP, %s: %d octets came of %s, or others: %v %s", how, got.Len(), base, err, errs.String())
	}
}

// resolved asks for the IPv4 address of a name.
func (w *world) resolved(u user, name string) string {
	w.t.Helper()
	if u.proxied {
		return ""
	}
	args := []string{"+short", "+time=5", "+tries=2"}
	if u.resolver != "" {
		args = append(args, "@"+u.resolver)
	}
	return strings.TrimSpace(w.on(u.machine, u.account(), "dig", append(args, name, "A")...).out)
}

// echoed sends a datagram to an echo port, and wants it back.
func (w *world) echoed(u user, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	sent := []byte("a datagram of " + strconv.Itoa(int(to.Port())))
	var header []byte
	var c net.Conn
	var err error
	if u.proxied {
		var control net.Conn
		if control, c, err = associate(ctx, u.machine); err != nil {
			return err
		}
		defer control.Close()
		header = append([]byte{0, 0, 0}, socksAddress(to)...)
	} else if c, err = u.machine.Dial(ctx, "udp", to.String()); err != nil {
		return err
	}
	defer c.Close()
	for range 3 { // a datagram may be lost
		c.SetDeadline(time.Now().Add(3 * time.Second))
		if _, err = c.Write(append(header[:len(header):len(header)], sent...)); err != nil {
			continue
		}
		got := make([]byte, 2048)
		var n int
		if n, err = c.Read(got); err != nil {
			continue
		}
		if !bytes.Equal(got[:n], append(header[:len(header):len(header)], sent...)) {
			return fmt.Errorf("%q came back", got[:n])
		}
		return nil
	}
	return err
}

// associate asks the proxy to pass datagrams (RFC 1928, section 7): as long as control
// is open, what is sent on c.
func associate(ctx context.Context, m *lab.Machine) (control, c net.Conn, err error) {
	control, err = m.Dial(ctx, "tcp", proxyAddress)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			control.Close()
		}
	}()
	control.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := control.Write([]byte{5, 1, 0}); err != nil {
		return nil, nil, err
	}
	method := make([]byte, 2)
	if _, err := io.ReadFull(control, method); err != nil || method[1] != 0 {
		return nil, nil, fmt.Errorf("the proxy's method is %d: %v", method, err)
	}
	if _, err := control.Write(append([]byte{5, 3, 0}, socksAddress(netip.AddrPortFrom(netip.IPv4Unspecified(), 0))...)); err != nil {
		return nil, nil, err
	}
	reply := make([]byte, 10)
	if _, err := io.ReadFull(control, reply); err != nil {
		return nil, nil, err
	}
	if reply[1] != 0 || reply[3] != 1 {
		return nil, nil, errors.New("the proxy says no: " + strconv.Itoa(int(reply[1])))
	}
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte(reply[4:8])), binary.BigEndian.Uint16(reply[8:]))
	c, err = m.Dial(ctx, "udp", at.String())
	return control, c, err
}

// socksAddress is an address as SOCKS 5 has it (RFC 1928, section 5).
func socksAddress(at netip.AddrPort) []byte {
	kind := byte(1)
	if at.Addr().Is6() {
		kind = 4
	}
	return binary.BigEndian.AppendUint16(append([]byte{kind}, at.Addr().AsSlice()...), at.Port())
}
