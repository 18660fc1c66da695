package ppp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/lab"
	"github.com/bodkin-net/bodkin/tunnel"
)

var update = flag.Bool("update", false, "record the links with real programs to testdata")

// livePatience bounds one link with a real program, which takes about two seconds.
const livePatience = 60 * time.Second

// TestLive brings up each link of livePeers with the program itself: pppd in a
// kernel of its own, and slirp on a tty. It needs root and what scripts/setup
// installs.
func TestLive(t *testing.T) {
	world, err := lab.New(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { world.Close() })
	if err := errors.Join(world.Gateway.InstallPPPD(), world.Gateway.InstallSlirp()); err != nil {
		t.Fatal(err)
	}
	var forPPPD []string
	forSlirp := "" // a fourth word, of addresses, makes its IPCP fail
	for who, secret := range liveSecrets {
		line := fmt.Sprintf("%s %s %q", who[0], who[1], secret)
		forPPPD = append(forPPPD, line+" *")
		forSlirp += line + "\n"
	}
	for _, file := range []string{"pap-secrets", "chap-secrets"} {
		if err := errors.Join(world.Gateway.Secrets(file, forPPPD...),
			world.Gateway.WriteFile("/home/me/."+file, []byte(forSlirp), 0o600, "me")); err != nil {
			t.Fatal(err)
		}
	}
	two := make(chan struct{}, 2) // guests at once: each is a kernel that boots
	for _, p := range livePeers {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			two <- struct{}{}
			defer func() { <-two }()
			ctx, cancel := context.WithTimeout(t.Context(), livePatience)
			defer cancel()
			live{t, ctx, world.Gateway, p}.run()
		})
	}
}

// A live is one run of a livePeer.
type live struct {
	*testing.T
	ctx     context.Context
	machine *lab.Machine
	livePeer
}

// A program is what stands at the other end.
type program struct {
	stream carrier.Stream
	pppd   *lab.PPPD // or
	slirp  *lab.Cmd
}

func (l live) start() program {
	l.Helper()
	if l.program == "slirp" {
		control, tty, err := lab.TTYLine()
		if err != nil {
			l.Fatal(err)
		}
		cmd, err := l.machine.Slirp(l.ctx, "me", tty, l.options...)
		if err != nil {
			l.Fatal(err)
		}
		l.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		return program{stream: carrier.Stream{ReadWriteCloser: control}, slirp: cmd}
	}
	one, other, err := lab.Line()
	if err != nil {
		l.Fatal(err)
	}
	p, err := l.machine.PPPD(l.ctx, other, l.options...)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { p.Close() })
	return program{stream: carrier.Stream{ReadWriteCloser: one}, pppd: p}
}

func (l live) run() {
	var log logbook
	l.Cleanup(func() {
		if l.Failed() {
			l.Logf("we said:\n%s", &log)
		}
	})
	var recording bytes.Buffer
	c := l.config
	c.Rand, c.Record, c.Log = liveRand(l.name), &recording, log.add

	p := l.start()
	began := time.Now()
	link, err := Open(l.ctx, p.stream, c)
	var failed *Error
	for tries := 1; errors.As(err, &failed) && failed.Kind == Loop && tries < 3; tries++ {
		// The guest's terminal echoes until its pppd makes it raw, which may take
		// longer than we have patience with an echo.
		recording.Reset()
		c.Rand = liveRand(l.name)
		p, began = l.start(), time.Now()
		link, err = Open(l.ctx, p.stream, c)
	}
	switch {
	case l.fails == 0 && err != nil:
		l.Fatalf("it did not come up: %v\n%s", err, p.log())
	case l.fails != 0 && err == nil:
		link.Close()
		l.Fatalf("it came up\n%s", p.log())
	case l.fails != 0 && (!errors.As(err, &failed) || failed.Kind != l.fails):
		l.Fatalf("it failed with %v, of another kind than %d\n%s", err, l.fails, p.log())
	case l.fails != 0:
		l.Logf("%v", err)
	default:
		l.Logf("up after %.2f s: %+v", time.Since(began).Seconds(), link.Agreed())
		l.use(link, p)
		l.end(link, p)
	}
	if p.pppd != nil {
		status, err := p.pppd.Exit(l.ctx)
		if status == 16 && (l.fails == OurSecret || l.fails == PeerRefused) && strings.Contains(p.log(), "authentication") {
			status = l.status // pppd forgets why if it sees the line go before it has read our last frame
		}
		if err != nil || status != l.status && l.status >= 0 {
			l.Errorf("pppd ended with status %d, %v, want %d\n%s", status, err, l.status, p.log())
		}
	}
	if *update && l.recorded && !l.Failed() {
		if err := os.WriteFile(filepath.Join("testdata", l.name+".pppdump"), recording.Bytes(), 0o644); err != nil {
			l.Error(err)
		}
	}
}

