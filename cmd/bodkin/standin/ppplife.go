package standin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/footprint"
	"github.com/bodkin-net/bodkin/cmd/bodkin/privilege"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config/pppd"
	"github.com/bodkin-net/bodkin/link/ppp"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A pppRun is `bodkin ppp` at work: one link after another, as long as the options
// want it.
type pppRun struct {
	options *pppd.Options
	log     *logger
	host    *pppHost
	config  ppp.Config

	hangup chan struct{} // SIGHUP came: one at a time
	again  chan struct{} // closed when one was told twice to end
}

func newPPP(o *pppd.Options, errw io.Writer) *pppRun {
	log := &logger{errw: errw}
	return &pppRun{
		options: o, log: log,
		host:   &pppHost{options: o, log: log},
		hangup: make(chan struct{}, 1), again: make(chan struct{}),
	}
}

// run dials until there is no more to be done. Its error has pppd's exit status.
func (r *pppRun) run(parent context.Context, ready func()) (err error) {
	footprint.Limit()
	ctx, stop := r.heedSignals(parent)
	defer stop()
	defer func() {
		if err != nil && !report.Said(err) {
			r.log.record(err.Error())
		}
		r.log.close()
	}()
	if k := r.options.Line.Kind; k == pppd.LineDefault || k == pppd.LineStdio {
		r.log.setLine(standardFiles()...)
	}
	if err := r.prepare(ctx); err != nil {
		return errors.Join(err, r.host.close())
	}
	remove, pidErr := leavePID(r.options.Life.LinkName)
	if pidErr != nil {
		r.log.printf("%v", pidErr)
	}
	defer remove()
	ready = sync.OnceFunc(ready)
	err = r.dialOn(ctx, ready)
	if helper := r.host.close(); helper != nil && err == nil {
		err = failedAs(statusFatal, "`bodkin clean` tries again", helper)
	}
	return err
}

// prepare does what is done once: root, files, secrets.
func (r *pppRun) prepare(ctx context.Context) error {
	id, notes, err := identify(r.options) // before root is given up: the secrets are root's
	if err != nil {
		return failedAs(statusFatal, "", err)
	}
	if err := r.host.gainPrivilege(ctx); err != nil {
		return err
	}
	if err := r.log.open(&r.options.Log); err != nil {
		return failedAs(statusFatal, "", err)
	}
	if r.options.Log.Dump {
		r.log.printf("bodkin ppp: options in effect:")
		for _, s := range r.options.Settings {
			r.log.printf("%s  # (from %s)", s, s.Source)
		}
	}
	if note := scriptsOwner(r.options); note != "" {
		notes = append(notes, note)
	}
	c := pppLink(r.options)
	notes = append(notes, id.configure(&c.Auth)...)
	for _, text := range append(notes, r.options.Notes...) {
		r.log.printf("%s", text)
	}
	c.Auth.Allow = id.allow
	c.Log = func(line string) { r.log.debugf("%s", line) }
	r.config = c
	return nil
}

