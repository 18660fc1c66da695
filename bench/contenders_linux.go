package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/bodkin-net/bodkin/lab"
)

const (
	cipher      = "aes128-gcm@openssh.com" // of every contender that uses ssh
	plainPort   = 4000                     // of the gateway, for bodkin without ssh
	openTimeout = 30 * time.Second
	bodkin0     = "bodkin0"
)

// A way is a contender that is up. close takes it down.
type way struct {
	close func()
}

// A contender is one way of carrying IP from the laptop to the web host.
type contender struct {
	key, name string
	ping      bool // carries ICMP
	open      func(b *bench, ctx context.Context) (way, error)
}

var contenders = []contender{
	{"raw", "raw cable (veth)", true, (*bench).openRaw},
	{"pipe", "bare ssh pipe, no IP", false, nil}, // measured without iperf3, see pipe
	{"sshw", "ssh -w", true, (*bench).openSSHTunnel},
	{"sshuttle", "sshuttle", false, (*bench).openSSHuttle},
	{"ssh", "bodkin over ssh", true, (*bench).openBodkin},
	{"ppp", "bodkin, PPP over ssh to bodkin slirp", true, (*bench).openPPP},
	{"slirp", "bodkin, PPP over ssh to the real slirp", false, (*bench).openSlirp},
	{"tls", "bodkin over tls, to usernat", true, (*bench).openTLS},
	{"telnet", "bodkin over telnet, TLS inside", true, (*bench).openTelnet},
	{"tcp-tun", "bodkin over tcp, to a tun", true, (*bench).openPlainKernel},
	{"tcp-nat", "bodkin over tcp, to usernat", true, (*bench).openPlainNAT},
}

func keys() (list []string) {
	for _, c := range contenders {
		list = append(list, c.key)
	}
	return list
}

// openRaw sends the web host's address over the direct cable.
func (b *bench) openRaw(context.Context) (way, error) {
	r := &netlink.Route{Dst: host(lab.Web4), Gw: lab.DirectInternet4.AsSlice()}
	if err := b.lab.Laptop.Netlink().RouteAdd(r); err != nil {
		return way{}, err
	}
	return way{func() { b.lab.Laptop.Netlink().RouteDel(r) }}, nil
}

func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func (b *bench) openSSHTunnel(ctx context.Context) (way, error) {
	t, err := b.lab.SSHTunnel(ctx, cipher, lab.Web4)
	if err != nil {
		return way{}, err
	}
	return way{func() { t.Close() }}, nil
}

// openSSHuttle starts sshuttle, which says when it is ready.
func (b *bench) openSSHuttle(ctx context.Context) (way, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	c := b.lab.Laptop.Command(context.Background(), "sshuttle", "--method", "nft", "--disable-ipv6", "-e", "ssh -c "+cipher, "-r", "gw", lab.Web4.String()+"/32")
	stderr, err := c.StderrPipe()
	if err != nil {
		return way{}, err
	}
	if err := c.Start(); err != nil {
		return way{}, err
	}
	w := way{func() {
		c.Process.Signal(os.Interrupt) // it takes its nftables rules back
		stop := time.AfterFunc(5*time.Second, func() { c.Process.Kill() })
		c.Wait()
		stop.Stop()
	}}
	ready := make(chan string, 1)
	go func() { // ends with sshuttle
		s, words := bufio.NewScanner(stderr), ""
		for s.Scan() {
			if strings.Contains(s.Text(), "Connected to server") {
				ready <- ""
				words = ""
			} else if len(words) < 4096 {
				words += s.Text() + "; "
			}
		}
		select {
		case ready <- "sshuttle ended: " + words:
		default:
		}
	}()
	select {
	case words := <-ready:
		if words == "" {
			return w, nil
		}
		err = fmt.Errorf("%s", words)
	case <-ctx.Done():
		err = fmt.Errorf("waiting for sshuttle: %w", context.Cause(ctx))
	}
	w.close()
	return way{}, err
}

// openBodkin is what the benchmark is about. The first time it comes up it sends its
// far half; that is measured apart.
func (b *bench) openBodkin(ctx context.Context) (way, error) {
	args := []string{"me@gw", lab.Web4.String() + "/32", "--dns", "off", "-e", "ssh -c " + cipher}
	if b.firstStart == 0 {
		began := time.Now()
		w, err := b.up(ctx, args...)
		if err != nil {
			return way{}, err
		}
		b.firstStart = time.Since(began)
		w.close()
	}
	began := time.Now()
	w, err := b.up(ctx, args...)
	b.upTime = time.Since(began)
	return w, err
}

// openPPP speaks PPP instead of bodkin's own link: packets of 1,500 octets, each
// in a frame with escapes and a checksum.
func (b *bench) openPPP(ctx context.Context) (way, error) {
	return b.up(ctx, "me@gw", lab.Web4.String()+"/32", "--dns", "off", "-e", "ssh -c "+cipher, "--far", "cmd:bodkin slirp ppp")
}

// openSlirp has the real slirp at the far side, which forwards no ping.
func (b *bench) openSlirp(ctx context.Context) (way, error) {
	return b.up(ctx, "me@gw", lab.Web4.String()+"/32", "--dns", "off", "-e", "ssh -c "+cipher, "--far", "slirp")
}

