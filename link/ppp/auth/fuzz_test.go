package auth

import (
	"testing"

	"github.com/bodkin-net/bodkin/carrier"
)

// split cuts what the fuzzer made into packets: each behind an octet that counts
// it. A packet of no octets stands for a restart period that passed.
func split(script []byte) (packets [][]byte) {
	for len(script) > 0 {
		packet, rest, ok := parseValue(script)
		if !ok {
			packet, rest = script[1:], nil
		}
		packets = append(packets, packet)
		script = rest
	}
	return packets
}

// check is what holds of every machine after every step.
func check(t *testing.T, m machine, send []byte, before, v Verdict) {
	t.Helper()
	if before == Failure && v != Failure {
		t.Fatalf("a failure was forgotten: %s", m.Reason())
	}
	if v != m.Verdict() {
		t.Fatalf("told %v, but it is %v", v, m.Verdict())
	}
	if reason := m.Reason(); reason == "" || len(reason) > 2048 || carrier.Printable(reason) != reason {
		t.Fatalf("reason %q", reason)
	}
	if send == nil {
		return
	}
	p, ok := parsePacket(send)
	if !ok || len(p.data)+headerLen != len(send) || len(send) > headerLen+2*(1+maxName) {
		t.Fatalf("we sent %x", send)
	}
}

// FuzzAuthenticator: whatever a peer sends that does not know the secret, it is
// never taken for one who does, and gets at most one answer to each packet.
func FuzzAuthenticator(f *testing.F) {
	for p := range byte(3) {
		f.Add(p, []byte{4, 1, 1, 0, 4})
		f.Add(p, []byte("\x0d\x01\x01\x00\x0d\x02me\x06sesam\x00"))
		f.Add(p, []byte("\x17\x02\x41\x00\x17\x100123456789abcdefme\x00"))
	}
	f.Fuzz(func(t *testing.T, protocol byte, script []byte) {
		p := protocols[protocol%3]
		// Nobody can have guessed this secret: it is drawn anew.
		secret := make([]byte, 32)
		if _, err := orRandom(nil).Read(secret); err != nil {
			t.Fatal(err)
		}
		a := NewAuthenticator(p, "gw", "", func(string, string) ([]byte, bool) { return secret, true }, steady())
		check(t, a, a.Start(), Pending, Pending)
		for _, packet := range split(script) {
			before := a.Verdict()
			var send []byte
			var v Verdict
			if len(packet) == 0 {
				send, v = a.Timeout()
			} else {
				send, v = a.Receive(packet)
			}
			check(t, a, send, before, v)
			if v == Success || a.Peer() != "" || a.Recheck() != nil {
				t.Fatalf("%q proved itself by %x", a.Peer(), packet)
			}
		}
	})
}

// FuzzProver: whatever a peer sends, a prover tells it nothing of a secret but in
// the packets made for that, never answers its own side's challenge, and never
// takes a peer for good in MS-CHAPv2 that does not know the secret.
func FuzzProver(f *testing.F) {
	for p := range byte(3) {
		f.Add(p, []byte{4, 2, 1, 0, 4})
		f.Add(p, []byte("\x17\x01\x07\x00\x17\x100123456789abcdefgw\x04\x03\x07\x00\x04"))
		f.Add(p, []byte("\x17\x01\x07\x00\x17\x100123456789abcdefgw\x00\x00\x30\x03\x07\x00\x30S=407A5589115FD0D6209F510FE9C04566932CDA56 M="))
		f.Add(p, []byte("\x17\x01\x07\x00\x17\x100123456789abcdefgw\x18\x04\x07\x00\x18E=691 R=1 C=00 V=3 M="))
	}
	f.Fuzz(func(t *testing.T, protocol byte, script []byte) {
		p := protocols[protocol%3]
		secret := make([]byte, 32)
		if _, err := orRandom(nil).Read(secret); err != nil {
			t.Fatal(err)
		}
		m := NewProver(p, "me", "", func(string, string) ([]byte, bool) { return secret, true }, steady())
		own := NewAuthenticator(p, "me", "", nil, steady())
		own.Start()
		m.Beware(own)
		check(t, m, m.Start(), Pending, Pending)
		for _, packet := range split(script) {
			before := m.Verdict()
			var send []byte
			var v Verdict
			if len(packet) == 0 {
				send, v = m.Timeout()
			} else {
				send, v = m.Receive(packet)
			}
			check(t, m, send, before, v)
			if p == MSCHAPv2 && v == Success {
				t.Fatalf("a peer that does not know the secret is taken for good after %x", packet)
			}
			if send == nil {
				continue
			}
			if want := map[Protocol]byte{PAP: papRequest, CHAP: chapResponse, MSCHAPv2: chapResponse}[p]; send[0] != want {
				t.Fatalf("a prover sent %x", send)
			}
			if p != PAP && len(packet) > 0 && (before == Failure || send[1] != packet[1]) {
				t.Fatalf("%x was answered with %x", packet, send)
			}
		}
	})
}

// FuzzPacket: what parses encodes to the same octets again, less the padding.
func FuzzPacket(f *testing.F) {
	f.Add([]byte{1, 1, 0, 4})
	f.Add([]byte{1, 1, 0, 9, 2, 'm', 'e', 1, 'x', 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parsePacket(b)
		if !ok {
			return
		}
		if again := p.encode(); string(again) != string(b[:len(again)]) {
			t.Fatalf("%x became %x", b, again)
		}
		if value, rest, ok := parseValue(p.data); ok {
			if again := append(appendValue(nil, value), rest...); string(again) != string(p.data) {
				t.Fatalf("the value of %x became %x", p.data, again)
			}
		}
		if name, password, ok := parsePAPRequest(p.data); ok {
			again := appendValue(appendValue(nil, name), password)
			if string(again) != string(p.data[:len(again)]) {
				t.Fatalf("the request %x became %x", p.data, again)
			}
		}
		papMessage(p.data)
		parseMSFailure(p.data)
		parseMSSuccess(p.data)
	})
}
