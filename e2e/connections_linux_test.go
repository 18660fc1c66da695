package e2e_test

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// TestConnectionsEndWithTheTunnel has connections open when the tunnel goes down:
// their programs are told, and none of their octets leaves in the clear.
func TestConnectionsEndWithTheTunnel(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.up("me@gw")
	var conns []net.Conn
	for _, f := range families {
		for _, network := range []string{"tcp", "udp"} {
			c, err := w.Laptop.Dial(t.Context(), network, netip.AddrPortFrom(f.web, lab.EchoPort).String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			conns = append(conns, c)
		}
	}
	w.clean("the tunnel goes down under connections", func() {
		w.down()
		for _, c := range conns {
			c.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNABORTED) {
				t.Errorf("reading from %v by %s: %v, want that it was aborted", c.RemoteAddr(), c.RemoteAddr().Network(), err)
			}
			c.Write([]byte("secret"))
		}
	})
}
