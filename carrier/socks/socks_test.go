package socks

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// octets returns what hexadecimal digits say, in which "..." stands for text.
func octets(t testing.TB, text string) []byte {
	t.Helper()
	var b []byte
	for i, piece := range strings.Split(text, "'") {
		if i%2 == 1 {
			b = append(b, piece...)
			continue
		}
		part, err := hex.DecodeString(strings.ReplaceAll(piece, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, part...)
	}
	return b
}

// A turn is what the proxy wants to read, and what it says then.
type turn struct{ wants, says string }

// through goes by a Hop through a proxy in memory that takes those turns, in a bubble of
// its own time. After the last turn the proxy says "hello" and, if the Hop works,
// echoes what comes.
func through(t *testing.T, h carrier.Hop, turns []turn) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var running sync.WaitGroup
		running.Go(func() {
			defer far.Close()
			for _, turn := range turns {
				want := octets(t, turn.wants)
				got := make([]byte, len(want))
				if n, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, want) {
					t.Errorf("the proxy read %x, %v; want %x", got[:n], err, want)
					return
				}
				for _, octet := range octets(t, turn.says) { // one by one
					if _, err := far.Write([]byte{octet}); err != nil {
						return
					}
				}
			}
			if _, err := io.WriteString(far, "hello"); err == nil {
				io.Copy(far, far)
			}
		})
		var s carrier.Stream
		s, err = h(t.Context(), carrier.Stream{ReadWriteCloser: near, Socket: socket{}})
		if err == nil {
			if s.Socket.Path() != (carrier.Path{}) {
				t.Error("behind the proxy there is the socket to the proxy")
			}
			got := make([]byte, 10)
			go io.WriteString(s, "there")
			if n, err := io.ReadFull(s, got); err != nil || string(got) != "hellothere" {
				t.Errorf("through the tunnel came %q, %v", got[:n], err)
			}
			s.Close()
		}
		near.Close()
		running.Wait()
	})
	return err
}

// A socket is one to a proxy.
type socket struct{}

func (socket) Path() carrier.Path { return carrier.Path{Lost: 1} }

func secret(password string) func(context.Context, string) (string, error) {
	return func(_ context.Context, question string) (string, error) {
		if question != "Password of me for the proxy proxy:1080: " {
			return "", fmt.Errorf("a question about something else: %q", question)
		}
		return password, nil
	}
}

const (
	greeting = "05 01 00"
	request  = "05 01 00 03 02 'gw' 0016"
	granted  = "05 00 00 01 00000000 0000"
)

