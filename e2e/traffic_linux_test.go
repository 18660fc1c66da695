package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// families are the two of everything.
var families = []struct {
	name, flag    string
	web, hole, no netip.Addr
}{
	{"IPv4", "-4", lab.Web4, lab.Hole4, lab.NoRoute4},
	{"IPv6", "-6", lab.Web6, lab.Hole6, lab.NoRoute6},
}

// TestTraffic brings one tunnel up and uses it as a user's programs do.
func TestTraffic(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if r := w.on(w.Laptop, "me", "curl", "-sS", "-m", "1", url(lab.Web4, "/")); r.status == 0 {
		t.Fatal("the laptop reaches the web without a tunnel: nothing here would prove anything")
	}
	w.up("me@gw")

	t.Run("HTTP by name", func(t *testing.T) { w.in(t).httpByName() })
	t.Run("100 MB both ways at once", func(t *testing.T) { w.in(t).bulk() })
	t.Run("DNS", func(t *testing.T) { w.in(t).dns() })
	t.Run("ping", func(t *testing.T) { w.in(t).ping() })
	t.Run("refusals", func(t *testing.T) { w.in(t).refusals() })
	t.Run("UDP", func(t *testing.T) { w.in(t).udp() })
	t.Run("500 connections", func(t *testing.T) { w.in(t).many() })
	t.Run("half-close", func(t *testing.T) { w.in(t).halfClose() })
	t.Run("the far host itself", func(t *testing.T) { w.in(t).farHost() })
}

func url(host netip.Addr, path string) string {
	return "http://" + netip.AddrPortFrom(host, lab.WebPort).String() + path
}

func (w *world) httpByName() {
	for _, f := range families {
		w.laptop("curl", "-sS", f.flag, "-m", "10", "-o", "/dev/null", "-f", "http://web.example/")
	}
}

// bulkSize is that of each of the four transfers of bulk.
const bulkSize = 100_000_000

// bulk moves 100 MB up and down at the same time, over IPv4 and then IPv6, and
// compares what arrived with what was sent.
func (w *world) bulk() {
	for _, f := range families {
		var group sync.WaitGroup
		group.Go(func() {
			if err := w.download(f.web, bulkSize); err != nil {
				w.t.Errorf("%s, down: %v", f.name, err)
			}
		})
		group.Go(func() {
			if err := w.upload(f.web, bulkSize); err != nil {
				w.t.Errorf("%s, up: %v", f.name, err)
			}
		})
		group.Wait()
	}
}

// download fetches so many octets, and compares them with what was sent.
func (w *world) download(host netip.Addr, size int64) error {
	got := sha256.New()
	cmd := w.Laptop.Command(within(w.t, patience), "curl", "-sS", "-f", url(host, fmt.Sprintf("/bytes/%d?seed=7", size))).As("me")
	cmd.Stdout = got
	if err := cmd.Run(); err != nil {
		return err
	}
	sent := sha256.New()
	if _, err := io.Copy(sent, lab.Bytes(size, 7)); err != nil {
		return err
	}
	if want := sent.Sum(nil); !bytes.Equal(got.Sum(nil), want) {
		return fmt.Errorf("what came has the SHA-256 %x, what was sent %x", got.Sum(nil), want)
	}
	return nil
}

// upload posts so many octets, and compares them with what came.
func (w *world) upload(host netip.Addr, size int64) error {
	sent := sha256.New()
	var answer bytes.Buffer
	cmd := w.Laptop.Command(within(w.t, patience), "curl", "-sS", "-f", "-X", "POST", "-T", "-", url(host, "/upload")).As("me")
	cmd.Stdin = io.TeeReader(lab.Bytes(size, 8), sent)
	cmd.Stdout = &answer
	if err := cmd.Run(); err != nil {
		return err
	}
	var came lab.Upload
	if err := json.Unmarshal(answer.Bytes(), &came); err != nil {
		return fmt.Errorf("the web host's answer: %w", err)
	}
	if want := hex.EncodeToString(sent.Sum(nil)); came.Length != size || came.SHA256 != want {
		return fmt.Errorf("%d octets came with the SHA-256 %s, what was sent has %s", came.Length, came.SHA256, want)
	}
	return nil
}

