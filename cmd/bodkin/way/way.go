// Package way goes the way to the far side: hop by hop, as the config lists them,
// through proxies, telnet, jump hosts, programs of the user's, and scripts.
//
// It is where each kind of hop is given its carrier. What is done at the end of the
// way is its caller's: ssh, a shell, TLS, or nothing but octets.
package way

import (
	"cmp"
	"context"
	cryptotls "crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strings"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/chat"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/carrier/httpproxy"
	"github.com/bodkin-net/bodkin/carrier/socks"
	"github.com/bodkin-net/bodkin/carrier/ssh"
	"github.com/bodkin-net/bodkin/carrier/tcp"
	"github.com/bodkin-net/bodkin/carrier/telnet"
	"github.com/bodkin-net/bodkin/carrier/tls"
	"github.com/bodkin-net/bodkin/carrier/websocket"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/cmd/bodkin/secret"
	"github.com/bodkin-net/bodkin/config"
)

// settleTime is how long a server may take to answer telnet's offers, after which
// it is taken for one that answers none.
const settleTime = 10 * time.Second

// RedialTime is how long a host may take to answer that answered before. It is short:
// a network that came back is found by the next attempt, and not by this one, whose
// questions come ever more seldom (RFC 6298, section 5.5).
const RedialTime = 5 * time.Second

// A Way is the way to a far side. Its methods may be called one after another, as
// often as there is dialling to do.
type Way struct {
	Hops    []config.Hop
	Secrets *secret.Sources
	Silence time.Duration // how long a proxy or a login may be silent where something is waited for; 0: as chat has it
	SSH     []string      // the ssh program and its options, for jump hosts
	Fdpass  []string      // what hands ssh a connection of ours: see ssh.Config
	Control tcp.Control   // is called with each socket of ours before it connects; may be nil

	Congestion tcp.Congestion // of the sockets of ours

	// Done is called when a hop is behind us, and Banner with each line that a host
	// shows before it lets anybody in, printable. Log gets what only the curious want
	// to know. Each may be nil.
	Done   func(l report.Layer, format string, args ...any)
	Banner func(place, line string)
	Log    func(place, line string)

	mu     sync.Mutex
	first  netip.AddrPort // what the first socket of ours was connected to
	pids   []int          // programs that connect by themselves
	broken error          // what one of the programs on the way failed at
}

// Outside returns what the way goes out of this machine by: the far end of our own
// socket, invalid if there is none, and the programs that connect by themselves.
func (w *Way) Outside() (socket netip.AddrPort, pids []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first, append([]int(nil), w.pids...)
}

// Reach opens a Stream to an address, "host:port", behind all hops. scheme says what
// is spoken there.
func (w *Way) Reach(ctx context.Context, address string, scheme config.Scheme) (carrier.Stream, error) {
	w.begin()
	return w.reach(w.Hops, address, scheme)(ctx)
}

// At opens a Stream to the last of the hops itself.
func (w *Way) At(ctx context.Context) (carrier.Stream, error) {
	w.begin()
	return w.at(w.Hops)(ctx)
}

// reach leads from behind the hops to an address.
func (w *Way) reach(hops []config.Hop, address string, scheme config.Scheme) carrier.Dial {
	if len(hops) == 0 {
		return func(ctx context.Context) (carrier.Stream, error) { return w.connect(ctx, address) }
	}
	last := hops[len(hops)-1]
	switch last.Scheme {
	case config.HTTP, config.HTTPS:
		return w.passed(last, address, httpproxy.Dial(w.at(hops), httpproxy.Config{
			Proxy: last.Address(), Target: address, User: last.User, Secret: w.secret(last),
			Secure: last.Scheme == config.HTTPS, Basic: last.Basic, Timeout: w.Silence, Log: w.log(last),
		}))
	case config.SOCKS5:
		return w.passed(last, address, w.at(hops).Then(socks.V5(address, socks.Auth{User: last.User, Secret: w.secret(last), Proxy: last.Address(), Timeout: w.Silence})))
	case config.SOCKS4a:
		return w.passed(last, address, w.at(hops).Then(socks.V4a(address, socks.Auth{User: last.User, Proxy: last.Address(), Timeout: w.Silence})))
	case config.Telnet:
		return w.passed(last, address, w.at(hops).Then(w.telnetProxy(last, address, scheme)))
	case config.SSH:
		return w.jump(hops, address)
	}
	return w.at(hops) // it leads there by itself
}

