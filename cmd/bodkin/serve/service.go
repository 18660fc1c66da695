package serve

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/cmd/bodkin/sdnotify"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/server"
	"github.com/bodkin-net/bodkin/server/front"
	"github.com/bodkin-net/bodkin/trust"
)

// stopTime is how long sessions may take to end when the server does: each client is
// told, and one that does not read holds its own end up for a second.
const stopTime = 5 * time.Second

// A service is a running server.
type service struct {
	o           *options
	software    string
	log         *slog.Logger
	key         ed25519.PrivateKey
	fingerprint string
	bounds      bounds
	clients     *trust.Watcher
	server      *server.Server
	front       *front.Stats
	places      places
	share       share
	held        holdings
	inside      sync.WaitGroup // counts sessions
	since       time.Time
	listening   []string
	stopping    atomic.Bool
	life        context.Context // ends when all sessions have
}

// run serves until ctx ends. out is told what a newcomer needs to know.
func run(ctx context.Context, o *options, software string, out io.Writer) error {
	bounds, err := parseBounds(o.allow, o.only, o.deny)
	if err != nil {
		return err
	}
	dir, err := trust.Dir()
	if err != nil {
		return report.At(report.Key, err, "")
	}
	s := &service{o: o, software: software, bounds: bounds, since: time.Now().Round(time.Second), log: newLog(o.log, out)}
	key, made, err := ownKey(ctx, filepath.Join(dir, trust.KeyFile))
	if err != nil {
		return report.At(report.Key, err, remedy(err))
	}
	s.key, s.fingerprint = key.Private, trust.Fingerprint(key.Public())

	// All that is started below ends with working, and is waited for.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.life = working
	var work sync.WaitGroup
	defer s.inside.Wait() // none begins when work is done
	defer work.Wait()
	defer stop()

	file := filepath.Join(dir, trust.ClientsFile)
	s.clients, err = trust.Watch(working, file, func(err error) { s.log.Error("authorized_clients", "problem", err.Error()) })
	if err != nil {
		return report.At(report.Key, err, remedy(err))
	}
	defer s.clients.Wait()
	defer stop()

	s.share = divide(o.maxClients, o.maxFlows)
	s.server = server.New(server.Config{Sessions: o.maxClients, PerClient: o.perClient, Log: s.log})
	doors, err := s.openDoors(ctx)
	if err != nil {
		return err
	}
	defer doors.close()
	s.front = doors.front.Stats()
	control, err := s.openControl()
	if err != nil {
		doors.abandon()
		return err
	}
	if o.metrics != "" {
		serving, err := s.serveMetrics(o.metrics)
		if err != nil {
			control.listener.Close()
			doors.abandon()
			return report.At(report.Reach, err, "another address with --metrics, or none")
		}
		work.Go(func() { serving(working) })
	}
	work.Go(func() { control.run(working) })
	work.Go(func() { s.review(working) })
	work.Go(func() { sdnotify.Watchdog(working, s.alive) })
	done := make(chan error, 1)
	work.Go(func() { done <- doors.serve() })

	hangUp := make(chan os.Signal, 1)
	signal.Reset(syscall.SIGHUP) // elsewhere it ends the program
	signal.Notify(hangUp, syscall.SIGHUP)
	defer signal.Stop(hangUp)
	s.welcome(key, made, file)
	if err := sdnotify.Tell(sdnotify.Ready, sdnotify.Status("waits at "+joined(s.listening))); err != nil {
		s.log.Warn("the service manager", "problem", err.Error())
	}
	for running := true; running; {
		select {
		case <-hangUp:
			s.log.Info("nothing to reread: certificates and authorized_clients are read when they change")
		case err = <-done:
			running = false
		case <-ctx.Done():
			running = false
		}
	}
	s.stopping.Store(true)
	sdnotify.Tell(sdnotify.Stopping)
	s.log.Info("stopping", "sessions", len(s.server.Sessions()))
	doors.close()
	ending, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if left := s.server.Stop(ending); left > 0 {
		s.log.Warn("sessions that did not end in time", "sessions", left)
	}
	if err != nil {
		return report.At(report.Reach, err, "")
	}
	return nil
}

// alive reports that nothing is stuck that all of the server depends on.
func (s *service) alive() bool {
	s.server.Sessions()
	_, _ = s.clients.Now()
	return true
}

// ownKey loads this machine's key, or makes it.
func ownKey(ctx context.Context, file string) (key trust.Key, made bool, err error) {
	key, err = trust.Load(ctx, file, nil)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	key = trust.Generate()
	return key, true, key.Save(file, "bodkin-serve@"+host, "")
}

// remedy is what sets a file right that could not be used.
func remedy(err error) string {
	var unsafe *trust.UnsafeError
	if errors.As(err, &unsafe) {
		return unsafe.Remedy
	}
	return ""
}

// welcome says what a newcomer must do so that a client can come.
func (s *service) welcome(key trust.Key, made bool, file string) {
	s.log.Info("waiting for clients", "at", joined(s.listening), "key", s.fingerprint)
	clients, _ := s.clients.Now()
	n := len(clients.Clients())
	if made || n == 0 {
		s.log.Info("on each client", "run", fmt.Sprintf("bodkin key trust server NAME '%s'", trust.FormatPublic(key.Public(), "")))
	}
	if n == 0 {
		s.log.Warn("nobody is let in", "file", file, "run", "bodkin key trust client KEY")
	}
	for _, c := range clients.Clients() {
		for _, d := range c.Allow {
			if d.Place == trust.Host && !s.bounds.host || d.Place == trust.LinkLocal && !s.bounds.linkLocal {
				s.log.Warn("this opens nothing", "line", c.Line, "allow", d.String(), "without", "--allow "+string(d.Place))
			}
		}
	}
}

// review ends the sessions whose keys are not taken any more, or may have something
// else than they have, whether their clients are there or away, until ctx ends.
func (s *service) review(ctx context.Context) {
	for {
		clients, changed := s.clients.Now()
		for _, session := range s.server.Sessions() {
			c, _ := session.Last()
			now, ended := judge(clients, session.Client.Grant.(trust.Client), c.Addr)
			if ended != nil {
				session.End(ended.Why, ended.Text)
				continue
			}
			s.server.SetRate(session.Client.Key, now.Rate)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// grants is what of a client's asks its policy grants: what that opens anyhow.
func (s *service) grants(client trust.Client) (granted native.Asks) {
	p := s.bounds.policy(client)
	if p.Host {
		granted |= native.AskHost
	}
	if p.LinkLocal {
		granted |= native.AskLinkLocal
	}
	return granted
}
