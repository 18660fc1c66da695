package ppp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A foreign is a peer that a test plays by hand, at the other end of a line.
type foreign struct {
	t       *testing.T
	line    *line
	decoder *hdlc.Decoder
	format  hdlc.Format
}

func newForeign(t *testing.T, e *line) *foreign {
	return &foreign{t, e, hdlc.NewDecoder(65535), hdlc.Format{Escape: hdlc.NewSet(hdlc.DefaultACCM, [4]uint64{})}}
}

func (f *foreign) send(protocol uint16, p packet) { f.sendRaw(protocol, appendPacket(nil, p)) }

func (f *foreign) sendRaw(protocol uint16, b []byte) {
	f.line.Write(f.format.Append([]byte{hdlc.Flag}, protocol, b))
}

// receive returns the next packet of a protocol and code; code 0 is any.
func (f *foreign) receive(protocol uint16, code byte) packet {
	for {
		got, data, ok := f.decoder.Next()
		if !ok {
			n, err := f.line.Read(f.decoder.Buffer())
			if err != nil {
				return packet{}
			}
			f.decoder.Fill(n)
			continue
		}
		if p, sound := parsePacket(data); sound && got == protocol && (code == 0 || p.code == code) {
			p.data = bytes.Clone(p.data)
			return p
		}
	}
}

// open brings up LCP, and IPCP as the end that gives addresses; IPv6CP it leaves
// unanswered.
func (f *foreign) open() {
	f.send(protocolLCP, packet{confReq, 1, appendOption32(nil, optMagic, 0x01020304)})
	p := f.receive(protocolLCP, confReq)
	f.send(protocolLCP, packet{confAck, p.id, p.data})
	f.receive(protocolLCP, confAck)
	f.send(protocolIPCP, packet{confReq, 1, appendOption(nil, optAddr, 10, 0, 2, 2)})
	p = f.receive(protocolIPCP, confReq)
	f.send(protocolIPCP, packet{confNak, p.id, appendOption(nil, optAddr, 10, 0, 2, 15)})
	p = f.receive(protocolIPCP, confReq)
	f.send(protocolIPCP, packet{confAck, p.id, p.data})
}

// openForeign opens a link to a foreign peer.
func openForeign(t *testing.T, c Config) (*Link, *foreign, *diary) {
	t.Helper()
	ea, eb := newLine()
	f := newForeign(t, eb)
	d := &diary{t: t, name: "us"}
	go f.open()
	l, err := Open(context.Background(), ea.stream(), d.config(c))
	if err != nil {
		t.Fatal(err)
	}
	return l, f, d
}

func TestNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ea, eb := newLine()
		eb.Write([]byte("\r\nbash: pppd: command not found\r\n$ "))
		began := time.Now()
		l, err := Open(context.Background(), ea.stream(), Config{})
		if l != nil {
			t.Error("it came up")
		}
		failed(t, err, Negotiation, `no answer to 10 Configure-Requests; the other side said "bash: pppd: command not found  $"`)
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("it took %s", took)
		}
		if bytes.Contains(eb.in.unread(), []byte{0xc0, 0x21, 0x7d, 0x25}) {
			t.Error("it said goodbye to a shell")
		}
	})
}

func (h *half) unread() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Clone(h.octets)
}

func TestStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ea, eb := newLine()
		eb.Write([]byte("Permission denied.\r\n"))
		go func() {
			time.Sleep(time.Second)
			eb.Close()
		}()
		_, err := Open(context.Background(), ea.stream(), Config{})
		failed(t, err, Hangup, `the other side said "Permission denied."`)
	})
	synctest.Test(t, func(t *testing.T) {
		a, b, da, _ := openBoth(t, Config{}, Config{IPv4: serverIPv4})
		if a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
		b.link.stream.Close()
		if _, err := a.link.ReadPackets(make([]tunnel.Packet, 1)); err == nil {
			t.Error("packets from nobody")
		} else {
			failed(t, err, Hangup, "end of stream")
		}
		<-a.link.Done()
		failed(t, a.link.Err(), Hangup, "end of stream")
		failed(t, a.link.WritePackets(batchOf(1, 40)), Hangup, "")
		if k := da.kinds(); k[len(k)-1] != LinkDown {
			t.Errorf("events %v", k)
		}
		<-b.link.Done()
	})
}

