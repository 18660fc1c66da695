package sshd

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// TunnelsOnly is what a client is told that wants anything else.
const TunnelsOnly = "this server makes bodkin tunnels only"

// A service is a connection after its login.
type service struct {
	config *Config
	conn   *ssh.ServerConn
	login  Login
	budget *budget

	sessions sync.WaitGroup
	mu       sync.Mutex
	open     bool        // there is a session
	flooded  bool        // the budget was exceeded, and the connection is closed
	noMore   bool        // the client wants no other session
	idle     *time.Timer // ends a connection on which no command runs
}

// run serves until the connection ends, and waits for all that it has started.
func (s *service) run(ctx context.Context, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.idle = time.AfterFunc(idleTime, func() { s.conn.Close() })
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		s.global(requests)
	}()
	for c := range channels {
		s.channel(ctx, c)
	}
	cancel()
	<-asked
	s.conn.Wait()
	s.sessions.Wait()
	s.idle.Stop()
	if s.flooded {
		return fmt.Errorf("sshd: %w", ErrFlood)
	}
	return nil
}

// spend counts one more thing that the client asks for, and closes the connection of one
// that asks for too much.
func (s *service) spend() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flooded = s.flooded || !s.budget.spend(time.Now()); s.flooded {
		s.conn.Close()
	}
	return !s.flooded
}

// global answers requests that belong to no channel (RFC 4254, section 4): all are
// refused but the one that asks whether we are there, and that there be no other
// session.
func (s *service) global(requests <-chan *ssh.Request) {
	for r := range requests {
		if !s.spend() {
			continue // until they end
		}
		ok := false
		switch r.Type {
		case "keepalive@openssh.com":
			ok = true
		case "no-more-sessions@openssh.com":
			s.mu.Lock()
			s.noMore, ok = true, true
			s.mu.Unlock()
		}
		r.Reply(ok, nil)
	}
}

// channel answers a client that wants a channel (RFC 4254, section 5.1).
func (s *service) channel(ctx context.Context, c ssh.NewChannel) {
	if !s.spend() {
		return // not answered: the connection ends
	}
	switch c.ChannelType() {
	case "session":
	case "direct-tcpip", "direct-streamlocal@openssh.com", "tun@openssh.com", "x11", "forwarded-tcpip", "auth-agent@openssh.com":
		c.Reject(ssh.Prohibited, TunnelsOnly)
		return
	default:
		c.Reject(ssh.UnknownChannelType, TunnelsOnly)
		return
	}
	if !s.begin() {
		c.Reject(ssh.ResourceShortage, "there is a session on this connection already")
		return
	}
	channel, requests, err := c.Accept()
	if err != nil { // the connection has ended
		s.end()
		return
	}
	s.sessions.Go(func() {
		defer s.end()
		s.session(ctx, channel, requests)
	})
}

// begin reports whether there may be a session now.
func (s *service) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open || s.noMore {
		return false
	}
	s.open = true
	return true
}

func (s *service) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = false
}

const (
	// burst is how many requests and openings of channels a client may make at once: its
	// environment, and a browser's behind a forwarding that it will not get.
	burst = 128

	// perSecond is how many more each second: who asks whether we are there, and who
	// changes the size of a window, asks less often.
	perSecond = 10
)

// A budget is how much a client may ask for: what is refused costs work too.
type budget struct {
	left float64
	at   time.Time
}

func newBudget(now time.Time) *budget { return &budget{burst, now} }

// spend reports whether one more is within the budget.
func (b *budget) spend(now time.Time) bool {
	b.left = min(burst, b.left+perSecond*now.Sub(b.at).Seconds())
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
