package native

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/tunnel"
)

// unhex reads hex with blanks.
func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The packets of the tables: a UDP datagram with two octets, complete and with
// its checksum left to do.
const (
	udp      = "4500001e 00010000 4011f6b0 0a00020f cb007164 8000 0035 000a 0000 6869"
	udpNaked = "4500001e 00010000 4011f6b0 0a00020f cb007164 8000 0035 000a 4b1a 6869"
)

func TestPacketFrames(t *testing.T) {
	for _, c := range []struct {
		name   string
		packet tunnel.Packet
		frame  string
	}{
		{"complete", tunnel.Packet{Data: unhex(t, udp)}, "02 00001e" + udp},
		{"checksum left", tunnel.Packet{Data: unhex(t, udpNaked), GSO: tunnel.Offload{NeedsChecksum: true}}, "03 000022 00 01 0000" + udpNaked},
		{"super", tunnel.Packet{Data: unhex(t, udpNaked), GSO: tunnel.Offload{Type: tunnel.GSOUDP, NeedsChecksum: true, SegmentSize: 1}}, "03 000022 03 01 0001" + udpNaked},
	} {
		got := append(appendPacketHeader(nil, c.packet), c.packet.Data...)
		if want := unhex(t, c.frame); !bytes.Equal(got, want) {
			t.Errorf("%s: frame %x, want %x", c.name, got, want)
		}
		frame, payload, rest, need, err := cutFrame(got)
		if err != nil || need != 0 || len(rest) != 0 {
			t.Fatalf("%s: cutFrame: need %d, %d left, %v", c.name, need, len(rest), err)
		}
		back, ok := parsePacket(frame, payload, all)
		if !ok || !bytes.Equal(back.Data, c.packet.Data) || back.GSO != c.packet.GSO {
			t.Errorf("%s: came back as %v %x %+v", c.name, ok, back.Data, back.GSO)
		}
	}
}

var all = tunnel.Caps{MTU: 65535, Offloads: tunnel.OffloadChecksum | tunnel.OffloadTSO4 | tunnel.OffloadTSO6 | tunnel.OffloadUSO}

func TestLiesAreDropped(t *testing.T) {
	some := all
	some.Offloads &^= tunnel.OffloadUSO
	for _, c := range []struct {
		name, frame string
		caps        tunnel.Caps
	}{
		{"shorter than its length field", "02 00001d" + udp[:len(udp)-2], all},
		{"no IP at all", "02 000004 11223344", all},
		{"SUPER without facts", "03 000003 000100", all},
		{"unknown kind", "03 000022 04 01 0001" + udpNaked, all},
		{"TCP kind, UDP packet", "03 000022 01 01 0040" + udpNaked, all},
		{"no checksum flag", "03 000022 03 00 0001" + udpNaked, all},
		{"reserved flag", "03 000022 03 03 0001" + udpNaked, all},
		{"segment size zero", "03 000022 03 01 0000" + udpNaked, all},
		{"segment size without kind", "03 000022 00 01 0009" + udpNaked, all},
		{"not offered", "03 000022 03 01 0001" + udpNaked, some},
		{"a fragment", "03 000022 00 01 0000" + strings.Replace(udpNaked, "00010000", "00012000", 1), all},
		{"UDP length too long", "03 000022 00 01 0000" + strings.Replace(udpNaked, "000a 4b1a", "000b 4b1a", 1), all},
	} {
		frame, payload, _, need, err := cutFrame(unhex(t, c.frame))
		if err != nil || need != 0 {
			t.Fatalf("%s: cutFrame: need %d, %v", c.name, need, err)
		}
		if p, ok := parsePacket(frame, payload, c.caps); ok {
			t.Errorf("%s: accepted as %+v", c.name, p)
		}
	}
}

func TestFrameBounds(t *testing.T) {
	for _, header := range []string{"00 000000", "08 000000", "7f 000001", "01 001001", "02 010028", "03 01002c", "04 000009", "06 000101", "ff 001001"} {
		if _, _, _, _, err := cutFrame(unhex(t, header)); err == nil {
			t.Errorf("frame header %s: accepted", header)
		}
	}
	if _, _, _, need, err := cutFrame(unhex(t, "80 000002 00")); err != nil || need != 6 {
		t.Errorf("frame 80 cut short: need %d, %v", need, err)
	}
}