// at leads to the last of the hops, and no further.
func (w *Way) at(hops []config.Hop) carrier.Dial {
	last, before := hops[len(hops)-1], hops[:len(hops)-1]
	switch last.Scheme {
	case config.Cmd, config.TTY:
		return func(context.Context) (carrier.Stream, error) { return w.Start(last) }
	case config.Chat:
		return w.at(before).Then(w.Script(last.Command, last.Place()))
	case config.Telnet:
		return w.reach(before, last.Address(), last.Scheme).Then(w.telnet(last, true))
	case config.HTTPS, config.TLS:
		return w.reach(before, last.Address(), last.Scheme).Then(w.verified(last))
	}
	return w.reach(before, last.Address(), last.Scheme)
}

// connect connects a socket to the first hop of all. When dialling again it goes to
// where it went before: who knows names may be at the other end of what just died.
func (w *Way) connect(ctx context.Context, address string) (carrier.Stream, error) {
	w.mu.Lock()
	known := w.first
	w.mu.Unlock()
	if known.IsValid() {
		address = known.String()
	}
	within, cancel := ctx, context.CancelFunc(func() {})
	if known.IsValid() { // the way is known to be there, but for times when the network is not
		within, cancel = context.WithTimeoutCause(ctx, RedialTime, fmt.Errorf("%s did not answer in %.0f s", address, RedialTime.Seconds()))
	}
	defer cancel()
	s, err := tcp.Dialer{Control: w.Control, Congestion: w.Congestion}.Dial(within, address)
	if err != nil {
		if cause := context.Cause(within); cause != nil && ctx.Err() == nil {
			err = cause
		}
		return s, report.At(report.Reach, err, hintReach(err))
	}
	if c, ok := s.ReadWriteCloser.(interface{ RemoteAddr() net.Addr }); ok {
		if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			w.mu.Lock()
			w.first = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
			address = w.first.String()
			w.mu.Unlock()
		}
	}
	w.done(report.Reach, "%s", address)
	return s, nil
}

// Start starts a program that makes the connection by itself.
func (w *Way) Start(h config.Hop) (carrier.Stream, error) {
	words, err := config.SplitProgram(h.Command)
	if err != nil {
		return carrier.Stream{}, err
	}
	c := command.Config{Args: words, TTY: h.Scheme == config.TTY}
	said := &carrier.Words{Line: w.log(h)}
	if !c.TTY { // on a terminal it says there what it says
		c.Stderr = said
	}
	p, err := command.Start(c)
	if err != nil {
		return carrier.Stream{}, report.At(report.Reach, err, "see whether the command works in a shell")
	}
	w.mu.Lock()
	w.pids = append(w.pids, p.PID())
	w.mu.Unlock()
	w.done(report.Reach, "%s runs", words[0])
	s := p.Stream()
	s.ReadWriteCloser = &watched{Stream: s, way: w, why: itsWords(words[0], said)}
	return s, nil
}

// telnet puts telnet on a connection, or goes on with the one of a proxy that has
// connected us to another server.
func (w *Way) telnet(h config.Hop, passive bool) carrier.Hop {
	return func(ctx context.Context, s carrier.Stream) (carrier.Stream, error) {
		below, rest := carrier.Rest(s)
		if conn, ok := below.ReadWriteCloser.(*telnet.Conn); ok {
			conn.Reset(passive)
			further := conn.Stream()
			further.Socket = s.Socket
			return carrier.Unread(further, rest), nil
		}
		conn := telnet.Open(s, telnet.Options{Passive: passive, Log: w.log(h)})
		return conn.Stream(), nil
	}
}

