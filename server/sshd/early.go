package sshd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

const (
	// strictClient is what a client that keeps strict key exchange says so by
	// (OpenSSH's PROTOCOL, section 1.10).
	strictClient = "kex-strict-c-v00@openssh.com"

	// maxVersionLine is how long the client's first line may be (RFC 4253, section 4.2).
	maxVersionLine = 255

	// maxFirstPacket is how long its first packet may be, in octets (RFC 4253, section
	// 6.1). Real ones have some 1,500.
	maxFirstPacket = 35000

	// maxEarly is how much a client may send before it has logged in, in octets. OpenSSH's
	// sends some 5,000 with six keys; the ssh package would keep 4 MiB for any stranger.
	maxEarly = 128 << 10
)

// An early is a connection whose Read bounds what a client sends before it has logged
// in, and looks on at its version line and its first packet, which must be
// SSH_MSG_KEXINIT and come in clear. Nobody on the way can change that one, for both
// ends sign it.
type early struct {
	net.Conn
	loggedIn atomic.Bool // set by Serve

	count int    // octets so far
	seen  []byte // the same, until the first packet is whole
	done  bool   // it is
	weak  error  // why this client may not log in; set before keys are exchanged
}

var errTooMuch = fmt.Errorf("it sent more than %d octets before a login", maxEarly)

// Read is called by one goroutine.
func (e *early) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	if e.loggedIn.Load() {
		return n, err
	}
	if e.count += n; e.count > maxEarly {
		return 0, errTooMuch
	}
	if e.done {
		return n, err
	}
	e.seen = append(e.seen, b[:n]...)
	first, bad := readFirst(e.seen)
	if bad != nil {
		return 0, bad
	}
	if first != nil {
		e.done, e.seen, e.weak = true, nil, first.weakness()
	}
	return n, err
}

// A kexInit is SSH_MSG_KEXINIT (RFC 4253, section 7.1).
type kexInit struct {
	Cookie         [16]byte `sshtype:"20"`
	KeyExchanges   []string
	HostKeys       []string
	CiphersToUs    []string
	CiphersFromUs  []string
	MACsToUs       []string
	MACsFromUs     []string
	PackersToUs    []string
	PackersFromUs  []string
	LanguageToUs   []string
	LanguageFromUs []string
	Follows        bool
	Reserved       uint32
}

// readFirst returns the first packet in seen, what a client has sent so far, or nil if it
// is not whole yet, or why a client that has begun so is not talked to.
//
//	"SSH-2.0-..." CR LF   uint32 packet_length  byte padding_length  payload  padding
func readFirst(seen []byte) (*kexInit, error) {
	end := bytes.IndexByte(seen, '\n')
	if end < 0 && len(seen) <= maxVersionLine {
		return nil, nil
	}
	if end < 0 || end > maxVersionLine || !bytes.HasPrefix(seen, []byte("SSH-2.0-")) {
		return nil, errors.New("it does not speak SSH 2")
	}
	packet := seen[end+1:]
	if len(packet) < 5 {
		return nil, nil
	}
	length, padding := int(min(binary.BigEndian.Uint32(packet), maxFirstPacket+1)), int(packet[4])
	if length > maxFirstPacket || length < padding+2 {
		return nil, errors.New("its first packet has no possible length")
	}
	if len(packet) < 4+length {
		return nil, nil
	}
	k := new(kexInit)
	if err := ssh.Unmarshal(packet[5:4+length-padding], k); err != nil {
		return nil, errors.New("its first packet is not SSH_MSG_KEXINIT")
	}
	return k, nil
}

// weakness says why a client may not log in: with chacha20-poly1305 and without strict
// key exchange packets could be cut out unnoticed on the way (Terrapin, CVE-2023-48795).
// AES-GCM does not allow that. ssh-keyscan, which only asks for the host key, may be so.
func (k *kexInit) weakness() error {
	if slices.Contains(k.KeyExchanges, strictClient) {
		return nil
	}
	for _, list := range [][]string{k.CiphersToUs, k.CiphersFromUs} {
		at := slices.IndexFunc(list, func(c string) bool { return slices.Contains(ciphers, c) })
		if at >= 0 && list[at] == ssh.CipherChaCha20Poly1305 {
			return fmt.Errorf("its client has chosen %s without strict key exchange, which is open to Terrapin", list[at])
		}
	}
	return nil
}
