package websocket

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
	"github.com/bodkin-net/bodkin/carrier/tcp"
	"github.com/bodkin-net/bodkin/carrier/tls"
)

// handler gives each WebSocket to f, and closes it when f returns.
func handler(t testing.TB, ctx context.Context, f func(context.Context, carrier.Stream)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, err := Accept(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		f(ctx, s)
	}
}

// serve runs a web server that gives each WebSocket to f, until the test ends. It
// returns a way to it, without TLS or in it.
func serve(t testing.TB, encrypted bool, f func(context.Context, carrier.Stream)) (dial carrier.Dial, host string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var handlers sync.WaitGroup
	h := handler(t, ctx, f)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers.Add(1)
		defer handlers.Done()
		h(w, r)
	}))
	if encrypted {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(func() {
		cancel()
		server.Close()
		handlers.Wait()
	})
	host = server.Listener.Addr().String()
	dial = func(ctx context.Context) (carrier.Stream, error) { return tcp.Dial(ctx, host, nil) }
	if encrypted {
		authorities := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		dial = dial.Then(tls.VerifiedBy("example.com", authorities))
	}
	return dial, host
}

// reverse runs a reverse proxy before the web server at host, and returns a way to it.
func reverse(t *testing.T, host string) carrier.Dial {
	t.Helper()
	proxy := httptest.NewServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host}))
	t.Cleanup(proxy.Close)
	return func(ctx context.Context) (carrier.Stream, error) {
		return tcp.Dial(ctx, proxy.Listener.Addr().String(), nil)
	}
}

