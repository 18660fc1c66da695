package e2e_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/tls"
	"github.com/bodkin-net/bodkin/lab"
	"github.com/bodkin-net/bodkin/trust"
)

// What a thief of a session says and hears (session/spec.md, section 3).
const (
	sessionResume    = 0x12
	sessionChallenge = 0x14
	sessionProof     = 0x15
	sessionRefuse    = 0x17

	refusedUnknown = 1
	refusedForged  = 2
)

// sessionMessage is one frame.
func sessionMessage(kind byte, payload ...[]byte) []byte {
	all := bytes.Join(payload, nil)
	return append([]byte{kind, byte(len(all) >> 16), byte(len(all) >> 8), byte(len(all))}, all...)
}

// resumes is the greeting of somebody who wants to go on with a session.
func resumes(t *testing.T, id string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	return sessionMessage(sessionResume, []byte{1, 1}, raw, nonce)
}

// madeUp is a proof that proves nothing, of somebody who has got so many octets.
func madeUp() []byte { return sessionMessage(sessionProof, make([]byte, 8+32)) }

// steal tries to go on with a session, and returns why it was refused.
func steal(c io.ReadWriter, resume, proof []byte) (code byte, err error) {
	if _, err := c.Write(resume); err != nil {
		return 0, err
	}
	answer, err := nextMessage(c)
	if err == nil && answer[0] == sessionChallenge {
		if _, err = c.Write(proof); err == nil {
			answer, err = nextMessage(c)
		}
	}
	switch {
	case err != nil:
		return 0, err
	case answer[0] != sessionRefuse || len(answer) < 5:
		return 0, fmt.Errorf("the answer is % x, and no refusal", answer)
	}
	return answer[4], nil
}

func nextMessage(r io.Reader) ([]byte, error) {
	m := make([]byte, 4)
	if _, err := io.ReadFull(r, m); err != nil {
		return nil, err
	}
	m = append(m, make([]byte, int(m[1])<<16|int(m[2])<<8|int(m[3]))...)
	_, err := io.ReadFull(r, m[4:])
	return m, err
}

// undisturbed does something under transfers, and wants the session to be as it was.
func (w *world) undisturbed(do func(id string)) {
	w.t.Helper()
	x := w.transfers(4, transferPatience)
	before := w.session()
	do(before.Session.ID)
	if !x.moving(5 * time.Second) {
		w.t.Error("nothing moves any more")
	}
	after := w.session()
	if after.State != "up" || after.Session.ID != before.Session.ID || after.Session.Streams != before.Session.Streams {
		w.t.Errorf("the session was %+v, and is %+v", before, after)
	}
	x.whole()
	// The secret is as it was: its owner comes back.
	p := w.pulse()
	w.laptop("bodkin", "reconnect")
	w.eventually("its owner comes back", func() bool { s := w.session(); return s.State == "up" && s.Session.Streams > before.Session.Streams })
	if _, err := p.after(time.Now(), patience); err != nil {
		w.t.Error(err)
	}
	if now := w.session().Session.ID; now != before.Session.ID {
		w.t.Errorf("its owner has another session, %s, and had %s", now, before.Session.ID)
	}
}

// thiefAt is a far half on the gateway that a thief has started as an account, in place of
// a login.
func (w *world) thiefAt(account string) io.ReadWriter {
	w.t.Helper()
	nonce := make([]byte, 16)
	rand.Read(nonce)
	cmd := w.Gateway.Command(within(w.t, patience), "bodkin", "far", "--nonce", hex.EncodeToString(nonce)).As(account)
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	octet := make([]byte, 1)
	for octet[0] != '\n' { // it says that it is there
		if _, err := io.ReadFull(out, octet); err != nil {
			w.t.Fatal(err)
		}
	}
	return struct {
		io.Reader
		io.Writer
	}{out, in}
}