// Telnet leads to the telnet server h behind all hops.
func (w *Way) Telnet(ctx context.Context, h config.Hop) (carrier.Stream, error) {
	w.begin()
	return w.reach(w.Hops, h.Address(), h.Scheme).Then(w.telnet(h, false))(ctx)
}

// Web leads behind the web server h, to what answers WebSocket at its path. Who the web
// server is matters not: what goes there proves itself inside.
func (w *Way) Web(ctx context.Context, h config.Hop) (carrier.Stream, error) {
	w.begin()
	dial := w.reach(w.Hops, h.Address(), h.Scheme)
	if h.Scheme == config.WSS {
		dial = dial.Then(tls.Wrapped(h.Host))
	}
	s, err := dial.Then(websocket.Hop(h.Authority(), h.Path, nil))(ctx)
	if err == nil {
		w.done(report.Proxy, "%s leads on from its %s", h.Place(), h.Path)
	}
	return s, err
}

// settled returns s, on telnet, once its options are agreed upon.
func settled(ctx context.Context, s carrier.Stream) (carrier.Stream, error) {
	conn := s.ReadWriteCloser.(*telnet.Conn)
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := conn.Settle(ctx); err != nil {
		conn.Close()
		return carrier.Stream{}, err
	}
	return conn.Stream(), nil
}

// telnetProxy asks a telnet proxy at its prompt for an address. To a telnet server
// the telnet that is on goes on; to anything else go raw octets, unless the proxy is
// said to be one that goes on speaking telnet itself.
func (w *Way) telnetProxy(h config.Hop, address string, scheme config.Scheme) carrier.Hop {
	return func(ctx context.Context, s carrier.Stream) (carrier.Stream, error) {
		host, port, err := splitAddress(address)
		if err != nil {
			return carrier.Stream{}, err
		}
		s, err = dialogue(s, func(s carrier.Stream) (carrier.Stream, error) {
			return chat.Proxy(ctx, s, chat.ProxyOptions{
				Host: host, Port: port, Connect: h.Connect, User: h.User,
				Secret: w.secret(h), Timeout: w.Silence, Banner: w.banner(h), Log: w.log(h),
			})
		})
		below, rest := carrier.Rest(s)
		conn, ok := below.ReadWriteCloser.(*telnet.Conn)
		switch {
		case err != nil || !ok || scheme == config.Telnet || scheme == config.Chat:
			return s, err
		case h.Relay == "telnet":
			conn.Reset(false)
			s, err = settled(ctx, conn.Stream())
			return carrier.Unread(s.Relayed(), rest), err
		}
		return carrier.Unread(conn.Detach().Relayed(), rest), nil
	}
}

// jump leads through an sshd that forwards.
func (w *Way) jump(hops []config.Hop, address string) carrier.Dial {
	h, before := hops[len(hops)-1], hops[:len(hops)-1]
	return func(ctx context.Context) (carrier.Stream, error) {
		s, _, err := ssh.Dial(ctx, ssh.Config{
			Program: w.SSH, Target: ssh.Target{User: h.User, Host: h.Host, Port: uint16(h.Port)}, Forward: address,
			FdpassCommand: w.Fdpass, Log: w.log(h),
			Reach: func(ctx context.Context, address string) (carrier.Stream, error) {
				return w.reach(before, address, config.SSH)(ctx)
			},
		})
		if err != nil {
			return s, err
		}
		// That the login and the forwarding are through is known by the first octet.
		s.ReadWriteCloser = &watched{Stream: s, way: w, came: func() { w.done(report.Proxy, "%s leads to %s", h, address) }}
		return s, nil
	}
}

