package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// slowly serves octets at /slow of a machine's address, a piece after the other, and calls
// between before each piece but the first. It returns their SHA-256.
func (w *world) slowly(m *lab.Machine, at netip.AddrPort, pieces int, between func()) (sum string) {
	w.t.Helper()
	const piece = 100_000
	l, err := m.Listen("tcp", at.String())
	if err != nil {
		w.t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		octets := lab.Bytes(int64(pieces)*piece, 9)
		for i := range pieces {
			if i > 0 {
				out.(http.Flusher).Flush()
				between()
			}
			io.CopyN(out, octets, piece)
		}
	})}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	w.t.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	hash := sha256.New()
	io.Copy(hash, lab.Bytes(int64(pieces)*piece, 9))
	return hex.EncodeToString(hash.Sum(nil))
}

// A sessionRole is what the two sides of a tunnel are to each other, or to the login.
type sessionRole struct {
	name    string
	prepare func(w *world)
	from    func(w *world) *lab.Machine // whose octets are fetched
	at      netip.AddrPort
	args    []string // of `bodkin up`; nil: bodkin exec
	fetch   func(w *world, url string) *lab.Cmd
	lose    func(w *world) (int, error) // ends the connection, and says how many there were; nil: kill -9 of ssh
}

var sessionRoles = []sessionRole{
	{
		name: "bodkin exec", from: theInternet, at: netip.AddrPortFrom(lab.Web4, transferPort),
		fetch: func(w *world, url string) *lab.Cmd {
			return w.Laptop.Command(within(w.t, 2*patience), "bodkin", "exec", "me@gw", "--", "curl", "-sS", "-f", url).As("me")
		},
	},
	{
		name: "a proxy here", from: theInternet, at: netip.AddrPortFrom(lab.Web6, transferPort), args: []string{"--near", "socks", "me@gw"},
		fetch: func(w *world, url string) *lab.Cmd {
			return w.Laptop.Command(within(w.t, 2*patience), "curl", "-sS", "-f", "--socks5-hostname", proxyAddress, url).As("me")
		},
	},
	{
		name: "a kernel there", prepare: (*world).rootsKey, from: func(w *world) *lab.Machine { return w.Corp }, at: netip.AddrPortFrom(lab.Corp4, transferPort),
		args: append([]string{"-e", "ssh -i " + rootKey, "--near", "nat", "--far", "tun", "root@gw"}, corp.prefixes...),
		fetch: func(w *world, url string) *lab.Cmd {
			return w.Gateway.Command(within(w.t, 2*patience), "curl", "-sS", "-f", url).As("me")
		},
	},
	{ // where only the login's process knows the keys of what it carries
		name: "a telnet login", prepare: (*world).telnetOnly, from: theInternet, at: netip.AddrPortFrom(lab.Web4, transferPort),
		args: []string{"--password", "me@gw=@/home/me/password", "telnet://me@gw"},
		fetch: func(w *world, url string) *lab.Cmd {
			return w.Laptop.Command(within(w.t, 2*patience), "curl", "-sS", "-f", url).As("me")
		},
		lose: func(w *world) (int, error) {
			out, err := w.Laptop.Command(w.t.Context(), "ss", "-HtnK", "state", "established", "dport", "=", fmt.Sprint(lab.TelnetPort)).Output()
			return strings.Count(string(out), "\n"), err
		},
	},
}

func theInternet(w *world) *lab.Machine { return w.Internet }

// TestSessionRoles: whatever the two sides are to each other, programs notice no more than
// a pause when the connection is lost.
func TestSessionRoles(t *testing.T) {
	t.Parallel()
	const pieces = 4
	for _, role := range sessionRoles {
		t.Run(role.name, func(t *testing.T) {
			w := newSideWorld(t, sides[0])
			if role.prepare != nil {
				role.prepare(w)
			}
			laptop, gateway := w.snapshot(), w.snapshotOf(w.Gateway)
			if role.args != nil {
				w.up(role.args...)
			}
			lose := role.lose
			if lose == nil {
				lose = func(w *world) (int, error) { return killAt(w.Laptop, isSSH) }
			}
			lost := 0
			sum := w.slowly(role.from(w), role.at, pieces, func() {
				for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) { // between two looks
					if n, err := lose(w); err != nil || n == 1 {
						lost += n
						return
					}
				}
			})
			got, words := sha256.New(), new(said)
			cmd := role.fetch(w, fmt.Sprintf("http://%v/slow", role.at))
			cmd.Stdout, cmd.Stderr = got, words
			if err := cmd.Run(); err != nil || hex.EncodeToString(got.Sum(nil)) != sum {
				t.Errorf("what came has the SHA-256 %x, what was sent %s: %v\n%s", got.Sum(nil), sum, err, words)
			}
			if lost != pieces-1 {
				t.Errorf("the connection was lost %d times, want %d: nothing here proves anything", lost, pieces-1)
			}
			if role.args != nil {
				w.down()
			}
			w.asBefore(laptop, role.name)
			w.gone(w.Gateway, gateway)
			w.noProcesses()
		})
	}
}
