package serve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/farside"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/server"
	"github.com/bodkin-net/bodkin/session"
	"github.com/bodkin-net/bodkin/trust"
	"github.com/bodkin-net/bodkin/tunnel"
)

// This file has the clients that stand: NATs themselves, whose networks are at the
// disposal of this machine. Such a client's link is held for as long as it lasts, and
// what comes in goes nowhere, until somebody on this machine asks for the client by its
// name. Then packets pass between that user's link and the client's until the user goes.
// While the client's session is held for it, they wait in the link's queue; when it has
// begun another since, the user's link goes on with that.

// everyOffload is what a client that stands is told to send: what its user cannot take
// is completed here.
const everyOffload = tunnel.OffloadChecksum | tunnel.OffloadTSO4 | tunnel.OffloadTSO6 | tunnel.OffloadUSO

// places are the names that clients stand under. A name stays once it was used, as
// there are no more of them than clients.
type places struct {
	mu sync.Mutex
	of map[string]*place
}

// A place is where the client of one name stands, and its user beside it.
type place struct {
	name string

	mu     sync.Mutex
	client *standing // nil: it is away
	gone   time.Time // since when
	user   *user     // nil: nobody
}

// get returns the place of a name, which is made if there is none.
func (p *places) get(name string) *place {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = make(map[string]*place)
	}
	if p.of[name] == nil {
		p.of[name] = &place{name: name}
	}
	return p.of[name]
}

// find returns the place of a name, if it was ever used.
func (p *places) find(name string) *place {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of[name]
}

// names returns who stands now.
func (p *places) names() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(p.of)) {
		if c, _ := p.of[name].both(); c != nil {
			list = append(list, name)
		}
	}
	return list
}

// both returns the client and its user, each nil if there is none.
func (p *place) both() (*standing, *user) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.client, p.user
}

// standing answers the hello of a client that is a NAT itself.
func (s *service) standing(client trust.Client, peer native.Hello) (native.Hello, *place, error) {
	mine := native.Hello{Software: s.software, Emulator: native.EmulatorKernel, Receives: tunnel.Caps{MTU: farside.MTU, Offloads: everyOffload}}
	switch {
	case client.Called == "":
		return mine, nil, errors.New(`nobody could ask for you: the server's authorized_clients gives you no name (name="laptop")`)
	case len(peer.Yours) == 0:
		return mine, nil, errors.New("you give whoever uses your network no address")
	}
	mine.Notes = []string{"you stand at the server as " + client.Called + ", for whoever asks for you there: bodkin up served:" + client.Called}
	return mine, s.places.get(client.Called), nil
}

// A standing is the link to a client that stands.
type standing struct {
	clientLink
	hello   native.Hello // the client's
	place   *place
	account *server.Session
}

// Run implements server.Tunnel: it gives what the client sends to its user, if there is
// one.
func (t *standing) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { farewell{t.link, ctx}.Close() })
	defer func() {
		if stop() {
			t.link.Close()
		}
	}()
	t.place.come(t)
	defer t.place.leave(t)
	batch := make([]tunnel.Packet, tunnel.BatchSize)
	for {
		n, err := t.link.ReadPackets(batch)
		if err != nil {
			return orderly(err)
		}
		if _, u := t.place.both(); u != nil {
			u.give(batch[:n])
		}
	}
}

// come puts a client into its place. One that is there already is an older connection of
// the same, and goes.
func (p *place) come(t *standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil {
		p.client.account.End(server.WhyReplaced, "the same client has connected anew")
	}
	p.client = t
	if p.user != nil && !p.user.suits(t) {
		p.user.leave(fmt.Errorf("%s came back with other addresses", p.name))
	}
}

// leave takes a client out of its place, if it is still there.
func (p *place) leave(t *standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client == t {
		p.client, p.gone = nil, time.Now()
	}
}

// A user is somebody on this machine who uses a client that stands. It is the
// tunnel.Port at whose other side the client is, whichever connection of it.
type user struct {
	place *place
	since time.Time
	caps  tunnel.Caps
	yours []string // the addresses that the client gave, as text

	in     chan []tunnel.Packet // what the client sent
	taken  chan struct{}        // it has been passed on
	holds  bool                 // ReadPackets has given out what taken is owed for
	closed chan struct{}
	once   sync.Once
	cause  error         // valid once closed is
	gone   chan struct{} // closed when nothing is read from it any more

	dropped atomic.Uint64 // packets for a client that was away
}

var _ tunnel.Port = (*user)(nil)

// suits reports whether t can go on where the user's first connection of the client
// ended.
func (u *user) suits(t *standing) bool {
	c := t.link.Caps()
	return slices.Equal(u.yours, prefixTexts(t.hello)) && c.MTU >= u.caps.MTU && c.Offloads.Has(u.caps.Offloads)
}

func prefixTexts(h native.Hello) (list []string) {
	for _, p := range h.Yours {
		list = append(list, p.String())
	}
	return list
}

// give hands the user what the client sent, and returns when it needs it no more.
func (u *user) give(batch []tunnel.Packet) {
	select {
	case u.in <- batch:
		select {
		case <-u.taken:
		case <-u.gone:
		}
	case <-u.closed:
	}
}

// ReadPackets implements tunnel.Port.
func (u *user) ReadPackets(p []tunnel.Packet) (int, error) {
	if u.holds {
		u.holds = false
		u.taken <- struct{}{}
	}
	select {
	case batch := <-u.in:
		u.holds = true
		return copy(p, batch), nil // both are of tunnel.BatchSize
	case <-u.closed:
		return 0, u.cause
	}
}

