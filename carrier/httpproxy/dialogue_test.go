package httpproxy

import (
	"bufio"
	"context"
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

// A fake is a proxy in memory: it gets each connection that Dial reaches it by, the
// first being number 1.
type fake struct {
	t     *testing.T
	serve func(number int, c *client)

	mu      sync.Mutex
	reached int
	running sync.WaitGroup
}

// A client is the proxy's side of one connection.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// request reads one request and returns its lines.
func (c *client) request() (lines []string) {
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return nil
		}
		if line = strings.TrimSuffix(line, "\r\n"); line == "" {
			return lines
		}
		lines = append(lines, line)
	}
}

// credentials reads one request and returns its Proxy-Authorization; "gone" when
// there is no request.
func (c *client) credentials() string {
	lines := c.request()
	if lines == nil {
		return gone
	}
	for _, line := range lines {
		if value, ok := strings.CutPrefix(line, "Proxy-Authorization: "); ok {
			return value
		}
	}
	return ""
}

const gone = "gone"

func (c *client) say(pieces ...string) {
	for _, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			return // the other side has had enough, which its test sees
		}
	}
}

// echo plays the target.
func (c *client) echo() { io.Copy(c, c.r) }

func (f *fake) reach(context.Context) (carrier.Stream, error) {
	near, far := net.Pipe()
	f.mu.Lock()
	f.reached++
	number := f.reached
	f.mu.Unlock()
	f.running.Go(func() {
		defer far.Close()
		f.serve(number, &client{f.t, far, bufio.NewReader(far)})
	})
	return carrier.Stream{ReadWriteCloser: near}, nil
}

// once serves the first connection with what is said in answer to its request.
func once(pieces ...string) func(int, *client) {
	return func(_ int, c *client) {
		c.request()
		c.say(pieces...)
	}
}

var settings = Config{Proxy: "proxy:3128", Target: "gw.example.org:22"}

// through dials through a fake in a bubble of its own time. It returns what Dial
// did, and how long that took; look, if not nil, gets the Stream first.
func through(t *testing.T, c Config, serve func(int, *client), look func(carrier.Stream)) (took time.Duration, reached int, err error) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, serve: serve}
		began := time.Now()
		var s carrier.Stream
		s, err = Dial(f.reach, c)(t.Context())
		took = time.Since(began)
		if err == nil {
			if look != nil {
				look(s)
			}
			s.Close()
		} else if s.ReadWriteCloser != nil {
			t.Error("a Stream and an error")
		}
		f.running.Wait() // every connection is closed
		reached = f.reached
	})
	return took, reached, err
}

// TestRequest: not an octet too many.
func TestRequest(t *testing.T) {
	for _, c := range []struct {
		target, agent string
		want          string
	}{
		{"gw:22", "", "CONNECT gw:22 HTTP/1.1\r\nHost: gw:22\r\nProxy-Connection: keep-alive\r\n\r\n"},
		{"[2001:DB8::1]:443", "bodkin", "CONNECT [2001:DB8::1]:443 HTTP/1.1\r\nHost: [2001:DB8::1]:443\r\nUser-Agent: bodkin\r\nProxy-Connection: keep-alive\r\n\r\n"},
	} {
		config := settings
		config.Target, config.Agent = c.target, c.agent
		var got strings.Builder
		_, _, err := through(t, config, func(_ int, client *client) {
			tee := bufio.NewReader(io.TeeReader(client, &got))
			client.r = tee
			client.request()
			client.say("HTTP/1.1 200 OK\r\n\r\n")
		}, nil)
		if err != nil || got.String() != c.want {
			t.Errorf("%s: %q, %v; want %q", c.target, got.String(), err, c.want)
		}
	}
}