// TestCarrier runs the suite over plain HTTP, over HTTPS, and through a reverse proxy.
func TestCarrier(t *testing.T) {
	for _, way := range []string{"ws", "wss", "proxy"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			dial, host := serve(t, way == "wss", func(ctx context.Context, s carrier.Stream) { carriertest.Serve(ctx, s) })
			if way == "proxy" {
				dial = reverse(t, host)
			}
			carriertest.Test(t, func(t *testing.T) carrier.Stream {
				s, err := dial.Then(Hop(host, "/tunnel?x=1", nil))(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

// TestSocket: what the kernel knows of the way below is known above, unless somebody
// between says that he is there.
func TestSocket(t *testing.T) {
	for _, c := range []struct {
		field string
		kept  bool
	}{
		{"", true}, {"X-Other: 1\r\n", true}, {"Via: 1.1 vegur\r\n", false}, {"Server: nginx\r\n", false},
	} {
		near, far := net.Pipe()
		var served sync.WaitGroup
		served.Go(func() {
			defer far.Close()
			r, err := http.ReadRequest(bufio.NewReader(far))
			if err != nil {
				return
			}
			accept := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
			io.WriteString(far, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+c.field+
				"Sec-WebSocket-Accept: "+base64.StdEncoding.EncodeToString(accept[:])+"\r\n\r\n")
			io.Copy(io.Discard, far)
		})
		s, err := Hop("home", "/", nil)(t.Context(), carrier.Stream{ReadWriteCloser: near, Socket: socket{}})
		if err != nil {
			t.Fatal(err)
		}
		if (s.Socket.Path() != carrier.Path{}) != c.kept {
			t.Errorf("%q: socket %v", c.field, s.Socket)
		}
		near.Close()
		s.Close()
		served.Wait()
	}
	forwarded := make(chan bool, 1)
	proxy := reverse(t, httptestHost(t, func(_ http.ResponseWriter, r *http.Request) { forwarded <- Relayed(r.Header) }))
	if s, err := proxy.Then(Hop("home", "/", nil))(t.Context()); err == nil {
		s.Close()
	}
	if !<-forwarded {
		t.Error("a server does not see that a reverse proxy is before it")
	}
}

func httptestHost(t *testing.T, h http.HandlerFunc) string {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// A socket is that of a connection to a web server.
type socket struct{}

func (socket) Path() carrier.Path { return carrier.Path{Lost: 1} }

// TestServerSuite runs the suite with the server's end as the near one.
func TestServerSuite(t *testing.T) {
	carriertest.Test(t, func(t *testing.T) carrier.Stream {
		client, server := pair(t)
		var served sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		served.Go(func() {
			carriertest.Serve(ctx, client)
			client.Close()
		})
		t.Cleanup(func() {
			cancel()
			server.Close()
			served.Wait()
		})
		return server
	})
}

// pair returns both ends of one connection over TCP; the test closes them.
func pair(t testing.TB) (client, server carrier.Stream) {
	t.Helper()
	accepted := make(chan carrier.Stream)
	dial, host := serve(t, false, func(ctx context.Context, s carrier.Stream) {
		accepted <- s
		<-ctx.Done()
	})
	client, err := dial.Then(Hop(host, "/", nil))(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return client, <-accepted
}

// A canned server reads a request, says the words, and ends or, if it hangs, waits.
func canned(t *testing.T, words string, hangs bool) carrier.Stream {
	near, far := net.Pipe()
	var served sync.WaitGroup
	served.Go(func() {
		defer far.Close()
		if words != "" || hangs {
			http.ReadRequest(bufio.NewReader(far))
		}
		io.WriteString(far, words)
		if hangs {
			io.Copy(io.Discard, far)
		}
	})
	t.Cleanup(func() {
		near.Close()
		far.Close()
		served.Wait()
	})
	return carrier.Stream{ReadWriteCloser: near}
}

func TestAnswers(t *testing.T) {
	long := strings.Repeat("long ", 1000)
	for _, c := range []struct {
		name, answer string
		kind         any // what errors.As finds
		words        string
	}{
		{"not found", "HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nno\x1b[31m it", new(*carrier.RefusedError), `404 Not Found: "no?[31m it"`},
		{"a page", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", new(*carrier.RefusedError), "does not open a WebSocket: 200 OK"},
		{"forbidden at length", "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\n\r\n" + long, new(*carrier.RefusedError), "403 Forbidden"},
		{"elsewhere", "HTTP/1.1 302 Found\r\nLocation: http://login.example/\x07\r\nContent-Length: 0\r\n\r\n", new(*carrier.HangUpError), ""},
		{"elsewhere, said well", "HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n\r\n", new(*carrier.RefusedError), `points to "http://login.example/"`},
		{"nobody behind", "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", new(*carrier.UnreachedError), "502 Bad Gateway"},
		{"a password", "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", new(*carrier.RefusedError), "401"},
		{"101 and no more", "HTTP/1.1 101 Switching Protocols\r\n\r\n", new(*carrier.RefusedError), "speaks none"},
		{"101 for another key", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: bm8=\r\n\r\n", new(*carrier.RefusedError), "speaks none"},
		{"ssh", "SSH-2.0-OpenSSH_9.2\r\n", new(*carrier.RefusedError), `"SSH-2.0-OpenSSH_9.2"`},
		{"nothing", "", new(*carrier.HangUpError), "nothing came"},
		{"half an answer", "HTTP/1.1 404 Not", new(*carrier.HangUpError), `"HTTP/1.1 404 Not"`},
		{"a head without end", "HTTP/1.1 404 No\r\nX: " + strings.Repeat("x", 2*maxResponse), new(*carrier.RefusedError), "no web server says"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Hop("web.example", "/x", nil)(t.Context(), canned(t, c.answer, false))
			if err == nil {
				s.Close()
				t.Fatal("a WebSocket was opened")
			}
			t.Log(err)
			if c.words == "" {
				return // one error or another
			}
			if !errors.As(err, c.kind) {
				t.Errorf("%T: %v; want %T", err, err, c.kind)
			}
			if !strings.Contains(err.Error(), c.words) {
				t.Errorf("%q does not say %q", err, c.words)
			}
			if len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\x1b\x07\r\n") {
				t.Errorf("%q is no line to print", err)
			}
		})
	}
}

func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := Hop("web.example", "/x", nil)(ctx, canned(t, "HTTP/1.1 101", true))
		var silence *carrier.SilenceError
		if !errors.As(err, &silence) || !strings.Contains(err.Error(), `"HTTP/1.1 101"`) {
			t.Errorf("%T: %v", err, err)
		}
		ctx, stop := context.WithCancelCause(t.Context())
		cause := errors.New("enough")
		time.AfterFunc(time.Second, func() { stop(cause) })
		if _, err := Hop("web.example", "/x", nil)(ctx, canned(t, "", true)); !errors.Is(err, cause) {
			t.Errorf("%T: %v", err, err)
		}
	})
}

func TestWrongPlaces(t *testing.T) {
	for _, c := range [][2]string{{"", "/"}, {"host", ""}, {"host", "x"}, {"host", "http://elsewhere/"}, {"ho st", "/"}, {"host/path", "/"}, {"me@host", "/"}} {
		s, err := Hop(c[0], c[1], nil)(t.Context(), canned(t, "", true))
		var refused *carrier.RefusedError
		if !errors.As(err, &refused) {
			t.Errorf("%q, %q: %v", c[0], c[1], err)
		}
		if err == nil {
			s.Close()
		}
	}
}

// TestRequest is what a web server gets to see: what RFC 6455, section 4.1 wants, the
// caller's own fields, and nothing of this machine.
func TestRequest(t *testing.T) {
	got := make(chan *http.Request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got <- r }))
	defer server.Close()
	below, err := tcp.Dial(t.Context(), server.Listener.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	header := http.Header{"Authorization": {"Basic eDp5"}}
	Hop("[2001:db8::1]:8080", "/a%2Fb?c=d", header)(t.Context(), below)
	r := <-got
	if r.Host != "[2001:db8::1]:8080" || r.RequestURI != "/a%2Fb?c=d" {
		t.Errorf("%s asks %s", r.RequestURI, r.Host)
	}
	delete(r.Header, "Sec-Websocket-Key")
	want := http.Header{"Authorization": {"Basic eDp5"}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}}
	for name := range r.Header {
		if r.Header.Get(name) != want.Get(name) {
			t.Errorf("%s: %q", name, r.Header[name])
		}
	}
	if len(r.Header) != len(want) || len(header) != 1 {
		t.Errorf("%v", r.Header)
	}
}

// TestAcceptRefuses sends what is no upgrade: the answers quote nothing.
func TestAcceptRefuses(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, err := Accept(w, r); err == nil {
			s.Close()
			t.Error("a WebSocket was opened")
		} else if strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%q", err)
		}
	}))
	defer server.Close()
	for _, c := range []struct {
		method, key string
		status      int
		header      string
	}{
		{"GET", "", 426, "keep-alive <script>"},
		{"POST", "AAAAAAAAAAAAAAAAAAAAAA==", 405, "Upgrade"},
		{"GET", "<script>", 400, "Upgrade"},
	} {
		r, _ := http.NewRequest(c.method, server.URL, nil)
		r.Header.Set("Connection", c.header)
		r.Header.Set("Upgrade", "websocket")
		r.Header.Set("Sec-WebSocket-Version", "13")
		r.Header.Set("Sec-WebSocket-Key", c.key)
		answer, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != c.status || len(text) > 0 {
			t.Errorf("%s %q: %d %q", c.method, c.header, answer.StatusCode, text)
		}
	}
}