func (w *world) dns() {
	for _, transport := range []string{"+notcp", "+tcp"} {
		for _, q := range []struct{ kind, want string }{{"A", lab.Web4.String()}, {"AAAA", lab.Web6.String()}} {
			got := strings.TrimSpace(w.laptop("dig", transport, "+short", "+time=3", "+tries=1", "web.example", q.kind))
			if got != q.want {
				w.t.Errorf("dig %s web.example %s: %q, want %q", transport, q.kind, got, q.want)
			}
		}
		w.says(w.laptop("dig", transport, "+time=3", "+tries=1", "nowhere.example"), "status: NXDOMAIN")
	}
	// An answer too long for UDP makes dig ask again by TCP.
	w.says(w.laptop("dig", "+time=3", "+tries=1", "+bufsize=512", "big.example", "TXT"), "Truncated, retrying in TCP", "status: NOERROR")
	// The resolver of a program's own choice is reached too.
	for _, server := range []netip.Addr{lab.DNS4, lab.DNS6} {
		w.says(w.laptop("dig", "+short", "+time=3", "+tries=1", "@"+server.String(), "web.example", "A"), lab.Web4.String())
	}
}

// ping shows that an answer is a real one, that its time is the real time, and
// that silence is silence.
func (w *world) ping() {
	for _, f := range families {
		out := w.laptop("ping", f.flag, "-c", "5", "-i", "0.2", "-W", "2", f.web.String())
		w.says(out, " 5 received, 0% packet loss")

		r := w.on(w.Laptop, "me", "ping", f.flag, "-c", "3", "-i", "0.2", "-W", "1", f.hole.String())
		if r.status != 1 {
			w.t.Errorf("%s: ping of a host that does not answer: exit status %d, want 1\n%s", f.name, r.status, r.out)
		}
		w.says(r.out, " 0 received, 100% packet loss")
		if strings.Contains(r.out, "From ") {
			w.t.Errorf("%s: somebody answered for a host that does not:\n%s", f.name, r.out)
		}

		const delay = 80 * time.Millisecond
		stop := w.answerLate(f.web, delay)
		out = w.laptop("ping", f.flag, "-c", "3", "-i", "0.2", "-W", "2", f.web.String())
		stop()
		w.says(out, " 3 received")
		for _, m := range regexp.MustCompile(`time=([0-9.]+) ms`).FindAllStringSubmatch(out, -1) {
			ms, err := strconv.ParseFloat(m[1], 64)
			if took := time.Duration(ms * 1e6); err != nil || took < delay || took > delay+100*time.Millisecond {
				w.t.Errorf("%s: the web host took %v to answer, ping says %s ms", f.name, delay, m[1])
			}
		}
	}
}

// refusals shows that what is refused out there is refused here, and as soon as
// there: at once, or when the far host's own kernel gives up.
func (w *world) refusals() {
	// soon is generous: what is to be told apart from it is a timeout.
	const soon = time.Second
	for _, f := range families {
		for _, tt := range []struct {
			what, network string
			to            netip.AddrPort
			want          error
		}{
			{"TCP to a closed port", "tcp", netip.AddrPortFrom(f.web, 81), syscall.ECONNREFUSED},
			{"TCP where no route leads", "tcp", netip.AddrPortFrom(f.no, 80), syscall.ENETUNREACH},
			{"UDP to a closed port", "udp", netip.AddrPortFrom(f.web, 81), syscall.ECONNREFUSED},
		} {
			began := time.Now()
			w.knock(w.Gateway, tt.network, tt.to)
			theirs := time.Since(began)

			began = time.Now()
			err := w.knock(w.Laptop, tt.network, tt.to)
			if took := time.Since(began); !errors.Is(err, tt.want) || took > theirs+soon {
				w.t.Errorf("%s, %s: %v after %v, want %v; the far host itself took %v", f.name, tt.what, err, took, tt.want, theirs)
			}
		}
	}
	r := w.on(w.Laptop, "me", "curl", "-sS", "-m", "10", "http://"+netip.AddrPortFrom(lab.Web4, 81).String())
	if r.status != 7 || r.took > soon {
		w.t.Errorf("curl to a closed port: exit status %d after %v, want 7 (could not connect) at once\n%s", r.status, r.took, r.out)
	}
}

