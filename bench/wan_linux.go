package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// A link is what lies between the laptop and the rest.
type link struct {
	key, name string
	way       lab.Way // each way
	busy      bool    // pings under load matter here; else goodput does
}

const (
	oneWay = 25 * time.Millisecond
	narrow = 20e6                                        // bit/s
	wide   = 100e6                                       // bit/s
	bdp    = int(narrow / 8 * 2 * oneWay / time.Second)  // octets of the narrow link's bandwidth-delay product
	queue  = int(wide / 8 * 50 * time.Millisecond / 1e9) // octets: 50 ms of the wide link
)

var links = []link{
	{"20-1", "20 Mbit/s, 50 ms, a buffer of 1 BDP (125 kB)", lab.Way{Rate: narrow, Delay: oneWay, Buffer: bdp}, true},
	{"20-20", "20 Mbit/s, 50 ms, a buffer of 20 BDP (2.5 MB)", lab.Way{Rate: narrow, Delay: oneWay, Buffer: 20 * bdp}, true},
	{"100-0", "100 Mbit/s, 50 ms, no loss", lab.Way{Rate: wide, Delay: oneWay, Buffer: queue}, false},
	{"100-0.1", "100 Mbit/s, 50 ms, 0.1 % loss", lab.Way{Rate: wide, Delay: oneWay, Buffer: queue, Loss: .001}, false},
	{"100-1", "100 Mbit/s, 50 ms, 1 % loss", lab.Way{Rate: wide, Delay: oneWay, Buffer: queue, Loss: .01}, false},
}

func linkKeys() (list []string) {
	for _, l := range links {
		list = append(list, l.key)
	}
	return list
}

// cubic is the congestion control of all that does not choose another: what most of
// the world has. It is chosen transfer by transfer and route by route, since the machines
// of a lab cannot have another default than the real one.
const cubic, bbr = "cubic", "bbr"

// A wanContender is one that makes sense over a long cable. Near and far are what the
// laptop's and the gateway's routes through the firewall say of congestion control: as a
// default it would win over what a program chooses for a socket before it is connected,
// so where one does it is left out.
type wanContender struct {
	contender
	near, far string
}

var wanContenders = []wanContender{
	{contender{"raw", "raw TCP, cubic", true, (*bench).openRaw}, "", ""},
	{contender{"raw-bbr", "raw TCP, BBR", true, (*bench).openRawBBR}, "", ""},
	{contender{"ssh", "bodkin over ssh", true, (*bench).openBodkin}, "", cubic}, // sshd's socket is its own
	{contender{"tls", "bodkin over tls", true, (*bench).openTLS}, "", ""},
	{contender{"tls-cubic", "bodkin over tls, cubic", true, (*bench).openTLS}, locked, locked},
	{contender{"sshw", "ssh -w", true, (*bench).openSSHTunnel}, cubic, cubic},
	{contender{"sshuttle", "sshuttle", false, (*bench).openSSHuttle}, cubic, cubic},
}

// locked is cubic whatever a program chooses.
const locked = "lock " + cubic

func wanKeys() (list []string) {
	for _, c := range wanContenders {
		list = append(list, c.key)
	}
	return list
}

// A wanSample is what one contender did on one link in one run. Zero fields were not
// measured.
type wanSample struct {
	Start    float64 // ms until packets pass
	Idle     pings
	Down, Up loaded  // towards and from the laptop
	Late     float64 // part of the frames that the cable itself was late with
}

// pings are round trips, in ms.
type pings struct {
	ICMP, TCP quantiles // TCP: 64 octets there and back on one connection
}

// quantiles of times in ms.
type quantiles struct{ P50, P95 float64 }

// loaded is a transfer and what else there was room for.
type loaded struct {
	Mbits float64 // of TCP payload, one stream, after the first omitted seconds
	pings
}

const (
	omitted   = 2 * time.Second // of a transfer: its beginning is not what is measured
	idleTime  = 4 * time.Second // of pings without load
	pingEvery = 100 * time.Millisecond

	// leastWANSeconds leave time to ping when a transfer has found its speed.
	leastWANSeconds = 6
)

