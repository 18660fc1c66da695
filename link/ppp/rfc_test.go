package ppp

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/link/ppp/auth"
)

// lcpUp brings up LCP, without options of its own but those given.
func (f *foreign) lcpUp(options ...byte) {
	f.send(protocolLCP, packet{confReq, 1, options})
	f.acknowledge(protocolLCP)
	f.receive(protocolLCP, confAck)
}

// acknowledge takes the next Configure-Request of a protocol as it is.
func (f *foreign) acknowledge(protocol uint16) packet {
	p := f.receive(protocol, confReq)
	f.send(protocol, packet{confAck, p.id, p.data})
	return p
}

// nothingUntilEcho checks that an Echo-Reply is the next packet of LCP.
func (f *foreign) nothingUntilEcho(what string) {
	f.t.Helper()
	f.send(protocolLCP, packet{echoReq, 77, make([]byte, 4)})
	if p := f.receive(protocolLCP, 0); p.code != echoRep || p.id != 77 {
		f.t.Errorf("%s: got code %d, %x", what, p.code, p.data)
	}
}

// openAgainst opens a link to a foreign peer that the test plays, in the background.
func openAgainst(t *testing.T, c Config) (*foreign, *diary, <-chan result) {
	ea, eb := newLine()
	d := &diary{t: t, name: "us"}
	opened := make(chan result, 1)
	go func() {
		l, err := Open(context.Background(), ea.stream(), d.config(c))
		opened <- result{l, err}
	}()
	return newForeign(t, eb), d, opened
}

// RFC 1661, section 3.5: while one end has still to prove who it is, nothing but
// LCP and authentication is answered, not even by a Protocol-Reject.
func TestSilentDuringAuthentication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Config{Auth: Auth{Require: []auth.Protocol{auth.CHAP}, Name: "us", Secret: func(string, string) ([]byte, bool) { return nil, false }}, IPv6: IPv6{Off: true}}
		f, d, opened := openAgainst(t, c)
		f.lcpUp()
		f.receive(protocolCHAP, 1)
		for _, protocol := range []uint16{protocolIPCP, protocolIPv6CP, protocolCCP, protocolPAP, 0x0021, 0x00fd, 0xc025} {
			f.send(protocol, packet{confReq, 1, nil})
			f.nothingUntilEcho(fmt.Sprintf("protocol %04x", protocol))
		}
		if d.has("sent [IPCP") {
			t.Error("IPCP was answered")
		}
		f.send(protocolCHAP, packet{2, 0, nil})
		f.line.Close()
		<-opened
	})
}

// RFC 1661, section 5.7: after a Protocol-Reject no more is sent of that protocol,
// be it the control protocol's or the network's own.
func TestProtocolRejected(t *testing.T) {
	for _, protocol := range []uint16{protocolIPCP, protocolIPv4} {
		synctest.Test(t, func(t *testing.T) {
			l, f, d := openForeign(t, Config{IPv6: IPv6{Off: true}})
			go drain(l)
			f.send(protocolLCP, packet{protRej, 1, binary.BigEndian.AppendUint16(nil, protocol)})
			go func() {
				for f.receive(protocolLCP, 0).code != 0 {
				}
			}()
			time.Sleep(time.Second)
			if l.up4.Load() || !d.has("sent [IPCP TermReq") {
				t.Errorf("after the rejection of %04x IPv4 goes on", protocol)
			}
			l.Close()
		})
	}
}

// RFC 1661, section 5.3: an option that a peer should have asked for is named to it
// in a Nak. A Reject that had to go out first is not that Nak.
func TestMissingAfterReject(t *testing.T) {
	m := machine{layer: &ipv4Layer{ipcp: ipcp{local: nowhere}}, timers: Timers{}.withDefaults(), mru: func() int { return 1500 }}
	for i, tt := range []struct {
		asked string
		want  byte
	}{{"0206 002d 0f01", confRej}, {"", confNak}, {"", confAck}} {
		if _, answer, _ := m.judge(packet{confReq, byte(i), octets(t, tt.asked)}); answer.code != tt.want {
			t.Errorf("request %d is answered with code %d, want %d", i, answer.code, tt.want)
		}
	}
}