// log is what the program has to say.
func (p program) log() string {
	if p.pppd == nil {
		return ""
	}
	return "pppd said:\n" + p.pppd.Log()
}

// use pings both ways over each network that is up, small and as large as fits.
func (l live) use(link *Link, p program) {
	l.Helper()
	h := attend(link)
	l.Cleanup(func() { h.running.Wait() })
	agreed := link.Agreed()
	if len(agreed.Local) == 0 || len(agreed.Peer) != len(agreed.Local) {
		l.Errorf("agreed on %+v", agreed)
	}
	for i, remote := range agreed.Peer {
		local, overhead := agreed.Local[i].Addr(), 0
		if remote.Is6() {
			overhead = 20 // IPv6's header is longer by that
		}
		for _, size := range []int{16, l.size - overhead} {
			if err := h.ping(l.ctx, local, remote, size); err != nil {
				l.Errorf("ping of %d octets to %v: %v\n%s", size, remote, err, p.log())
			}
			if p.pppd == nil {
				continue
			}
			to := local.String()
			if local.Is6() {
				to += "%ppp0"
			}
			if out, err := p.pppd.Run(l.ctx, "ping", "-c", "1", "-W", "10", "-M", "do", "-s", fmt.Sprint(size), to); err != nil {
				l.Errorf("its ping of %d octets to us: %v\n%s%s", size, err, out, p.log())
			}
		}
	}
	switch {
	case p.pppd == nil:
		if len(agreed.DNS) != 1 || agreed.DNS[0] != lab.DNS4 {
			l.Errorf("slirp gave the name servers %v", agreed.DNS)
		}
		if agreed.Local[0].Addr().String() != "10.0.2.15" {
			l.Errorf("slirp gave us %v", agreed.Local)
		}
	case l.name == "pppd-calls":
		if fmt.Sprint(agreed.DNS) != fmt.Sprint([]netip.Addr{liveDNS, liveDNS2}) {
			l.Errorf("pppd gave the name servers %v", agreed.DNS)
		}
	case l.name == "pppd-called":
		out, err := p.pppd.Run(l.ctx, "cat", "/etc/ppp/resolv.conf")
		if err != nil || string(out) != "nameserver 192.0.2.53\nnameserver 192.0.2.54\n" {
			l.Errorf("pppd took the name servers %q, %v", out, err)
		}
	}
}

// end ends the link as is to be, and looks how it ended.
func (l live) end(link *Link, p program) {
	l.Helper()
	want := ErrorKind(0)
	switch l.goodby {
	case byUs:
		if err := link.Terminate("tested"); err != nil {
			l.Errorf("the peer did not take our goodbye: %v\n%s", err, p.log())
		}
	case byPeer:
		want = PeerTerminated
		if err := p.pppd.Signal(syscall.SIGTERM); err != nil {
			l.Error(err)
		}
	case byDeath:
		want = Hangup
		if p.pppd != nil {
			p.pppd.Kill9()
		} else {
			p.slirp.Process.Kill()
		}
	}
	select {
	case <-link.Done():
	case <-l.ctx.Done():
		l.Errorf("the link does not end\n%s", p.log())
		link.Close()
		return
	}
	err := link.Err()
	var failed *Error
	if want == 0 && !errors.Is(err, net.ErrClosed) || want != 0 && (!errors.As(err, &failed) || failed.Kind != want) {
		l.Errorf("the link ended with %v, want kind %d\n%s", err, want, p.log())
	}
}