// TestTargets: nothing that is no host and port gets into a request.
func TestTargets(t *testing.T) {
	for _, target := range []string{
		"", "gw", ":22", "gw:", "gw:0", "gw:65536", "gw:ssh", "gw:+22", "gw:22:22", "2001:db8::1:22", "[2001:db8::1]", "[gw]x:22",
		"[fe80::1%eth0]:22", "g w:22", "gw\t:22", "gw\r\nX: y:22", "gw\x00:22", "gw:22\r\n", "gw/:22", "me@gw:22", "gw?:22", "gw#:22",
		"gw%0d%0a:22", "gä:22", strings.Repeat("x", 254) + ":22",
	} {
		c := settings
		c.Target = target
		_, reached, err := through(t, c, once("HTTP/1.1 200 OK\r\n\r\n"), nil)
		var refused *carrier.RefusedError
		if !errors.As(err, &refused) || reached != 0 {
			t.Errorf("%q: %v, and the proxy was reached %d times", target, err, reached)
		}
	}
	c := settings
	c.Agent = "x\r\nProxy-Evil: 1"
	if _, reached, err := through(t, c, once("HTTP/1.1 200 OK\r\n\r\n"), nil); err == nil || reached != 0 {
		t.Errorf("an agent of two lines: %v", err)
	}
}

