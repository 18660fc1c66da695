package e2e_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// page is what an address answers to curl on a machine; empty if nothing.
func (w *world) page(m *lab.Machine, url string) string {
	w.t.Helper()
	r := w.on(m, "me", "curl", "-sS", "-f", "-m", "5", url)
	if r.status != 0 {
		return ""
	}
	return r.out
}

// TestWayIn: what -R asks for is the one way past a NAT, on loopback unless said, and
// gone with the tunnel.
func TestWayIn(t *testing.T) {
	t.Parallel()
	w := newSideWorld(t, sides[0])
	w.rootsKey()
	serveOn(t, w.Laptop, "0.0.0.0:8080", "the laptop's own")

	t.Run("to the laptop", func(t *testing.T) {
		w := w.in(t)
		w.up("me@gw", "-R", "8080", "-R", fmt.Sprintf("%v:8081:10.0.2.15:8080", lab.GatewayOut4), "-R", "udp:5300:10.0.2.15:5300")
		for _, c := range []struct {
			m    *lab.Machine
			url  string
			want string
		}{
			{w.Gateway, "http://127.0.0.1:8080/", "the laptop's own"},
			{w.Gateway, "http://" + netip.AddrPortFrom(lab.GatewayOut4, 8080).String(), ""}, // on loopback alone
			{w.Gateway, "http://" + netip.AddrPortFrom(lab.GatewayOut4, 8081).String(), "the laptop's own"},
		} {
			if got := w.page(c.m, c.url); got != c.want {
				t.Errorf("%s at %s: %q, want %q", c.url, c.m.Name, got, c.want)
			}
		}
		for port, want := range map[int]int{8080: 7, 8081: 0} { // 7: could not connect
			r := w.on(w.Internet, "root", "curl", "-sS", "-f", "-m", "5", fmt.Sprintf("http://%v:%d/", lab.GatewayOut4, port))
			if r.status != want {
				t.Errorf("from the internet, port %d: exit status %d, want %d\n%s", port, r.status, want, r.out)
			}
		}
		w.datagramsTo(w.Gateway, "127.0.0.1:5300", w.Laptop, "0.0.0.0:5300")
		w.eventually("the connections to the page have ended", func() bool {
			return w.on(w.Laptop, "root", "ss", "-Htn", "sport", "=", "8080").out == ""
		})
		// Nothing else of the laptop has become open by that.
		came := w.capture(w.Laptop, tunnelDevice)
		if _, err := w.Gateway.Scan(innerNear.four); err != nil {
			t.Error(err)
		}
		w.onlyEchoes(w.Laptop, came)
		w.down()
		w.notListening(w.Gateway, 8080, 8081, 5300)
	})
	t.Run("to the gateway", func(t *testing.T) {
		w := w.in(t)
		serveOn(t, w.Gateway, "0.0.0.0:8090", "the gateway's own")
		w.up("-e", "ssh -i "+rootKey, "--near", "nat", "--far", "tun", "-R", "8090", "root@gw", "10.44.0.0/16")
		if got := w.page(w.Laptop, "http://127.0.0.1:8090/"); got != "the gateway's own" {
			t.Errorf("by the way in: %q", got)
		}
		if r := w.on(w.Corp, "root", "curl", "-sS", "-m", "5", fmt.Sprintf("http://%v:8090/", lab.Laptop4)); r.status != 7 {
			t.Errorf("from the laptop's neighbour: exit status %d, want 7\n%s", r.status, r.out)
		}
		w.down()
		w.notListening(w.Laptop, 8090)
	})
	t.Run("out of the laptop, which has a proxy", func(t *testing.T) { // -L
		w := w.in(t)
		w.up("--near", "socks", "me@gw", "-L", "8085:web.example:80", "-L", fmt.Sprintf("udp:5301:%v:5302", lab.Web4))
		if got := w.page(w.Laptop, "http://127.0.0.1:8085/"); !strings.Contains(got, "bodkin lab") {
			t.Errorf("by the way out: %q", got)
		}
		w.datagramsTo(w.Laptop, "127.0.0.1:5301", w.Internet, netip.AddrPortFrom(lab.Web4, 5302).String())
		w.down()
		w.notListening(w.Laptop, 8085, 5301, 1080)
	})
	t.Run("a port that is taken", func(t *testing.T) {
		w := w.in(t)
		serveOn(t, w.Gateway, "127.0.0.1:8095", "another's")
		r := w.bodkin("up", "-d", "me@gw", "-R", "8096:10.0.2.15:8080", "-R", "8095:10.0.2.15:8080")
		if r.status == 0 {
			t.Error("two things listen at one port")
			w.down()
		}
		w.says(r.out, "bodkin: error: ", "127.0.0.1:8095")
		w.notListening(w.Gateway, 8096)
	})
	t.Run("where the far side's own settings say no", func(t *testing.T) {
		w := w.in(t)
		key, err := w.Laptop.ReadFile("/home/me/.ssh/id_ed25519.pub")
		if err != nil {
			t.Fatal(err)
		}
		keys := "/home/me/.ssh/authorized_keys"
		w.write(w.Gateway, keys, `restrict,command="/usr/local/bin/bodkin far" `+string(key), "me")
		defer w.write(w.Gateway, keys, string(key), "me")
		r := w.bodkin("up", "-d", "me@gw", "-R", "8080")
		if r.status == 0 {
			w.notListening(w.Gateway, 8080)
			w.down()
		}
		w.says(r.out, "the far side")
	})
}

// notListening wants nobody to listen on the ports of a machine.
func (w *world) notListening(m *lab.Machine, ports ...int) {
	w.t.Helper()
	w.eventually("nothing listens there any more", func() bool {
		all := w.on(m, "root", "ss", "-Hltun").out
		for _, port := range ports {
			for line := range strings.Lines(all) {
				if fields := strings.Fields(line); len(fields) > 4 && strings.HasSuffix(fields[4], fmt.Sprintf(":%d", port)) {
					return false
				}
			}
		}
		return true
	})
}

// datagramsTo wants a datagram to come by the way in, and an answer back.
func (w *world) datagramsTo(from *lab.Machine, way string, to *lab.Machine, at string) {
	w.t.Helper()
	listener, err := to.ListenPacket("udp", at)
	if err != nil {
		w.t.Fatal(err)
	}
	defer listener.Close()
	c, err := from.Dial(w.t.Context(), "udp", way)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	deadline := time.Now().Add(5 * time.Second)
	listener.SetDeadline(deadline)
	c.SetDeadline(deadline)
	if _, err := c.Write([]byte("in")); err != nil {
		w.t.Fatal(err)
	}
	got := make([]byte, 10)
	n, back, err := listener.ReadFrom(got)
	if err != nil || string(got[:n]) != "in" {
		w.t.Errorf("by the way in came %q, %v", got[:n], err)
		return
	}
	if _, err := listener.WriteTo([]byte("out"), back); err != nil {
		w.t.Fatal(err)
	}
	if n, err = c.Read(got); err != nil || string(got[:n]) != "out" {
		w.t.Errorf("back came %q, %v", got[:n], err)
	}
}
