package main

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
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/cmd/bodkin/private"
)

// A Status is what a running tunnel says of itself; its JSON is what `bodkin
// status --json` prints.
type Status struct {
	Name      string    `json:"name"`
	State     string    `json:"state"`          // "connecting", "up", "reconnecting", "stopping"
	Lost      string    `json:"lost,omitempty"` // reconnecting: why
	Target    string    `json:"target"`
	PID       int       `json:"pid"`
	Since     time.Time `json:"since"`
	Carrier   string    `json:"carrier"`        // "ssh to 198.51.100.22:22"
	Line      string    `json:"line,omitempty"` // how octets go over it, where that was measured
	Encrypted bool      `json:"encrypted"`      // between here and the far half

	// Authenticated says that each end knows who the other is: by ssh, or by keys.
	Authenticated bool `json:"authenticated"`

	Near      string           `json:"near"` // the emulators: "tun", "nat"
	Far       string           `json:"far"`
	FarHalf   string           `json:"farHalf"` // its software
	Device    string           `json:"device,omitempty"`
	Proxy     []netip.AddrPort `json:"proxy,omitempty"` // where programs find it
	Addresses []netip.Prefix   `json:"addresses"`
	Routes    []netip.Prefix   `json:"routes"`
	Exclude   []netip.Prefix   `json:"exclude,omitempty"`
	DNS       []netip.Addr     `json:"dns,omitempty"`
	MTU       int              `json:"mtu,omitempty"`
	Warnings  []string         `json:"warnings,omitempty"`
	Session   *SessionStatus   `json:"session,omitempty"` // what outlives the connection; of native links

	Queue *QueueStatus `json:"queue,omitempty"` // at the entrance here; of native links

	PacketsIn   uint64  `json:"packetsIn"`
	PacketsOut  uint64  `json:"packetsOut"`
	OctetsIn    uint64  `json:"octetsIn"`
	OctetsOut   uint64  `json:"octetsOut"`
	Dropped     uint64  `json:"dropped"` // that came and were not what they said
	RoundTripMS float64 `json:"roundTripMs,omitempty"`
}

// A QueueStatus is what waits on this side until the carrier has room, and what was done so
// that it is less.
type QueueStatus struct {
	Packets int    `json:"packets"` // that wait now
	Octets  int    `json:"octets"`  // of them
	Dropped uint64 `json:"dropped"` // packets so far
	Marked  uint64 `json:"marked"`  // packets, for both ends understand it (RFC 3168)
	Told    uint64 `json:"told"`    // senders in this process, for a packet each
}

// A Down is what a tunnel says at its end to those who told it to go down.
type Down struct {
	Down  bool     `json:"down"`
	Notes []string `json:"notes,omitempty"` // what was left to others
	Error string   `json:"error,omitempty"` // what could not be taken back
}

// A Reconnect is what a tunnel says to those who want it to connect anew.
type Reconnect struct {
	Error string `json:"error,omitempty"` // why it does not
}

// control answers `bodkin status` and `bodkin down` on a Unix socket in a
// directory that only the user may enter.
type control struct {
	listener *net.UnixListener
	status   func() Status
	down     context.CancelCauseFunc
	again    func() error  // makes another connection
	gone     chan struct{} // closed when the tunnel has been undone
	end      Down          // how that went; valid then
	conns    sync.WaitGroup
}

// errDown is why a tunnel ends that was told so by `bodkin down`.
var errDown = errors.New("told so by `bodkin down`")

// Bounds of the control socket: what it reads, and how long it waits for it.
const (
	requestMax     = 64
	requestTimeout = 5 * time.Second
	downTimeout    = 20 * time.Second
)

// runtimeDir is where the present user's tunnels have their sockets.
func runtimeDir() string { return private.Runtime("bodkin") }

// listenControl opens the control socket of a tunnel. A socket that nobody
// answers is left over from a killed one and replaced.
func listenControl(name string, status func() Status, down context.CancelCauseFunc, again func() error) (*control, error) {
	listener, err := private.Listen(filepath.Join(runtimeDir(), name+".sock"))
	switch {
	case errors.Is(err, private.ErrAnswered):
		return nil, fmt.Errorf("a tunnel called %s is up already", name)
	case err != nil:
		return nil, err
	}
	c := &control{listener: listener, status: status, down: down, again: again, gone: make(chan struct{})}
	c.conns.Go(c.accept)
	return c, nil
}

func (c *control) accept() {
	slots := make(chan struct{}, 16) // requests at once; each is short
	for {
		conn, err := c.listener.AcceptUnix()
		if err != nil {
			return
		}
		slots <- struct{}{}
		c.conns.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			c.serve(conn)
		})
	}
}

// serve answers one request: a word and a line end.
func (c *control) serve(conn *net.UnixConn) {
	conn.SetDeadline(time.Now().Add(requestTimeout))
	line, err := bufio.NewReader(io.LimitReader(conn, requestMax)).ReadString('\n')
	if err != nil {
		return
	}
	switch strings.TrimSpace(line) {
	case "status":
		json.NewEncoder(conn).Encode(c.status())
	case "reconnect":
		var answer Reconnect
		if err := c.again(); err != nil {
			answer.Error = err.Error()
		}
		json.NewEncoder(conn).Encode(answer)
	case "down":
		c.down(errDown)
		<-c.gone
		conn.SetDeadline(time.Now().Add(requestTimeout))
		json.NewEncoder(conn).Encode(c.end)
	}
}

// close tells those who wait that the tunnel is gone, and how that went, and
// removes the socket.
func (c *control) close(notes []string, failed error) {
	c.end = Down{Down: true, Notes: notes}
	if failed != nil {
		c.end.Error = failed.Error()
	}
	close(c.gone)
	c.listener.Close()
	c.conns.Wait()
}

// ask sends a request to the tunnel behind a socket and returns the answer.
func ask(path, request string, patience time.Duration) ([]byte, error) {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request+"\n"); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(conn, 1<<20))
}

// sockets lists the control sockets of the present user's tunnels, and for root
// those of everybody's. Their names are the tunnels'.
func sockets() []string {
	patterns := []string{filepath.Join(runtimeDir(), "*.sock")}
	if os.Geteuid() == 0 {
		patterns = append(patterns, "/run/user/*/bodkin/*.sock", filepath.Join(os.TempDir(), "bodkin-*", "*.sock"))
		if uid, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil {
			patterns = append(patterns, fmt.Sprintf("/run/user/%d/bodkin/*.sock", uid))
		}
	}
	seen := map[string]bool{}
	var paths []string
	for _, p := range patterns {
		found, _ := filepath.Glob(p)
		for _, f := range found {
			if !seen[f] {
				seen[f] = true
				paths = append(paths, f)
			}
		}
	}
	sort.Strings(paths)
	return paths
}

// tunnels asks every tunnel for its status. A socket that nobody answers is
// no tunnel.
func tunnels() (list []Status, paths []string) {
	for _, path := range sockets() {
		answer, err := ask(path, "status", requestTimeout)
		var s Status
		if err == nil && json.Unmarshal(answer, &s) == nil {
			list = append(list, s)
			paths = append(paths, path)
		}
	}
	return list, paths
}
