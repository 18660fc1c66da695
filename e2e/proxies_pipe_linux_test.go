package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

// TestPipeForSSH: bodkin pipe is the ProxyCommand of the real ssh and scp, which copies 20
// MB there and back, by each kind of hop.
func TestPipeForSSH(t *testing.T) {
	t.Parallel()
	w := proxyWorld(t)
	w.squid(lab.SquidOptions{ProxyOptions: asked, Schemes: []string{"digest"}})
	w.dante(asked)
	w.telnetProxy(lab.TelnetProxyOptions{Echo: true})
	sent := sha256.New()
	if out, err := io.ReadAll(io.TeeReader(lab.Bytes(20_000_000, 9), sent)); err != nil {
		t.Fatal(err)
	} else if err := w.Laptop.WriteFile("/home/me/sent", out, 0o600, "me"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, hops string }{
		{"http", "--password @/home/me/proxy-password http://wilma@proxy"},
		{"socks5", "--password @/home/me/proxy-password socks5://wilma@proxy"},
		{"telnet", "telnet://tn-gw"},
		{"socks5, then http, then a jump host", "--password @/home/me/proxy-password socks5://wilma@proxy http://wilma@firewall ssh://me@gw"},
		{"nc, then telnet", "'cmd:nc proxy 23' telnet://tn-gw"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := w.in(t)
			proxy := "ProxyCommand=bodkin pipe " + tt.hops + " %h:%p"
			w.clean("scp copies", func() {
				w.laptop("scp", "-q", "-o", proxy, "/home/me/sent", "me@gw:copy")
				w.laptop("scp", "-q", "-o", proxy, "me@gw:copy", "/home/me/copy")
			})
			got, err := w.Laptop.ReadFile("/home/me/copy")
			if sum := sha256.Sum256(got); err != nil || !bytes.Equal(sum[:], sent.Sum(nil)) {
				t.Errorf("of 20 MB %d octets came back, or others: %v", len(got), err)
			}
			r := w.on(w.Laptop, "me", "ssh", "-o", proxy, "me@gw", "cat; exit 7 # to the end of what is said")
			if r.status != 7 {
				t.Errorf("ssh ended with %d, want 7\n%s", r.status, r.out)
			}
			w.noProcesses()
		})
	}
}

// TestPipeOfEnvironment: the proxy is the one that the environment names, with the password
// that is there, unless it is not for this host. No word is said of the password.
func TestPipeOfEnvironment(t *testing.T) {
	t.Parallel()
	w := proxyWorld(t)
	w.squid(lab.SquidOptions{ProxyOptions: lab.ProxyOptions{User: proxyUser, Password: "p@ss:wörd/%"}})
	w.microsocks(lab.ProxyOptions{})
	const escaped = "http://wilma:p%40ss%3Aw%C3%B6rd%2F%25@proxy:3128"
	for _, tt := range []struct {
		name string
		env  []string
		hop  string
		to   string // after ssh
		want string
	}{
		{"with a password", []string{"HTTPS_PROXY=" + escaped + "/?auth=basic"}, "env", "me@gw", "through"},
		{"with a password, in clear text", []string{"HTTPS_PROXY=" + escaped}, "env", "me@gw", "bodkin: hint: write auth=basic"},
		{"with a wrong password", []string{"HTTPS_PROXY=http://wilma:p%40ss@proxy:3128?auth=basic"}, "env", "me@gw", "wrong user or password"},
		{"in small letters", []string{"https_proxy=socks5://proxy"}, "env", "me@gw", "through"},
		{"for all", []string{"ALL_PROXY=socks5h://proxy:1080"}, "env", "me@gw", "through"},
		{"not for this one", []string{"HTTPS_PROXY=socks5://proxy", "NO_PROXY=gw,tn-gw"}, "env", "me@tn-gw", "192.0.2.1:22: connect: connection refused"},
		{"not for another", []string{"HTTPS_PROXY=socks5://proxy", "NO_PROXY=tn-gw,.gw"}, "env", "me@gw", "through"},
		{"nothing there", nil, "env", "me@tn-gw", "192.0.2.1:22: connect: connection refused"},
		{"not asked for", []string{"HTTPS_PROXY=http://proxy:1"}, "socks5://proxy", "me@gw", "through"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := w.in(t)
			cmd := w.Laptop.Command(t.Context(), "ssh", "-o", "ProxyCommand=bodkin pipe -vv "+tt.hop+" %h:%p", tt.to, "echo through").As("me")
			cmd.Env = tt.env
			r := w.finish(cmd)
			w.says(r.out, tt.want)
			for _, secret := range []string{"p@ss", "p%40ss"} {
				if strings.Contains(r.out, secret) {
					t.Errorf("a password is shown:\n%s", r.out)
				}
			}
			w.noProcesses()
		})
	}
}

// TestPipeToTLS ends in the TLS of the real openssl, which sends a page back, and in that
// of nobody's.
func TestPipeToTLS(t *testing.T) {
	t.Parallel()
	w := proxyWorld(t)
	w.squid(lab.SquidOptions{})
	cert, key := certificate(t, "gw")
	w.write(w.Gateway, "/root/tls.pem", string(cert)+string(key), "root")
	w.write(w.Laptop, "/home/me/gw.pem", string(cert), "me")
	var said bytes.Buffer
	server := w.Gateway.Command(t.Context(), "openssl", "s_server", "-accept", "4433", "-cert", "/root/tls.pem", "-www", "-quiet")
	server.Stdout, server.Stderr = &said, &said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
		if t.Failed() {
			t.Logf("openssl said:\n%s", said.String())
		}
	})
	w.listens(w.Gateway, 4433)

	pipe := func(to string) result {
		cmd := w.Laptop.Command(t.Context(), "bodkin", "pipe", "http://proxy", to).As("me")
		cmd.Stdin = strings.NewReader("GET / HTTP/1.0\r\n\r\n")
		return w.finish(cmd)
	}
	if r := pipe("tls://gw:4433?ca=/home/me/gw.pem"); r.status != 0 {
		t.Errorf("exit status %d:\n%s", r.status, r.out)
	} else {
		w.says(r.out, "HTTP/1.0 200 ok", "TLSv1.3", "</HTML>")
	}
	if r := pipe("tls://gw:4433"); r.status != 25 || !strings.Contains(r.out, "the certificate of gw is not trusted") {
		t.Errorf("without its certificate: exit status %d, want 25:\n%s", r.status, r.out)
	}
	if r := pipe(fmt.Sprintf("tls://gw:%d?ca=/home/me/gw.pem", lab.SSHPort)); r.status != 20 || !strings.Contains(r.out, "speaks TLS") {
		t.Errorf("to an sshd: exit status %d, want 20:\n%s", r.status, r.out)
	}
}