// knock sends an octet and waits for an answer.
func (w *world) knock(from *lab.Machine, network string, to netip.AddrPort) error {
	c, err := from.Dial(within(w.t, 10*time.Second), network, to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte{0}); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	return err
}

// udp sends datagrams of several sizes to the echo port: each comes back whole.
func (w *world) udp() {
	for _, f := range families {
		c, err := w.Laptop.Dial(w.t.Context(), "udp", netip.AddrPortFrom(f.web, lab.EchoPort).String())
		if err != nil {
			w.t.Fatal(err)
		}
		defer c.Close()
		for _, size := range []int{1, 1400, 8000} {
			sent := make([]byte, size)
			rand.NewChaCha8([32]byte{byte(size)}).Read(sent)
			c.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Write(sent); err != nil {
				w.t.Errorf("%s: %d octets: %v", f.name, size, err)
				continue
			}
			got := make([]byte, 65536)
			n, err := c.Read(got)
			if err != nil || !bytes.Equal(got[:n], sent) {
				w.t.Errorf("%s: of %d octets %d came back, or others: %v", f.name, size, n, err)
			}
		}
	}
}

// many opens 500 connections, and uses each only when all are open.
func (w *world) many() {
	const connections = 500
	conns := make([]net.Conn, connections)
	var dialling sync.WaitGroup
	for i := range conns {
		f := families[i%2]
		dialling.Go(func() {
			c, err := w.Laptop.Dial(within(w.t, 20*time.Second), "tcp", netip.AddrPortFrom(f.web, lab.EchoPort).String())
			if err != nil {
				w.t.Errorf("connection %d: %v", i, err)
				return
			}
			conns[i] = c
		})
	}
	dialling.Wait()

	var speaking sync.WaitGroup
	for i, c := range conns {
		if c == nil {
			continue
		}
		defer c.Close()
		speaking.Go(func() {
			c.SetDeadline(time.Now().Add(20 * time.Second))
			sent := binary.BigEndian.AppendUint32(nil, uint32(i))
			got := make([]byte, len(sent))
			if _, err := c.Write(sent); err != nil {
				w.t.Errorf("connection %d: %v", i, err)
			} else if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
				w.t.Errorf("connection %d: got %x, want %x: %v", i, got, sent, err)
			}
		})
	}
	speaking.Wait()
}

// halfClose says all it has to say, and then still hears the answer.
func (w *world) halfClose() {
	c, err := w.Laptop.Dial(w.t.Context(), "tcp", netip.AddrPortFrom(lab.Web4, lab.EchoPort).String())
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte("last words")); err != nil {
		w.t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		w.t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "last words" {
		w.t.Errorf("after half-close: %q, %v", got, err)
	}
}

// farHost shows that the tunnel does not lead into the far host: its own sshd is
// not reached from inside at any of its addresses, nor at its loopback.
func (w *world) farHost() {
	for _, to := range []netip.Addr{
		lab.GatewayOut4, lab.GatewayOut6, lab.Gateway4, lab.Gateway6,
		netip.MustParseAddr("10.0.2.2"), netip.MustParseAddr("169.254.169.254"),
	} {
		began := time.Now()
		err := w.knock(w.Laptop, "tcp", netip.AddrPortFrom(to, lab.SSHPort))
		if err == nil {
			w.t.Errorf("the far host's sshd answers at %v", to)
		} else if took := time.Since(began); took > time.Second {
			w.t.Errorf("%v is refused only after %v: %v", to, took, err)
		}
	}
}