// TestTunnels: ways in which a proxy may say yes. What follows its header is the
// target's, to the octet, and what we send arrives.
func TestTunnels(t *testing.T) {
	const greeting = "SSH-2.0-OpenSSH_9.2\r\n"
	late := func(pieces ...string) func(int, *client) {
		return func(_ int, c *client) {
			c.request()
			for _, p := range pieces {
				time.Sleep(5 * time.Second) // the bubble's
				c.say(p)
			}
			c.echo()
		}
	}
	octets := strings.Split("HTTP/1.1 200 OK\r\nVia: x\r\n\r\n"+greeting, "")
	for _, c := range []struct {
		name  string
		serve func(int, *client)
		want  string
	}{
		{"plain", late("HTTP/1.1 200 OK\r\n\r\n", greeting), greeting},
		{"coalesced", late("HTTP/1.1 200 OK\r\n\r\n" + greeting), greeting},
		{"coalesced with much", late("HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("0123456789abcdef", 1000)), strings.Repeat("0123456789abcdef", 1000)},
		{"split", late("HTTP/1.1 2", "00 OK\r", "\nVia: ", "x\r\n\r", "\n"+greeting), greeting},
		{"octet by octet", func(_ int, c *client) {
			c.request()
			c.say(octets...)
			c.echo()
		}, greeting},
		{"late CRLF", late("HTTP/1.1 200 OK\r\n", "\r\n", greeting), greeting},
		{"CRLF of the target's", late("HTTP/1.1 200 OK\r\n\r\n\r\n\r\n"), "\r\n\r\n"},
		{"1xx first", late("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + greeting), greeting},
		{"a body's length", late("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + greeting), greeting},
		{"chunked", late("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n" + greeting), "4\r\n" + greeting},
		{"bare LF", late("HTTP/1.0 200 OK\nVia: x\n\n" + greeting), greeting},
		{"another 2xx", late("HTTP/1.1 204 No Content\r\n\r\n" + greeting), greeting},
		{"close", late("HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n" + greeting), greeting},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, reached, err := through(t, settings, c.serve, func(s carrier.Stream) {
				if s.Socket != nil {
					t.Error("behind the proxy there is the socket to the proxy")
				}
				go io.WriteString(s, "hello")
				got := make([]byte, len(c.want)+5)
				if n, err := io.ReadFull(s, got); err != nil || string(got) != c.want+"hello" {
					t.Errorf("%q, %v; want %q, then hello", got[:n], err, c.want)
				}
			})
			if err != nil || reached != 1 {
				t.Errorf("%v; reached the proxy %d times", err, reached)
			}
		})
	}
}

// TestRefusals: what is for good, and what is worth another try.
func TestRefusals(t *testing.T) {
	const escapes = "\x1b]0;pwned\x07\x1b[21t\x9b31m\u202e"
	for _, c := range []struct {
		name, answer string
		forGood      bool
		want         []string
	}{
		{"moved", "HTTP/1.1 302 Found\r\nLocation: http://portal.example.org/login\r\nContent-Length: 0\r\n\r\n", true, []string{"302 Found", "http://portal.example.org/login"}},
		{"bad request", "HTTP/1.1 400 Bad Request\r\n\r\n", true, []string{"400 Bad Request", "gw.example.org:22", "proxy:3128"}},
		{"unauthorized", "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n", true, []string{"401"}},
		{"forbidden", "HTTP/1.1 403 Forbidden\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n\r\n<html>", true, []string{"403 Forbidden, ERR_ACCESS_DENIED 0"}},
		{"no such method", "HTTP/1.1 405 Method Not Allowed\r\n\r\n", true, []string{"405"}},
		{"too many", "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 120\r\n\r\n", true, []string{"429", "120"}},
		{"not implemented", "HTTP/1.0 501 Not Implemented\r\n\r\n", true, []string{"501"}},
		{"protocols", "HTTP/1.1 101 Switching Protocols\r\n\r\n", true, []string{"101"}},
		{"odd", "HTTP/1.1 999 \r\n\r\n", true, []string{"999"}},
		{"error", "HTTP/1.0 500 Unable to connect\r\n\r\n", false, []string{"500 Unable to connect", "gw.example.org:22"}},
		{"bad gateway", "HTTP/1.1 502 Bad Gateway\r\n\r\n", false, []string{"502"}},
		{"unavailable", "HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n", false, []string{"503 Service Unavailable, ERR_CONNECT_FAIL 111"}},
		{"timeout", "HTTP/1.1 504 Gateway Timeout\r\n\r\n", false, []string{"504"}},
		{"escapes", "HTTP/1.1 403 " + escapes + "\r\nX-Squid-Error: " + escapes + "\r\n\r\n", true, []string{"403 ?]0;pwned?"}},
		{"escapes in an address", "HTTP/1.1 302 x\r\nLocation: http://" + escapes + "\r\n\r\n", true, []string{"302"}},
		{"a long story", "HTTP/1.1 403 " + strings.Repeat("so sorry ", 1000) + "\r\n\r\n", true, []string{"so sorry"}},
		{"sshd", "SSH-2.0-OpenSSH_9.2\r\n", true, []string{"not HTTP", "SSH-2"}},
		{"garbage", "\x00\x1b[2J\xff\r\n\r\n", true, []string{"not HTTP"}},
		{"huge header", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 70), true, []string{"64 KiB"}},
		{"many lines", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 200), true, []string{"100 lines"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			took, reached, err := through(t, settings, once(c.answer), nil)
			if err == nil {
				t.Fatal("a tunnel")
			}
			var refused *carrier.RefusedError
			text := err.Error()
			if errors.As(err, &refused) {
				text += refused.Hint
				if refused.Layer != "proxy" {
					t.Errorf("layer %q", refused.Layer)
				}
			}
			if forGood := refused != nil; forGood != c.forGood || reached != 1 || took > 0 {
				t.Errorf("%v: for good %v, reached %d times, in %v", err, forGood, reached, took)
			}
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q does not say %q", text, want)
				}
			}
			if carrier.Printable(text) != text || len(text) > 1000 {
				t.Errorf("not fit to be shown: %q", text)
			}
		})
	}
}

// TestEnds: the proxy ends the connection in the middle.
func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name, answer, want string
	}{
		{"at once", "", "nothing came"},
		{"in the status", "HTTP/1.1 2", `10 octets came, the last "HTTP/1.1 2"`},
		{"in the header", "HTTP/1.1 200 OK\r\nVia: \x1b[1m\r\n", "28 octets came"},
		{"after a 100", "HTTP/1.1 100 Continue\r\n\r\n", "25 octets came"},
	} {
		_, reached, err := through(t, settings, once(c.answer), nil)
		var hungUp *carrier.HangUpError
		if !errors.As(err, &hungUp) || hungUp.Layer != "proxy" || !strings.Contains(hungUp.Reason, c.want) || !errors.Is(err, io.EOF) || reached != 1 {
			t.Errorf("%s: %v; reached %d times", c.name, err, reached)
		}
		if carrier.Printable(err.Error()) != err.Error() {
			t.Errorf("%s: not fit to be shown: %q", c.name, err)
		}
	}
	// It does not even read.
	_, _, err := through(t, settings, func(int, *client) {}, nil)
	if hungUp := new(carrier.HangUpError); !errors.As(err, &hungUp) {
		t.Errorf("closed at once: %v", err)
	}
	// It answers before it has read the request, and reads no more.
	_, _, err = through(t, settings, func(_ int, c *client) {
		c.r.ReadByte()
		c.Close()
	}, nil)
	if hungUp := new(carrier.HangUpError); !errors.As(err, &hungUp) {
		t.Errorf("closed in the request: %v", err)
	}
}