// WritePackets implements tunnel.Port. While the client is away packets are dropped:
// whoever sent them sends them again.
func (u *user) WritePackets(p []tunnel.Packet) error {
	select {
	case <-u.closed:
		return u.cause
	default:
	}
	client, _ := u.place.both()
	if client == nil || client.link.WritePackets(p) != nil {
		u.dropped.Add(uint64(len(p)))
	}
	return nil
}

// Caps implements tunnel.Port.
func (u *user) Caps() tunnel.Caps { return u.caps }

// Close implements tunnel.Port.
func (u *user) Close() error {
	u.leave(net.ErrClosed)
	return nil
}

func (u *user) leave(cause error) {
	u.once.Do(func() {
		u.cause = cause
		close(u.closed)
	})
}

// use joins a stream, on which somebody on this machine speaks as the near side of a
// tunnel, to the client that stands under a name, until one of them ends it. It owns the
// stream. ready is called when it is clear that the client can be had, or why not.
func (s *service) use(ctx context.Context, name string, stream carrier.Stream, ready func(error) error) error {
	u, client, err := s.place(name)
	if told := ready(err); err != nil || told != nil {
		if u != nil {
			u.quit()
		}
		stream.Close()
		return errors.Join(err, told)
	}
	defer u.quit()
	if stream, err = greetUser(ctx, stream); err != nil {
		return err
	}
	link, peer, _, err := native.Accept(ctx, stream, func(peer native.Hello) (native.Hello, error) {
		return answerFor(name, client, peer)
	})
	if err != nil {
		return err
	}
	s.log.Info("a client is used", "client", name, "software", peer.Software)
	err = orderly(tunnel.Join(ctx, u, userLink{link, u}))
	s.log.Info("a client is used no more", "client", name, "dropped", u.dropped.Load())
	return err
}

// greetUser meets a near side on this machine. Its connection ends with one of the two
// processes: nothing is held.
func greetUser(ctx context.Context, stream carrier.Stream) (carrier.Stream, error) {
	greeting, cancel := context.WithTimeout(ctx, greetTime)
	defer cancel()
	caller, err := session.Greet(greeting, stream)
	if err != nil {
		return stream, err
	}
	if _, resumes := caller.Resumes(); resumes {
		caller.Refuse(session.ErrUnknown)
		return stream, session.ErrUnknown
	}
	stream, _, err = answer(ctx, caller, session.Terms{}, session.Options{})
	return stream, err
}

// place gives the client of a name a user, if it has none.
func (s *service) place(name string) (*user, *standing, error) {
	p := s.places.find(name)
	if p == nil {
		return nil, nil, s.nobody(name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.client == nil:
		return nil, nil, awayError(name, p.gone)
	case !p.client.account.Away().IsZero(): // held, but nobody need wait for what may never come
		return nil, nil, awayError(name, p.client.account.Away())
	case p.user != nil:
		return nil, nil, fmt.Errorf("%s is used by somebody else, since %s", name, p.user.since.Format(time.TimeOnly))
	}
	p.user = &user{
		place: p, since: time.Now(), caps: p.client.link.Caps(), yours: prefixTexts(p.client.hello),
		in: make(chan []tunnel.Packet), taken: make(chan struct{}), closed: make(chan struct{}), gone: make(chan struct{}),
	}
	return p.user, p.client, nil
}

func awayError(name string, since time.Time) error {
	return fmt.Errorf("%s is away, since %s", name, since.Format(time.TimeOnly))
}

// nobody says that no client of a name stands here, and who does.
func (s *service) nobody(name string) error {
	names := s.places.names()
	if len(names) == 0 {
		return fmt.Errorf("%s does not stand here, and nobody does", name)
	}
	const most = 10
	if len(names) > most {
		names = append(names[:most], "...")
	}
	return fmt.Errorf("%s does not stand here; there are %v", name, names)
}

// quit takes the user away, once nothing reads from it any more.
func (u *user) quit() {
	u.Close()
	close(u.gone)
	u.place.mu.Lock()
	defer u.place.mu.Unlock()
	if u.place.user == u {
		u.place.user = nil
	}
}

// A userLink is the link to a user, who is told at the end why it came.
type userLink struct {
	*native.Link
	user *user
}

// Close implements tunnel.Port.
func (l userLink) Close() error {
	text := ""
	select {
	case <-l.user.closed:
		if !errors.Is(l.user.cause, net.ErrClosed) {
			text = l.user.cause.Error()
		}
	default:
	}
	return l.CloseWith(native.CloseEnding, text)
}

// answerFor is what a user is told in the client's place.
func answerFor(name string, client *standing, peer native.Hello) (mine native.Hello, err error) {
	if peer.Emulator == native.EmulatorNAT {
		return mine, fmt.Errorf("both %s and this side are NATs that programs connect out of, and there is nobody to connect", name)
	}
	h := client.hello
	for _, p := range h.Yours {
		if len(peer.Networks) > 0 && !within(p.Masked(), peer.Networks) {
			return mine, fmt.Errorf("%s gives the address %v, and that network is not free here", name, p)
		}
	}
	mine = native.Hello{
		Software: h.Software, Receives: client.link.Caps(), Emulator: native.EmulatorNAT,
		Yours: h.Yours, Mine: h.Mine, DNS: h.DNS, Notes: h.Notes, Routes: h.Routes,
	}
	if peer.Asks != 0 {
		mine.Notes = append(mine.Notes, name+" has decided already what it opens, when it connected")
	}
	return mine, nil
}
