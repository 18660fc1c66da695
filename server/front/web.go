package front

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of a web server for one small page and requests for a WebSocket. All of it ends
// by Config.Patience anyway, for whoever has not proved who he is.
const (
	webHeaderTime = 10 * time.Second
	webTime       = 15 * time.Second // to read a request, and to write an answer
	webIdle       = 10 * time.Second
	webHeader     = 16 << 10 // octets: what others allow, and more than any proxy adds
)

// web is the web server behind the front: net/http, whose listener is the Server.
type web struct {
	http    *http.Server // nil: there is none
	tls     *tls.Config
	conns   chan net.Conn
	closed  chan struct{} // when conns takes no more
	closing sync.Once
	serving sync.WaitGroup

	mu       sync.Mutex
	stopped  bool
	requests sync.WaitGroup // handlers, hijackers among them
}

func (w *web) start(ctx context.Context, s *Server) {
	w.conns, w.closed = make(chan net.Conn), make(chan struct{})
	if s.Web == nil {
		return
	}
	w.tls = &tls.Config{
		GetCertificate: s.Certificate,
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // and no other
	w.http = &http.Server{
		Handler:                      w.counted(s.Web),
		Protocols:                    protocols,
		ReadHeaderTimeout:            webHeaderTime,
		ReadTimeout:                  webTime,
		WriteTimeout:                 webTime,
		IdleTimeout:                  webIdle,
		MaxHeaderBytes:               webHeader,
		DisableGeneralOptionsHandler: true,
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ConnContext:                  withConn,
		// What is said there of single connections is for whoever looks for a fault.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	w.serving.Go(func() { w.http.Serve(w) })
}

// counted is h, whose requests are waited for.
func (w *web) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		stopped := w.stopped
		if !stopped {
			w.requests.Add(1)
		}
		w.mu.Unlock()
		if stopped {
			answer.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		defer w.requests.Done()
		h.ServeHTTP(answer, r)
	})
}

// hand gives the web server a connection, which is c, or TLS over it.
func (w *web) hand(c *Conn, of net.Conn) {
	select {
	case w.conns <- of:
	case <-w.closed:
		c.Close()
	}
}

func (w *web) encrypted(c *Conn) net.Conn { return tls.Server(c, w.tls) }

// stop takes no more connections and requests.
func (w *web) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.Close()
}

// wait waits for those that there are.
func (w *web) wait() {
	if w.http != nil {
		w.http.Shutdown(context.Background())
	}
	w.serving.Wait()
	w.requests.Wait()
}

// Accept, Close and Addr make it net/http's listener.
func (w *web) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *web) Close() error {
	w.closing.Do(func() { close(w.closed) })
	return nil
}

func (w *web) Addr() net.Addr { return webAddress{} }

type webAddress struct{}

func (webAddress) Network() string { return "front" }
func (webAddress) String() string  { return "front" }

// connKey is where a request's context has its connection.
type connKey struct{}

func withConn(ctx context.Context, of net.Conn) context.Context {
	if t, ok := of.(*tls.Conn); ok {
		of = t.NetConn()
	}
	return context.WithValue(ctx, connKey{}, of)
}

// From returns the connection that a request of Handlers.Web came by, by its context;
// nil: it is no such request. It is below TLS, and only there to be asked and told:
// to read from it would be to steal.
func From(ctx context.Context) *Conn {
	c, _ := ctx.Value(connKey{}).(*Conn)
	return c
}
