package lab

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// TelnetProxyOptions choose how a telnet proxy behaves. The zero value listens on
// port 23, knows no name, lets everyone connect to any address, and passes octets on
// verbatim.
type TelnetProxyOptions struct {
	Port   uint16                              // 0 is TelnetPort
	Hosts  map[string]netip.Addr               // names it knows; addresses need none
	Permit func(host string, port uint16) bool // nil permits all; host as it was typed

	// It asks for a login of its own if User is set: for the password, or, if Answer
	// is set, for what that makes of a challenge.
	User, Password string
	Answer         func(challenge string) string

	Echo        bool // it offers to echo (WILL ECHO, WILL SGA), and does what it may
	Terminating bool // connected too it speaks telnet with the client, and with the host only if its port is 23
	Binary      bool // a terminating one agrees to BINARY, each way that is asked for

	Banner      int           // octets of text before the greeting, about
	Late        time.Duration // before each thing it says
	HangUpAt    ProxyStep     // where it closes the connection
	HangUpAfter int64         // octets to the client, after which it does so; 0 is never
}

// A ProxyStep is a place in the dialogue with a telnet proxy.
type ProxyStep int

// The places where a telnet proxy may hang up.
const (
	ProxyNever    ProxyStep = iota
	ProxyAccepted           // before it says a word
	ProxyUser               // when it has the user's name
	ProxyCommand            // when it has a command, instead of the answer
	ProxyTrying             // when it said that it tries
	ProxyReached            // when it said that it is connected
)

const (
	proxyPrompt    = "tn-gw-> "
	maxProxied     = 256  // connections to and from a proxy at once
	maxProxyLine   = 512  // octets of a line typed at it
	maxProxyRecord = 1000 // lines of Connections; a test asks for a few
	proxyLogins    = 3    // wrong ones until it hangs up
	proxyDial      = 10 * time.Second
)

// A TelnetProxy is what telnet through a firewall was like: one says where to, in
// the manner of tn-gw of the TIS firewall toolkit.
type TelnetProxy struct {
	machine  *Machine
	o        TelnetProxyOptions
	services *services
	ctx      context.Context

	mu     sync.Mutex
	record []string
}

// TelnetProxy begins to proxy on the machine, from this process. It ends with the Lab
// unless Close ends it before.
func (m *Machine) TelnetProxy(o TelnetProxyOptions) (*TelnetProxy, error) {
	if o.Port == 0 {
		o.Port = TelnetPort
	}
	s, err := newServices(m, maxProxied)
	if err != nil {
		return nil, err
	}
	listener, err := m.Listen("tcp", fmt.Sprintf(":%d", o.Port))
	if err != nil {
		s.close()
		return nil, fmt.Errorf("lab: %s: listening for a telnet proxy: %w", m.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &TelnetProxy{machine: m, o: o, services: s, ctx: ctx}
	s.closers = append(s.closers, closerFunc(cancel))
	s.accept(listener, p.serve)
	return p, nil
}

// Connections lists what was asked for and what came of it, in order: "home 23:
// connected", "evil 23: permission denied".
func (p *TelnetProxy) Connections() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.record)
}

// Close ends the proxy and its connections, and waits for them.
func (p *TelnetProxy) Close() error {
	p.services.close()
	return nil
}

// serve holds the dialogue with a client, and then carries.
func (p *TelnetProxy) serve(c net.Conn) {
	client := p.side(&hangUp{c.(*net.TCPConn), p.o.HangUpAfter}, do)
	client.end.lines = true
	d := proxyDialogue{p, client}
	server, port := d.toServer()
	if server == nil {
		return
	}
	defer p.services.release(server)
	p.carry(client, server, port)
}

// A proxyDialogue is that with one client before it is connected.
type proxyDialogue struct {
	*TelnetProxy
	client *telnetSide
}

var errHangUp = errors.New("lab: the proxy hangs up here")

// say sends text, late, or hangs up if this is where.
func (d proxyDialogue) say(text string, after ProxyStep) error {
	if d.o.Late > 0 {
		timer := time.NewTimer(d.o.Late)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-d.ctx.Done():
			return d.ctx.Err()
		}
	}
	if _, err := d.client.Write([]byte(text)); err != nil {
		return err
	}
	return d.at(after)
}

// at is an error where the proxy is to hang up.
func (d proxyDialogue) at(step ProxyStep) error {
	if step != ProxyNever && step == d.o.HangUpAt {
		return errHangUp
	}
	return nil
}

