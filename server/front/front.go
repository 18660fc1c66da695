// Package front is one port for all: it tells connections apart by their first octets,
// says nothing itself, and hands each to whoever knows its protocol.
//
//	front.go        a Server: what it is made of, how it begins and ends
//	accept.go       from listeners to connections
//	tell.go         the first octets
//	hello.go        the ClientHello of TLS
//	conn.go         a connection, until it is somebody's and afterwards
//	waiting.go      those that have not said who they are: how many, for how long
//	web.go          HTTP and HTTPS
//	page.go         the page for browsers
//	certificate.go  the certificate for them
//	listen.go       TCP, Unix sockets, and what systemd hands over
//
//	first octets             what it is          whose it is
//	"SSH-", or silence       SSH (RFC 4253)      Handlers.SSH
//	22, 3: a ClientHello     TLS (RFC 8446)      Handlers.TLS if it names Config.Proto, else HTTPS
//	"GET ", "POST", ...      HTTP (RFC 9112)     Handlers.Web
//	Config.LineOctet         bodkin's own lines  Handlers.Line
//	anything else            nothing known       closed, and counted
//
// Whoever has not said who he is costs little, has little time, and gives way to others
// when there are many of his kind. Who he is, is for the handlers to find out.
package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of Config.
const (
	// defaultSilence is how long a client that waits for the server's banner waits.
	// All OpenSSH send theirs at once (RFC 4253, section 4.2); some others wait.
	defaultSilence = 3 * time.Second

	// defaultPatience is enough for a handshake of four round trips over a way of five
	// seconds each.
	defaultPatience = 20 * time.Second

	// defaultWaiting is 100 MB of connections that say nothing, at some 5 KiB each.
	defaultWaiting = 20000

	// defaultShares is how many sources fill Waiting: one may have an eighth.
	defaultShares = 8

	// defaultGrace is time for sessions to say goodbye.
	defaultGrace = 10 * time.Second
)

// lastTime is how long Serve waits, in the end, for handlers whose connections are
// closed. They have nothing to wait for.
const lastTime = 5 * time.Second

// Handlers are who knows the protocols. A connection whose handler is nil is closed as
// one that nobody knows.
//
// A handler owns its connection until it returns, and returns soon after ctx ends or
// the connection is closed, whichever is first; then the connection is closed. It calls
// Conn.Authenticated as soon as the peer has proved who it is.
type Handlers struct {
	SSH  func(ctx context.Context, c *Conn)
	TLS  func(ctx context.Context, c *Conn) // from the ClientHello on
	Line func(ctx context.Context, c *Conn) // from Config.LineOctet on

	// Web gets requests of HTTP/1, with TLS below them or without. Its requests' contexts
	// end when Serve's does; From finds their connections in them. A handler that has
	// hijacked a connection closes it itself.
	Web http.Handler
}

// A Config says what a Server does. It is not changed after New.
type Config struct {
	Handlers

	// LineOctet is the first octet of a line, if there is Handlers.Line.
	LineOctet byte

	// Proto is the protocol by whose name a ClientHello asks for Handlers.TLS: one
	// that offers it (RFC 7301), and neither http/1.1 nor h2 beside it.
	Proto string

	// Certificate is for browsers, and others who speak TLS and do not know Proto;
	// nil: they are closed.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	Silence   time.Duration // after which a client is taken for one of SSH; 0: 3 s
	Patience  time.Duration // from accept to Conn.Authenticated; 0: 20 s
	Waiting   int           // the most connections that are not authenticated; 0: 20,000, or a quarter of the files this process may open
	PerSource int           // of these, the most of one IPv4 address or one IPv6 /64; 0: an eighth
	Grace     time.Duration // for handlers to end, after Serve's ctx has; 0: 10 s

	Log *slog.Logger // nil: nothing is logged
}

// Stats are what a Server has counted since it began, and what it holds now. They may
// be read at any time.
type Stats struct {
	Accepted     atomic.Uint64 // connections
	AcceptErrors atomic.Uint64 // of listeners: mostly that there are no files left

	SSH, TLS, Line atomic.Uint64 // handed on
	HTTP, HTTPS    atomic.Uint64

	Unknown atomic.Uint64 // closed: began as nothing known, or as what has no handler
	Left    atomic.Uint64 // ended before they were known
	GaveWay atomic.Uint64 // closed: there were too many
	Late    atomic.Uint64 // closed: not authenticated in time

	Silent  atomic.Int64 // now: not known yet
	Waiting atomic.Int64 // now: not authenticated, the silent ones among them
	Open    atomic.Int64 // now: all
}

// A Server tells connections apart. Make one with New.
type Server struct {
	Config
	stats   Stats
	log     *slog.Logger
	waiting waiting
	web     web

	running sync.WaitGroup // one of each connection, until it is handed to web
	mu      sync.Mutex
	open    map[*Conn]struct{}
}

// New makes a Server.
func New(c Config) (*Server, error) {
	if c.TLS != nil && c.Proto == "" {
		return nil, errors.New("front: Handlers.TLS without Config.Proto")
	}
	if c.Line != nil && (c.LineOctet == recordHandshake || tell([]byte{c.LineOctet}, 0, false) != kindNone) {
		return nil, fmt.Errorf("front: octet %d begins a line, and something else", c.LineOctet)
	}
	setDefault(&c.Silence, defaultSilence)
	setDefault(&c.Patience, defaultPatience)
	setDefault(&c.Grace, defaultGrace)
	if c.Waiting <= 0 {
		c.Waiting = min(defaultWaiting, max(maxFiles()/4, 1))
	}
	if c.PerSource <= 0 {
		c.PerSource = max(c.Waiting/defaultShares, 1)
	}
	s := &Server{Config: c, log: c.Log, open: make(map[*Conn]struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.waiting.init(c.Waiting, c.PerSource, &s.stats)
	return s, nil
}

func setDefault(d *time.Duration, to time.Duration) {
	if *d <= 0 {
		*d = to
	}
}

// Stats returns what the Server counts.
func (s *Server) Stats() *Stats { return &s.stats }

// Serve takes connections of the listeners until ctx ends, or one of them cannot go on.
// It closes the listeners, and all connections that have not said who they are; ends the
// contexts of all handlers, waits for them for Config.Grace, and closes the connections
// of those that are left. It returns nil if ctx ended. It is called once.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.web.start(running, s)
	var accepting sync.WaitGroup
	for _, l := range listeners {
		s.log.Info("listening", "on", listenerName(l))
		accepting.Go(func() {
			if err := s.accept(running, l); err != nil {
				cancel(err)
			}
		})
	}
	<-running.Done()
	for _, l := range listeners {
		l.Close()
	}
	accepting.Wait()
	err := s.end()
	if ctx.Err() == nil {
		return fmt.Errorf("front: %w", context.Cause(running))
	}
	return err
}

// end waits for the handlers, whose contexts have ended.
func (s *Server) end() error {
	s.web.stop()
	for _, c := range s.waiting.all() {
		c.drop()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.running.Wait()
		s.web.wait()
	}()
	grace := time.NewTimer(s.Grace)
	defer grace.Stop()
	select {
	case <-done:
		return nil
	case <-grace.C:
	}
	left := s.connections()
	s.log.Warn("closing the connections that have not ended", "connections", len(left))
	for _, c := range left {
		c.drop()
	}
	grace.Reset(lastTime)
	select {
	case <-done:
		return nil
	case <-grace.C:
		return fmt.Errorf("front: handlers of %d connections do not end", len(left))
	}
}

// connections returns those that are open.
func (s *Server) connections() (open []*Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		open = append(open, c)
	}
	return open
}
