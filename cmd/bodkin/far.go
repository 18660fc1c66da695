package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/ssh"
	"github.com/bodkin-net/bodkin/cmd/bodkin/farside"
	"github.com/bodkin-net/bodkin/cmd/bodkin/footprint"
	"github.com/bodkin-net/bodkin/cmd/bodkin/privilege"
	"github.com/bodkin-net/bodkin/endpoint/socks"
	"github.com/bodkin-net/bodkin/endpoint/tun"
	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/host"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/tunnel"
)

// software is what we tell the peer of ourselves.
func software() string {
	return fmt.Sprintf("bodkin %s %s/%s", version, runtime.GOOS, runtime.GOARCH)
}

// kernelMTU is what a kernel interface takes that may forward: beyond it the
// paths are those of Ethernet.
const kernelMTU = 1500

// A farHalf is what the far side was asked for.
type farHalf struct {
	stream carrier.Stream
	kernel bool           // a kernel interface in the place of the userspace NAT
	grant  native.Asks    // what the peer may have opened
	policy usernat.Policy // of the NAT
	hold   time.Duration  // the most that a session waits for another connection
	peer   []byte         // the near half's key, where it has proved that it holds it
}

// granted is what a near half may have that started this far half, or that was let in
// by its key: all there is, for whoever may log in may do more.
const granted = native.AskHost | native.AskLinkLocal | native.AskKernel | native.AskForward | native.AskMasquerade | native.AskWaysIn | native.AskProxy

// run carries packets between the stream and this side's emulator until the peer
// ends it.
func (f *farHalf) run(ctx context.Context) error {
	footprint.Limit()
	var port tunnel.Port
	release := func() error { return nil }
	link, _, _, err := native.Accept(ctx, f.stream, func(peer native.Hello) (mine native.Hello, err error) {
		asked := peer.Asks&native.AskKernel != 0
		kernel := f.kernel || asked && f.grant&native.AskKernel != 0
		switch {
		case asked && !kernel:
			return mine, errors.New("the far side's own settings give a userspace NAT, and no kernel interface")
		case peer.Asks&f.grant&native.AskProxy != 0 && peer.Emulator == native.EmulatorNAT:
			mine, port, err = f.proxyPort(peer)
		case !kernel && peer.Emulator == native.EmulatorNAT:
			return mine, errors.New("both sides are NATs that programs connect out of, and there is nobody to connect")
		case kernel:
			mine, port, release, err = f.kernelPort(peer)
		default:
			mine, port, err = f.natPort(peer)
		}
		if err != nil {
			return mine, err
		}
		mine.Receives = port.Caps()
		return mine, nil
	})
	if err != nil {
		if port != nil {
			port.Close()
		}
		return errors.Join(err, release())
	}
	err = tunnel.Join(ctx, link, port)
	if undone := release(); undone != nil {
		return undone
	}
	var closed *native.ClosedError
	if errors.As(err, &closed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// natPort makes a userspace NAT for the peer, and the hello that says so.
func (f *farHalf) natPort(peer native.Hello) (native.Hello, tunnel.Port, error) {
	mine, err := farside.Offer(software(), peer.Networks)
	if err != nil {
		return mine, nil, err
	}
	mine, nat, err := farside.NAT(usernat.Config{Allow: f.policy}, mine, peer, f.grant)
	if err != nil {
		return mine, nil, err // and no Port that is a nil *NAT
	}
	return mine, nat, nil
}

// proxyPort makes a proxy for this side's programs, who connect out by a peer that is a
// NAT, and the hello that says so.
func (f *farHalf) proxyPort(peer native.Hello) (native.Hello, tunnel.Port, error) {
	mine := native.Hello{Software: software(), Emulator: native.EmulatorProxy}
	p, err := socks.New(socks.Config{
		Listen: []netip.AddrPort{peer.Proxy}, Public: !peer.Proxy.Addr().IsLoopback(),
		Local: peer.Yours, DNS: peer.DNS, MTU: peer.Receives.MTU, Routes: peer.Routes,
	})
	if err != nil {
		return mine, nil, err
	}
	for _, at := range p.Addr() {
		mine.Notes = append(mine.Notes, fmt.Sprintf("programs there find the proxy at %v", at))
	}
	return mine, p, nil
}

// kernelPort makes a kernel interface, and the hello that says so. A peer that is a
// NAT gives it its addresses, and says what it leads to; of any other it is the
// other end. release takes it back.
func (f *farHalf) kernelPort(peer native.Hello) (mine native.Hello, port tunnel.Port, release func() error, err error) {
	release = func() error { return nil }
	w := host.Wish{MTU: kernelMTU, DNS: host.DNS{Mode: host.DNSOff}}
	if peer.Emulator == native.EmulatorNAT {
		mine.Software = software()
		w.Addrs, w.MTU = peer.Yours, peer.Receives.MTU
	} else {
		if mine, err = farside.Offer(software(), peer.Networks); err != nil {
			return mine, nil, release, err
		}
		for i, p := range mine.Yours {
			w.Addrs = append(w.Addrs, netip.PrefixFrom(mine.Mine[i], p.Bits()))
		}
	}
	switch asked := peer.Asks & (native.AskForward | native.AskMasquerade); {
	case asked != 0 && f.grant&asked == asked:
		w.Forward, w.Masquerade, w.Forwarded = true, asked&native.AskMasquerade != 0, peer.Wants
	case asked != 0:
		mine.Notes = append(mine.Notes, "the far side's own settings do not let its kernel forward for us")
	case peer.Emulator != native.EmulatorNAT:
		if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); err == nil && string(text) == "0\n" {
			mine.Notes = append(mine.Notes, "its kernel forwards nothing (net.ipv4.ip_forward is 0): only that machine itself is reached; --forward far changes that")
		}
	}
	if f.grant&native.AskKernel != 0 {
		w.Routes = peer.Routes
	}
	if client, ok := ssh.Client(); ok && len(w.Routes) > 0 {
		w.Pins = []host.Pin{{Addr: client, UID: -1}} // the way that carries us does not go into itself
	}
	mine.Emulator = native.EmulatorKernel
	if _, err := host.CleanUp(privilege.JournalDir()); err != nil {
		return mine, nil, release, err
	}
	file, name, err := tun.Create("bodkin%d")
	if err != nil {
		return mine, nil, release, err
	}
	w.Name, w.Device = name, name
	state, err := host.Set(w, privilege.JournalDir())
	if err != nil {
		file.Close()
		return mine, nil, release, err
	}
	if w.Forward {
		mine.Notes = append(mine.Notes, state.Notes()...)
	}
	device, err := tun.Open(file, w.MTU)
	if err != nil {
		return mine, nil, state.Undo, err
	}
	return mine, device, state.Undo, nil
}
