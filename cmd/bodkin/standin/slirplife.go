package standin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/footprint"
	"github.com/bodkin-net/bodkin/config/pppd"
	"github.com/bodkin-net/bodkin/config/slirp"
	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/link/ppp"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A slirpRun is `bodkin slirp` at work: one link after another on one line, before
// one NAT that outlives them with all that is open in it.
type slirpRun struct {
	options *slirp.Options
	version string
	config  ppp.Config
	log     *logger
	errw    io.Writer

	line   *line
	unsafe carrier.ByteSet
	nat    *usernat.NAT
	up     atomic.Bool // LCP is open

	cancel context.CancelCauseFunc // ends it all

	mu  sync.Mutex
	now *ppp.Link // the present link, or the last one
}

var (
	errZeros = errors.New("five zeros were typed")
	errWait  = errors.New("no new link came")
)

func newSlirp(o *slirp.Options, version string, errw io.Writer) *slirpRun {
	return &slirpRun{options: o, version: version, log: &logger{errw: errw}, errw: errw}
}

// run serves links until the end.
func (r *slirpRun) run(ctx context.Context) error {
	footprint.Limit()
	defer r.log.close()
	r.config = slirpLink(r.options)
	notes, err := identifySlirp(r.options, &r.config.Auth)
	if err != nil {
		return err
	}
	if err := r.openFiles(); err != nil {
		return err
	}
	if r.nat, err = usernat.New(slirpNAT(r.options)); err != nil {
		return err
	}
	defer r.nat.Close()
	if err := r.openLine(ctx); err != nil {
		return err
	}
	defer r.line.close()
	r.sayReady(append(notes, r.options.Notes...))
	r.log.setLine(r.line.terminal)
	return r.serve(ctx)
}

// openFiles opens what debugppp and record name.
func (r *slirpRun) openFiles() error {
	if name := r.options.DebugPPP; name != "" {
		l := pppd.Log{Debug: true, File: name, FD: -1}
		if name == "-" {
			l.File = ""
		}
		if err := r.log.open(&l); err != nil {
			return err
		}
	}
	r.config.Log = func(line string) { r.log.debugf("%s", line) }
	return nil
}

// openLine takes the line and makes it raw.
func (r *slirpRun) openLine(ctx context.Context) (err error) {
	o := &pppd.Line{Kind: pppd.LineDefault}
	device := r.options.TTY
	if device == "" {
		device = os.Getenv("SLIRP_TTY")
	}
	if device != "" {
		o.Kind, o.Device = pppd.LineDevice, device
	}
	if r.line, err = openLine(ctx, o, nil, r.log); err != nil {
		return err
	}
	r.unsafe = r.line.stream.Unsafe
	r.line.switched = newSwitchboard(r.line.stream)
	return nil
}

// sayReady says, as slirp does, what there is, and that the peer may speak. On the
// terminal that is the line, these are the last words.
func (r *slirpRun) sayReady(notes []string) {
	o := r.options
	lines := []string{"bodkin slirp " + r.version}
	for _, text := range append(notes, r.nat.Notes()...) {
		lines = append(lines, carrier.Printable(text))
	}
	for i, at := range r.nat.Redirects() {
		to := o.Redirects[i]
		lines = append(lines, fmt.Sprintf("Redirecting %s port %d at %v to %v", strings.ToUpper(to.Network), at.Port(), at.Addr(), to.To))
	}
	lines = append(lines,
		fmt.Sprintf("Your address is %v", o.Peer()), "(or anything else you want)",
		fmt.Sprintf("Your name server is %v", o.DNSAlias()), "")
	if !o.NoZeros {
		lines = append(lines, "Type five zeroes (0) to exit.", "")
	}
	lines = append(lines, "[talking PPP]", "", "SLiRP Ready ...", "")
	end := "\n"
	r.log.setLine(r.line.terminal)
	if r.log.isLine(r.errw) {
		end = "\r\n" // it is raw by now
	}
	io.WriteString(r.errw, strings.Join(lines, end))
}

