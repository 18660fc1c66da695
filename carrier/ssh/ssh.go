// Package ssh carries a Stream over the user's own ssh program, so that whatever
// makes "ssh HOST" work for them makes this work: config, agent, jump hosts,
// hardware keys, known hosts, prompts on their terminal.
//
// It knows nothing of what runs at the far side: that is the command it is given.
// Its octets are untouched by ssh in both directions.
package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
)

// Config says how to log in and what to run there.
type Config struct {
	Program       []string // the ssh program and its options; empty: "ssh"
	Target        Target
	RemoteCommand string // for the login shell of the far side
	Terminal      bool   // the command gets a terminal there; it makes that raw itself

	// Forward, "host:port", makes a jump host of the far side: the Stream leads to
	// that address, which is looked up there, and no command runs.
	Forward string

	// Reach, if not nil, opens the connection to sshd, "gw.example.org:22" with the
	// name and the port as ssh's config has them, through whatever lies between. It
	// takes the place of Dial, and of a proxy or a jump host in the config. ssh gets
	// the connection by way of FdpassCommand.
	Reach func(ctx context.Context, address string) (carrier.Stream, error)

	// Dial, if not nil, returns a TCP connection to address ("192.0.2.1:22",
	// never a name) in a way that its packets stay outside the tunnel; network is
	// "tcp", "tcp4" or "tcp6". It is called where the user's config connects
	// directly; ssh gets the socket by way of FdpassCommand. Where the config goes
	// by a proxy or a jump host, or Dial is nil, ssh connects itself.
	Dial func(ctx context.Context, network, address string) (carrier.Stream, error)

	// FdpassCommand is the program that calls ReceiveAndPass, and its arguments;
	// the path is appended.
	FdpassCommand []string

	// Lookup resolves a host's name, network being "ip", "ip4" or "ip6"; nil: as
	// the Go resolver does.
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

	// Log gets each line that ssh or the far side's command writes to standard
	// error, printable, from another goroutine. nil: they are kept for errors only.
	Log func(line string)

	Env   []string      // of ssh; nil: ours
	User  *command.User // whom ssh runs as; nil: as we are
	Batch bool          // never ask; set by itself where there is no terminal
}

// Info is what is known about a connection once ssh runs.
type Info struct {
	Host   string   // the name or address ssh connects to
	Port   uint16   // and its port
	User   string   // whom it logs in as
	Direct bool     // the socket came from Config.Dial
	Batch  bool     // ssh asks nothing
	Notes  []string // settings of the user's that are not followed, and why

	pid  int
	peer netip.AddrPort // with Direct
}

// Peers returns the addresses that the connection really goes to, the server's or
// those of jump hosts and proxies. They are known once something was read from the
// Stream. Without Direct they are those that ssh and its descendants are connected
// to; there is an error if there are none, as when a jump host is reached through
// another process's connection (ControlMaster).
func (i Info) Peers() ([]netip.AddrPort, error) {
	if i.Direct {
		return []netip.AddrPort{i.peer}, nil
	}
	return command.Peers(i.pid)
}

// Dial starts ssh and returns the Stream of the command's standard input and
// output. It does not wait for the login: the first octet read is the sign of
// that, and a failure is what Read returns. ctx bounds only Dial.
//
// What dialling again cannot help is a *carrier.RefusedError; whatever ssh itself
// failed at holds an *Error.
func Dial(ctx context.Context, c Config) (carrier.Stream, Info, error) {
	stream, info, err := c.dial(ctx)
	if err != nil {
		return carrier.Stream{}, Info{}, err
	}
	// What ssh holds is between us and its socket.
	return carrier.Stream{ReadWriteCloser: stream, Socket: carrier.Hide(stream.handed.watch)}, info, nil
}