// measureWAN measures all contenders on all links.
func measureWAN(ctx context.Context, c config, r *report, b *bench) (err error) {
	b.lab, err = lab.New(ctx, lab.Options{Direct: true, Shaped: true, AllowTCP: []uint16{plainPort}})
	if err != nil {
		return err
	}
	defer b.lab.Close()
	b.config.seconds = c.wanSeconds
	b.omit = omitted
	if err := b.prepare(ctx); err != nil {
		return err
	}
	if _, err := b.lab.Laptop.Command(ctx, "sh", "-c", "command -v ip").Output(); err != nil {
		return errors.New("ip is needed: apt-get install iproute2")
	}
	results, err := b.allWAN(ctx, c)
	if err != nil {
		return err
	}
	r.addWAN(results)
	return nil
}

// allWAN runs everything, link by link and contenders by turns.
func (b *bench) allWAN(ctx context.Context, c config) (map[string]map[string][]wanSample, error) {
	results := make(map[string]map[string][]wanSample)
	for run := range c.wanRuns {
		for _, l := range links {
			if len(c.links) > 0 && !slices.Contains(c.links, l.key) {
				continue
			}
			if results[l.key] == nil {
				results[l.key] = make(map[string][]wanSample)
			}
			for _, contender := range wanContenders {
				if len(c.only) > 0 && !slices.Contains(c.only, contender.key) {
					continue
				}
				s, err := b.oneWAN(ctx, l, contender, run)
				if ctx.Err() != nil {
					return results, context.Cause(ctx)
				}
				if errors.Is(err, exec.ErrNotFound) || errors.Is(err, errors.ErrUnsupported) {
					fmt.Fprintf(b.log, "%s: left out: %v\n", contender.name, err)
					continue
				}
				if err != nil {
					return results, fmt.Errorf("%s, %s, run %d: %w", l.name, contender.name, run+1, err)
				}
				fmt.Fprintf(b.log, "run %d of %d: %s: %-24s down %.1f Mbit/s, ping %.0f ms (p95); up %.1f Mbit/s, ping %.0f ms\n", run+1, c.wanRuns,
					l.key, contender.name, s.Down.Mbits, s.Down.ICMP.P95, s.Up.Mbits, s.Up.ICMP.P95)
				results[l.key][contender.key] = append(results[l.key][contender.key], s)
			}
		}
	}
	return results, nil
}

// oneWAN measures a contender on a link once.
func (b *bench) oneWAN(ctx context.Context, l link, c wanContender, run int) (s wanSample, err error) {
	b.congestion = cubic
	if err := b.carriersBy(ctx, c.near, c.far); err != nil {
		return s, err
	}
	for i, wire := range []*lab.Shaper{b.lab.Wire, b.lab.DirectWire} {
		up, down := l.way, l.way
		up.Seed = uint64(run)<<8 | uint64(i)<<1
		down.Seed = up.Seed | 1
		wire.Set(up, down)
	}
	before := b.frames()
	b.upTime = 0
	start := time.Now()
	w, err := c.open(b, ctx)
	if err != nil {
		return s, err
	}
	defer w.close()
	if b.upTime == 0 {
		b.upTime = time.Since(start)
	}
	s.Start = ms(b.upTime)
	if s.Idle, err = b.pings(ctx, c.ping, idleTime); err != nil {
		return s, err
	}
	for _, t := range []struct {
		reverse bool
		to      *loaded
	}{{true, &s.Down}, {false, &s.Up}} {
		if *t.to, err = b.load(ctx, c.ping, t.reverse); err != nil {
			return s, err
		}
	}
	after := b.frames()
	s.Late = float64(after.Late-before.Late) / float64(after.Frames-before.Frames)
	return s, nil
}