var (
	clientHello = Hello{
		Software: "bodkin test",
		Receives: tunnel.Caps{MTU: 65535, Offloads: all.Offloads},
		Emulator: EmulatorKernel,
		Asks:     AskHost,
		Networks: []netip.Prefix{netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("fd62:6f64:6b69::/64")},
	}
	serverHello = Hello{
		Software: "bodkin test",
		Receives: tunnel.Caps{MTU: 9000, Offloads: tunnel.OffloadChecksum},
		Emulator: EmulatorNAT,
		Yours:    []netip.Prefix{netip.MustParsePrefix("10.0.2.15/24"), netip.MustParsePrefix("fd62:6f64:6b69::15/64")},
		Mine:     []netip.Addr{netip.MustParseAddr("10.0.2.2")},
		DNS:      []netip.Addr{netip.MustParseAddr("10.0.2.3")},
		Notes:    []string{"ping is not permitted here"},
		Routes:   []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("2001:db8::/32")},
		Wants:    []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Proxy:    netip.MustParseAddrPort("127.0.0.1:1080"),
		WaysIn: []WayIn{
			{Listen: netip.MustParseAddrPort("127.0.0.1:8080"), To: netip.MustParseAddrPort("10.0.2.15:80")},
			{UDP: true, Listen: netip.MustParseAddrPort("[::1]:0"), To: netip.MustParseAddrPort("[::]:53")},
		},
	}
)

func TestHelloBothWays(t *testing.T) {
	for _, h := range []Hello{clientHello, serverHello} {
		_, payload, _, _, err := cutFrame(h.append(nil))
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseHello(payload)
		if err != nil {
			t.Fatal(err)
		}
		if again := back.append(nil); !bytes.Equal(again, h.append(nil)) {
			t.Errorf("hello came back as %+v, was %+v", back, h)
		}
		withUnknown := append(slices.Clone(payload), 0x12, 0x34, 0, 2, 9, 9)
		if again, err := parseHello(withUnknown); err != nil || !bytes.Equal(again.append(nil), back.append(nil)) {
			t.Errorf("with an unknown field: %+v, %v", again, err)
		}
	}
}

func TestHelloRefused(t *testing.T) {
	good := "626f646b696e0d0a 0001 0001"
	must := "0002 0005 0000ffff 0f 0003 0001 01"
	for _, c := range []struct{ name, payload string }{
		{"wrong magic", "626f646b696e0a0a 0001 0001" + must},
		{"too short", "626f646b696e0d0a 0001"},
		{"newer alone", "626f646b696e0d0a 0002 0003" + must},
		{"no MTU", good + "0003 0001 01"},
		{"no emulator", good + "0002 0005 0000ffff 0f"},
		{"MTU too small", good + "0002 0005 000004ff 0f 0003 0001 01"},
		{"MTU too large", good + "0002 0005 00010000 0f 0003 0001 01"},
		{"field past the end", good + must + "0001 0009 41"},
		{"half a field header", good + must + "0001 00"},
		{"address of five octets", good + must + "0007 0005 0102030405"},
		{"prefix too long", good + must + "0005 0005 0a00020f 21"},
		{"route too long", good + must + "000a 0005 0a000200 21"},
		{"two addresses of one family", good + must + "0005 0005 0a00020f 18 0005 0005 0a000210 18"},
	} {
		if h, err := parseHello(unhex(t, c.payload)); err == nil {
			t.Errorf("%s: accepted as %+v", c.name, h)
		}
	}
}

// streams returns two carriers joined in memory.
func streams() (carrier.Stream, carrier.Stream) {
	a, b := net.Pipe()
	return carrier.Stream{ReadWriteCloser: a}, carrier.Stream{ReadWriteCloser: b}
}

// open opens a link over net.Pipe.
func open(t *testing.T, client, server Hello) (c, s *Link, ca, sa tunnel.Agreed) {
	t.Helper()
	a, b := streams()
	done := make(chan error, 1)
	go func() {
		var err error
		s, _, sa, err = Accept(t.Context(), b, func(Hello) (Hello, error) { return server, nil })
		done <- err
	}()
	c, _, ca, err := Open(t.Context(), a, client)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return c, s, ca, sa
}

