package e2e_test

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

// TestNoiseBefore has much come before the far half speaks: a mebibyte of any octets,
// 64 KiB of text, and a hundred times what another far half said in another session,
// its marker and its part of the measuring. None of it is believed, and what is true
// is found within two seconds of its coming.
func TestNoiseBefore(t *testing.T) {
	w := closedWorld(t)
	w.pair("home")
	if _, err := w.Gateway.Telnetd(t.Context(), lab.TelnetdOptions{Password: password, Motd: string(text(64 << 10))}); err != nil {
		t.Fatal(err)
	}
	relay, err := lab.Chaos{}.Listen(w.Firewall, relayPort, netip.AddrPortFrom(lab.Gateway4, lab.TelnetPort))
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	w.upAs("me", byRelay...)
	w.down()
	asked, said := relay.Captured()
	decoys := func(of []byte) []byte {
		return bytes.Repeat(bytes.Join(spoken.FindAll(of, -1), []byte("\r\n")), 100)
	}
	if n := len(spoken.FindAll(said, -1)); n < 5 {
		t.Fatalf("%d messages of the far half in %d octets: nothing here would prove anything", n, len(said))
	}

	// By a login whose shell prints all that.
	before := bytes.Join([][]byte{noise(1 << 20), decoys(said), nil}, []byte("\r\n"))
	if err := w.Gateway.WriteFile("/home/me/noise", before, 0o644, "me"); err != nil {
		t.Fatal(err)
	}
	if err := w.Gateway.WriteFile("/home/me/.profile", []byte("cat noise\n"), 0o644, "me"); err != nil {
		t.Fatal(err)
	}
	r := w.upAs("me", byRelay...)
	w.says(r.out, "ok far half   was there already")
	if took := rowTook(r.out, "far half") + rowTook(r.out, "line"); took > 2 {
		t.Errorf("it was found after %.1f s\n%s", took, r.out)
	}
	w.httpByName()
	w.down()
	relay.Close()

	// By a relay that says all that to either side.
	if err := w.Gateway.Install(program); err != nil {
		t.Fatal(err)
	}
	w.farWaits()
	w.relay(lab.Chaos{
		Up:   lab.Faults{Prefix: bytes.Join([][]byte{text(64 << 10), noise(1 << 20), decoys(asked), nil}, []byte("\r\n"))},
		Down: lab.Faults{Prefix: bytes.Join([][]byte{text(64 << 10), before}, []byte("\r\n"))},
	})
	r = w.upAs("me", onLine...)
	w.says(r.out, "ok line       clean there, clean back")
	if took := rowTook(r.out, "line"); took > 2 {
		t.Errorf("it was found after %.1f s\n%s", took, r.out)
	}
	w.httpByName()
	w.down()
}

// spoken is what the two halves say to find each other.
var spoken = regexp.MustCompile(`BODKIN [0-9A-Za-z]+ [ -~]+|:[-_0-9A-Za-z]{16,}=`)

// text is n octets of what people are told at a login.
func text(n int) []byte {
	line := "Nobody reads what is written here, and so it grows: $ # % > login: Password:\n"
	return bytes.Repeat([]byte(line), n/len(line)+1)[:n]
}

// noise is n octets of any value.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{9}).Read(b)
	return b
}