// What is sent comes back: at once, after a while, and from the terminal of a
// program that is gone.
func TestLoop(t *testing.T) {
	loop := func(e *line) { // until the line ends
		b := make([]byte, 4096)
		for {
			n, err := e.Read(b)
			if err != nil {
				return
			}
			e.Write(b[:n])
		}
	}
	synctest.Test(t, func(t *testing.T) {
		ea, eb := newLine()
		go loop(eb)
		began := time.Now()
		_, err := Open(context.Background(), ea.stream(), Config{})
		failed(t, err, Loop, "comes back")
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
	})
	synctest.Test(t, func(t *testing.T) { // the shell echoes until its program starts
		ea, eb := newLine()
		da := &diary{t: t, name: "us"}
		far := make(chan *Link)
		go func() {
			b := make([]byte, 4096)
			for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
				n, _ := eb.Read(b)
				if time.Now().Before(end) {
					eb.Write(b[:n])
				}
			}
			l, err := Open(context.Background(), eb.stream(), Config{IPv4: serverIPv4})
			if err != nil {
				t.Error(err)
			}
			far <- l
		}()
		l, err := Open(context.Background(), ea.stream(), da.config(Config{}))
		if err != nil {
			t.Fatal(err)
		}
		(<-far).Close()
		<-l.Done()
		if n := len(da.lines); n > 40 {
			t.Errorf("%d packets: the echo was answered", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l, f, _ := openForeign(t, Config{LCP: LCP{EchoInterval: 10 * time.Second, EchoFailure: 10}})
		go loop(f.line)
		<-l.Done()
		failed(t, l.Err(), Loop, "comes back")
	})
}

func TestEchoLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f, _ := openForeign(t, Config{LCP: LCP{EchoInterval: 10 * time.Second, EchoFailure: 3}, IPv6: IPv6{Off: true}})
		began := time.Now()
		<-l.Done()
		failed(t, l.Err(), EchoLost, "no answer to 3 Echo-Requests")
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("it took %s", took)
		}
		if p := f.receive(protocolLCP, termReq); p.code != 0 {
			t.Error("it said goodbye to nobody")
		}
	})
}

// The far end ends the link; the goodbye is taken until it is sure to be heard.
func TestPeerTerminates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f, d := openForeign(t, Config{})
		go drain(l)
		f.send(protocolLCP, packet{termReq, 7, []byte("that's it\x1b[31m")})
		if p := f.receive(protocolLCP, termAck); p.id != 7 {
			t.Errorf("the goodbye was answered with %v", p)
		}
		time.Sleep(time.Second)
		f.send(protocolLCP, packet{termReq, 7, nil}) // the answer was lost
		if p := f.receive(protocolLCP, termAck); p.id != 7 {
			t.Errorf("the second goodbye was answered with %v", p)
		}
		select {
		case <-l.Done():
			t.Error("it did not wait")
		default:
		}
		<-l.Done()
		failed(t, l.Err(), PeerTerminated, `saying "that's it?[31m"`)
		if k := d.kinds(); k[len(k)-1] != LinkDown || k[len(k)-2] != IPv4Down {
			t.Errorf("events %v", k)
		}
	})
}

// Close does not wait for a peer that is gone, and sends one goodbye.
func TestCloseIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f, _ := openForeign(t, Config{IPv6: IPv6{Off: true}})
		began := time.Now()
		l.Close()
		if took := time.Since(began); took > closePatience+flushPatience {
			t.Errorf("it took %s", took)
		}
		goodbyes := 0
		for f.receive(protocolLCP, termReq).code != 0 {
			goodbyes++
		}
		if goodbyes != 1 {
			t.Errorf("%d goodbyes", goodbyes)
		}
		if _, err := l.ReadPackets(make([]tunnel.Packet, 1)); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if err := l.WritePackets(batchOf(1, 40)); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		l.Close()
	})
	synctest.Test(t, func(t *testing.T) { // a peer that does not even read
		l, f, _ := openForeign(t, Config{IPv6: IPv6{Off: true}})
		go func() {
			for l.WritePackets(batchOf(64, 1500)) == nil {
			}
		}()
		time.Sleep(time.Second)
		began := time.Now()
		l.Close()
		if took := time.Since(began); took > closePatience+flushPatience {
			t.Errorf("it took %s", took)
		}
		f.line.Close()
	})
	synctest.Test(t, func(t *testing.T) { // Terminate repeats itself, and says that it was in vain
		l, f, _ := openForeign(t, Config{IPv6: IPv6{Off: true}})
		began := time.Now()
		if err := l.Terminate("done"); err == nil {
			t.Error("no word of the missing answer")
		}
		if took := time.Since(began); took != 6*time.Second {
			t.Errorf("it took %s", took)
		}
		for range 2 {
			if p := f.receive(protocolLCP, termReq); string(p.data) != "done" {
				t.Errorf("got %v", p)
			}
		}
	})
}