func TestOpenAgrees(t *testing.T) {
	c, s, ca, _ := open(t, clientHello, serverHello)
	defer c.Close()
	defer s.Close()
	if !slices.Equal(ca.Local, serverHello.Yours) || !slices.Equal(ca.DNS, serverHello.DNS) || ca.MTU != 9000 {
		t.Errorf("agreed %+v", ca)
	}
	if got := c.Caps(); got != (tunnel.Caps{MTU: 9000, Offloads: tunnel.OffloadChecksum}) {
		t.Errorf("the client may send %+v", got)
	}
	if got := s.Caps(); got != (tunnel.Caps{MTU: 9000, Offloads: all.Offloads}) {
		t.Errorf("the server may send %+v", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	elsewhere := serverHello
	elsewhere.Yours = []netip.Prefix{netip.MustParsePrefix("192.168.1.1/24")}
	resolver := serverHello
	resolver.DNS = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	for _, server := range []Hello{elsewhere, resolver} {
		a, b := streams()
		done := make(chan error, 1)
		go func() {
			s, _, _, err := Accept(t.Context(), b, func(Hello) (Hello, error) { return server, nil })
			if err == nil {
				_, err = s.ReadPackets(make([]tunnel.Packet, 1))
				s.Close()
			}
			done <- err
		}()
		_, _, _, err := Open(t.Context(), a, clientHello)
		var ours, theirs *ProtocolError
		if !errors.As(err, &ours) || ours.Code != ErrorPolicy || ours.Remote {
			t.Errorf("the client opened with %v", err)
		}
		if err := <-done; !errors.As(err, &theirs) || !theirs.Remote || theirs.Code != ErrorPolicy {
			t.Errorf("the server was told %v", err)
		}
	}
}

func TestNotABodkin(t *testing.T) {
	a, b := net.Pipe()
	go func() {
		io.CopyN(io.Discard, b, 10)
		go io.Copy(io.Discard, b)
		b.Write([]byte("Welcome to \x1b[31mgw!\r\n$ "))
	}()
	_, _, _, err := Open(t.Context(), carrier.Stream{ReadWriteCloser: a}, clientHello)
	if err == nil || !strings.Contains(err.Error(), "Welcome to ?[31mgw!  $") {
		t.Errorf("opened on a shell with %v", err)
	}
}

func TestSilentHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := streams()
		go io.Copy(io.Discard, b)
		_, _, _, err := Open(t.Context(), a, clientHello)
		if err == nil || !strings.Contains(err.Error(), "20 seconds") {
			t.Errorf("opened with %v", err)
		}
		b.Close()
	})
}

func TestPacketsPassInOrder(t *testing.T) {
	c, s, _, _ := open(t, clientHello, serverHello)
	plain := unhex(t, udp)
	go func() {
		for range 100 {
			c.WritePackets([]tunnel.Packet{{Data: plain}, {Data: unhex(t, udpNaked), GSO: tunnel.Offload{NeedsChecksum: true}}})
			c.Echo()
		}
		c.CloseWith(CloseUser, "bye\x07")
	}()
	batch := make([]tunnel.Packet, 7)
	var got []tunnel.Packet
	for {
		n, err := s.ReadPackets(batch)
		for _, p := range batch[:n] {
			got = append(got, tunnel.Packet{Data: slices.Clone(p.Data), GSO: p.GSO})
		}
		if err != nil {
			var closed *ClosedError
			if !errors.As(err, &closed) || closed.Code != CloseUser || closed.Text != "bye?" {
				t.Errorf("ended with %v", err)
			}
			break
		}
	}
	s.Close()
	if len(got) != 200 {
		t.Fatalf("%d packets came, want 200", len(got))
	}
	for i, p := range got {
		if p.GSO.NeedsChecksum != (i%2 == 1) || len(p.Data) != len(plain) {
			t.Fatalf("packet %d: %+v", i, p)
		}
	}
}

func TestKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, _ := open(t, clientHello, serverHello)
		read := func(l *Link, end chan error) {
			_, err := l.ReadPackets(make([]tunnel.Packet, 1))
			end <- err
		}
		cEnd, sEnd := make(chan error, 1), make(chan error, 1)
		go read(c, cEnd)
		go read(s, sEnd)
		time.Sleep(time.Hour)
		synctest.Wait()
		for _, l := range []*Link{c, s} {
			if silence := time.Since(l.opened) - time.Duration(l.heard.Load()); silence > 16*time.Second {
				t.Errorf("nothing heard for %v, and nobody asked", silence)
			}
		}
		select {
		case err := <-cEnd:
			t.Errorf("the idle link ended: %v", err)
		default:
		}
		c.Close()
		s.Close()
		<-cEnd
		<-sEnd
	})
}

func TestSilenceEndsTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		go func() { // a peer that says hello and then neither speaks nor reads
			buf := make([]byte, 4096)
			b.Read(buf)
			b.Write(serverHello.append(nil))
		}()
		c, _, _, err := Open(t.Context(), carrier.Stream{ReadWriteCloser: a}, clientHello)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := c.ReadPackets(make([]tunnel.Packet, 1)); !errors.Is(err, ErrSilent) {
			t.Errorf("ended with %v", err)
		}
		if took := time.Since(began); took < 29*time.Second || took > 36*time.Second {
			t.Errorf("silence was found after %v", took)
		}
		c.Close()
		b.Close()
	})
}

func TestCloseWakesBothPumps(t *testing.T) {
	c, s, _, _ := open(t, clientHello, serverHello)
	ctx, cancel := context.WithCancel(t.Context())
	a, far := tunnel.Pipe(all)
	joined := make(chan error, 1)
	go func() { joined <- tunnel.Join(ctx, a, c) }()
	for range 3 { // fill the way: nobody reads at s
		far.WritePackets([]tunnel.Packet{{Data: unhex(t, udp)}})
	}
	cancel()
	select {
	case err := <-joined:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Join returned %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Join did not end")
	}
	s.Close()
}

// FuzzFrames: whatever is cut off a stream goes back to the same octets, and
// every packet accepted passes Check.
func FuzzFrames(f *testing.F) {
	f.Add(clientHello.append(nil))
	f.Add(unhex(f, "02 00001e"+udp+"04 000008 0000000000000001"))
	f.Add(unhex(f, "03 000022 03 01 0001"+udpNaked+"06 000003 014f4b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			frame, payload, rest, need, err := cutFrame(b)
			if err != nil {
				return
			}
			if need > 0 {
				if need <= len(b) {
					t.Fatalf("needs %d of %d", need, len(b))
				}
				return
			}
			whole := append(appendHeader(nil, frame, len(payload)), payload...)
			if !bytes.Equal(whole, b[:len(b)-len(rest)]) {
				t.Fatalf("%x was cut as %x", b, whole)
			}
			switch frame {
			case framePacket, frameSuper:
				p, ok := parsePacket(frame, payload, all)
				if !ok {
					break
				}
				if _, err := p.Check(); err != nil {
					t.Fatalf("accepted, but %v", err)
				}
				again := append(appendPacketHeader(nil, p), p.Data...)
				if !bytes.Equal(again, whole) {
					t.Fatalf("%x came back as %x", whole, again)
				}
			case frameHello:
				if h, err := parseHello(payload); err == nil {
					_, back, _, _, err := cutFrame(h.append(nil))
					if err != nil {
						t.Fatal(err)
					}
					if again, err := parseHello(back); err != nil || !bytes.Equal(again.append(nil), h.append(nil)) {
						t.Fatalf("%+v came back as %+v, %v", h, again, err)
					}
				}
			case frameClose, frameError:
				_ = ending(frame, payload).Error()
			}
			b = rest
		}
	})
}

// BenchmarkLink sends super-packets over a socket pair; it allocates nothing
// per packet.
func BenchmarkLink(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	done := make(chan *Link)
	go func() {
		conn, _ := listener.Accept()
		l, _, _, _ := Accept(context.Background(), carrier.Stream{ReadWriteCloser: conn}, func(Hello) (Hello, error) { return serverHello, nil })
		done <- l
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	c, _, _, err := Open(context.Background(), carrier.Stream{ReadWriteCloser: conn}, clientHello)
	if err != nil {
		b.Fatal(err)
	}
	s := <-done
	const size = 1400
	packet := make([]byte, size)
	copy(packet, unhex(b, udp))
	packet[2], packet[3] = size>>8, size&0xff
	packet[24], packet[25] = (size-20)>>8, (size-20)&0xff
	batch := make([]tunnel.Packet, 40)
	for i := range batch {
		batch[i].Data = packet
	}
	b.ReportAllocs()
	b.SetBytes(int64(size * len(batch)))
	go func() {
		in := make([]tunnel.Packet, tunnel.BatchSize)
		for {
			if _, err := s.ReadPackets(in); err != nil {
				close(done)
				return
			}
		}
	}()
	for b.Loop() {
		if err := c.WritePackets(batch); err != nil {
			b.Fatal(err)
		}
	}
	c.Close()
	<-done
	s.Close()
}