// A logbook keeps lines.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

func (b *logbook) add(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
}

func (b *logbook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines, "\n")
}

// A host stands behind a link: it answers pings and can ping.
type host struct {
	link    *Link
	writing sync.Mutex
	replies chan []byte // of pings, the IP packets
	running sync.WaitGroup
}

func attend(link *Link) *host {
	h := &host{link: link, replies: make(chan []byte, 16)}
	h.running.Go(func() {
		packets := make([]tunnel.Packet, tunnel.BatchSize)
		for {
			n, err := link.ReadPackets(packets)
			if err != nil {
				return
			}
			for _, p := range packets[:n] {
				h.take(p.Data)
			}
		}
	})
	return h
}

// Types of ICMP (RFC 792) and ICMPv6 (RFC 4443): request, reply.
var echoTypes = map[bool][2]byte{false: {8, 0}, true: {128, 129}}

// take looks at a packet that came.
func (h *host) take(packet []byte) {
	six := packet[0]>>4 == 6
	header, protocol, source, length := 20, packet[9], 12, 4
	if six {
		header, protocol, source, length = 40, packet[6], 8, 16
	}
	types := echoTypes[six]
	if len(packet) < header+8 || protocol != 1 && protocol != 58 {
		return
	}
	switch packet[header] {
	case types[0]: // the answer: the addresses change places, and the checksum with the type
		answer := bytes.Clone(packet)
		copy(answer[source:], packet[source+length:source+2*length])
		copy(answer[source+length:], packet[source:source+length])
		answer[header] = types[1]
		sum := uint32(binary.BigEndian.Uint16(answer[header+2:])) + uint32(types[0])<<8 + 0xffff - uint32(types[1])<<8
		sum = sum&0xffff + sum>>16
		binary.BigEndian.PutUint16(answer[header+2:], uint16(sum&0xffff+sum>>16))
		h.send(answer)
	case types[1]:
		select {
		case h.replies <- bytes.Clone(packet[header:]):
		default: // nobody waits for so many
		}
	}
}

func (h *host) send(packet []byte) error {
	h.writing.Lock()
	defer h.writing.Unlock()
	return h.link.WritePackets([]tunnel.Packet{{Data: packet}})
}

// ping sends an echo request with size octets of data, of every value by turns,
// until the answer comes; a network that just came up may lose the first ones.
func (h *host) ping(ctx context.Context, from, to netip.Addr, size int) error {
	header, types := 20, echoTypes[to.Is6()]
	if to.Is6() {
		header = 40
	}
	packet := make([]byte, header+8+size)
	icmp := packet[header:]
	icmp[0] = types[0]
	binary.BigEndian.PutUint32(icmp[4:], 0x7e7d<<16|uint32(size)&0xffff) // identifier and number
	for i := range size {
		icmp[8+i] = byte(i)
	}
	pseudo := uint32(0)
	if to.Is6() {
		packet[0], packet[6], packet[7] = 0x60, 58, 64
		binary.BigEndian.PutUint16(packet[4:], uint16(len(icmp)))
		pseudo = 58 + uint32(len(icmp))
		copy(packet[8:], from.AsSlice())
		copy(packet[24:], to.AsSlice())
		pseudo += words(packet[8:40])
	} else {
		packet[0], packet[8], packet[9] = 0x45, 64, 1
		binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
		copy(packet[12:], from.AsSlice())
		copy(packet[16:], to.AsSlice())
		binary.BigEndian.PutUint16(packet[10:], ^fold(words(packet[:20])))
	}
	binary.BigEndian.PutUint16(icmp[2:], ^fold(pseudo+words(icmp)))

	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	for range 20 {
		if err := h.send(packet); err != nil {
			return err
		}
		select {
		case reply := <-h.replies:
			if bytes.Equal(reply[4:], icmp[4:]) {
				return nil
			}
			if len(reply) == len(icmp) {
				return fmt.Errorf("the answer holds other octets")
			}
		case <-again.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return errors.New("no answer")
}

// words and fold make the Internet checksum (RFC 1071).
func words(b []byte) (sum uint32) {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