func TestV5(t *testing.T) {
	me := Auth{User: "me", Secret: secret("pass"), Proxy: "proxy:1080"}
	for _, c := range []struct {
		name, target string
		auth         Auth
		turns        []turn
	}{
		{"name", "gw:22", Auth{}, []turn{{greeting, "05 00"}, {request, granted}}},
		{"IPv4", "192.0.2.1:65535", Auth{}, []turn{{greeting, "05 00"}, {"05 01 00 01 c0000201 ffff", granted}}},
		{"IPv6", "[2001:db8::1]:1", Auth{}, []turn{{greeting, "05 00"}, {"05 01 00 04 20010db8000000000000000000000001 0001", granted}}},
		{"IPv4 in IPv6", "[::ffff:192.0.2.1]:22", Auth{}, []turn{{greeting, "05 00"}, {"05 01 00 01 c0000201 0016", granted}}},
		{"answered with IPv6", "gw:22", Auth{}, []turn{{greeting, "05 00"}, {request, "05 00 00 04 20010db8000000000000000000000001 ffff"}}},
		{"answered with a name", "gw:22", Auth{}, []turn{{greeting, "05 00"}, {request, "05 00 ff 03 05 'proxy' ffff"}}},
		{"answered with an empty name", "gw:22", Auth{}, []turn{{greeting, "05 00"}, {request, "05 00 00 03 00 ffff"}}},
		{"password", "gw:22", me, []turn{{"05 02 00 02", "05 02"}, {"01 02 'me' 04 'pass'", "01 00"}, {request, granted}}},
		{"password, wrong version", "gw:22", me, []turn{{"05 02 00 02", "05 02"}, {"01 02 'me' 04 'pass'", "05 00"}, {request, granted}}},
		{"password not wanted", "gw:22", me, []turn{{"05 02 00 02", "05 00"}, {request, granted}}},
	} {
		if err := through(t, V5(c.target, c.auth), c.turns); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestV4a(t *testing.T) {
	for _, c := range []struct{ target, user, request string }{
		{"gw:22", "", "04 01 0016 00000001 00 'gw' 00"},
		{"gw.example.org:443", "me", "04 01 01bb 00000001 'me' 00 'gw.example.org' 00"},
		{"192.0.2.1:22", "me", "04 01 0016 c0000201 'me' 00"},
	} {
		if err := through(t, V4a(c.target, Auth{User: c.user}), []turn{{c.request, "00 5a 1234 c0000201"}}); err != nil {
			t.Errorf("%s: %v", c.target, err)
		}
	}
}

// TestRefusals: what is for good, and what is worth another try.
func TestRefusals(t *testing.T) {
	const request4 = "04 01 0016 00000001 00 'gw' 00"
	nobody := Auth{Proxy: "proxy:1080"}
	me := Auth{User: "me", Secret: secret("pass"), Proxy: "proxy:1080"}
	answered := func(reply string) []turn { return []turn{{greeting, "05 00"}, {request, reply}} }
	for _, c := range []struct {
		name    string
		hop     carrier.Hop
		turns   []turn
		forGood bool
		want    string
	}{
		{"general", V5("gw:22", nobody), answered("05 01"), false, "proxy: proxy:1080 did not connect to gw:22: general failure (1)"},
		{"rules", V5("gw:22", nobody), answered("05 02"), true, "not allowed by its rules (2)"},
		{"network", V5("gw:22", nobody), answered("05 03"), false, "network unreachable"},
		{"host", V5("gw:22", nobody), answered("05 04"), false, "host unreachable"},
		{"connection", V5("gw:22", nobody), answered("05 05"), false, "connection refused"},
		{"TTL", V5("gw:22", nobody), answered("05 06"), false, "timed out"},
		{"command", V5("gw:22", nobody), answered("05 07"), true, "does not know CONNECT"},
		{"kind", V5("gw:22", nobody), answered("05 08"), true, "kind of address"},
		{"unknown", V5("gw:22", nobody), answered("05 f0"), false, "(240)"},
		{"address", V5("gw:22", nobody), answered("05 00 00 02"), true, "type 2"},
		{"version of a reply", V5("gw:22", nobody), answered("04 00"), true, "0x04"},
		{"nobody", V5("gw:22", nobody), []turn{{greeting, "05 ff"}}, true, "socks5://user@"},
		{"no method", V5("gw:22", me), []turn{{"05 02 00 02", "05 ff"}}, true, "neither"},
		{"not offered", V5("gw:22", nobody), []turn{{greeting, "05 02"}}, true, "not offered"},
		{"GSSAPI", V5("gw:22", me), []turn{{"05 02 00 02", "05 01"}}, true, "0x01"},
		{"password", V5("gw:22", me), []turn{{"05 02 00 02", "05 02"}, {"01 02 'me' 04 'pass'", "01 01"}}, true, `wrong user or password for "me"`},
		{"no secret", V5("gw:22", Auth{User: "me"}), []turn{{"05 02 00 02", "05 02"}}, true, "nobody to ask"},
		{"web proxy", V5("gw:22", nobody), []turn{{greeting, "'HTTP/1.1 400 Bad Request'"}}, true, "write http://"},
		{"TLS", V5("gw:22", nobody), []turn{{greeting, "15 0301"}}, true, "TLS"},
		{"SOCKS 4", V5("gw:22", nobody), []turn{{greeting, "00 5b"}}, true, "write socks4a://"},
		{"4: rejected", V4a("gw:22", Auth{}), []turn{{request4, "00 5b 0000 00000000"}}, true, "gw:22"},
		{"4: no ident", V4a("gw:22", Auth{}), []turn{{request4, "00 5c 0000 00000000"}}, true, "ident"},
		{"4: another", V4a("gw:22", Auth{}), []turn{{request4, "00 5d 0000 00000000"}}, true, "another user"},
		{"4: unknown", V4a("gw:22", Auth{}), []turn{{request4, "00 00 0000 00000000"}}, true, "code 0"},
		{"4: SOCKS 5", V4a("gw:22", Auth{}), []turn{{request4, "05 ff"}}, true, "write socks5://"},
	} {
		err := through(t, c.hop, c.turns)
		refused := new(carrier.RefusedError)
		text := fmt.Sprint(err)
		if errors.As(err, &refused) {
			text += refused.Hint
			if refused.Layer != "proxy" {
				t.Errorf("%s: layer %q", c.name, refused.Layer)
			}
		}
		if err == nil || errors.As(err, &refused) != c.forGood || !strings.Contains(text, c.want) || strings.Contains(text, "pass ") {
			t.Errorf("%s: %q, for good %v; want %q", c.name, text, errors.As(err, &refused), c.want)
		}
	}
}

// TestSettings: what no proxy is asked, because the protocol cannot say it.
func TestSettings(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, hop := range map[string]carrier.Hop{
		"no port":       V5("gw", Auth{}),
		"port 0":        V5("gw:0", Auth{}),
		"port":          V4a("gw:65536", Auth{}),
		"service":       V4a("gw:ssh", Auth{}),
		"nothing":       V5(":22", Auth{}),
		"zero":          V4a("g\x00w:22", Auth{}),
		"line end":      V5("gw\r\n:22", Auth{}),
		"zone":          V5("[fe80::1%eth0]:22", Auth{}),
		"long":          V5(long+":22", Auth{}),
		"IPv6 by 4a":    V4a("[2001:db8::1]:22", Auth{}),
		"user's zero":   V4a("gw:22", Auth{User: "m\x00e"}),
		"long user":     V4a("gw:22", Auth{User: long}),
		"long user, 5":  V5("gw:22", Auth{User: long}),
		"user's escape": V5("gw:22", Auth{User: "\x1b[1m"}),
	} {
		err := through(t, hop, nil)
		refused := new(carrier.RefusedError)
		if !errors.As(err, &refused) || carrier.Printable(refused.Reason) != refused.Reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, password := range []string{"", long} {
		err := through(t, V5("gw:22", Auth{User: "me", Secret: secret(password), Proxy: "proxy:1080"}), []turn{{"05 02 00 02", "05 02"}})
		if refused := new(carrier.RefusedError); !errors.As(err, &refused) || !strings.Contains(err.Error(), "1 to 255") {
			t.Errorf("a password of %d octets: %v", len(password), err)
		}
	}
}

// TestEnds: the proxy hangs up after each of its octets, or falls silent.
func TestEnds(t *testing.T) {
	me := Auth{User: "me", Secret: secret("pass"), Proxy: "proxy:1080"}
	for _, c := range []struct {
		name  string
		hop   carrier.Hop
		turns []turn
	}{
		{"5", V5("gw:22", me), []turn{{"05 02 00 02", "05 02"}, {"01 02 'me' 04 'pass'", "01 00"}, {request, "05 00 00 03 05 'proxy' ffff"}}},
		{"4a", V4a("gw:22", Auth{}), []turn{{"04 01 0016 00000001 00 'gw' 00", "00 5a 0000 00000000"}}},
	} {
		whole := 0
		for _, turn := range c.turns {
			whole += len(octets(t, turn.says))
		}
		for n := range whole {
			for _, silent := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					near, far := net.Pipe()
					var running sync.WaitGroup
					running.Go(func() {
						defer far.Close()
						left := n
						for _, turn := range c.turns {
							io.CopyN(io.Discard, far, int64(len(octets(t, turn.wants))))
							says := octets(t, turn.says)
							far.Write(says[:min(left, len(says))])
							if left -= len(says); left < 0 {
								break
							}
						}
						if silent {
							io.Copy(io.Discard, far)
						}
					})
					began := time.Now()
					_, err := c.hop(t.Context(), carrier.Stream{ReadWriteCloser: near})
					took := time.Since(began)
					hungUp, quiet := new(carrier.HangUpError), new(carrier.SilenceError)
					if !silent && (!errors.As(err, &hungUp) || hungUp.Layer != "proxy" || took > 0) {
						t.Errorf("%s: hung up after %d octets: %v, in %v", c.name, n, err, took)
					}
					if silent && (!errors.As(err, &quiet) || quiet.Layer != "proxy" || took < answerTime || took > answerTime+2*time.Second) {
						t.Errorf("%s: silent after %d octets: %v, in %v", c.name, n, err, took)
					}
					near.Close()
					running.Wait()
				})
			}
		}
	}
}