// Script runs a chat script on a connection.
func (w *Way) Script(file, place string) carrier.Hop {
	return func(ctx context.Context, s carrier.Stream) (carrier.Stream, error) {
		text, err := os.ReadFile(file)
		if err != nil {
			return carrier.Stream{}, report.At(report.Dialogue, err, "name the script's file")
		}
		script, err := chat.Parse(string(text))
		if err != nil {
			return carrier.Stream{}, report.At(report.Dialogue, fmt.Errorf("%s: %w", file, err), "see docs/chat.md")
		}
		s, err = dialogue(s, func(s carrier.Stream) (carrier.Stream, error) {
			return script.Run(ctx, s, chat.Options{Timeout: w.Silence, Env: os.LookupEnv, Answer: w.secrets().For(place), Log: w.logTo(place)})
		})
		var abort *chat.AbortError
		if errors.As(err, &abort) {
			err = report.At(report.Dialogue, err, "run it again with -vv, which shows each step of the script")
		}
		return s.Relayed(), err // who knows where it leads
	}
}

// LoginOptions say how to log in.
type LoginOptions struct {
	Script string // file of a chat script that does it all; empty: by what the prompts look like
	Become string // "su" or "sudo" afterwards
}

// Login logs in at h, which shows its prompts on s, and returns s at the prompt of a
// shell, with what is unsafe there by now.
func (w *Way) Login(ctx context.Context, s carrier.Stream, h config.Hop, o LoginOptions) (carrier.Stream, error) {
	below, after := s, s
	var err error
	if o.Script != "" {
		after, err = w.Script(o.Script, h.Place())(ctx, s)
	}
	if err == nil && (o.Script == "" || o.Become != "") {
		after, err = chat.Login(ctx, after, chat.LoginOptions{
			User: loginName(h, o), Secret: w.loginSecret(h), Become: o.Become, Timeout: w.Silence, Banner: w.banner(h), Log: w.log(h),
		})
	}
	if err != nil {
		return carrier.Stream{}, err
	}
	if conn, ok := below.ReadWriteCloser.(*telnet.Conn); ok {
		after.Unsafe = conn.Stream().Unsafe
	}
	return after, nil
}

// loginName is who logs in: on a telnet server whom the user named, or the user; and
// nobody where a program may show a shell at once, or a script has logged in.
func loginName(h config.Hop, o LoginOptions) string {
	if h.User != "" || h.Scheme != config.Telnet || o.Script != "" {
		return h.User
	}
	if me, err := user.Current(); err == nil {
		return me.Username
	}
	return ""
}

// dialogue has a dialogue read octet by octet, so that what follows it is still
// where it was: undecoded, in the telnet below. A Stream that it fails on is closed.
func dialogue(s carrier.Stream, talk func(carrier.Stream) (carrier.Stream, error)) (carrier.Stream, error) {
	narrow := octetByOctet{s}
	after, err := talk(carrier.Stream{ReadWriteCloser: narrow, Unsafe: s.Unsafe, Socket: s.Socket})
	if err != nil {
		s.Close()
		return carrier.Stream{}, err
	}
	if below, rest := carrier.Rest(after); below.ReadWriteCloser == narrow {
		s.Socket = after.Socket
		return carrier.Unread(s, rest), nil
	}
	return after, nil
}

// octetByOctet is a Stream of which each Read takes one octet; more only where they
// are there and belong to the same line.
type octetByOctet struct{ carrier.Stream }

func (o octetByOctet) Read(b []byte) (int, error) {
	n, err := o.Stream.Read(b[:min(1, len(b))])
	conn, ok := o.Stream.ReadWriteCloser.(*telnet.Conn)
	for ok && err == nil && n > 0 && n < len(b) && b[n-1] != '\n' && conn.Ready() {
		var more int
		more, err = conn.Read(b[n : n+1])
		n += more
	}
	return n, err
}

func (o octetByOctet) Break() error { return o.Stream.Break() }

// HandshakeTime is how long a TLS handshake may take, if the user does not
// say: 4 KiB of certificates in 60 s are 550 bit/s.
const HandshakeTime = time.Minute

