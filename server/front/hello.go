package front

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"time"
)

const (
	// maxHello is how large a ClientHello may be, in octets, with its records' heads.
	// Those of browsers are below 3 KiB, a post-quantum key among them.
	maxHello = 16 << 10

	// maxRecords is how many records may carry it: one in crumbs is nobody's.
	maxRecords = 64
)

// Sizes and types of RFC 8446, sections 4 and 5.1.
const (
	recordHead      = 5
	maxRecord       = 1 << 14
	handshakeHead   = 4
	typeClientHello = 1
)

var errNoHello = errors.New("front: no ClientHello")

// helloWhole reports whether octets hold all of a ClientHello, which may lie in several
// records, and the last of those. Otherwise more of them may, unless there is an error.
func helloWhole(octets []byte) (bool, error) {
	var head []byte // of the handshake message
	got := 0        // octets of it
	for range maxRecords {
		if len(octets) > 0 && octets[0] != recordHandshake || len(octets) > 1 && octets[1] != recordVersion {
			return false, errNoHello
		}
		if len(octets) < recordHead {
			return false, nil
		}
		size := int(binary.BigEndian.Uint16(octets[3:]))
		if size == 0 || size > maxRecord {
			return false, errNoHello
		}
		payload := octets[recordHead:]
		payload = payload[:min(size, len(payload))]
		head = append(head, payload[:min(len(payload), handshakeHead-len(head))]...)
		got += len(payload)
		if len(head) > 0 && head[0] != typeClientHello {
			return false, errNoHello
		}
		if len(head) == handshakeHead {
			want := handshakeHead + (int(head[1])<<16 | int(head[2])<<8 | int(head[3]))
			if want > maxHello {
				return false, errNoHello
			}
			if got >= want && len(payload) == size { // no record is read in part
				return true, nil
			}
		}
		if len(payload) < size {
			return false, nil
		}
		octets = octets[recordHead+size:]
	}
	return false, errNoHello
}

// helloProtos returns the protocols that a whole ClientHello offers (RFC 7301), as
// crypto/tls reads it.
func helloProtos(octets []byte) (protos []string, err error) {
	err = errNoHello
	t := tls.Server(&told{r: bytes.NewReader(octets)}, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			protos, err = hello.SupportedProtos, nil
			return nil, errNoHello // it has told what it knows
		},
	})
	t.Handshake()
	return protos, err
}

// told is a connection that has said what it had to say, and whose answer is not sent.
type told struct{ r io.Reader }

func (c *told) Read(b []byte) (int, error)       { return c.r.Read(b) }
func (c *told) Write(b []byte) (int, error)      { return len(b), nil }
func (c *told) Close() error                     { return nil }
func (c *told) LocalAddr() net.Addr              { return nil }
func (c *told) RemoteAddr() net.Addr             { return nil }
func (c *told) SetDeadline(time.Time) error      { return nil }
func (c *told) SetReadDeadline(time.Time) error  { return nil }
func (c *told) SetWriteDeadline(time.Time) error { return nil }

// helloKind says whose TLS it is that offers these protocols.
func helloKind(protos []string, own string) kind {
	web := slices.Contains(protos, "http/1.1") || slices.Contains(protos, "h2")
	if !web && slices.Contains(protos, own) {
		return kindTLS
	}
	return kindHTTPS
}