// A Link that nobody reads from answers its peer, and loses packets.
func TestNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f, _ := openForeign(t, Config{IPv6: IPv6{Off: true}})
		for id := range byte(3) {
			f.sendRaw(protocolIPv4, packet4(100))
			f.send(protocolLCP, packet{echoReq, id, []byte("\x01\x02\x03\x04hello")})
			if p := f.receive(protocolLCP, echoRep); p.id != id || string(p.data[4:]) != "hello" || bytes.HasPrefix(p.data, []byte{1, 2, 3, 4}) {
				t.Fatalf("the echo came back as %v", p)
			}
		}
		time.Sleep(time.Minute)
		if s := l.Stats(); s.Dropped != 3 || s.PacketsIn != 3 {
			t.Errorf("%+v", s)
		}
		// One that holds a batch for long keeps it whole.
		f.sendRaw(protocolIPv4, packet4(1000))
		batch := make([]tunnel.Packet, 4)
		n, err := l.ReadPackets(batch)
		if n != 1 || err != nil {
			t.Fatal(n, err)
		}
		for id := range byte(3) {
			time.Sleep(time.Minute)
			f.sendRaw(protocolIPv4, packet6(1000))
			f.send(protocolLCP, packet{echoReq, id, make([]byte, 900)})
			f.receive(protocolLCP, echoRep)
		}
		if !bytes.Equal(batch[0].Data, packet4(1000)) {
			t.Error("what ReadPackets lent was overwritten")
		}
		go f.sendRaw(protocolIPv4, packet4(500))
		if n, err := l.ReadPackets(batch); n != 1 || err != nil || len(batch[0].Data) != 500 {
			t.Error(n, err)
		}
		l.Close()
	})
}

// Both directions full, of packets and of control: nobody waits for ever.
func TestBothDirectionsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ea, eb := newLine()
		ea.in.depth, eb.in.depth = 2000, 2000
		c := Config{LCP: LCP{EchoInterval: time.Millisecond}}
		d := c
		d.IPv4 = serverIPv4
		a, b, _, _ := openOn(t, ea, eb, c, d)
		if a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
		const batches = 50
		var all sync.WaitGroup
		for _, way := range [][2]*Link{{a.link, b.link}, {b.link, a.link}} {
			all.Go(func() {
				for range batches {
					if err := way[0].WritePackets(batchOf(64, 1500)); err != nil {
						t.Error(err)
					}
				}
			})
			all.Go(func() {
				got, batch := 0, make([]tunnel.Packet, 32)
				for got < batches*64 {
					n, err := way[1].ReadPackets(batch)
					if err != nil {
						t.Error(err)
						return
					}
					for _, p := range batch[:n] {
						if !bytes.Equal(p.Data, packet4(1500)) {
							t.Error("a packet is another")
						}
					}
					got += n
				}
			})
		}
		all.Wait()
		a.link.Close()
		<-b.link.Done()
	})
}

// A peer that floods us with control packets and does not read the answers costs no
// memory, and packets still come through.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f, _ := openForeign(t, Config{IPv6: IPv6{Off: true}})
		l.do(func(time.Time) { l.c.Log = nil })
		done := make(chan int)
		go func() { done <- drain(l) }()
		for range 20000 {
			f.send(protocolLCP, packet{echoReq, 1, make([]byte, 1000)})
			f.send(protocolLCP, packet{99, 1, make([]byte, 1000)})
			f.sendRaw(0x0fff, make([]byte, 1000))
			f.sendRaw(protocolIPv4, packet4(40))
		}
		synctest.Wait()
		if n := len(l.outbox.appendTo(nil)); n > maxOutbox {
			t.Errorf("%d octets wait", n)
		}
		l.Close()
		if n := <-done; n != 20000 {
			t.Errorf("%d packets came through", n)
		}
	})
}