// TestSessionStolen has other people try to go on with a session at a login and at a
// server: whoever does not hold what its two halves know is refused, and does not disturb
// it.
func TestSessionStolen(t *testing.T) {
	t.Parallel()
	t.Run("at a login", func(t *testing.T) {
		w := newWorld(t, lab.Options{Rate: pauseRate})
		if err := w.Gateway.Install(program); err != nil {
			t.Fatal(err)
		}
		if r := w.on(w.Gateway, "root", "sh", "-c", "echo 'thief:x:1500:1500:thief:/home/thief:/bin/sh' >>/etc/passwd && echo 'thief:x:1500:' >>/etc/group && mkdir -p /home/thief && chown 1500:1500 /home/thief"); r.status != 0 {
			t.Fatal(r.out)
		}
		w.up("me@gw")
		w.undisturbed(func(id string) {
			sockets := strings.Fields(w.on(w.Gateway, "root", "sh", "-c", "find / -xdev -name '"+id+".sock'; find /run /tmp -name '"+id+".sock'").out)
			if len(sockets) == 0 {
				t.Error("there is no socket: nothing here proves anything")
			}
			for _, path := range sockets {
				for _, args := range [][]string{{"cat", path}, {"ls", path}, {"nc", "-w", "1", "-U", path}, {"ls", path[:strings.LastIndexByte(path, '/')]}} {
					if r := w.on(w.Gateway, "thief", args[0], args[1:]...); r.status == 0 || !strings.Contains(r.out, "ermission denied") {
						t.Errorf("%q by another account: exit status %d\n%s", args, r.status, r.out)
					}
				}
			}
			for _, c := range []struct {
				account, id string
				want        byte
			}{
				{"thief", id, refusedUnknown},
				{"root", id, refusedUnknown},
				{"me", strings.Repeat("00", 16), refusedUnknown},
				{"me", id, refusedForged},
			} {
				if code, err := steal(w.thiefAt(c.account), resumes(t, c.id), madeUp()); err != nil || code != c.want {
					t.Errorf("%s wants %s: refused by %d, %v, want %d", c.account, c.id, code, err, c.want)
				}
			}
		})
		w.down()
		w.eventually("no far half is left", func() bool { return len(w.farHalves()) == 0 })
	})
	t.Run("at a server", func(t *testing.T) {
		w := newWorld(t, lab.Options{Rate: pauseRate, AllowTCP: []uint16{servePort}})
		if err := w.Gateway.Install(program); err != nil {
			t.Fatal(err)
		}
		w.pair("home")
		other := trust.Generate()
		lines, err := w.Gateway.ReadFile(farDir + "/authorized_clients")
		if err != nil {
			t.Fatal(err)
		}
		w.write(w.Gateway, farDir+"/authorized_clients", string(lines)+trust.FormatPublic(other.Public(), "other")+"\n", "me")
		w.serve()
		w.up("--known-as", "home", fmt.Sprintf("tls://gw:%d", servePort))
		own := w.privateKey(nearDir + "/key")
		w.undisturbed(func(id string) {
			for _, c := range []struct {
				who  string
				key  ed25519.PrivateKey
				id   string
				want byte
			}{
				{"another client", other.Private, id, refusedUnknown},
				{"the same client", own, strings.Repeat("00", 16), refusedUnknown},
				{"the same client", own, id, refusedForged},
			} {
				s, err := w.clientOf(c.key)
				if err != nil {
					t.Fatalf("%s: %v", c.who, err)
				}
				code, err := steal(s, resumes(t, c.id), madeUp())
				if err != nil || code != c.want {
					t.Errorf("%s wants %s: refused by %d, %v, want %d", c.who, c.id, code, err, c.want)
				}
				s.Close()
			}
			if s, err := w.clientOf(trust.Generate().Private); err == nil {
				t.Error("the server lets a stranger in")
				s.Close()
			}
		})
		w.down()
	})
}