func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		began := time.Now()
		_, err := V5("gw:22", Auth{Timeout: 5 * time.Minute})(t.Context(), carrier.Stream{ReadWriteCloser: near})
		if quiet := new(carrier.SilenceError); !errors.As(err, &quiet) || time.Since(began) < 5*time.Minute {
			t.Errorf("as long as the settings say: %v, after %v", err, time.Since(began))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := V5("gw:22", Auth{})(ctx, carrier.Stream{ReadWriteCloser: near})
		if quiet := new(carrier.SilenceError); !errors.As(err, &quiet) {
			t.Errorf("the caller's time: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		cause := errors.New("the user gave up")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		_, err := V4a("gw:22", Auth{})(ctx, carrier.Stream{ReadWriteCloser: near})
		if !errors.Is(err, cause) {
			t.Errorf("canceled: %v", err)
		}
	})
}

// TestPasswordIsRemembered: for as long as the proxy likes it.
func TestPasswordIsRemembered(t *testing.T) {
	answers := []string{"one", "two"}
	hop := V5("gw:22", Auth{User: "me", Proxy: "proxy:1080", Secret: func(context.Context, string) (string, error) {
		next := answers[0]
		answers = answers[1:]
		return next, nil
	}})
	login := turn{"05 02 00 02", "05 02"}
	for _, c := range []struct {
		password, word string
		left           int
	}{{"one", "01 00", 1}, {"one", "01 00", 1}, {"one", "01 ff", 1}, {"two", "01 00", 0}} {
		turns := []turn{login, {"01 02 'me' 03 '" + c.password + "'", c.word}}
		works := c.word == "01 00"
		if works {
			turns = append(turns, turn{request, granted})
		}
		if err := through(t, hop, turns); works != (err == nil) || len(answers) != c.left {
			t.Errorf("%s: %v, and %d answers are left", c.password, err, len(answers))
		}
	}
}