// serve carries packets between the NAT and whoever comes.
func (r *slirpRun) serve(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	r.cancel = cancel
	defer cancel(nil)
	if name := r.options.Record; name != "" {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		r.config.Record = f
	}
	r.config.Notify = r.note
	first, err := r.open(ctx)
	if err != nil {
		return r.status(ctx, err)
	}
	if err := r.nat.SetMTU(first.Caps().MTU); err != nil {
		first.Terminate("no NAT with this MTU")
		return err
	}
	// Its end is ours to bring about, after a goodbye to the peer.
	keeper := tunnel.Keep(context.WithoutCancel(ctx), first, func(kept context.Context) (tunnel.Port, error) {
		waiting, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		defer context.AfterFunc(kept, func() { stop(context.Cause(kept)) })()
		p, err := r.again(waiting)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, tunnel.ErrGiveUp)
		}
		return p, nil
	}, tunnel.KeepOptions{Waits: true})
	joined := make(chan error, 1)
	go func() { joined <- tunnel.Join(context.Background(), keeper, r.nat) }()
	select {
	case err = <-joined:
	case <-ctx.Done():
		r.present().Terminate("User request")
		keeper.Close()
		err = <-joined
	}
	return r.status(ctx, err)
}

func (r *slirpRun) present() *ppp.Link {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// again waits for a new link after one has gone down, as long as options want it.
func (r *slirpRun) again(ctx context.Context) (tunnel.Port, error) {
	last := r.present()
	<-last.Done()
	if ctx.Err() != nil || r.options.PPPExit || !r.line.switched.alive() {
		return nil, last.Err()
	}
	r.log.printf("%v; waiting %v for a new link", last.Err(), r.options.Wait)
	waiting, cancel := context.WithTimeoutCause(ctx, r.options.Wait, errWait)
	defer cancel()
	return r.open(waiting)
}

// open waits for a peer until ctx ends. One that comes to no agreement with us may
// try again.
func (r *slirpRun) open(ctx context.Context) (*ppp.Link, error) {
	for {
		line := r.line.switched.end()
		if !r.options.NoZeros {
			line = &watchedLine{ReadWriteCloser: line, run: r}
		}
		p, err := ppp.Open(ctx, carrier.Stream{ReadWriteCloser: line, Unsafe: r.unsafe}, r.config)
		switch {
		case err == nil:
			r.mu.Lock()
			r.now = p
			r.mu.Unlock()
			r.announce(p)
			return p, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case r.options.PPPExit || !r.line.switched.alive():
			return nil, err
		}
		r.log.printf("%v", err)
	}
}

// announce says what was agreed upon.
func (r *slirpRun) announce(p *ppp.Link) {
	agreed := p.Agreed()
	var peer netip.Addr
	for _, a := range agreed.Peer {
		peer = a
	}
	r.log.printf("PPP is up: the peer is %v, the MTU %d", peer, agreed.MTU)
}

// note is told what happens to a link.
func (r *slirpRun) note(e ppp.Event) {
	switch e.Kind {
	case ppp.LinkUp:
		r.up.Store(true)
	case ppp.LinkDown:
		r.up.Store(false)
	case ppp.Authenticated:
		r.log.printf("the peer proved to be %s", e.Peer)
	case ppp.Note:
		r.log.printf("%s", e.Text)
	}
}

// status finds the exit status of how it ended, nil for an orderly end.
func (r *slirpRun) status(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errZeros), errors.Is(err, errWait):
		return nil
	case cause != nil:
		return endedAs(statusUserRequest, cause.Error())
	}
	var failed *ppp.Error
	if errors.As(err, &failed) && failed.Kind == ppp.OurSecret {
		return failedAs(statusOurSecret, "see ~/.chap-secrets and ~/.pap-secrets", failed)
	}
	if errors.As(err, &failed) {
		err = failed // without that the Keeper gave up
	}
	return linkStatus(ctx, err, r.present() != nil, "")
}