func (c *Config) dial(ctx context.Context) (*conn, Info, error) {
	if len(c.Program) == 0 {
		c.Program = []string{"ssh"}
	}
	if err := c.Target.check(); err != nil {
		return nil, Info{}, fmt.Errorf("ssh: target %q: %w", c.Target, err)
	}
	if (c.RemoteCommand == "" || c.RemoteCommand[0] == '-') && c.Forward == "" {
		return nil, Info{}, errors.New("ssh: no command to run at the far side")
	}
	s, err := c.readSettings(ctx, append(c.target(), c.Program[1:]...)...)
	if err != nil {
		return nil, Info{}, err
	}
	standard, err := c.readSettings(ctx, "-F", "none")
	if err != nil {
		return nil, Info{}, err
	}
	info := Info{Host: s.get("hostname"), Port: s.port(), User: s.get("user"), Batch: c.Batch || !canAsk()}
	args, notes := c.arguments(s, standard, info.Batch)
	info.Notes = notes

	h := handed{leave: func() {}}
	switch {
	case c.Reach != nil:
		if s.get("proxyjump") != "" || s.get("proxycommand") != "" {
			info.Notes = append(info.Notes, "ProxyJump and ProxyCommand of your ssh settings are not followed: the way there is given")
		}
		if h, err = c.reach(ctx, s); err != nil {
			return nil, Info{}, err
		}
	case c.Dial != nil && s.direct() && canHandOver:
		connected, peer, err := c.connect(ctx, s)
		if err != nil && !errors.Is(err, errLeaveToSSH) {
			return nil, Info{}, err
		}
		if err == nil {
			h, info.Direct, info.peer = connected, true, peer
		}
	}
	var offered *offer
	if h.file != nil {
		if offered, err = c.offer(h.file); err != nil {
			h.leave()
			return nil, Info{}, err
		}
		proxy, err := proxyCommand(append(append([]string(nil), c.FdpassCommand...), offered.path))
		if err != nil {
			offered.close()
			h.leave()
			return nil, Info{}, err
		}
		args = append(args, "-o", "ProxyUseFdpass=yes", "-o", "ProxyCommand="+proxy)
	}
	if c.Forward != "" {
		args = append(args, "-W", c.Forward, "--", c.Target.Host)
	} else {
		args = append(args, "--", c.Target.Host, c.RemoteCommand)
	}

	stream := &conn{config: c, settings: s, offered: offered, handed: h}
	stream.words.Line = c.Log
	stream.Process, err = command.Start(command.Config{Args: args, Env: c.Env, User: c.User, Stderr: &stream.words})
	if err != nil {
		offered.close()
		h.leave()
		return nil, Info{}, startError(c.Program[0], err)
	}
	info.pid = stream.PID()
	return stream, info, nil
}

// canAsk reports whether ssh has a way to ask its user.
func canAsk() bool {
	if os.Getenv("SSH_ASKPASS") != "" && (os.Getenv("DISPLAY") != "" || os.Getenv("SSH_ASKPASS_REQUIRE") != "") {
		return true
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	tty.Close()
	return true
}

// A handed is a connection that ssh gets.
type handed struct {
	file  *os.File       // what it gets; nil: nothing, it connects itself
	watch carrier.Socket // tells of the TCP connection; may be nil
	leave func()         // ends what was left behind of it on our side
}

// conn is the ReadWriteCloser of a running ssh.
type conn struct {
	*command.Process
	config   *Config
	settings settings
	offered  *offer // nil if ssh connects itself
	handed   handed
	words    carrier.Words
	closing  sync.Once
}

// Read reads what the remote command writes. At the end it says why: what ssh
// failed at, or how the command ended; io.EOF is an orderly end.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Process.Read(b)
	return n, c.explain(err)
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Process.Write(b)
	return n, c.explain(err)
}

// WriteBuffers writes the buffers in as few system calls as can be.
func (c *conn) WriteBuffers(buffers net.Buffers) error {
	return c.explain(c.Process.WriteBuffers(buffers))
}

// Close ends ssh, politely first, and waits for its end.
func (c *conn) Close() error {
	c.closing.Do(func() {
		c.Process.Close()
		c.offered.close()
		c.handed.leave()
	})
	return nil
}

// explain turns an error of the program into one that says what went wrong.
func (c *conn) explain(err error) error {
	if err == nil || err == io.EOF || errors.Is(err, net.ErrClosed) {
		return err
	}
	return c.config.diagnose(err, c.words.Lines(), c.settings)
}

// displayName is how the user's ssh files name the host: with its port in brackets
// where that is not 22.
func displayName(host string, port uint16) string {
	if port == 22 || port == 0 {
		return host
	}
	return fmt.Sprintf("[%s]:%d", strings.Trim(host, "[]"), port)
}
