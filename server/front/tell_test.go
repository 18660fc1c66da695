package front

import (
	"bytes"
	"crypto/tls"
	"net"
	"slices"
	"testing"
)

func TestTell(t *testing.T) {
	for _, c := range []struct {
		head string
		want kind
	}{
		{"", kindMore},
		{"S", kindMore},
		{"SSH", kindMore},
		{"SSH-", kindSSH},
		{"SSH-2.0-", kindSSH},
		{"ssh-", kindNone},
		{"SSL-", kindNone},
		{"\x16", kindMore},
		{"\x16\x03", kindHello},
		{"\x16\x02", kindNone},
		{"\x07", kindLine},
		{"GET ", kindHTTP},
		{"GET/", kindNone},
		{"PU", kindMore},
		{"PUT", kindMore},
		{"PRI ", kindNone},
		{"P", kindMore},
		{"OPTIONS", kindHTTP},
		{"\x00", kindNone},
	} {
		if got := tell([]byte(c.head), lineOctet, true); got != c.want {
			t.Errorf("%q is %d, not %d", c.head, got, c.want)
		}
	}
	if got := tell([]byte{lineOctet}, lineOctet, false); got != kindNone {
		t.Errorf("a line is %d where there are none", got)
	}
}

// FuzzTell: four octets are always enough, and what was said of fewer stays true.
func FuzzTell(f *testing.F) {
	f.Add([]byte("SSH-2.0-OpenSSH"), byte(lineOctet), true)
	f.Add([]byte("\x16\x03\x01\x00"), byte(0), false)
	f.Add([]byte("PUT /"), byte('x'), true)
	f.Fuzz(func(t *testing.T, head []byte, line byte, lines bool) {
		said := kindMore
		for n := range len(head) + 1 {
			now := tell(head[:n], line, lines)
			if said != kindMore && now != said {
				t.Fatalf("%q was %d and is %d", head[:n], said, now)
			}
			if said = now; n >= maxMark && said == kindMore {
				t.Fatalf("%q is not known yet", head[:n])
			}
		}
	})
}

// hello returns a ClientHello that offers protocols, as crypto/tls makes it.
func hello(t testing.TB, protos ...string) []byte {
	t.Helper()
	var octets bytes.Buffer
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tls.Client(a, &tls.Config{InsecureSkipVerify: true, NextProtos: protos}).Handshake()
	}()
	buf := make([]byte, maxHello)
	for whole := false; !whole; {
		n, err := b.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		octets.Write(buf[:n])
		if whole, err = helloWhole(octets.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	b.Close()
	a.Close()
	<-done
	return octets.Bytes()
}

// recut puts what the records of octets carry into records of other sizes.
func recut(octets []byte, size int) (out []byte) {
	payload := octets[recordHead:]
	for part := range slices.Chunk(payload, size) {
		out = append(out, recordHandshake, recordVersion, 1, byte(len(part)>>8), byte(len(part)))
		out = append(out, part...)
	}
	return out
}

func TestHello(t *testing.T) {
	for _, protos := range [][]string{nil, {"bodkin/1"}, {"h2", "http/1.1"}, {"bodkin/1", "h2"}} {
		whole := hello(t, protos...)
		for _, octets := range [][]byte{whole, recut(whole, 100), recut(whole, 1000), append(slices.Clone(whole), "more"...)} {
			until := len(octets)
			for n := range octets {
				if is, err := helloWhole(octets[:n]); err != nil {
					t.Fatalf("the first %d octets: %v", n, err)
				} else if is {
					until = n
					break
				}
			}
			if until < len(whole) {
				t.Fatalf("%d octets of %d are whole", until, len(whole))
			}
			if got, err := helloProtos(octets[:until]); err != nil || !slices.Equal(got, protos) {
				t.Errorf("%q, %v; want %q", got, err, protos)
			}
		}
		if _, err := helloWhole(recut(whole, 1)); err == nil {
			t.Error("a ClientHello in records of one octet is taken")
		}
	}
	for want, protos := range map[kind][][]string{
		kindTLS:   {{"bodkin/1"}, {"x", "bodkin/1"}},
		kindHTTPS: {nil, {"x"}, {"http/1.1"}, {"h2"}, {"bodkin/1", "http/1.1"}, {"h2", "bodkin/1"}, {"bodkin/2"}},
	} {
		for _, p := range protos {
			if got := helloKind(p, "bodkin/1"); got != want {
				t.Errorf("%q is %d, not %d", p, got, want)
			}
		}
	}
}

// FuzzHello: what was found of fewer octets stays true of more; 16 KiB are always enough
// to say; and crypto/tls, given a whole one, asks for nothing more.
func FuzzHello(f *testing.F) {
	f.Add(hello(f, "bodkin/1"))
	f.Add(recut(hello(f, "h2", "http/1.1"), 500))
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x40\x00\x00"))
	f.Add([]byte("\x16\x03\x01\x00\x04\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, octets []byte) {
		var said struct {
			whole bool
			err   error
		}
		for n := 0; n <= len(octets); n += 1 + n/50 {
			whole, err := helloWhole(octets[:n])
			if said.whole && !whole || said.err != nil && err == nil {
				t.Fatalf("%d octets: %v, %v; before it was %v, %v", n, whole, err, said.whole, said.err)
			}
			said.whole, said.err = whole, err
		}
		if !said.whole {
			return
		}
		counted := &told{r: &counting{r: bytes.NewReader(octets)}}
		tls.Server(counted, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errNoHello }}).Handshake()
		if counted.r.(*counting).dry {
			t.Error("crypto/tls wanted more of a whole ClientHello")
		}
		helloProtos(octets)
	})
}

// counting notes that somebody wanted more than there was.
type counting struct {
	r   *bytes.Reader
	dry bool
}

func (c *counting) Read(b []byte) (int, error) {
	if c.r.Len() == 0 {
		c.dry = true
	}
	return c.r.Read(b)
}
