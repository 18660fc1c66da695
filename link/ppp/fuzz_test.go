package ppp

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/ppp/auth"
	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
	"github.com/bodkin-net/bodkin/tunnel"
)

// What parses re-encodes to the same octets, and its notation is printable.
func FuzzPacket(f *testing.F) {
	f.Add(uint16(protocolLCP), []byte("\x01\x01\x00\x14\x02\x06\x00\x00\x00\x00\x05\x06\x5f\x1c\x9d\x2a\x07\x02\x08\x02"))
	f.Add(uint16(protocolPAP), []byte("\x01\x01\x00\x10\x03ann\x07secret!"))
	f.Add(uint16(protocolCHAP), []byte("\x01\x01\x00\x0c\x04\x01\x02\x03\x04bob"))
	f.Add(uint16(protocolIPCP), []byte("\x01\x01\x00\x06\x03\x00"))
	f.Fuzz(func(t *testing.T, protocol uint16, b []byte) {
		p, sound := parsePacket(b)
		text := notation(protocol, b, p, sound)
		for i := range len(text) {
			if text[i] < ' ' || text[i] > '~' {
				t.Fatalf("%q", text)
			}
		}
		if !sound {
			return
		}
		if again := appendPacket(nil, p); !bytes.HasPrefix(b, again) {
			t.Fatalf("%x became %x", b, again)
		}
		options, ok := parseOptions(p.data)
		if !ok {
			return
		}
		var again []byte
		for _, o := range options {
			again = appendOption(again, o.kind, o.value...)
		}
		if !bytes.Equal(again, p.data) {
			t.Fatalf("%x became %x", p.data, again)
		}
	})
}

// A scripted peer sends what a fuzzer says, and looks at what comes back.
type scripted struct {
	mu     sync.Mutex
	script []byte
	sent   []byte
	closed bool
}

func (s *scripted) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.script) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.script)
	s.script = s.script[n:]
	return n, nil
}

func (s *scripted) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	s.sent = append(s.sent, p...)
	return len(p), nil
}

func (s *scripted) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// A peer that sends any frames at all makes no Link panic or hang, gets no frame
// longer than it takes, no more of them than it sent and a few, and no IP through
// without having agreed to.
//
// The first octet says what we want; each frame of the script is its length, its
// protocol and its data, and a protocol of 0 stands for octets as they are.
func FuzzLink(f *testing.F) {
	lcp := func(p packet) []byte { return append([]byte{0xc0, 0x21}, appendPacket(nil, p)...) }
	script := func(flags byte, frames ...[]byte) []byte {
		b := []byte{flags}
		for _, frame := range frames {
			b = append(append(b, byte(len(frame)-2)), frame...)
		}
		return b
	}
	request := lcp(packet{confReq, 1, []byte("\x05\x06\x01\x02\x03\x04")})
	f.Add(script(0, request, lcp(packet{termReq, 1, []byte("bye")})))
	f.Add(script(1, request, lcp(packet{confNak, 1, []byte("\x02\x06\x00\x00\x00\x01")}), lcp(packet{confRej, 2, []byte("\x07\x02")})))
	f.Add(script(2, lcp(packet{confReq, 1, []byte("\x03\x04\xc0\x23")}), []byte("\xc0\x23\x01\x01\x00\x04")))
	f.Add(script(3, lcp(packet{99, 1, nil}), []byte("\x00\x00~~~}}~ok")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 1 {
			return
		}
		flags, b := b[0], b[1:]
		format := hdlc.Format{Escape: hdlc.NewSet(hdlc.DefaultACCM, [4]uint64{})}
		peer := &scripted{script: []byte{hdlc.Flag}}
		sent := 0
		for len(b) >= 3 {
			n := min(int(b[0]), len(b)-3)
			protocol, data := uint16(b[1])<<8|uint16(b[2]), b[3:3+n]
			b = b[3+n:]
			sent++
			if protocol == 0 {
				peer.script = append(peer.script, data...)
			} else {
				peer.script = format.Append(peer.script, protocol, data)
			}
		}
		c := Config{Rand: zeros{}, IPv4: IPv4{Local: netip.MustParseAddr("10.0.0.1")}, Log: func(string) {}}
		c.LCP.Silent = flags&1 != 0
		c.LCP.FCS32 = flags&2 != 0
		if flags&4 != 0 {
			c.Auth.Require = []auth.Protocol{auth.CHAP, auth.PAP}
		}
		c.Auth.Secret = func(string, string) ([]byte, bool) { return []byte("s"), true }
		if flags&8 != 0 {
			c.Auth.Permit = []auth.Protocol{auth.PAP, auth.MSCHAPv2}
		}
		c, err := c.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		l := newLink(carrier.Stream{ReadWriteCloser: peer}, c)
		l.do(l.begin)
		if flags&16 != 0 { // as if all had been agreed on
			l.up4.Store(true)
		}
		l.running.Add(2)
		go l.read()
		go l.write()
		go l.keep()
		packets := make([]tunnel.Packet, 16)
		for {
			n, err := l.ReadPackets(packets)
			if err != nil {
				break
			}
			for _, p := range packets[:n] {
				if len(p.Data) == 0 || p.Data[0]>>4 != 4 && p.Data[0]>>4 != 6 {
					t.Errorf("a packet of %x", p.Data)
				}
			}
		}
		select {
		case <-l.Done():
		case <-time.After(20 * time.Second):
			t.Fatal("it hangs")
		}
		d, got := hdlc.NewDecoder(65535), 0
		d.SetFCS(hdlc.FCS16)
		for rest := peer.sent; len(rest) > 0; {
			n := copy(d.Buffer(), rest)
			d.Fill(n)
			rest = rest[n:]
			for {
				_, data, ok := d.Next()
				if !ok {
					break
				}
				got++
				if len(data) > defaultMRU {
					t.Errorf("a packet of %d octets", len(data))
				}
			}
		}
		if got > 8*sent+8 {
			t.Errorf("%d frames for %d", got, sent)
		}
	})
}

// zeros is a Rand that is none.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 7
	}
	return len(p), nil
}