// What was not agreed on is rejected unread, a few times; before LCP is open
// nothing is.
func TestUnknownProtocols(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ea, eb := newLine()
		f := newForeign(t, eb)
		protocols := []uint16{0xc227, protocolCHAP, protocolPAP, protocolCCP, 0x002d, 0x00fd, 0xc025}
		go func() {
			for _, p := range protocols {
				f.sendRaw(p, []byte{1, 1, 0, 4})
			}
			f.open()
		}()
		d := &diary{t: t, name: "us"}
		l, err := Open(context.Background(), ea.stream(), d.config(Config{IPv6: IPv6{Off: true}}))
		if err != nil {
			t.Fatal(err)
		}
		if d.has("ProtRej") {
			t.Error("something was rejected before LCP was open")
		}
		for _, p := range append(protocols, protocolIPv6CP) {
			f.sendRaw(p, append([]byte{9, 9}, make([]byte, 1498)...))
			got := f.receive(protocolLCP, protRej)
			if !bytes.HasPrefix(got.data, []byte{byte(p >> 8), byte(p), 9, 9}) || headerLen+len(got.data) > 1500 {
				t.Errorf("protocol %04x: %v", p, got)
			}
		}
		f.sendRaw(protocolIPv6, packet6(100)) // real kernels do
		f.send(protocolLCP, packet{echoReq, 1, make([]byte, 4)})
		if p := f.receive(protocolLCP, 0); p.code != echoRep {
			t.Errorf("IPv6 was answered with %v", p)
		}
		for range 100 {
			f.sendRaw(protocolCCP, []byte{1, 1, 0, 4})
		}
		f.send(protocolLCP, packet{echoReq, 1, make([]byte, 4)})
		rejections := 0
		for f.receive(protocolLCP, 0).code == protRej {
			rejections++
		}
		if rejections > maxRejections {
			t.Errorf("%d rejections", rejections)
		}
		if s := l.Stats(); s.Early != 1 {
			t.Errorf("%+v", s)
		}
		l.Close()
	})
}

// The failure of one network protocol does not end the link.
func TestNetworksAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // IPv6CP without an answer, as with slirp
		l, f, d := openForeign(t, Config{})
		go drain(l)
		go func() {
			for f.receive(protocolLCP, 0).code != 0 {
			}
		}()
		time.Sleep(time.Hour)
		if l.Err() != nil {
			t.Error(l.Err())
		}
		if asked := d.count("sent [IPV6CP"); asked != 10 {
			t.Errorf("IPv6CP asked %d times", asked)
		}
		f.send(protocolIPv6CP, packet{confReq, 1, appendOption(nil, optInterfaceID, id8(5)...)}) // and then it speaks
		time.Sleep(time.Second)
		if !d.has("sent [IPV6CP ConfAck") {
			t.Error("IPv6CP is not answered any more")
		}
		l.Close()
	})
	synctest.Test(t, func(t *testing.T) { // IPCP rejected, IPv6 open
		a, b, _, _ := openBoth(t, Config{}, Config{IPv4: IPv4{Off: true}})
		if a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
		if got := a.link.Agreed(); len(got.Local) != 1 || !got.Local[0].Addr().Is6() {
			t.Errorf("agreed on %+v", got)
		}
		exchange(t, a.link, b.link, packet6(100))
		a.link.Close()
		<-b.link.Done()
	})
	synctest.Test(t, func(t *testing.T) { // none left
		a, b, _, _ := openBoth(t, Config{IPv6: IPv6{Off: true}}, Config{IPv4: IPv4{Off: true}})
		failed(t, a.err, Negotiation, "the peer does not know IPCP")
		if b.err == nil {
			t.Error("it came up")
		}
	})
	synctest.Test(t, func(t *testing.T) { // none has an address
		a, b, _, _ := openBoth(t, Config{IPv6: IPv6{Off: true}}, Config{IPv6: IPv6{Off: true}, IPv4: IPv4{NoRemote: true, Local: serverAddr}})
		failed(t, a.err, Negotiation, "we have no address")
		if b.err == nil { // it was content, until we ended it
			<-b.link.Done()
			failed(t, b.link.Err(), PeerTerminated, "No network protocols running")
		}
	})
}

