package sshd

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// maxPacket is how much is written at once, in octets: what any client must take
	// (RFC 4253, section 6.1), and all that OpenSSH's do.
	maxPacket = 32 << 10

	// maxEnvironment is how many variables a client may set, and maxVariable how long
	// the name and the value of one may be together, in octets: OpenSSH's sends LANG and
	// LC_*.
	maxEnvironment = 32
	maxVariable    = 1024

	// closeTime is how long a client may take to let a closed session go. Whoever waits
	// even then, in a Read or Write, is woken by the connection's end.
	closeTime = 500 * time.Millisecond

	// MaxCommand is how long a command may be, in octets. What starts a far half has
	// some three thousand.
	MaxCommand = 64 << 10
)

// A Session is a channel on which a client asked for a command (RFC 4254, section 6.5):
// its input is read, its output written. Read and Write may be called at the same time,
// each by one goroutine. Close wakes both, in closeTime at most.
type Session struct {
	Login
	Command     string            // as the client asked for it; not printable as it is
	Environment map[string]string // as the client set it; the same holds
	Terminal    bool              // the client's terminal is raw: lines for people end in CR LF

	channel ssh.Channel
	gather  []byte // of WriteBuffers; at most maxPacket

	hangUp   func() // ends the connection
	ending   sync.Once
	closed   atomic.Bool
	returned atomic.Bool  // the Handler has
	waiting  atomic.Int32 // calls of Read and Write under way
}

// Read reads what the client sends. io.EOF means that it sends no more, or is gone.
func (s *Session) Read(b []byte) (int, error) {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	if s.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := s.channel.Read(b)
	if s.closed.Load() {
		return 0, net.ErrClosed // the client may send what it likes
	}
	return n, err
}

// Write waits for the client to take what it is sent.
func (s *Session) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		w, err := s.write(b[:min(len(b), maxPacket)])
		n += w
		if err != nil {
			return n, err
		}
		b = b[w:]
	}
	return n, nil
}

// write writes one packet.
func (s *Session) write(b []byte) (int, error) {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	n, err := s.channel.Write(b)
	if err != nil && s.closed.Load() {
		err = net.ErrClosed
	}
	return n, err
}

// WriteBuffers writes the buffers in their order, small ones together, and changes
// neither them nor the slice of slices.
func (s *Session) WriteBuffers(buffers net.Buffers) error {
	if s.gather == nil {
		s.gather = make([]byte, 0, maxPacket)
	}
	rest := s.gather[:0]
	for _, b := range buffers {
		for len(b) > 0 {
			if len(rest) == 0 && len(b) >= maxPacket {
				if _, err := s.write(b[:maxPacket]); err != nil {
					return err
				}
				b = b[maxPacket:]
				continue
			}
			n := min(len(b), maxPacket-len(rest))
			rest, b = append(rest, b[:n]...), b[n:]
			if len(rest) < maxPacket {
				continue
			}
			if _, err := s.write(rest); err != nil {
				return err
			}
			rest = rest[:0]
		}
	}
	if len(rest) == 0 {
		return nil
	}
	_, err := s.write(rest)
	return err
}

// CloseWrite tells the client that no more comes.
func (s *Session) CloseWrite() error { return s.channel.CloseWrite() }

// Close ends the session with exit status 0. A Handler need not: its return ends the
// session with another, and with all that it has written.
func (s *Session) Close() error {
	s.closed.Store(true)
	time.AfterFunc(closeTime, func() { // before what may have to wait itself
		if !s.returned.Load() || s.waiting.Load() > 0 {
			s.hangUp()
		}
	})
	s.end(0)
	return nil
}

// end tells the client how its command ended, and closes the channel.
func (s *Session) end(status int) {
	s.ending.Do(func() {
		// Neither fails but with the channel.
		s.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status & 0xff)}))
		s.channel.Close()
	})
}

// Stderr is where text for the client's user goes.
func (s *Session) Stderr() io.Writer { return s.channel.Stderr() }

// session answers the requests of a channel until it ends, and runs the Handler when a
// command is asked for.
func (s *service) session(ctx context.Context, channel ssh.Channel, requests <-chan *ssh.Request) {
	ctx, cancel := context.WithCancel(ctx)
	run := &Session{Login: s.login, Environment: make(map[string]string), channel: channel, hangUp: func() { s.conn.Close() }}
	var handler sync.WaitGroup
	defer handler.Wait()
	defer cancel() // first
	started := false
	start := func(handle func(context.Context, *Session) int) {
		started = true
		s.idle.Stop()
		handler.Go(func() {
			status := handle(ctx, run)
			run.returned.Store(true)
			s.idle.Reset(idleTime) // for the client to take what was written, and its leave
			run.end(status)
		})
	}
	for r := range requests { // until both ends have closed
		if !s.spend() {
			continue
		}
		switch ok := !started && run.prepare(r); {
		case !ok:
			r.Reply(false, nil)
		case r.Type == "exec":
			r.Reply(true, nil)
			start(s.config.Handle)
		case r.Type == "shell":
			r.Reply(true, nil)
			start(refuseShell)
		default:
			r.Reply(true, nil)
		}
	}
}

// prepare takes what a client asks for before its command runs, the command itself
// included, and reports whether it may have it.
func (s *Session) prepare(r *ssh.Request) bool {
	switch r.Type {
	case "env": // RFC 4254, section 6.4
		var v struct{ Name, Value string }
		if ssh.Unmarshal(r.Payload, &v) != nil || !isVariable(v.Name) ||
			len(v.Name)+len(v.Value) > maxVariable || len(s.Environment) == maxEnvironment {
			return false
		}
		s.Environment[v.Name] = v.Value
		return true
	case "pty-req": // there is none, but a client that is told so tells its user that something failed
		s.Terminal = true
		return true
	case "exec":
		var v struct{ Command string }
		if ssh.Unmarshal(r.Payload, &v) != nil || len(v.Command) > MaxCommand {
			return false
		}
		s.Command = v.Command
		return true
	case "shell":
		return true
	}
	return false // subsystem, x11-req, auth-agent-req@openssh.com, what is not known
}

// isVariable reports whether a variable of the environment may have this name.
func isVariable(name string) bool {
	for _, r := range name {
		if !(r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_') {
			return false
		}
	}
	return name != ""
}

// refuseShell is the Handler of who wants a shell.
func refuseShell(_ context.Context, s *Session) int {
	io.WriteString(s.Stderr(), TunnelsOnly+": there is no shell here\r\n")
	return 1
}