// scripted is a Stream whose far side has said all it will say, and takes everything.
type scripted struct {
	*bytes.Reader
	said *bytes.Buffer
}

func (s scripted) Write(b []byte) (int, error) { return s.said.Write(b) }
func (scripted) Close() error                  { return nil }

// FuzzReplies: whatever the proxy says, a Hop that works took exactly the octets of its
// replies, and one that does not says so in words fit to be shown. What we send
// depends on nothing but the method chosen.
func FuzzReplies(f *testing.F) {
	for _, says := range []string{
		"05 00 05 00 00 01 00000000 0000 'SSH-2.0'",
		"05 02 01 00 05 00 00 03 05 'proxy' ffff 'SSH-2.0'",
		"05 02 01 01", "05 ff", "05 00 05 02",
		"00 5a 0000 00000000 'SSH-2.0'", "00 5b 0000 00000000",
		"'HTTP/1.1 400 Bad Request'",
	} {
		f.Add(octets(f, says))
	}
	f.Fuzz(func(t *testing.T, says []byte) {
		hops := map[string]carrier.Hop{
			"5":  V5("gw:22", Auth{User: "me", Secret: secret("pass"), Proxy: "proxy:1080"}),
			"4a": V4a("gw:22", Auth{User: "me"}),
		}
		for name, hop := range hops {
			s := scripted{bytes.NewReader(says), new(bytes.Buffer)}
			_, err := hop(context.Background(), carrier.Stream{ReadWriteCloser: s})
			if err != nil {
				if carrier.Printable(err.Error()) != err.Error() || len(err.Error()) > 1000 || strings.Contains(err.Error(), "pass ") {
					t.Fatalf("%q", err)
				}
				continue
			}
			took := says[:len(says)-s.Len()]
			want := "04 01 0016 00000001 'me' 00 'gw' 00"
			end := 8
			if name == "5" {
				want = "05 02 00 02" + request
				end = 2
				if took[1] == 2 {
					want = "05 02 00 02 01 02 'me' 04 'pass'" + request
					end = 4
				}
				switch took[end+3] {
				case 1:
					end += 10
				case 3:
					end += 7 + int(took[end+4])
				case 4:
					end += 22
				}
			}
			if len(took) != end || !bytes.Equal(s.said.Bytes(), octets(t, want)) {
				t.Fatalf("%s took %d octets, want %d, and said %x", name, len(took), end, s.said)
			}
		}
	})
}