// heedSignals returns a context that ends with SIGINT, SIGTERM or parent, and heeds
// SIGHUP and SIGUSR1 until stop.
func (r *pppRun) heedSignals(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	got := make(chan os.Signal, 8) // more than a person sends at once
	signal.Notify(got, append([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, pppSignals...)...)
	signal.Ignore(syscall.SIGPIPE) // a log that nobody reads must not end the link
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ended := parent.Done()
		for {
			select {
			case s := <-got:
				r.heed(s, ctx, cancel)
			case <-ended:
				ended = nil
				// A signal has ended it, which is ours to weigh, or somebody else.
				if !isSignal(context.Cause(parent)) {
					cancel(context.Cause(parent))
				}
			case <-quit:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(got)
		close(quit)
		<-done
		cancel(nil)
	}
}

// isSignal reports whether a context that main made has ended by a signal.
func isSignal(cause error) bool {
	return errors.Is(cause, context.Canceled) && cause != context.Canceled
}

func (r *pppRun) heed(s os.Signal, ctx context.Context, cancel context.CancelCauseFunc) {
	switch {
	case s == syscall.SIGHUP:
		select {
		case r.hangup <- struct{}{}:
		default:
		}
	case s == os.Interrupt || s == syscall.SIGTERM:
		if ctx.Err() != nil {
			select {
			case <-r.again:
			default:
				close(r.again)
			}
		}
		cancel(signalled{s})
	default:
		on := !r.log.debug.Load()
		r.log.debug.Store(on)
		r.log.printf("debug is %s", map[bool]string{true: "on", false: "off"}[on])
	}
}

// dialOn makes attempts until one is not to be followed by another.
func (r *pppRun) dialOn(ctx context.Context, ready func()) error {
	life := &r.options.Life
	failed := 0
	for {
		select {
		case <-r.hangup: // of a link that is over
		default:
		}
		a := &attempt{pppRun: r, ready: ready}
		err := a.run(ctx)
		if a.isUp {
			failed = 0
		} else {
			failed++
		}
		switch {
		case !life.Persist || ctx.Err() != nil || !a.reopens:
			if life.Persist && ctx.Err() == nil {
				r.log.printf("persist: this line cannot be opened once more")
			}
			return err
		case life.MaxFail > 0 && failed >= life.MaxFail, errors.Is(err, privilege.ErrGone):
			return err
		}
		if err != nil && !report.Said(err) {
			r.log.printf("%v", err)
		}
		if !a.idle && !r.holdOff(ctx, life.Holdoff) {
			return endedAs(statusUserRequest, context.Cause(ctx).Error())
		}
	}
}

// holdOff waits, but no longer than until a SIGHUP. It reports false if ctx ended.
func (r *pppRun) holdOff(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.hangup:
	case <-ctx.Done():
		return false
	}
	return true
}

// An attempt is one link: dialled, open, over.
type attempt struct {
	*pppRun
	ready func()

	reopens bool // the line can be opened once more
	isUp    bool // packets could pass
	idle    bool // it ended because nothing did

	line *line
	link *ppp.Link

	connected bool // that has been said

	scripts *pppScripts
	facts   pppFacts
	events  pppEvents
}

// run is the life of one link. Each step that stands is taken back at the end, in
// the reverse order.
func (a *attempt) run(life context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(life)
	defer cancel(nil)
	defer func() {
		if a.connected {
			a.log.printf("Connection terminated.")
		}
	}()
	var waiting sync.WaitGroup
	defer waiting.Wait()
	over := make(chan struct{})
	defer close(over)
	waiting.Go(func() {
		select {
		case <-a.hangup:
			cancel(errHangup)
		case <-over:
		}
	})

	o := &a.options.Line
	a.reopens = o.Kind != pppd.LineStdio && (o.Kind != pppd.LineDefault || onTerminal(o))
	var mark marker
	if a.host.privileged != nil {
		mark = a.host.privileged.Control
	}
	if a.line, err = openLine(ctx, o, mark, a.log); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return endedAs(statusUserRequest, cause.Error())
		}
		return err
	}
	defer a.closeLine(life)
	if o.Kind == pppd.LineDevice {
		a.log.setLine(a.line.terminal)
	}
	for _, step := range []struct {
		name, script string
		status       int
	}{{"init", o.Init, statusInit}, {"connect", o.Connect, statusConnect}, {"welcome", o.Welcome, statusConnect}} {
		if err := a.line.runOn(ctx, step.name, step.script, step.status); err != nil {
			return err
		}
	}
	if err := a.host.makeDevice(); err != nil {
		return err
	}
	defer func() {
		if undone := a.host.undo(); undone != nil {
			err = errors.Join(err, failedAs(statusFatal, "`bodkin clean` tries again", undone))
		}
	}()
	a.facts = pppFacts{device: a.host.device, line: a.line.name, speed: a.line.speedText(), options: &a.options.Life, began: time.Now()}
	a.scripts = newPPPScripts(!wantsScripts(a.options), a.log)
	defer a.scripts.kill()
	return a.carry(ctx)
}