// RFC 1661, section 5.3: options without a value cannot be naked. Some peers do,
// and mean a Reject.
func TestNakOfBoolean(t *testing.T) {
	y := &lcpLayer{lcp: lcp{want: LCP{MRU: defaultMRU, NoMagic: true}}}
	y.begin()
	y.naked(option{optPFC, nil})
	y.naked(option{optACFC, nil})
	if got := y.request(nil); bytes.Contains(got, []byte{optPFC, 2}) || bytes.Contains(got, []byte{optACFC, 2}) {
		t.Errorf("asked again: %x", got)
	}
}

// RFC 5072, section 4.1, case by case.
func TestInterfaceIdentifiers(t *testing.T) {
	next := uint64(0x1000)
	fresh := func(w IPv6) (*ipv6cp, *machine) {
		y := &ipv6Layer{ipv6cp: ipv6cp{want: w, random: func() uint64 { next++; return next }}}
		y.begin()
		return &y.ipv6cp, &machine{layer: y, timers: Timers{}.withDefaults(), mru: func() int { return 1500 }}
	}
	ask := func(m *machine, ids ...uint64) (code byte, id uint64) {
		var options []byte
		for _, id := range ids {
			options = appendOption(options, optInterfaceID, id8(id)...)
		}
		_, answer, _ := m.judge(packet{confReq, 1, options})
		if len(answer.data) >= 10 {
			id = binary.BigEndian.Uint64(answer.data[2:])
		}
		return answer.code, id
	}

	c, m := fresh(IPv6{})
	if code, id := ask(m, 0); code != confNak || id == 0 || id == c.local {
		t.Errorf("0 is answered with %d %x", code, id)
	}
	code, suggested := ask(m, c.local)
	if code != confNak || suggested == 0 || suggested == c.local {
		t.Errorf("ours is answered with %d %x", code, suggested)
	}
	if code, _ := ask(m, 0xfeed); code != confAck {
		t.Errorf("another one is answered with %d", code)
	}

	c, _ = fresh(IPv6{})
	if c.naked(option{optInterfaceID, id8(0xbeef)}); c.local != 0xbeef {
		t.Errorf("we do not take what is suggested, but %x", c.local)
	}

	// Both ends had the same luck: what the peer suggests is what we suggested to it.
	c, m = fresh(IPv6{})
	_, suggested = ask(m, c.local)
	before := c.local
	if c.naked(option{optInterfaceID, id8(suggested)}); c.local == suggested || c.local == before || c.local == 0 {
		t.Errorf("after both ends suggested %x ours is %x", suggested, c.local)
	}

	// The peer's own is none for us.
	c, m = fresh(IPv6{})
	ask(m, 0xfeed)
	if c.naked(option{optInterfaceID, id8(0xfeed)}); c.local == 0xfeed {
		t.Error("we take the peer's own identifier")
	}
	c.local = 0xfeed
	if _, _, err := c.agreed(); err == nil {
		t.Error("both ends have one identifier")
	}

	// A peer that names none is asked to, once.
	_, m = fresh(IPv6{})
	for i, want := range []byte{confNak, confAck} {
		if code, _ := ask(m); code != want {
			t.Errorf("request %d without an identifier is answered with %d", i, code)
		}
	}
}

// A peer may not give us the address that it has itself.
func TestOneAddressForBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, opened := openAgainst(t, Config{IPv6: IPv6{Off: true}})
		f.lcpUp()
		f.send(protocolIPCP, packet{confReq, 1, appendOption(nil, optAddr, 10, 0, 2, 2)})
		p := f.receive(protocolIPCP, confReq)
		f.send(protocolIPCP, packet{confNak, p.id, appendOption(nil, optAddr, 10, 0, 2, 2)})
		f.acknowledge(protocolIPCP)
		go func() {
			for f.receive(protocolLCP, 0).code != 0 {
			}
		}()
		r := <-opened
		failed(t, r.err, Negotiation, "10.0.2.2")
		if r.link != nil {
			r.link.Close()
		}
	})
}

