package socks

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"strconv"
	"testing"
)

// A wire reads what a program sends, an octet at a time, and keeps what it is answered.
type wire struct {
	in      *bytes.Reader
	answers bytes.Buffer
}

func (w *wire) Read(b []byte) (int, error)  { return w.in.Read(b[:min(len(b), 1)]) }
func (w *wire) Write(b []byte) (int, error) { return w.answers.Write(b) }

// FuzzRequest: a request that is taken is of a destination that can be written as
// "host:port" and read again, no octet after it is eaten, and a wrong password is never
// taken.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x01\xc6\x33\x64\x0a\x00\x50rest"), false)
	f.Add([]byte("\x05\x01\x00\x05\x03\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x35"), false)
	f.Add([]byte("\x05\x02\x00\x02\x05\x01\x00\x03\x09four.test\x01\xbbrest"), false)
	f.Add([]byte("\x05\x01\x02\x01\x02me\x06secret\x05\x01\x00\x03\x01x\x00\x50"), true)
	f.Add([]byte("\x05\x01\x02\x01\x02me\x06secrex\x05\x01\x00\x03\x01x\x00\x50"), true)
	f.Add([]byte("\x04\x01\x00\x50\xc6\x33\x64\x0ame\x00rest"), false)
	f.Add([]byte("\x04\x01\x00\x50\x00\x00\x00\x01\x00four.test\x00rest"), false)
	f.Fuzz(func(t *testing.T, sent []byte, asks bool) {
		if len(sent) == 0 {
			return
		}
		user, password := "", ""
		if asks {
			user, password = "me", "secret"
		}
		w := &wire{in: bytes.NewReader(sent[1:])}
		var r request
		var err error
		if sent[0] == version4 {
			r, err = readRequest4(w)
		} else {
			r, err = readRequest5(w, user, password)
		}
		if err != nil {
			return
		}
		if asks && sent[0] != version4 && !bytes.Contains(sent, []byte("\x02me\x06secret")) {
			t.Fatalf("%x is let in", sent)
		}
		if r.to.ip.IsValid() == (r.to.name != "") || r.to.ip.Is4In6() {
			t.Fatalf("%x: %+v", sent, r.to)
		}
		host, port, err := net.SplitHostPort(r.to.String())
		if n, _ := strconv.Atoi(port); err != nil || n != int(r.to.port) {
			t.Fatalf("%x: %q: %v", sent, r.to, err)
		}
		if again, err := hostAddress(host, r.to.port); err != nil || again != r.to {
			t.Fatalf("%x: %+v, read again %+v: %v", sent, r.to, again, err)
		}
		rest, _ := io.ReadAll(w.in)
		whole := sent[:len(sent)-len(rest)]
		shorter := &wire{in: bytes.NewReader(whole[1 : len(whole)-1])}
		if sent[0] == version4 {
			_, err = readRequest4(shorter)
		} else {
			_, err = readRequest5(shorter, user, password)
		}
		if err == nil {
			t.Fatalf("%x: an octet too many was read", sent)
		}
	})
}

// FuzzDatagram: a datagram that is taken, given back with its own address for sender,
// parses to the same.
func FuzzDatagram(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01\xc6\x33\x64\x0a\x00\x35data"))
	f.Add([]byte("\x00\x00\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x35"))
	f.Add([]byte("\x00\x00\x00\x03\x09four.test\x00\x35data"))
	f.Add([]byte("\x00\x00\x01\x01\xc6\x33\x64\x0a\x00\x35data"))
	f.Fuzz(func(t *testing.T, b []byte) {
		to, data, err := parseDatagram(b)
		if err != nil {
			return
		}
		if b[2] != 0 || to.port == 0 || !bytes.HasSuffix(b, data) {
			t.Fatalf("%x: %v, %x", b, to, data)
		}
		if !to.ip.IsValid() {
			return
		}
		head := appendDatagramHeader(nil, netip.AddrPortFrom(to.ip, to.port))
		if len(head) > datagramHeaderLen {
			t.Fatalf("a header of %d octets", len(head))
		}
		again, same, err := parseDatagram(append(head, data...))
		if err != nil || again != to || !bytes.Equal(same, data) {
			t.Fatalf("%x: %v, %x: %v", b, again, same, err)
		}
	})
}