// toServer leads the dialogue to its end: the connection that was asked for, held,
// or nil.
func (d proxyDialogue) toServer() (*net.TCPConn, uint16) {
	if d.at(ProxyAccepted) != nil {
		return nil, 0
	}
	if d.o.Echo {
		d.client.offer(optEcho, optSGA)
	}
	greeting := banner(d.o.Banner) + "gw tn-gw telnet proxy (Version V1.0) ready:\r\n"
	if d.say(greeting, ProxyNever) != nil || !d.login() {
		return nil, 0
	}
	for {
		if d.say(proxyPrompt, ProxyNever) != nil {
			return nil, 0
		}
		line, err := d.client.line(true)
		if err != nil || d.at(ProxyCommand) != nil {
			return nil, 0
		}
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		answer := "Unknown command, try help\r\n"
		switch strings.ToLower(words[0]) {
		case "c", "connect":
			server, port, err := d.connect(words[1:])
			if err != nil || server != nil {
				return server, port
			}
			continue
		case "x-gw":
			continue // where to put windows; there are none
		case "?", "h", "help":
			answer = "Valid commands are: (unique abbreviations may be used)\r\n  connect hostname [serv/port]\r\n  x-gw [display]\r\n  help/?\r\n  quit/exit\r\n"
		case "q", "quit", "exit":
			d.say("Disconnecting...\r\n", ProxyNever)
			return nil, 0
		}
		if d.say(answer, ProxyNever) != nil {
			return nil, 0
		}
	}
}

// login asks for the proxy's own, if it has one.
func (d proxyDialogue) login() bool {
	if d.o.User == "" {
		return true
	}
	for range proxyLogins {
		if d.say("Username: ", ProxyNever) != nil {
			return false
		}
		user, err := d.client.line(true)
		if err != nil || d.at(ProxyUser) != nil {
			return false
		}
		question, want := "Password: ", d.o.Password
		if d.o.Answer != nil {
			n, err := rand.Int(rand.Reader, big.NewInt(1e8))
			if err != nil {
				return false
			}
			challenge := fmt.Sprintf("%08d", n)
			question, want = fmt.Sprintf("Challenge \"%s\": ", challenge), d.o.Answer(challenge)
		}
		if d.say(question, ProxyNever) != nil {
			return false
		}
		answer, err := d.client.line(false)
		if err != nil {
			return false
		}
		if user == d.o.User && answer == want {
			return d.say("Login Accepted\r\n", ProxyNever) == nil
		}
		if d.say("Login incorrect\r\n", ProxyNever) != nil {
			return false
		}
	}
	d.say("Too many attempts\r\n", ProxyNever)
	return false
}

// connect tries to connect as the words of a command ask. A nil connection without
// an error has been answered for.
func (d proxyDialogue) connect(words []string) (*net.TCPConn, uint16, error) {
	if len(words) == 0 || len(words) > 2 {
		return nil, 0, d.say("Usage: connect hostname [serv/port]\r\n", ProxyNever)
	}
	host, port := words[0], uint16(TelnetPort)
	if len(words) == 2 && words[1] != "telnet" {
		n, err := strconv.ParseUint(words[1], 10, 16)
		if err != nil || n == 0 {
			return nil, 0, d.say("Unknown host or port\r\n", ProxyNever)
		}
		port = uint16(n)
	}
	refuse := func(answer string) (*net.TCPConn, uint16, error) {
		d.note(host, port, answer)
		return nil, 0, d.say(answer+"\r\n", ProxyNever)
	}
	if d.o.Permit != nil && !d.o.Permit(host, port) {
		return refuse("Sorry, permission denied")
	}
	addr, known := d.o.Hosts[host]
	if !known {
		var err error
		if addr, err = netip.ParseAddr(host); err != nil {
			return refuse("Unknown host or port")
		}
	}
	if err := d.say(fmt.Sprintf("Trying %v port %d...\r\n", addr, port), ProxyTrying); err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(d.ctx, proxyDial)
	defer cancel()
	c, err := d.machine.Dial(ctx, "tcp", netip.AddrPortFrom(addr, port).String())
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return refuse("Connection refused")
	case err != nil:
		return refuse("Host is unreachable")
	}
	if !d.services.hold(c) {
		c.Close()
		return refuse("Too many connections")
	}
	d.note(host, port, "connected")
	if err := d.say(fmt.Sprintf("Connected to %s.\r\n", host), ProxyReached); err != nil {
		d.services.release(c)
		return nil, 0, err
	}
	return c.(*net.TCPConn), port, nil
}

func (p *TelnetProxy) note(host string, port uint16, result string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.record) < maxProxyRecord {
		p.record = append(p.record, fmt.Sprintf("%s %d: %s", host, port, result))
	}
}

// carry passes octets between the two until both directions have ended.
func (p *TelnetProxy) carry(client *telnetSide, server *net.TCPConn, port uint16) {
	near, far := halfConn(client.toData(p.o.Terminating)), halfConn(server)
	if p.o.Terminating && port == TelnetPort {
		far = p.side(server, will)
	}
	var both sync.WaitGroup
	for _, way := range []struct{ to, from halfConn }{{near, far}, {far, near}} {
		both.Go(func() {
			if _, err := io.Copy(onlyWriter{way.to}, onlyReader{way.from}); err != nil {
				client.conn.Close()
				server.Close()
			}
			way.to.CloseWrite()
		})
	}
	both.Wait()
}

