package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// What the proxies of these tests ask for.
const (
	proxyUser     = "wilma"
	proxyPassword = "pebbles & bamm-bamm 100%"
)

// asked is a proxy that asks for it.
var asked = lab.ProxyOptions{User: proxyUser, Password: proxyPassword}

// withPassword says where the password for it comes from.
var withPassword = []string{"--password", proxyUser + "@proxy=@/home/me/proxy-password"}

// proxyWorld is a lab whose firewall lets nothing through but by the proxies on it, which
// the laptop knows as proxy. It knows no name of the gateway's, nor anybody to ask for one:
// who gets there has it looked up by a proxy.
func proxyWorld(t *testing.T) *world {
	t.Helper()
	w := closedWorld(t)
	hosts := fmt.Sprintf("127.0.0.1 localhost\n127.0.1.1 laptop\n%v proxy tn-gw\n", lab.FirewallInside4)
	if err := w.Laptop.WriteFile("/etc/hosts", []byte(hosts), 0o644, "root"); err != nil {
		t.Fatal(err)
	}
	w.write(w.Laptop, "/home/me/proxy-password", proxyPassword+"\n", "me")
	if err := w.Gateway.Install(program); err != nil {
		t.Fatal(err)
	}
	w.pair(fmt.Sprintf("[gw]:%d", farPort))
	return w
}

// serves takes what starting a proxy returned, and ends it with the test.
func (w *world) serves(d *lab.Daemon, err error) *lab.Daemon {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("the proxy said:\n%s", d.Log())
		}
		if err := d.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return d
}

// The proxies, each on the firewall.
func (w *world) squid(o lab.SquidOptions)     { w.serves(w.Firewall.Squid(w.t.Context(), o)) }
func (w *world) tinyproxy(o lab.ProxyOptions) { w.serves(w.Firewall.Tinyproxy(w.t.Context(), o)) }
func (w *world) dante(o lab.ProxyOptions)     { w.serves(w.Firewall.Dante(w.t.Context(), o)) }
func (w *world) microsocks(o lab.ProxyOptions) {
	w.serves(w.Firewall.Microsocks(w.t.Context(), o))
}

func (w *world) telnetProxy(o lab.TelnetProxyOptions) {
	w.t.Helper()
	o.Hosts = map[string]netip.Addr{"gw": lab.Gateway4}
	p, err := w.Firewall.TelnetProxy(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.Close() })
}

// squidInTLS is squid that speaks TLS, with a certificate of its own making, which the
// laptop has in a file.
func (w *world) squidInTLS(o lab.SquidOptions) {
	w.t.Helper()
	o.Certificate, o.Key = certificate(w.t, "proxy")
	w.write(w.Laptop, "/home/me/proxy.pem", string(o.Certificate), "me")
	w.squid(o)
}

// sshForwards is `ssh -D` on the firewall, to the gateway: a SOCKS proxy too.
func (w *world) sshForwards() {
	w.t.Helper()
	for _, name := range []string{"/root/.ssh/id_ed25519", "/root/.ssh/known_hosts"} {
		text, err := w.Laptop.ReadFile(name)
		if err != nil {
			w.t.Fatal(err)
		}
		w.write(w.Firewall, name, string(text), "root")
	}
	var said bytes.Buffer
	cmd := w.Firewall.Command(w.t.Context(), "ssh", "-4", "-N", "-o", "ExitOnForwardFailure=yes", "-D", fmt.Sprintf("*:%d", lab.SOCKSPort), "gw")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if w.t.Failed() {
			w.t.Logf("ssh -D said:\n%s", said.String())
		}
	})
	w.listens(w.Firewall, lab.SOCKSPort)
}

// farListens starts a far half on the gateway that waits for one near half, at all of the
// gateway's addresses: who knows which of them a proxy takes.
func (w *world) farListens() {
	w.t.Helper()
	var said bytes.Buffer
	cmd := w.Gateway.Command(w.t.Context(), "bodkin", "far", "--listen", fmt.Sprintf(":%d", farPort)).As("me")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if w.t.Failed() {
			w.t.Logf("the far half said:\n%s", said.String())
		}
	})
	w.listens(w.Gateway, farPort)
}

// listens returns when somebody listens on a port of a machine.
func (w *world) listens(m *lab.Machine, port uint16) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("port %d of %s listens", port, m.Name), func() bool {
		return strings.Contains(w.on(m, "root", "ss", "-ltn").out, fmt.Sprintf(":%d ", port))
	})
}