// A network that found no agreement is tried again when LCP negotiates anew.
func TestNetworkAfterRenegotiation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, d, opened := openAgainst(t, Config{})
		f.lcpUp()
		f.send(protocolIPv6CP, packet{confReq, 1, appendOption(nil, optInterfaceID, id8(5)...)})
		f.acknowledge(protocolIPv6CP)
		f.send(protocolIPCP, packet{confReq, 1, appendOption(nil, optAddr, 10, 0, 2, 2)})
		p := f.receive(protocolIPCP, confReq)
		f.send(protocolIPCP, packet{confRej, p.id, p.data}) // no address for us
		f.acknowledge(protocolIPCP)
		p = f.receive(protocolIPCP, termReq)
		f.send(protocolIPCP, packet{termAck, p.id, nil})
		r := <-opened
		if r.err != nil {
			t.Fatal(r.err)
		}
		go drain(r.link)

		f.lcpUp()
		f.send(protocolIPCP, packet{confReq, 2, appendOption(nil, optAddr, 10, 0, 2, 2)})
		p = f.receive(protocolIPCP, 0)
		for p.code == confAck {
			p = f.receive(protocolIPCP, 0)
		}
		if p.code != confReq {
			t.Fatalf("IPCP answers with code %d", p.code)
		}
		f.send(protocolIPCP, packet{confNak, p.id, appendOption(nil, optAddr, 10, 0, 2, 15)})
		f.acknowledge(protocolIPCP)
		synctest.Wait()
		if n := d.count("no IPv4"); n > 1 || len(r.link.Agreed().Local) == 0 || !r.link.Agreed().Local[0].Addr().Is4() {
			t.Errorf("agreed on %+v", r.link.Agreed())
		}
		f.line.Close()
		<-r.link.Done()
	})
}

// Whatever a peer rejects, and however often, the user hears of it once.
func TestNotesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f, d := openForeign(t, Config{IPv6: IPv6{Off: true}, LCP: LCP{EchoInterval: time.Minute}})
		for i := range byte(100) {
			f.send(protocolLCP, packet{codeRej, i, []byte{echoReq, 0, 0, 8, 0, 0, 0, 0}})
		}
		f.nothingUntilEcho("rejections")
		if n := strings.Count(fmt.Sprint(d.kinds()), fmt.Sprint(Note)); n != 1 {
			t.Errorf("%d notes", n)
		}
		l.Close()
	})
}

// RFC 1661, section 5.8: the answer has our own magic number, 0 without one, and the
// rest of the request as far as the peer takes it.
func TestEchoReply(t *testing.T) {
	for _, without := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f, d, opened := openAgainst(t, Config{IPv6: IPv6{Off: true}, LCP: LCP{NoMagic: without}})
			f.lcpUp(octets(t, "0104 00c8")...) // an MRU of 200
			data := append([]byte{1, 2, 3, 4}, bytes.Repeat([]byte("echo"), 300)...)
			f.send(protocolLCP, packet{echoReq, 200, data})
			p := f.receive(protocolLCP, echoRep)
			magic := binary.BigEndian.Uint32(p.data)
			if p.id != 200 || without != (magic == 0) || without != !d.has(fmt.Sprintf("<magic 0x%x>", magic)) {
				t.Errorf("id %d, magic %x", p.id, magic)
			}
			if rest := p.data[4:]; headerLen+len(p.data) != 200 || !bytes.HasPrefix(data[4:], rest) {
				t.Errorf("%d octets came back, of %d", len(rest), len(data)-4)
			}
			f.send(protocolLCP, packet{echoReq, 201, []byte{1, 2, 3}})
			f.nothingUntilEcho("a request without a magic number")
			f.line.Close()
			<-opened
		})
	}
}