// TestSilence: silence ends by our time, slowness does not; the caller's time counts
// where it is shorter.
func TestSilence(t *testing.T) {
	drip := func(every time.Duration, text string) func(int, *client) {
		return func(_ int, c *client) {
			c.request()
			for octet := range strings.SplitSeq(text, "") {
				time.Sleep(every) // the bubble's
				c.say(octet)
			}
			c.r.ReadByte() // until the other side closes
		}
	}
	endless := "HTTP/1.1 200 " + strings.Repeat("x", 1000)
	for _, c := range []struct {
		name  string
		serve func(int, *client)
		limit time.Duration // the longest that Dial may take
	}{
		{"never a word", drip(0, ""), 45 * time.Second},
		{"never reads", func(_ int, c *client) { time.Sleep(2 * time.Minute) }, 45 * time.Second},
		{"stops", drip(0, "HTTP/1.1 200 OK\r\n"), 45 * time.Second},
		{"one octet a second", drip(time.Second, endless), 45 * time.Second},
	} {
		took, _, err := through(t, settings, c.serve, nil)
		var silent *carrier.SilenceError
		if !errors.As(err, &silent) || silent.Layer != "proxy" || took < answerTime || took > c.limit {
			t.Errorf("%s: %v, after %v", c.name, err, took)
		}
	}

	// 300 bit/s, two minutes of header.
	header := "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 3600) + "\r\n\r\n"
	took, _, err := through(t, settings, drip(time.Second/30, header), nil)
	if err != nil || took < 2*time.Minute {
		t.Errorf("a slow line: %v, after %v", err, took)
	}

	patient := settings
	patient.Timeout = 5 * time.Minute
	took, _, err = through(t, patient, drip(0, ""), nil)
	if silent := new(carrier.SilenceError); !errors.As(err, &silent) || took < patient.Timeout {
		t.Errorf("as long as the settings say: %v, after %v", err, took)
	}

	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, serve: drip(0, "HTTP/1.1 ")}
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		_, err := Dial(f.reach, settings)(ctx)
		if silent := new(carrier.SilenceError); !errors.As(err, &silent) || !strings.Contains(silent.Reason, "7s") {
			t.Errorf("the caller's time: %v", err)
		}
		f.running.Wait()
	})
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, serve: drip(0, "HTTP/1.1 ")}
		cause := errors.New("the user gave up")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if _, err := Dial(f.reach, settings)(ctx); !errors.Is(err, cause) {
			t.Errorf("canceled: %v", err)
		}
		f.running.Wait()
	})
}

// TestContextAfterwards: the Stream outlives the context it was dialled with.
func TestContextAfterwards(t *testing.T) {
	f := &fake{t: t, serve: func(_ int, c *client) {
		c.request()
		c.say("HTTP/1.1 200 OK\r\n\r\n")
		c.echo()
	}}
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Dial(f.reach, settings)(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	go fmt.Fprint(s, "hello")
	if got := make([]byte, 5); !errors.Is(readAll(s, got), nil) || string(got) != "hello" {
		t.Errorf("%q", got)
	}
	s.Close()
	f.running.Wait()
}

func readAll(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	return err
}

// TestReachFails: what reach says is said.
func TestReachFails(t *testing.T) {
	broken := errors.New("tcp: no route to host")
	_, err := Dial(func(context.Context) (carrier.Stream, error) { return carrier.Stream{}, broken }, settings)(t.Context())
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}
