package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// A server is a `bodkin serve` of the gateway's account me.
type server struct {
	*lab.Cmd
	said *said
}

// serve starts the server at servePort, and returns when it listens.
func (w *world) serve() *server {
	w.t.Helper()
	return w.serveWith("--listen", fmt.Sprintf(":%d", servePort))
}

// serveWith is serve with the arguments that say so.
func (w *world) serveWith(args ...string) *server {
	w.t.Helper()
	s := &server{w.Gateway.Command(w.t.Context(), "bodkin", append([]string{"serve"}, args...)...).As("me"), new(said)}
	s.Stdout, s.Stderr = s.said, s.said
	if err := s.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		s.Process.Kill()
		s.Wait()
		if w.t.Failed() {
			w.t.Logf("the server said:\n%s", s.said)
		}
	})
	w.eventually("the server listens", func() bool {
		return strings.Contains(w.on(w.Gateway, "root", "ss", "-ltn").out, fmt.Sprintf(":%d ", servePort)) || s.ProcessState != nil
	})
	return s
}

// useServed has the server's own user, whom sudo lets, use the network of the client that
// stands there.
func (w *world) useServed(name string, prefixes []string) (end func()) {
	w.t.Helper()
	if err := w.Gateway.WriteFile("/etc/sudoers.d/me", []byte("me ALL=(ALL) NOPASSWD: ALL\n"), 0o440, "root"); err != nil {
		w.t.Fatal(err)
	}
	args := append([]string{"up", "-d", "served:" + name}, prefixes...)
	if r := w.on(w.Gateway, "me", "bodkin", args...); r.status != 0 {
		w.t.Fatalf("bodkin %v on the gateway: exit status %d\n%s", args, r.status, r.out)
	}
	return func() {
		w.t.Helper()
		if r := w.on(w.Gateway, "me", "bodkin", "down"); r.status != 0 {
			w.t.Errorf("bodkin down on the gateway: exit status %d\n%s", r.status, r.out)
		}
	}
}

// sshOfClient makes the laptop's own ssh log in at the server: by the key that the server
// knows, and knowing the server's.
func (w *world) sshOfClient() {
	w.t.Helper()
	host, err := w.Gateway.ReadFile(farDir + "/key.pub")
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(w.Laptop, "/home/me/.ssh/known_hosts", fmt.Sprintf("[gw]:%d %s", servePort, host), "me")
	w.write(w.Laptop, "/home/me/.ssh/config", "Host gw\n\tIdentityFile "+nearDir+"/key\n\tIdentitiesOnly yes\n", "me")
}

// authorize writes the laptop's line of the gateway's authorized_clients, with options.
func (w *world) authorize(options string) {
	w.t.Helper()
	key, err := w.Laptop.ReadFile(nearDir + "/key.pub")
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(w.Gateway, farDir+"/authorized_clients", strings.TrimSpace(options+" "+string(key))+"\n", "me")
}

// TestServe: one port of a server without root, for everything that the firewall may let
// out, each time to full IP.
func TestServe(t *testing.T) {
	t.Parallel()
	w := newSideWorld(t, sides[0])
	w.pair("home")
	w.sshOfClient()
	s := w.serve()
	before := w.snapshot()
	me := user{machine: w.Laptop}
	for _, target := range []string{"tls://gw:8443", "wss://gw:8443", "ws://gw:8443/tunnel", "bodkin://gw:8443", "ssh://me@gw:8443"} {
		t.Run(target, func(t *testing.T) {
			w := w.in(t)
			args := []string{target}
			if !strings.HasPrefix(target, "ssh") {
				args = append([]string{"--known-as", "home"}, args...)
			}
			w.up(args...)
			w.uses(me, internet)
			w.safety(true, true)
			w.says(w.on(w.Gateway, "me", "bodkin", "serve", "status").out, "me-laptop")
			w.down()
			w.asBefore(before, target)
			w.noProcesses()
		})
	}
	t.Run("a browser", func(t *testing.T) {
		w := w.in(t)
		for _, args := range [][]string{{"-k", "https://gw:8443/"}, {"http://gw:8443/"}} {
			w.says(w.laptop("curl", append([]string{"-sS", "-f", "-m", "10"}, args...)...), "<html")
		}
	})
	t.Run("the user's own ssh is for tunnels alone", func(t *testing.T) {
		w := w.in(t)
		for _, args := range [][]string{{"gw"}, {"gw", "id"}, {"-N", "-o", "ExitOnForwardFailure=yes", "-R", "9000:127.0.0.1:9000", "gw"}} {
			r := w.on(w.Laptop, "me", "ssh", append([]string{"-p", "8443", "-o", "BatchMode=yes"}, args...)...)
			if r.status == 0 || strings.Contains(r.out, "uid=") {
				t.Errorf("ssh %v: exit status %d\n%s", args, r.status, r.out)
			}
		}
	})
	t.Run("and all of it ends", func(t *testing.T) {
		w := w.in(t)
		w.up("--known-as", "home", "tls://gw:8443")
		s.Process.Signal(syscall.SIGTERM)
		began := time.Now()
		s.Wait()
		if took := time.Since(began); s.ProcessState.ExitCode() != 0 || took > 10*time.Second {
			t.Errorf("the server ended with %v after %v", s.ProcessState, took)
		}
		w.eventually("the tunnel has ended", func() bool { return len(w.statuses()) == 0 })
		w.eventually("all is as before", func() bool { return w.snapshot() == before })
		w.noProcesses()
	})
}

