package tls

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// A mangler counts what is written to it, and turns bits of one octet.
type mangler struct {
	io.ReadWriteCloser
	at   int // which octet; -1: none
	bits byte
	sent int
}

func (m *mangler) Write(b []byte) (int, error) {
	if at := m.at - m.sent; m.at >= 0 && at >= 0 && at < len(b) {
		b = bytes.Clone(b)
		b[at] ^= m.bits
	}
	m.sent += len(b)
	return m.ReadWriteCloser.Write(b)
}

// mutated opens a connection in which one octet of the client or the server is changed,
// and reports whether both ends believe in it, and how much each sent until then.
func mutated(t *testing.T, fromServer bool, at int, bits byte) (opened bool, clientSent, serverSent int) {
	synctest.Test(t, func(t *testing.T) {
		a, b := streams()
		x, y := &mangler{a.ReadWriteCloser, -1, bits, 0}, &mangler{b.ReadWriteCloser, -1, bits, 0}
		if fromServer {
			y.at = at
		} else {
			x.at = at
		}
		client, server := connect(t, carrier.Stream{ReadWriteCloser: x}, carrier.Stream{ReadWriteCloser: y}, clientConfig(), serverConfig())
		clientSent, serverSent = x.sent, y.sent
		opened = client.err == nil && server.err == nil
		defer time.AfterFunc(time.Minute, func() { // a changed length makes one side wait for more
			a.Close()
			b.Close()
		}).Stop()
		const says = "what was sent"
		for _, way := range [][2]end{{client, server}, {server, client}} {
			if way[0].err != nil && way[0].s.ReadWriteCloser != nil {
				t.Errorf("octet %d: an error and a Stream", at)
			}
			if way[0].err == nil && way[1].err == nil {
				go io.WriteString(way[0].s, says)
				got := make([]byte, len(says))
				if n, _ := io.ReadFull(way[1].s, got); !strings.HasPrefix(says, string(got[:n])) {
					t.Errorf("octet %d, bits %02x: %q was delivered", at, bits, got[:n])
				}
			}
		}
		a.Close()
		b.Close()
		for _, e := range []end{client, server} {
			if e.err == nil {
				e.s.Close()
			}
		}
	})
	return opened, clientSent, serverSent
}

// TestNoMutatedHandshake changes one bit anywhere in a connection, either way. What is
// delivered is what was sent, and no handshake succeeds but by octets to which TLS gives
// no meaning.
func TestNoMutatedHandshake(t *testing.T) {
	opened, clientSent, serverSent := mutated(t, false, -1, 0)
	if !opened {
		t.Fatal("not even the whole one succeeds")
	}
	for _, way := range []struct {
		fromServer bool
		octets     int
	}{{false, clientSent}, {true, serverSent}} {
		for at := range way.octets + 60 { // and somewhat of what follows
			opened, _, _ := mutated(t, way.fromServer, at, 1<<(at%8))
			// The version of a first record means nothing (RFC 8446, section 5.1).
			if opened && at < way.octets && at != 1 && at != 2 {
				t.Errorf("it succeeds with octet %d of %d changed (from the server: %v)", at, way.octets, way.fromServer)
			}
		}
	}
}