// up starts bodkin as the laptop's account.
func (b *bench) up(ctx context.Context, args ...string) (way, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	out, err := b.lab.Laptop.Command(ctx, "bodkin", append([]string{"up", "-d"}, args...)...).As("me").CombinedOutput()
	if err != nil {
		return way{}, fmt.Errorf("bodkin up: %w: %s", err, bytes.TrimSpace(out))
	}
	return way{func() {
		b.lab.Laptop.Command(context.Background(), "bodkin", "down", bodkin0).As("me").Run()
	}}, nil
}

func (b *bench) openPlainNAT(ctx context.Context) (way, error) {
	return b.openListening(ctx, "me", spoken{"tcp", "--plain", nil})
}

// openTLS is what a far half that waits is meant for. The keys are made for the one
// connection: who has them makes no difference to its speed.
func (b *bench) openTLS(ctx context.Context) (way, error) {
	return b.openListening(ctx, "me", spoken{"tls", open, []string{open}})
}

// openTelnet logs in at the gateway's telnetd, and has the octets escaped that a
// terminal would act upon.
func (b *bench) openTelnet(ctx context.Context) (way, error) {
	if b.telnetd == nil {
		var err error
		b.telnetd, err = b.lab.Gateway.Telnetd(ctx, lab.TelnetdOptions{Password: telnetPassword})
		if err == nil {
			err = b.lab.Laptop.WriteFile("/home/me/password", []byte(telnetPassword+"\n"), 0o600, "me")
		}
		if err != nil {
			return way{}, err
		}
	}
	return b.up(ctx, fmt.Sprintf("telnet://me@%v", lab.Gateway4), lab.Web4.String()+"/32", "--dns", "off", open, "--password", "@/home/me/password")
}

// open is the flag of those who do without keys.
const open = "--insecure-accept-eavesdropping"

// telnetPassword is of the gateway's account.
const telnetPassword = "open sesame"

// openPlainKernel ends the tunnel in a kernel interface of the gateway, which
// forwards, as a server run by root would.
func (b *bench) openPlainKernel(ctx context.Context) (way, error) {
	// Where bodkin takes the tunnel's addresses from when nothing clashes.
	_, network, err := net.ParseCIDR("10.0.2.0/24")
	if err != nil {
		return way{}, err
	}
	back := &netlink.Route{Dst: network, Gw: lab.GatewayOut4.AsSlice()}
	if err := b.lab.Internet.Netlink().RouteAdd(back); err != nil {
		return way{}, err
	}
	if err := b.lab.Gateway.SetSysctl("net/ipv4/ip_forward", "1"); err != nil {
		return way{}, err
	}
	undo := func() {
		b.lab.Gateway.SetSysctl("net/ipv4/ip_forward", "0")
		b.lab.Internet.Netlink().RouteDel(back)
	}
	w, err := b.openListening(ctx, "root", spoken{"tcp", "--plain", nil}, "--kernel")
	if err != nil {
		undo()
		return way{}, err
	}
	return way{func() { w.close(); undo() }}, nil
}

// A spoken says how a far half that listens is spoken to.
type spoken struct {
	scheme string   // of the near half's target
	far    string   // flag of the far half
	near   []string // flags of the near half
}

// openListening starts a far half that listens on a port, and a tunnel to it.
func (b *bench) openListening(ctx context.Context, account string, c spoken, args ...string) (way, error) {
	far := b.lab.Gateway.Command(context.Background(), "bodkin", append([]string{"far", "--listen", fmt.Sprintf("%v:%d", lab.Gateway4, plainPort), c.far}, args...)...).As(account)
	var words bytes.Buffer
	far.Stderr = &words
	if err := far.Start(); err != nil {
		return way{}, err
	}
	end := func() {
		far.Process.Signal(os.Interrupt)
		stop := time.AfterFunc(2*time.Second, func() { far.Process.Kill() })
		far.Wait()
		stop.Stop()
	}
	if err := listening(ctx, far.Process.Pid, lab.Gateway4, plainPort); err != nil {
		end()
		return way{}, fmt.Errorf("bodkin far: %w: %s", err, bytes.TrimSpace(words.Bytes()))
	}
	began := time.Now()
	w, err := b.up(ctx, append([]string{fmt.Sprintf("%s://%v:%d", c.scheme, lab.Gateway4, plainPort), lab.Web4.String() + "/32", "--dns", "off"}, c.near...)...)
	if err != nil {
		end()
		return way{}, fmt.Errorf("%w: %s", err, bytes.TrimSpace(words.Bytes()))
	}
	b.upTime = time.Since(began)
	return way{func() { w.close(); end() }}, nil
}

// listening returns when a port is open in the process's network. It looks instead
// of connecting, since the far half takes one connection only.
func listening(ctx context.Context, pid int, a netip.Addr, port uint16) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	four := a.As4()
	// As the kernel prints it: the address in the processor's order, state LISTEN.
	want := strings.ToUpper(fmt.Sprintf(" %s:%04x 00000000:0000 0a ", hex.EncodeToString([]byte{four[3], four[2], four[1], four[0]}), port))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
		if err != nil {
			return err
		}
		if bytes.Contains(b, []byte(want)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for port %d: %w", port, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
