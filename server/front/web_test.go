package front

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
	"github.com/bodkin-net/bodkin/carrier/tcp"
	webtls "github.com/bodkin-net/bodkin/carrier/tls"
	"github.com/bodkin-net/bodkin/carrier/websocket"
)

// ask sends a request as it is written, and returns the answer.
func ask(t *testing.T, address, request string) (*http.Response, string) {
	t.Helper()
	c := dial(t, address)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, request)
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	text, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	return answer, string(text)
}

func TestPage(t *testing.T) {
	s := start(t, Config{Handlers: handled()})
	for _, c := range []struct {
		request string
		status  int
		text    string
	}{
		{"GET / HTTP/1.1\r\nHost: a\r\n", 200, "<h1>bodkin</h1>"},
		{"GET /<script> HTTP/1.1\r\nHost: a\r\n", 404, "Not Found\n"},
		{"GET //%2e%2e/<script> HTTP/1.1\r\nHost: a\r\n", 404, "Not Found\n"},
		{"GET /index.html HTTP/1.1\r\nHost: a\r\nOrigin: <script>\r\n", 404, "Not Found\n"},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", 405, "Method Not Allowed\n"},
		{"OPTIONS * HTTP/1.1\r\nHost: a\r\n", 404, "Not Found\n"},
		{"GET / HTTP/1.1\r\n", 400, "400 Bad Request"},
		{"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("<script>", 4000) + "\r\n", 431, "431 Request Header"},
	} {
		answer, text := ask(t, s.address, c.request+"Connection: close\r\n\r\n")
		if answer.StatusCode != c.status || !strings.Contains(text, c.text) {
			t.Errorf("%.60q: %d %q", c.request, answer.StatusCode, text)
		}
		if strings.Contains(text, "script") || answer.Header.Get("Server") != "" || len(text) > 600 {
			t.Errorf("%.60q: %v %q", c.request, answer.Header, text)
		}
		if answer.StatusCode < 400 || answer.StatusCode == 404 {
			for _, name := range []string{"Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"} {
				if answer.Header.Get(name) == "" {
					t.Errorf("%.60q: no %s", c.request, name)
				}
			}
		}
	}
}

// TestWebSocket runs the carriers' suite through the front: WebSocket over HTTPS and over
// HTTP, beside a page. Who has proved himself is not bound by the front's patience.
func TestWebSocket(t *testing.T) {
	site := Site("/tunnel", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := From(r.Context())
		if c == nil || !c.Authenticated() || c.Listener == "" {
			t.Error("the request has no connection")
		}
		s, err := websocket.Accept(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		carriertest.Serve(r.Context(), s)
	}))
	get := certificate(t)
	s := start(t, Config{Handlers: Handlers{Web: site}, Certificate: get, Patience: 200 * time.Millisecond})
	shown, _ := get(nil)
	leaf, err := x509.ParseCertificate(shown.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AddCert(leaf)
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			carriertest.Test(t, func(t *testing.T) carrier.Stream {
				way := carrier.Dial(func(ctx context.Context) (carrier.Stream, error) { return tcp.Dial(ctx, s.address, nil) })
				if scheme == "wss" {
					way = way.Then(webtls.VerifiedBy("front.example", authorities))
				}
				stream, err := way.Then(websocket.Hop("front.example", "/tunnel", nil))(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return stream
			})
		})
	}
	if answer, _ := ask(t, s.address, "GET /tunnel/ HTTP/1.0\r\n\r\n"); answer.StatusCode != 404 {
		t.Errorf("a path beside the WebSocket's: %d", answer.StatusCode)
	}
	idle := dial(t, s.address)
	io.WriteString(idle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	idle.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, idle); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("whoever only looks is kept: %v", err)
	}
}

// TestTLSVersions has browsers old and new.
func TestTLSVersions(t *testing.T) {
	s := start(t, Config{Handlers: handled(), Certificate: certificate(t)})
	for version, taken := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c := tls.Client(dial(t, s.address), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"}})
		if err := c.Handshake(); (err == nil) != taken {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		} else if err == nil && c.ConnectionState().NegotiatedProtocol != "http/1.1" {
			t.Errorf("%s: %q", tls.VersionName(version), c.ConnectionState().NegotiatedProtocol)
		}
	}
}

func TestSelfSigned(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(nil)
	var keys [][]byte
	for range 2 {
		get, err := SelfSigned(key, "a.example", "192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		c, _ := get(nil)
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := leaf.VerifyHostname("a.example"); err != nil {
			t.Error(err)
		}
		if err := leaf.VerifyHostname("192.0.2.1"); err != nil {
			t.Error(err)
		}
		keys = append(keys, leaf.RawSubjectPublicKeyInfo)
	}
	if !bytes.Equal(keys[0], keys[1]) {
		t.Error("the key is another one after each start")
	}
	if _, err := SelfSigned(nil); err == nil {
		t.Error("a certificate of no key")
	}
}

// writeFiles writes a new certificate and its key.
func writeFiles(t *testing.T, chain, key string) {
	t.Helper()
	_, machine, _ := ed25519.GenerateKey(nil)
	get, err := SelfSigned(machine)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := get(nil)
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{chain: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFiles changes the files: the new certificate is used; a broken one is not.
func TestFiles(t *testing.T) {
	chain, key := filepath.Join(t.TempDir(), "chain"), filepath.Join(t.TempDir(), "key")
	if _, err := Files(chain, key, nil); err == nil {
		t.Error("no files are no error")
	}
	writeFiles(t, chain, key)
	told := 0
	get, err := Files(chain, key, func(error) { told++ })
	if err != nil {
		t.Fatal(err)
	}
	f := new(files) // the one inside, whose clock is turned back below
	*f = files{chain: chain, key: key, log: func(error) { told++ }}
	f.certificate, _ = get(nil)
	f.seen = f.stamps()
	shown := func() []byte {
		f.checked = time.Time{}
		c, err := f.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Certificate[0]
	}
	first := shown()
	writeFiles(t, chain, key)
	os.Chtimes(chain, time.Time{}, time.Now().Add(time.Hour))
	second := shown()
	if bytes.Equal(first, second) {
		t.Error("the new certificate is not used")
	}
	os.WriteFile(key, []byte("broken"), 0o600)
	for range 3 {
		if !bytes.Equal(shown(), second) {
			t.Error("a broken key has changed the certificate")
		}
	}
	if told != 1 {
		t.Errorf("it was told %d times", told)
	}
}

// TestBuffers keeps writev for those who write many buffers.
func TestBuffers(t *testing.T) {
	s := start(t, Config{Handlers: Handlers{SSH: func(ctx context.Context, c *Conn) {
		c.WriteBuffers(net.Buffers{[]byte("a"), nil, []byte("bc")})
		c.WriteBuffers(nil)
		c.CloseWrite()
		io.Copy(io.Discard, c)
	}}})
	c := dial(t, s.address)
	io.WriteString(c, "SSH-")
	if text, err := io.ReadAll(c); string(text) != "abc" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

var (
	_ carrier.BuffersWriter = (*Conn)(nil)
	_ carrier.CloseWriter   = (*Conn)(nil)
)