// A small MRU carries IPv4, and no IPv6. Either side sends no more than that.
func TestSmallMRU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, da, _ := openBoth(t, Config{LCP: LCP{MRU: 552}}, Config{IPv4: serverIPv4})
		if a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
		if a, b := a.link.Caps().MTU, b.link.Caps().MTU; a != 552 || b != 552 {
			t.Errorf("MTU %d and %d", a, b)
		}
		if got := a.link.Agreed(); len(got.Local) != 1 {
			t.Errorf("agreed on %+v", got)
		}
		if e := da.events[len(da.events)-2]; e.Kind != Note || !strings.Contains(e.Text, "552") {
			t.Errorf("events %+v", da.events)
		}
		exchange(t, b.link, a.link, packet4(552))
		exchange(t, a.link, b.link, packet4(552))
		b.link.WritePackets(batchOf(3, 553))
		if s := b.link.Stats(); s.Dropped != 3 {
			t.Errorf("%+v", s)
		}
		a.link.Close()
		<-b.link.Done()
	})
}

// No octet that the way eats is ever sent, and those below 0x20 are asked of the
// peer; the 32-bit FCS holds where both want it.
func TestUnsafeOctets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var unsafe carrier.ByteSet
		for _, b := range []byte{0x00, 0x03, 0x11, 0x13, 0x1d, 0x7f, 0xff} {
			unsafe.Add(b)
		}
		ea, eb := newLine()
		ea.unsafe = unsafe
		eb.out.eats = &carrier.ByteSet{}
		for _, b := range []byte{0x00, 0x03, 0x11, 0x13, 0x1d} {
			eb.out.eats.Add(b)
		}
		ea.out.eats = &unsafe
		a, b, _, _ := openOn(t, ea, eb, Config{LCP: LCP{FCS32: true}}, Config{LCP: LCP{FCS32: true}, IPv4: serverIPv4})
		if a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
		exchange(t, a.link, b.link, packet4(1500))
		exchange(t, b.link, a.link, packet4(1500))
		if s := a.link.Stats(); s.In.ACCM != 0x200a0009 || !s.In.FCS32 || !s.Out.FCS32 {
			t.Errorf("%+v", s)
		}
		if ea.out.eaten+eb.out.eaten > 0 {
			t.Errorf("%d and %d octets were eaten", ea.out.eaten, eb.out.eaten)
		}
		a.link.Close()
		<-b.link.Done()
	})
}

// Open ends with its context, and closes the Stream.
func TestOpenCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ea, eb := newLine()
		ctx, cancel := context.WithCancelCause(context.Background())
		cause := errors.New("enough")
		time.AfterFunc(5*time.Second, func() { cancel(cause) })
		_, err := Open(ctx, ea.stream(), Config{})
		if !errors.Is(err, cause) {
			t.Error(err)
		}
		b, _ := io.ReadAll(eb)
		if len(b) != 0 {
			t.Log(len(b), "octets were left unread")
		}
	})
	for _, c := range []Config{
		{LCP: LCP{MRU: 100}}, {LCP: LCP{MTU: 70000}}, {IPv4: IPv4{Off: true}, IPv6: IPv6{Off: true}},
		{IPv4: IPv4{Local: netip.MustParseAddr("127.0.0.1")}}, {IPv4: IPv4{Remote: netip.MustParseAddr("fe80::1")}},
		{IPv4: IPv4{Local: clientAddr, Remote: clientAddr}}, {IPv6: IPv6{Local: 1, Remote: 1}},
		{IPv4: IPv4{DNS: make([]netip.Addr, 3)}}, {IPv4: IPv4{DNS: []netip.Addr{netip.MustParseAddr("::1")}}},
	} {
		ea, _ := newLine()
		if l, err := Open(context.Background(), ea.stream(), c); err == nil {
			t.Errorf("%+v was taken", c)
			l.Close()
		} else if _, err := ea.Write([]byte("x")); err == nil {
			t.Error("the Stream was left open")
		}
	}
}