// verified speaks ordinary TLS, to a server that the system's authorities vouch for,
// or those that the user named.
func (w *Way) verified(h config.Hop) carrier.Hop {
	return func(ctx context.Context, s carrier.Stream) (carrier.Stream, error) {
		authorities, err := authorities(h.CA)
		if err != nil {
			return carrier.Stream{}, err
		}
		ctx, cancel := context.WithTimeout(ctx, cmp.Or(w.Silence, HandshakeTime)+s.Patience())
		defer cancel()
		further, err := tls.VerifiedBy(h.Host, authorities)(ctx, s)
		return further, unverified(h, err)
	}
}

// authorities are those of a file; nil, those of the system, of none.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, report.At(report.Key, err, "name a file of certificates with ca=FILE")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, report.At(report.Key, fmt.Errorf("%s holds no certificate", file), "it must be in PEM form")
	}
	return pool, nil
}

// unverified says what to try after TLS with h failed.
func unverified(h config.Hop, err error) error {
	var untrusted *cryptotls.CertificateVerificationError
	var refused *carrier.RefusedError
	var silence *carrier.SilenceError
	hint := "check that " + h.Address() + " speaks TLS"
	if h.Scheme == config.HTTPS {
		hint += "; http:// is for a proxy that does not"
	}
	switch {
	case errors.As(err, &untrusted) && h.CA == "":
		return report.At(report.Key, err, "if it is your network's own, name the file of its authority's certificate: ca=FILE after a question mark behind the URL")
	case errors.As(err, &untrusted):
		return report.At(report.Key, err, h.CA+" does not hold its authority's certificate, or it is for another name")
	case errors.Is(err, tls.ErrDamaged):
		return report.At(report.Proxy, fmt.Errorf("%s: %w", h.Address(), err), hint)
	case errors.As(err, &refused):
		return report.At(report.Key, fmt.Errorf("%s: %w", h.Address(), err), hint)
	case errors.As(err, &silence):
		return report.At(report.Dialogue, fmt.Errorf("%s: %w", h.Address(), err), hint)
	}
	return err
}

func (w *Way) passed(h config.Hop, address string, d carrier.Dial) carrier.Dial {
	return func(ctx context.Context) (carrier.Stream, error) {
		s, err := d(ctx)
		if err == nil {
			w.done(report.Proxy, "%s leads to %s", h, address)
		}
		return s, err
	}
}

func (w *Way) secrets() *secret.Sources {
	if w.Secrets == nil {
		return &secret.Sources{}
	}
	return w.Secrets
}

// secret returns what answers a hop's questions. That nobody can is the hop's affair.
func (w *Way) secret(h config.Hop) func(context.Context, string) (string, error) {
	layer := report.Proxy
	if h.Local() || h.Scheme == config.Telnet {
		layer = report.Login
	}
	answer := w.secrets().For(h.Place())
	return func(ctx context.Context, question string) (string, error) {
		text, err := answer(ctx, question)
		layer := layer
		if strings.HasPrefix(question, "proxy: ") { // a telnet proxy's own
			layer = report.Proxy
		}
		return text, report.At(layer, err, report.HintOf(err))
	}
}

// loginSecret answers the questions of h's login. What su asks for is root's password.
func (w *Way) loginSecret(h config.Hop) func(context.Context, string) (string, error) {
	root := h
	root.User = "root"
	return func(ctx context.Context, question string) (string, error) {
		if asked, ok := strings.CutPrefix(question, "su: "); ok && !h.Local() {
			return w.secret(root)(ctx, asked)
		}
		return w.secret(h)(ctx, question)
	}
}

func (w *Way) done(l report.Layer, format string, args ...any) {
	if w.Done != nil {
		w.Done(l, format, args...)
	}
}

func (w *Way) banner(h config.Hop) func(string) {
	if w.Banner == nil {
		return nil
	}
	return func(line string) { w.Banner(h.Place(), line) }
}

func (w *Way) log(h config.Hop) func(string) { return w.logTo(h.Place()) }

func (w *Way) logTo(place string) func(string) {
	if w.Log == nil {
		return nil
	}
	return func(line string) { w.Log(place, line) }
}