// certificate makes one for a host, that vouches for itself, and its key.
func certificate(t *testing.T, host string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if addr := net.ParseIP(host); addr != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{addr}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

const (
	overSSH = "me@gw"         // a login, which is ssh's affair
	overTLS = "tls://gw:7000" // a bodkin that waits there, at farPort
	overAny = "bodkin://gw:7000"
)

// proxyWays are those through the proxies that there are, to each kind of end.
var proxyWays = []struct {
	name   string
	start  func(w *world)
	via    []string // each a --via
	more   []string // flags besides
	target string
}{
	{name: "squid", start: func(w *world) { w.squid(lab.SquidOptions{}) }, via: []string{"http://proxy"}, target: overSSH},
	{
		name:  "squid, Basic",
		start: func(w *world) { w.squid(lab.SquidOptions{ProxyOptions: asked}) },
		via:   []string{"http://wilma@proxy?auth=basic"}, more: withPassword, target: overTLS,
	},
	{
		name:  "squid, Digest",
		start: func(w *world) { w.squid(lab.SquidOptions{ProxyOptions: asked, Schemes: []string{"basic", "digest"}}) },
		via:   []string{"http://wilma@proxy"}, more: withPassword, target: overSSH,
	},
	{
		name:  "squid, NTLM",
		start: func(w *world) { w.squid(lab.SquidOptions{ProxyOptions: asked, Schemes: []string{"basic", "ntlm"}}) },
		via:   []string{`http://BEDROCK\wilma@proxy`}, more: []string{"--password", "@/home/me/proxy-password"}, target: overSSH,
	},
	{
		name:  "squid in TLS, Basic",
		start: func(w *world) { w.squidInTLS(lab.SquidOptions{ProxyOptions: asked}) },
		via:   []string{"https://wilma@proxy:3128?ca=/home/me/proxy.pem"}, more: []string{"--password", "@/home/me/proxy-password"}, target: overSSH,
	},
	{
		name:  "tinyproxy, Basic",
		start: func(w *world) { w.tinyproxy(lab.ProxyOptions{User: "fred", Password: "dino-1"}) },
		via:   []string{"http://fred@proxy:8888?auth=basic"}, more: []string{"--password", "fred@proxy:8888=run:echo dino-1"}, target: overSSH,
	},
	{name: "microsocks", start: func(w *world) { w.microsocks(lab.ProxyOptions{}) }, via: []string{"socks5://proxy"}, target: overSSH},
	{
		name:  "microsocks, with a password",
		start: func(w *world) { w.microsocks(asked) },
		via:   []string{"socks5://wilma@proxy"}, more: withPassword, target: overTLS,
	},
	{
		name:  "danted, with a password",
		start: func(w *world) { w.dante(asked) },
		via:   []string{"socks5://wilma@proxy"}, more: withPassword, target: overTLS,
	},
	{name: "ssh -D, as SOCKS 4a", start: func(w *world) { w.sshForwards() }, via: []string{"socks4a://proxy"}, target: overTLS},
	{
		name: "SOCKS, then a web proxy",
		start: func(w *world) {
			w.microsocks(lab.ProxyOptions{})
			w.squid(lab.SquidOptions{ProxyOptions: asked, Schemes: []string{"digest"}})
		},
		via: []string{"socks5://proxy", "http://wilma@firewall"}, more: []string{"--password", "firewall=@/home/me/proxy-password"}, target: overSSH,
	},
	{
		name:  "a web proxy, then a jump host",
		start: func(w *world) { w.squid(lab.SquidOptions{}) },
		via:   []string{"http://proxy", "ssh://me@gw"}, target: overAny,
	},
	{
		name:  "a telnet proxy, verbatim",
		start: func(w *world) { w.telnetProxy(lab.TelnetProxyOptions{Echo: true}) },
		via:   []string{"telnet://tn-gw"}, target: overSSH,
	},
	{
		name:  "a telnet proxy that goes on speaking telnet",
		start: func(w *world) { w.telnetProxy(lab.TelnetProxyOptions{Terminating: true, Binary: true}) },
		via:   []string{"telnet://tn-gw?relay=telnet"}, target: overSSH,
	},
	{
		name:  "nc",
		start: func(w *world) { w.squid(lab.SquidOptions{}) },
		via:   []string{"cmd:nc -X connect -x proxy:3128 gw 22"}, target: overSSH,
	},
}

// viaAll is what comes after "bodkin up" for a way.
func viaAll(via []string, more ...string) (args []string) {
	for _, v := range via {
		args = append(args, "--via", v)
	}
	return append(args, more...)
}

// TestProxiesToFullIP: through each kind of proxy to full IP, with 20 MB each way. Nothing
// but the connection to the first hop leaves the laptop, from the first moment on: no
// question for a name that only the proxy knows, and no packet of what the tunnel takes.
func TestProxiesToFullIP(t *testing.T) {
	t.Parallel()
	w := proxyWorld(t)
	before := w.snapshot()
	for _, tt := range proxyWays {
		t.Run(tt.name, func(t *testing.T) {
			w := w.in(t)
			tt.start(w)
			if tt.target != overSSH {
				w.farListens()
			}
			w.clean("all goes through "+tt.name, func() {
				w.up(viaAll(tt.via, append(tt.more, tt.target)...)...)
				w.fullIP(20_000_000)
			})
			w.safety(true, true)
			w.down()
			w.asBefore(before, "up, down")
			w.noProcesses()
		})
	}
}