// privateKey reads a key of the laptop's.
func (w *world) privateKey(path string) ed25519.PrivateKey {
	w.t.Helper()
	text, err := w.Laptop.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := ssh.ParseRawPrivateKey(text)
	if err != nil {
		w.t.Fatal(err)
	}
	return *key.(*ed25519.PrivateKey)
}

// clientOf connects to the server from the internet, by somebody's key.
func (w *world) clientOf(key ed25519.PrivateKey) (carrier.Stream, error) {
	ctx, stop := context.WithTimeout(w.t.Context(), patience)
	defer stop()
	c, err := w.Internet.Dial(ctx, "tcp", netip.AddrPortFrom(lab.GatewayOut4, servePort).String())
	if err != nil {
		return carrier.Stream{}, err
	}
	c.SetDeadline(time.Now().Add(patience))
	s, _, err := tls.Client(ctx, carrier.Stream{ReadWriteCloser: c}, tls.Config{
		Key: key, NextProtos: []string{tls.Protocol}, Verify: func(ed25519.PublicKey) error { return nil },
	})
	return s, err
}

// TestSessionReplayed records, of a way that protects nothing, how a session is gone on
// with, and says it again, whole, later, and with one bit changed. That way is for
// measurements alone: by any other nobody could even listen.
func TestSessionReplayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{Closed: true, Rate: pauseRate})
	if err := w.Gateway.Install(program); err != nil {
		t.Fatal(err)
	}
	far := w.Gateway.Command(t.Context(), "bodkin", "far", "--listen", netip.AddrPortFrom(lab.Gateway4, farPort).String(), "--plain").As("me")
	if err := far.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		far.Process.Kill()
		far.Wait()
	})
	w.listens(w.Gateway, farPort)
	relay, err := lab.Chaos{}.Listen(w.Firewall, cutPort, netip.AddrPortFrom(lab.Gateway4, farPort))
	if err != nil {
		t.Fatal(err)
	}
	w.up(fmt.Sprintf("tcp://%v:%d", lab.FirewallInside4, cutPort))
	w.laptop("bodkin", "reconnect")
	w.eventually("it has another connection", func() bool { s := w.session(); return s.State == "up" && s.Session.Streams == 2 })
	w.undisturbed(func(id string) {
		raw, _ := hex.DecodeString(id)
		up, _ := relay.Captured()
		i := bytes.Index(up, raw) - 6
		if i < 0 || up[i] != sessionResume {
			t.Fatalf("no attempt to go on with %s is in %d octets", id, len(up))
		}
		from := bytes.NewReader(up[i:])
		resume, err := nextMessage(from)
		if err != nil {
			t.Fatal(err)
		}
		proof, err := nextMessage(from)
		if err != nil || proof[0] != sessionProof {
			t.Fatalf("no proof follows in % x: %v", proof, err)
		}
		altered := bytes.Clone(proof)
		altered[len(altered)-1] ^= 1
		for what, said := range map[string][2][]byte{
			"again":                     {resume, proof},
			"with a bit changed":        {resume, altered},
			"with another's greeting":   {resumes(t, id), proof},
			"as if octets had not come": {resume, append(bytes.Clone(proof[:4]), append(make([]byte, 8), proof[12:]...)...)},
		} {
			c, err := w.Firewall.Dial(t.Context(), "tcp", netip.AddrPortFrom(lab.Gateway4, farPort).String())
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(patience))
			if code, err := steal(c, said[0], said[1]); err != nil || code != refusedForged {
				t.Errorf("said %s: refused by %d, %v, want %d", what, code, err, refusedForged)
			}
			c.Close()
		}
		// All that was ever said, at once.
		c, err := w.Firewall.Dial(t.Context(), "tcp", netip.AddrPortFrom(lab.Gateway4, farPort).String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		var saying sync.WaitGroup
		saying.Go(func() { c.Write(up[i:]) })
		io.Copy(io.Discard, c) // until the far half has had enough of it
		c.Close()
		saying.Wait()
	})
	w.down()
}
