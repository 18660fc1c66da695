package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/private"
	"github.com/bodkin-net/bodkin/server"
)

// A Status is what a server says of itself: what `bodkin serve status --json` prints.
type Status struct {
	PID      int       `json:"pid"`
	Since    time.Time `json:"since"`
	Listen   []string  `json:"listen"`
	Key      string    `json:"key"` // its fingerprint
	Stopping bool      `json:"stopping,omitempty"`
	Sessions []Session `json:"sessions"`
}

// A Session is what one client has.
type Session struct {
	ID          uint64     `json:"id"`
	Client      string     `json:"client"`
	Key         string     `json:"key"`
	By          string     `json:"by"`
	From        string     `json:"from"`
	Since       time.Time  `json:"since"`
	AwaySince   *time.Time `json:"awaySince,omitempty"`    // it has no connection, and is held
	Session     string     `json:"session,omitempty"`      // its ID, if it can be held
	Held        float64    `json:"graceSeconds,omitempty"` // for how long after a loss
	Streams     int        `json:"streams"`                // connections so far
	Replayed    uint64     `json:"replayed,omitempty"`     // octets sent again after losses
	Software    string     `json:"software"`
	Stands      bool       `json:"stands,omitempty"`  // others may use its network, by its name
	UsedFor     float64    `json:"usedFor,omitempty"` // seconds that somebody has
	SilentFor   float64    `json:"silentFor"`         // seconds since it was heard
	RoundTripMS float64    `json:"roundTripMs,omitempty"`
	PacketsIn   uint64     `json:"packetsIn"` // from the client
	PacketsOut  uint64     `json:"packetsOut"`
	OctetsIn    uint64     `json:"octetsIn"`
	OctetsOut   uint64     `json:"octetsOut"`
	Flows       int        `json:"flows"`

	// Refused is what was turned away, by reason.
	Refused map[string]uint64 `json:"refused,omitempty"`
}

// Bounds of the control socket: what it reads and for how long it waits, and how many
// are served at once. Users of clients that stand keep their place among them.
const (
	requestMax     = 128
	requestTimeout = 5 * time.Second
	requestsAtOnce = 64
	answerMax      = 4 << 20
)

// A control answers on a Unix socket in a directory that only we may enter: one line is
// asked, and one answered.
//
//	status        a Status as JSON
//	kick NAME     how many sessions were ended, as {"ended": 1}; NAME may be a session's number
//	use NAME      "ok", and from there on the link to whom NAME is, as its near side has it;
//	              or why not
type control struct {
	service  *service
	listener *net.UnixListener
	conns    sync.WaitGroup
}

// socketName is the control socket in its directory.
const socketName = "control"

// directory is where the present user's server has its control socket.
func directory() string {
	if dir := os.Getenv("RUNTIME_DIRECTORY"); filepath.IsAbs(dir) { // systemd.exec(5)
		return dir
	}
	return private.Runtime(directoryName)
}

// directoryName is what it is called, and serviceDir that of root's, or of the service that
// systemd runs: nobody but root makes one there.
const (
	directoryName = "bodkin-serve"
	serviceDir    = "/run/bodkin-serve"
)

// listenControl opens the control socket. One that nobody answers is left over from a
// killed server, and replaced.
func listenControl(s *service, dir string) (*control, error) {
	path := filepath.Join(dir, socketName)
	l, err := private.Listen(path)
	switch {
	case errors.Is(err, private.ErrAnswered):
		return nil, fmt.Errorf("another server of this user's runs already: it answers at %s", path)
	case err != nil:
		return nil, err
	}
	return &control{service: s, listener: l}, nil
}

// run answers until ctx ends, and then until all are answered.
func (c *control) run(ctx context.Context) {
	defer c.conns.Wait()
	defer context.AfterFunc(ctx, func() { c.listener.Close() })()
	slots := make(chan struct{}, requestsAtOnce)
	for {
		conn, err := c.listener.AcceptUnix()
		if err != nil {
			return
		}
		slots <- struct{}{}
		c.conns.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			c.answer(ctx, conn)
		})
	}
}

func (c *control) answer(ctx context.Context, conn *net.UnixConn) {
	conn.SetDeadline(time.Now().Add(requestTimeout))
	line, err := readLine(conn, requestMax)
	if err != nil {
		return
	}
	verb, name, _ := strings.Cut(line, " ")
	switch verb {
	case "status":
		json.NewEncoder(conn).Encode(c.service.status())
	case "kick":
		json.NewEncoder(conn).Encode(ended{c.service.kick(name)})
	case "use":
		c.service.use(ctx, name, streamOf(conn), func(err error) error {
			text := "ok"
			if err != nil {
				text = err.Error()
			}
			if _, err := io.WriteString(conn, carrier.Printable(text)+"\n"); err != nil {
				return err
			}
			return conn.SetDeadline(time.Time{})
		})
	}
}

// ended is the answer to kick.
type ended struct {
	Ended int `json:"ended"`
}

// readLine reads up to a line end and nothing beyond it, most octets at most.
func readLine(r io.Reader, most int) (string, error) {
	line := make([]byte, 0, most)
	var octet [1]byte
	for len(line) < most {
		if _, err := io.ReadFull(r, octet[:]); err != nil {
			return "", err
		}
		if octet[0] == '\n' {
			return string(line), nil
		}
		line = append(line, octet[0])
	}
	return "", bufio.ErrTooLong
}

// status is how the server is now.
func (s *service) status() Status {
	st := Status{PID: os.Getpid(), Since: s.since, Listen: s.listening, Key: s.fingerprint, Stopping: s.stopping.Load(), Sessions: []Session{}}
	held := s.held.byAccount()
	for _, session := range s.server.Sessions() {
		c := session.Counts()
		last, streams := session.Last()
		one := Session{
			ID: session.ID, Client: session.Client.Name, Key: session.Client.Key, By: last.By, From: last.From,
			Since: session.Since.Round(time.Second), Streams: streams, Software: session.Said(),
			SilentFor: session.Silent().Seconds(), RoundTripMS: float64(c.RoundTrip.Microseconds()) / 1000,
			PacketsIn: c.PacketsIn, PacketsOut: c.PacketsOut, OctetsIn: c.OctetsIn, OctetsOut: c.OctetsOut, Flows: c.Flows,
		}
		if h, ok := held[session]; ok && h.grace > 0 {
			stats := h.octets.Stats()
			one.Session, one.Held, one.Streams, one.Replayed = h.octets.ID().String(), h.grace.Seconds(), int(stats.Streams), stats.Replayed
			if away := session.Away(); !away.IsZero() {
				one.AwaySince = &away
			}
		}
		for reason, n := range c.Refused {
			if n > 0 {
				if one.Refused == nil {
					one.Refused = make(map[string]uint64)
				}
				one.Refused[reason] = n
			}
		}
		if p := s.places.find(session.Client.Name); p != nil {
			if t, u := p.both(); t != nil && t.account == session {
				one.Stands = true
				if u != nil {
					one.UsedFor = time.Since(u.since).Seconds()
				}
			}
		}
		st.Sessions = append(st.Sessions, one)
	}
	return st
}

// kick ends the sessions of a client by its name, or one by its number.
func (s *service) kick(name string) (n int) {
	for _, session := range s.server.Sessions() {
		if session.Client.Name == name || fmt.Sprint(session.ID) == name {
			session.End(server.WhyKicked, "whoever runs the server ended it")
			n++
		}
	}
	return n
}

// addressOf is the address in a connection's remote end; invalid for a Unix socket.
func addressOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