// banner makes at least n octets of lines of text.
func banner(n int) string {
	const line = "Unauthorized access to this system is forbidden and will be prosecuted.\r\n"
	return strings.Repeat(line, (n+len(line)-1)/len(line))
}

// A halfConn is a connection whose directions end one by one.
type halfConn interface {
	io.ReadWriter
	CloseWrite() error
}

// onlyReader and onlyWriter keep io.Copy from short cuts of its own.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// hangUp is a connection that ends after so many octets were written.
type hangUp struct {
	*net.TCPConn
	left int64 // 0 is no limit
}

func (h *hangUp) Write(b []byte) (int, error) {
	if h.left == 0 {
		return h.TCPConn.Write(b)
	}
	n, err := h.TCPConn.Write(b[:min(int64(len(b)), h.left)])
	if h.left -= int64(n); h.left == 0 && err == nil {
		h.TCPConn.Close()
		err = errHangUp
	}
	return n, err
}

// A telnetSide is the proxy's connection to a peer that speaks telnet: what is read
// and written is data. One may read while another writes.
type telnetSide struct {
	conn interface {
		halfConn
		io.Closer
	}
	r *bufio.Reader

	mu  sync.Mutex
	end telnetEnd
}

// side begins telnet on a connection. Echoes are agreed to of who does them: DO to
// a client that asks for them, WILL of a server.
func (p *TelnetProxy) side(c interface {
	halfConn
	io.Closer
}, echo byte) *telnetSide {
	agree := func(verb, option byte) bool {
		switch option {
		case optEcho:
			return verb == echo
		case optSGA:
			return true
		}
		return option == optBinary && p.o.Terminating && p.o.Binary
	}
	return &telnetSide{conn: c, r: bufio.NewReader(c), end: telnetEnd{agree: agree}}
}

func (s *telnetSide) offer(options ...byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range options {
		s.end.offer(o)
	}
	s.answer()
}

// answer sends what the telnet end has to say of itself. The caller holds mu.
func (s *telnetSide) answer() error {
	if len(s.end.answers) == 0 {
		return nil
	}
	_, err := s.conn.Write(s.end.answers)
	s.end.answers = s.end.answers[:0]
	return err
}

// line reads a line that is typed, and echoes it if that was agreed; of a secret one
// only the end.
func (s *telnetSide) line(echo bool) (string, error) {
	var line []byte
	for {
		b, err := s.r.ReadByte()
		if err != nil {
			return "", err
		}
		before := len(line)
		s.mu.Lock()
		line = s.end.take(line, b)
		err = s.answer()
		echoes := s.end.ours[optEcho]
		s.mu.Unlock()
		if err != nil {
			return "", err
		}
		if len(line) == before {
			continue
		}
		if typed := line[before]; typed == '\n' {
			if echoes {
				_, err = s.conn.Write([]byte("\r\n"))
			}
			return string(line[:before]), err
		} else if echoes && echo {
			if _, err := s.Write([]byte{typed}); err != nil {
				return "", err
			}
		}
		if len(line) > maxProxyLine {
			return "", errors.New("lab: a line that is too long")
		}
	}
}

// Read reads data.
func (s *telnetSide) Read(b []byte) (int, error) {
	raw := make([]byte, max(1, len(b)/2)) // an octet may complete two
	for {
		n, err := s.r.Read(raw)
		s.mu.Lock()
		data := b[:0]
		for _, octet := range raw[:n] {
			data = s.end.take(data, octet)
		}
		if failed := s.answer(); err == nil {
			err = failed
		}
		s.mu.Unlock()
		if len(data) > 0 || err != nil {
			return len(data), err
		}
	}
}

// Write writes data.
func (s *telnetSide) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.conn.Write(s.end.put(nil, b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (s *telnetSide) CloseWrite() error { return s.conn.CloseWrite() }

// toData goes from lines to what is carried: data, or all octets as they are.
func (s *telnetSide) toData(terminating bool) halfConn {
	s.end.lines = false
	if terminating {
		return s
	}
	return &verbatim{s, s.end.skip}
}

// A verbatim connection is all octets that come after the last line.
type verbatim struct {
	*telnetSide
	skip bool // an octet of the line's end may come first
}

func (v *verbatim) Read(b []byte) (int, error) {
	n, err := v.r.Read(b)
	if n > 0 && v.skip {
		v.skip = false
		if endsLine(b[0]) {
			n = copy(b, b[1:n])
		}
	}
	return n, err
}

func (v *verbatim) Write(b []byte) (int, error) { return v.conn.Write(b) }