// TestServeClients is what authorized_clients says of a client, at once and while it is
// there.
func TestServeClients(t *testing.T) {
	t.Parallel()
	w := newSideWorld(t, sides[0])
	w.pair("home")
	w.authorize(`deny="203.0.113.100:80",deny="[2001:db8:f::100]:80"`)
	s := w.serve()
	target := []string{"--known-as", "home", "tls://gw:8443"}
	up := func() {
		t.Helper()
		w.eventually("the client is let in", func() bool {
			return w.bodkin(append([]string{"up", "-d"}, target...)...).status == 0
		})
	}
	ends := func(what string) { // a session, and lets in no other
		t.Helper()
		began := time.Now()
		w.eventually(what+": the session has ended", func() bool { return len(w.statuses()) == 0 })
		if took := time.Since(began); took > 2*time.Second { // 1 s, and what taking it down takes here
			t.Errorf("%s: the session ended after %v", what, took)
		}
		r := w.bodkin(append([]string{"up", "-d"}, target...)...)
		if r.status != 25 {
			t.Errorf("%s: exit status %d, want 25\n%s", what, r.status, r.out)
		}
		w.says(r.out, "bodkin: error: key: ", "bodkin: hint: ")
	}

	up()
	for to, want := range map[string]int{
		"http://203.0.113.100:80/": 7, "http://[2001:db8:f::100]:80/": 7, "http://10.20.0.80:80/": 0,
	} {
		if r := w.on(w.Laptop, "me", "curl", "-sS", "-f", "-m", "5", "-o", "/dev/null", to); r.status != want {
			t.Errorf("%s: exit status %d, want %d\n%s", to, r.status, want, r.out)
		}
	}
	w.write(w.Gateway, farDir+"/authorized_clients", "# nobody\n", "me")
	ends("revoked")
	for what, options := range map[string]string{"expired": `expires="20200101"`, "from elsewhere": `from="203.0.113.0/24"`} {
		w.authorize(fmt.Sprintf(`from="%v/32",from="%v/128"`, lab.Laptop4, lab.Laptop6))
		up()
		w.authorize(options)
		ends(what)
	}

	w.authorize(`name="hq"`)
	up()
	w.says(w.on(w.Gateway, "me", "bodkin", "serve", "status").out, "hq")
	if r := w.on(w.Gateway, "me", "bodkin", "serve", "kick", "hq"); r.status != 0 {
		t.Errorf("kick: exit status %d\n%s", r.status, r.out)
	}
	w.eventually("the session has ended", func() bool { return len(w.statuses()) == 0 })
	w.says(s.said.String(), "hq", "revoked")
	for _, secret := range []string{"BEGIN", "PRIVATE"} {
		if strings.Contains(s.said.String(), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
}

// TestServed: a client that stands at the server with its network is used from there by
// its name whenever somebody wants it, by one at a time, also after it came back.
func TestServed(t *testing.T) {
	t.Parallel()
	side := sides[0]
	w := newSideWorld(t, side)
	w.pair("home")
	w.authorize(`name="hq"`)
	server := w.serve()
	gateway := w.snapshotOf(w.Gateway)
	w.up("--known-as", "home", "--near", "nat", "--far", "tun", "--stand", "wss://gw:8443")
	w.says(w.on(w.Gateway, "me", "bodkin", "serve", "status").out, "hq")

	end := w.useServed("hq", side.here.prefixes)
	there := user{machine: w.Gateway, resolver: innerResolver}
	w.uses(there, side.here)
	r := w.on(w.Gateway, "me", "bodkin", "up", "-d", "--name", "second", "--near", "socks", "served:hq")
	if r.status == 0 {
		t.Error("two use one client at a time")
	}
	w.says(r.out, "bodkin: error: ", "hq")

	// The client comes back with another connection, and its user notices a pause.
	first := w.connectionsTo(servePort)
	for _, port := range first {
		w.on(w.Laptop, "root", "ss", "-K", "dport", "=", fmt.Sprint(servePort), "and", "sport", "=", port)
	}
	w.eventually("the client has another connection", func() bool {
		now := w.connectionsTo(servePort)
		return len(now) == 1 && !slices.Equal(now, first)
	})
	w.eventually("the client is reached again", func() bool {
		return w.on(w.Gateway, "me", "curl", "-sS", "-f", "-m", "2", "-o", "/dev/null", url(lab.Corp4, "/")).status == 0
	})
	w.uses(there, side.here)
	end()
	w.gone(w.Gateway, gateway)

	// Without root: a proxy to the client's network.
	if r := w.on(w.Gateway, "me", "bodkin", "up", "-d", "--near", "socks", "served:hq"); r.status != 0 {
		t.Errorf("served:hq by a proxy: exit status %d\n%s", r.status, r.out)
	} else {
		w.uses(user{machine: w.Gateway, proxied: true}, side.here)
		w.on(w.Gateway, "me", "bodkin", "down")
	}

	// The server is started anew: the client stands there again.
	server.Process.Signal(syscall.SIGTERM)
	server.Wait()
	w.serve()
	w.eventually("the client stands at the new server", func() bool {
		return strings.Contains(w.on(w.Gateway, "me", "bodkin", "serve", "status").out, "hq")
	})
	r = w.on(w.Gateway, "me", "bodkin", "up", "-d", "--near", "socks", "served:nobody")
	if r.status == 0 {
		t.Error("nobody is served")
	}
	w.says(r.out, "bodkin: error: ", "nobody", "bodkin: hint: ")
}

// connectionsTo are the laptop's own ports of its connections to a port.
func (w *world) connectionsTo(port uint16) (ports []string) {
	w.t.Helper()
	for line := range strings.Lines(w.on(w.Laptop, "root", "ss", "-Htn", "dport", "=", fmt.Sprint(port)).out) {
		if fields := strings.Fields(line); len(fields) > 3 {
			ports = append(ports, fields[3][strings.LastIndexByte(fields[3], ':')+1:])
		}
	}
	return ports
}