// closeLine runs the disconnect command, unless the line has hung up, and gives the
// line up.
func (a *attempt) closeLine(life context.Context) {
	if script := a.options.Line.Disconnect; script != "" && a.line.switched != nil && a.line.switched.alive() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(life), disconnectPatience)
		if err := a.line.runOn(ctx, "disconnect", script, statusFatal); err != nil {
			a.log.printf("%v", err)
		}
		cancel()
	}
	a.line.close()
}

// disconnectPatience is how long the disconnect command may take: modems are slow to
// hang up.
const disconnectPatience = 30 * time.Second

// carry opens the link, carries packets, and says how it ended.
func (a *attempt) carry(ctx context.Context) error {
	c := a.config
	c.Notify = a.events.note
	a.events.changed = make(chan struct{}, 1)
	if name := a.options.Line.Record; name != "" {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return failedAs(statusFatal, "", err)
		}
		defer f.Close()
		c.Record = f
	}
	a.log.printf("Connect: %s <--> %s", a.facts.device, a.line.name)
	a.connected = true
	link, err := ppp.Open(ctx, a.line.stream, c)
	a.tellAuth()
	defer a.leave()
	if err != nil {
		a.hear()
		return linkStatus(ctx, err, false, a.line.words.Last())
	}
	a.link = link
	agreed := link.Agreed()
	a.announce(agreed)
	if !a.options.IPv4.Off && a.facts.local.IsValid() {
		unless := context.AfterFunc(ctx, a.scripts.kill)
		a.scripts.run("ip-pre-up", a.facts.networkArguments(a.facts.local, a.facts.remote), a.facts.environment(false))
		unless()
	}
	port, err := a.host.open(agreed, a.line)
	if err != nil {
		if ended := link.Err(); ended != nil { // it was over before
			return linkStatus(ctx, ended, false, a.line.words.Last())
		}
		link.Terminate("no network interface")
		return err
	}
	joining, stop := context.WithCancel(context.Background())
	joined := make(chan error, 1)
	go func() { joined <- tunnel.Join(joining, port, link) }()
	a.isUp = true
	a.tellNetworks(true)
	a.ready()
	err = a.watch(ctx, joined)
	stop()
	<-link.Done()
	return err
}

// watch waits until the link is to end, and ends it. It waits for what joined gives.
func (a *attempt) watch(ctx context.Context, joined <-chan error) error {
	life := &a.options.Life
	var expired <-chan time.Time
	if life.MaxConnect > 0 {
		timer := time.NewTimer(life.MaxConnect)
		defer timer.Stop()
		expired = timer.C
	}
	idle := newIdleness(life.Idle, func() uint64 { s := a.link.Stats(); return s.PacketsIn + s.PacketsOut })
	defer idle.stop()
	end := func(status int, reason, toPeer string) error {
		a.log.printf("%s", reason)
		a.terminate(toPeer)
		<-joined
		return endedAs(status, reason)
	}
	for {
		select {
		case err := <-joined:
			return a.ended(ctx, err)
		case <-ctx.Done():
			return end(statusUserRequest, context.Cause(ctx).Error(), "User request")
		case <-expired:
			return end(statusMaxConnect, "Connect time expired", "Connect time expired")
		case <-idle.tick():
			if idle.expired() {
				a.idle = true
				return end(statusIdle, "Terminating connection due to lack of activity.", "Link inactive")
			}
		case <-a.host.gone():
			a.terminate("no network interface")
			<-joined
			return failedAs(statusFatal, "", privilege.ErrGone)
		case <-a.events.changed:
			if err := a.hear(); err != nil {
				a.terminate(err.Error())
				<-joined
				return err
			}
		}
	}
}

// ended says how a link ended that nobody here ended.
func (a *attempt) ended(ctx context.Context, joined error) error {
	<-a.link.Done()
	a.hear()
	err := a.link.Err()
	if errors.Is(err, net.ErrClosed) && joined != nil && !errors.Is(joined, net.ErrClosed) {
		err = joined // it was the interface that failed
	}
	var failed *ppp.Error
	if errors.As(err, &failed) && failed.Kind == ppp.PeerTerminated {
		a.log.printf("LCP terminated by peer (%s)", failed.Reason)
	}
	return linkStatus(ctx, err, true, a.line.words.Last())
}

