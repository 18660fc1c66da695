package socks

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"
)

const (
	maxHeader = 64 << 10 // octets of a request's header; browsers and servers stop at 8 to 64 KiB

	// idleOrigins are connections to servers that are kept for a next request, in
	// all, and for how long: a page is fetched by some ten at once.
	idleOrigins    = 64
	idleOriginTime = time.Minute

	copySize = 64 << 10 // octets of a response's body on their way
)

// A web is the HTTP proxy of a Proxy: an http.Server that gets its connections from
// Proxy.serve.
type web struct {
	p         *Proxy
	server    http.Server
	transport *http.Transport
	reverse   httputil.ReverseProxy
	conns     chan net.Conn
	ended     chan struct{} // closed by close
}

// A webConn is a connection whose first octet was read already.
type webConn struct {
	net.Conn
	tcp   *net.TCPConn // the same
	first []byte
	once  sync.Once
	done  chan struct{} // closed by Close
}

func (c *webConn) Read(b []byte) (int, error) {
	if len(c.first) > 0 && len(b) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

func (c *webConn) Close() error {
	defer c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}

// connKey is the key of a request's *webConn in its context.
type connKey struct{}

func (w *web) init(p *Proxy) {
	w.p = p
	w.conns, w.ended = make(chan net.Conn), make(chan struct{})
	silent := log.New(io.Discard, "", 0) // what there is to say is in Stats
	w.server = http.Server{
		Handler:           http.HandlerFunc(w.handle),
		ReadHeaderTimeout: p.c.Limits.Handshake,
		IdleTimeout:       p.c.Limits.Idle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          silent,
		BaseContext:       func(net.Listener) context.Context { return p.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	w.transport = &http.Transport{
		DialContext:        p.DialContext,
		DisableCompression: true, // what the program asked for is what it gets
		MaxIdleConns:       idleOrigins,
		IdleConnTimeout:    idleOriginTime,
	}
	w.reverse = httputil.ReverseProxy{
		Rewrite:       rewrite,
		Transport:     w.transport,
		FlushInterval: -1, // each piece at once: a proxy is no place to wait
		BufferPool:    pool{},
		ErrorLog:      silent,
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, err error) {
			sayFailure(rw, err)
		},
	}
	p.start(func() { w.server.Serve(w) })
}

// Accept, Close and Addr make the web the server's listener.
func (w *web) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.ended:
		return nil, net.ErrClosed
	}
}

func (w *web) Close() error   { return nil }
func (w *web) Addr() net.Addr { return &net.TCPAddr{} }

// close ends the server and its connections, on both sides.
func (w *web) close() {
	close(w.ended)
	w.server.Close()
	w.transport.CloseIdleConnections()
}

// serve carries one connection until it is closed.
func (w *web) serve(c *net.TCPConn, first byte) {
	c.SetDeadline(time.Time{})
	wc := &webConn{Conn: c, tcp: c, first: []byte{first}, done: make(chan struct{})}
	select {
	case w.conns <- wc:
		<-wc.done
	case <-w.ended:
		c.Close()
	}
}

// handle answers one request.
func (w *web) handle(rw http.ResponseWriter, r *http.Request) {
	if !w.p.enter() {
		return
	}
	defer w.p.wg.Done()
	w.p.count.http.Add(1)
	switch {
	case !w.authorized(r):
		w.p.count.policy.Add(1)
		rw.Header().Set("Proxy-Authenticate", `Basic realm="bodkin"`)
		say(rw, http.StatusProxyAuthRequired, "this proxy wants a user and a password")
	case r.Method == http.MethodConnect:
		w.connect(rw, r)
	case r.URL.Scheme == "http" && r.URL.Host != "":
		w.reverse.ServeHTTP(rw, r)
	case r.URL.Scheme != "":
		say(rw, http.StatusNotImplemented, "this proxy fetches http:// alone; anything else goes through it by CONNECT")
	default:
		say(rw, http.StatusBadRequest, "this is a proxy for SOCKS 5, SOCKS 4a and HTTP: name it in a program's settings")
	}
}

// authorized reports whether r gives the user and password asked for (RFC 7617).
func (w *web) authorized(r *http.Request) bool {
	if w.p.c.User == "" {
		return true
	}
	scheme, text, _ := strings.Cut(r.Header.Get("Proxy-Authorization"), " ")
	given, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	user, password, _ := strings.Cut(string(given), ":")
	return err == nil && strings.EqualFold(scheme, "Basic") && sameSecret([]byte(user), []byte(password), w.p.c.User, w.p.c.Password)
}

// connect is CONNECT (RFC 9110, section 9.3.6).
func (w *web) connect(rw http.ResponseWriter, r *http.Request) {
	host, port, err := splitHostPort(r.Host)
	var a address
	if err == nil {
		a, err = hostAddress(host, port)
	}
	if err != nil {
		w.p.count.malformed.Add(1)
		say(rw, http.StatusBadRequest, "CONNECT wants host:port")
		return
	}
	c, ok := r.Context().Value(connKey{}).(*webConn)
	hijacker, can := rw.(http.Hijacker)
	if !ok || !can {
		say(rw, http.StatusInternalServerError, "no connection")
		return
	}
	d, err := w.p.dial(r.Context(), c.tcp, a)
	if err != nil {
		sayFailure(rw, err)
		return
	}
	_, buffered, err := hijacker.Hijack()
	if err != nil {
		d.reset()
		return
	}
	defer c.Close()
	c.tcp.SetDeadline(time.Now().Add(w.p.c.Limits.Handshake))
	if _, err := io.WriteString(c.tcp, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		d.reset()
		return
	}
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	d.splice(c.tcp, early)
}

// rewrite makes the request for the server of one for the proxy. ReverseProxy has
// taken away what is for one hop alone (RFC 9110, section 7.6.1).
func rewrite(r *httputil.ProxyRequest) {
	r.Out.URL, r.Out.Host = r.In.URL, r.In.Host
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := r.In.Header[name]; ok { // the program's own words pass
			r.Out.Header[name] = v
		}
	}
}

// say answers with a status and a line of text.
func say(rw http.ResponseWriter, status int, text string) {
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	rw.WriteHeader(status)
	fmt.Fprintf(rw, "bodkin: %s\n", text)
}

// sayFailure answers for a server that was not reached.
func sayFailure(rw http.ResponseWriter, err error) {
	if errors.Is(err, errFull) {
		say(rw, http.StatusServiceUnavailable, "too many connections")
		return
	}
	a := [...]struct {
		status int
		text   string
	}{
		failedOtherwise:  {http.StatusBadGateway, "the server was not reached"},
		failedProhibited: {http.StatusForbidden, "the destination is prohibited"},
		failedNoNetwork:  {http.StatusBadGateway, "the network of the server is unreachable"},
		failedNoHost:     {http.StatusBadGateway, "the server is unreachable"},
		failedRefused:    {http.StatusBadGateway, "the server refused the connection"},
		failedLate:       {http.StatusGatewayTimeout, "the server did not answer in time"},
		failedNoName:     {http.StatusBadGateway, "the name of the server was not found"},
	}[failureOf(err)]
	say(rw, a.status, a.text)
}

// A pool lends buffers for bodies.
type pool struct{}

var bodies = sync.Pool{New: func() any { return new([copySize]byte) }}

func (pool) Get() []byte  { return bodies.Get().(*[copySize]byte)[:] }
func (pool) Put(b []byte) { bodies.Put((*[copySize]byte)(b)) }