// carriersBy has the routes through the firewall say what congestion control new
// connections have; "" is nothing. ssh goes by IPv6 where it can.
func (b *bench) carriersBy(ctx context.Context, near, far string) error {
	for _, way := range []struct {
		from       *lab.Machine
		to         netip.Addr
		dst        string
		congestion string
	}{
		{b.lab.Laptop, lab.Gateway4, "0.0.0.0/0", near}, {b.lab.Gateway, lab.Laptop4, "192.0.2.0/24", far},
		{b.lab.Laptop, lab.Gateway6, "::/0", near}, {b.lab.Gateway, lab.Laptop6, "2001:db8:1::/64", far},
	} {
		routes, err := way.from.Netlink().RouteGet(way.to.AsSlice())
		if err != nil || len(routes) != 1 {
			return fmt.Errorf("%s: the route to %v: %v, %w", way.from.Name, way.to, routes, err)
		}
		args := []string{"route", "change", way.dst, "via", routes[0].Gw.String()}
		if way.congestion != "" {
			args = append(append(args, "congctl"), strings.Fields(way.congestion)...)
		}
		if out, err := way.from.Command(ctx, "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: ip %s: %w: %s", way.from.Name, strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// frames adds up what the cables say.
func (b *bench) frames() (all lab.WayStats) {
	for _, wire := range []*lab.Shaper{b.lab.Wire, b.lab.DirectWire} {
		up, down := wire.Stats()
		for _, s := range []lab.WayStats{up, down} {
			all.Frames += s.Frames
			all.Late += s.Late + s.Missed + s.Refused
		}
	}
	return all
}

// openRawBBR is openRaw, and the transfers by BBR.
func (b *bench) openRawBBR(ctx context.Context) (way, error) {
	available, err := b.lab.Laptop.Sysctl("net/ipv4/tcp_available_congestion_control")
	if err != nil {
		return way{}, err
	}
	if !slices.Contains(strings.Fields(available), bbr) {
		return way{}, fmt.Errorf("this kernel has no BBR: %w", errors.ErrUnsupported)
	}
	b.congestion = bbr
	return b.openRaw(ctx)
}

// load measures a transfer, and pings from when it has found its speed until it ends.
func (b *bench) load(ctx context.Context, icmp, reverse bool) (l loaded, err error) {
	type outcome struct {
		pings pings
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		select {
		case <-time.After(2 * omitted):
			o.pings, o.err = b.pings(ctx, icmp, time.Duration(b.config.seconds)*time.Second-2*omitted)
		case <-ctx.Done():
		}
		done <- o
	}()
	t, err := b.iperf(ctx, 1, reverse)
	o := <-done
	l.Mbits, l.pings = t.mbits, o.pings
	return l, errors.Join(err, o.err)
}

// pings measures round trips of both kinds for a time.
func (b *bench) pings(ctx context.Context, icmp bool, d time.Duration) (p pings, err error) {
	type outcome struct {
		times []float64
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		if icmp {
			n := int(d / pingEvery)
			o.times, o.err = b.pingTimes(ctx, n, "-c", strconv.Itoa(n), "-i", fmt.Sprint(pingEvery.Seconds()), "-W", "3")
		}
		done <- o
	}()
	times, err := b.echoTimes(ctx, d)
	o := <-done
	p.TCP, p.ICMP = quantilesOf(times), quantilesOf(o.times)
	return p, errors.Join(err, o.err)
}

// unanswered is what a ping counts that was lost, in ms: as long as ping waits.
const unanswered = 3000

// pingTimes pings n times and returns the round trips in ms.
func (b *bench) pingTimes(ctx context.Context, n int, args ...string) ([]float64, error) {
	times, err := b.ping(ctx, args...)
	for len(times) > 0 && len(times) < n {
		times = append(times, unanswered)
	}
	return times, err
}

// echoTimes sends a few octets back and forth on one connection for a time, and returns
// the round trips in ms.
func (b *bench) echoTimes(ctx context.Context, d time.Duration) (times []float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, d+openTimeout)
	defer cancel()
	c, err := b.lab.Laptop.Dial(ctx, "tcp", fmt.Sprintf("%v:%d", lab.Web4, lab.EchoPort))
	if err != nil {
		return nil, fmt.Errorf("tcp ping: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	octets := make([]byte, 64)
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		sent := time.Now()
		if _, err := c.Write(octets); err != nil {
			return nil, fmt.Errorf("tcp ping: %w", err)
		}
		if err := receive(c, int64(len(octets))); err != nil {
			return nil, fmt.Errorf("tcp ping: %w", err)
		}
		times = append(times, ms(time.Since(sent)))
	}
	return times, nil
}

func quantilesOf(times []float64) quantiles {
	return quantiles{median(times), quantile(times, .95)}
}