// terminatePatience is beyond LCP's own: two requests, three seconds each.
const terminatePatience = 10 * time.Second

// terminate says goodbye to the peer, at length, or briefly when told to end twice.
func (a *attempt) terminate(reason string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.link.Terminate(reason)
	}()
	select {
	case <-done:
		return
	case <-a.again:
	case <-time.After(terminatePatience):
	}
	a.link.Close()
	<-done
}

// announce says what was agreed upon, as pppd does, and keeps it for the scripts.
func (a *attempt) announce(agreed tunnel.Agreed) {
	f := &a.facts
	for _, p := range agreed.Local {
		if p.Addr().Is4() {
			f.local = p.Addr()
		} else {
			f.local6 = p.Addr()
		}
	}
	for _, addr := range agreed.Peer {
		if addr.Is4() {
			f.remote = addr
		} else {
			f.remote6 = addr
		}
	}
	f.dns = agreed.DNS
	for _, line := range []struct {
		name string
		addr netip.Addr
	}{
		{"local  IP address", f.local}, {"remote IP address", f.remote},
		{"local  LL address", f.local6}, {"remote LL address", f.remote6},
	} {
		if line.addr.IsValid() {
			a.log.printf("%s %s", line.name, line.addr)
		}
	}
	for i, server := range agreed.DNS[:min(2, len(agreed.DNS))] {
		a.log.printf("%-9s DNS address %s", [...]string{"primary", "secondary"}[i], server)
	}
}

// tellNetworks tells the scripts that the networks are up or down.
func (a *attempt) tellNetworks(up bool) {
	f := &a.facts
	if f.local.IsValid() {
		a.scripts.tell(a.scripts.ip, "ip", up, f.networkArguments(f.local, f.remote), f)
	}
	if f.local6.IsValid() {
		a.scripts.tell(a.scripts.ip6, "ipv6", up, f.networkArguments(f.local6, f.remote6), f)
	}
}

// tellAuth tells the scripts that the peer has proved who it is, if it has.
func (a *attempt) tellAuth() {
	if peer := a.events.snapshot().peer; peer != "" && a.facts.peer == "" {
		a.facts.peer = carrier.Printable(peer)
		a.scripts.tell(a.scripts.auth, "auth", true, a.facts.authArguments(), &a.facts)
	}
}

// hear acts on what happened to the open link.
func (a *attempt) hear() error {
	for _, text := range a.events.texts() {
		a.log.printf("%s", text)
	}
	if !a.isUp {
		return nil
	}
	now := a.events.snapshot()
	if now.six.IsValid() && !a.facts.local6.IsValid() {
		a.log.printf("IPv6 came up after the interface was set up, and is not used")
		a.events.forgetSix()
	}
	if now.down4 || !now.four.IsValid() {
		return nil // it may come back
	}
	if now.four != a.facts.local || now.four4 != a.facts.remote {
		return failedAs(statusNegotiation, "", fmt.Errorf("the peer changed the addresses from %s:%s to %s:%s", a.facts.local, a.facts.remote, now.four, now.four4))
	}
	return nil
}

// leave says that the link is over.
func (a *attempt) leave() {
	if a.link != nil {
		s := a.link.Stats()
		a.facts.sent, a.facts.received = s.LineOut, s.LineIn
	}
	if a.isUp {
		a.tellNetworks(false)
	}
	if a.facts.peer != "" {
		a.scripts.tell(a.scripts.auth, "auth", false, a.facts.authArguments(), &a.facts)
	}
	if a.isUp {
		a.log.printf("Connect time %.1f minutes.", time.Since(a.facts.began).Minutes())
		a.log.printf("Sent %d bytes, received %d bytes.", a.facts.sent, a.facts.received)
	}
	a.scripts.wait(a.options.Life.ChildTimeout)
}