// RFC 1661, section 5: codes 1 to 7 are sent as if nothing had been agreed on, all
// others of LCP as agreed. Section 6.6: never without address and control.
func TestDefaultFormat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, opened := openAgainst(t, Config{IPv6: IPv6{Off: true}})
		f.lcpUp(octets(t, "0206 00000000 0702 0802")...)
		f.send(protocolIPCP, packet{confReq, 1, appendOption(nil, optAddr, 10, 0, 2, 2)})
		p := f.receive(protocolIPCP, confReq)
		f.send(protocolIPCP, packet{confNak, p.id, appendOption(nil, optAddr, 10, 0, 2, 15)})
		f.acknowledge(protocolIPCP)
		r := <-opened
		if r.err != nil {
			t.Fatal(r.err)
		}
		for _, tt := range []struct {
			sent  packet
			begin string // of the answer, as it is on the line
		}{
			{packet{99, 9, nil}, "ff7d23c0217d27"}, // Code-Reject
			{packet{echoReq, 9, make([]byte, 4)}, "ff03c0210a09"},
			{packet{termReq, 9, nil}, "ff7d23c0217d267d29"}, // Terminate-Ack
		} {
			synctest.Wait()
			f.line.in.discard()
			f.send(protocolLCP, tt.sent)
			synctest.Wait()
			f.line.in.mu.Lock()
			got := bytes.TrimLeft(f.line.in.octets, "~")
			if !bytes.HasPrefix(got, octets(t, tt.begin)) {
				t.Errorf("code %d is answered with %x, want %s...", tt.sent.code, got, tt.begin)
			}
			f.line.in.mu.Unlock()
		}
		<-r.link.Done()
	})
}

// RFC 1570, section 2.1.1: whoever negotiates anew or says goodbye is back at the
// default FCS, and so are we with the answer; then the agreed one holds again.
func TestFCSAfterRenegotiation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Config{LCP: LCP{FCS32: true}}
		d := c
		d.IPv4 = serverIPv4
		a, b, da, _ := openBoth(t, c, d)
		if a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
		go drain(b.link)
		for range 2 {
			if s := a.link.Stats(); !s.In.FCS32 || !s.Out.FCS32 {
				t.Fatalf("agreed on %+v", s)
			}
			exchange(t, b.link, a.link, packet4(100))
			b.link.do(func(now time.Time) { // as if a Terminate-Ack had come from nowhere
				b.link.lcp.step(rta, now)
			})
			time.Sleep(2 * patience) // the packet that came is still lent
		}
		if n := da.count("rcvd [LCP ConfAck"); n != 3 || a.link.Stats().Line.FCS+b.link.Stats().Line.FCS != 0 {
			t.Errorf("%d negotiations, %+v, %+v", n, a.link.Stats().Line, b.link.Stats().Line)
		}
		a.link.Close()
		<-b.link.Done()
	})
}

// Nobody gets into the network phase by starting over: what was proved, and who by,
// is forgotten with the link that it was proved on.
func TestNothingProvedIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ours := authPair(auth.PAP, 0)
		f, d, opened := openAgainst(t, Config{Auth: ours, IPv4: serverIPv4, IPv6: IPv6{Off: true}})
		up := func(password string, verdict byte) {
			f.lcpUp()
			f.send(protocolPAP, packet{1, 1, append([]byte("\x03ann"), append([]byte{byte(len(password))}, password...)...)})
			f.receive(protocolPAP, verdict)
		}
		up("ann's secret", 2)
		f.send(protocolIPCP, packet{confReq, 1, appendOption(nil, optAddr, clientAddr.AsSlice()...)})
		f.acknowledge(protocolIPCP)
		r := <-opened
		if r.err != nil {
			t.Fatal(r.err)
		}
		go drain(r.link)
		f.lcpUp()
		f.send(protocolIPCP, packet{confReq, 2, appendOption(nil, optAddr, clientAddr.AsSlice()...)})
		f.sendRaw(protocolIPv4, packet4(100))
		f.nothingUntilEcho("IPCP before the proof")
		if n := r.link.Stats().PacketsIn; n != 0 {
			t.Errorf("%d packets came through", n)
		}
		f.send(protocolPAP, packet{1, 2, []byte("\x03ann\x00")})
		f.receive(protocolPAP, 3)
		f.receive(protocolLCP, termReq)
		f.send(protocolIPCP, packet{confReq, 3, nil})
		f.line.Close()
		<-r.link.Done()
		if n := d.count("sent [IPCP ConfReq"); n != 1 {
			t.Errorf("IPCP began %d times", n)
		}
		failed(t, r.link.Err(), PeerRefused, "ann")
	})
}
