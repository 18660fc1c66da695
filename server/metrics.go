package server

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// namesKept is how many clients have numbers of their own: as many as a server has
// sessions. Those who come after them share the name "other".
const namesKept = 1000

// totals are what the ended sessions of each client have carried, by its name.
type totals map[string]*Counts

// of returns the sum of a name, which is made if there is none.
func (t totals) of(name string) *Counts {
	name = plain(name)
	if t[name] == nil && len(t) >= namesKept {
		name = "other"
	}
	if t[name] == nil {
		t[name] = &Counts{}
	}
	return t[name]
}

// add adds an ended session's counts to those of its client.
func (t totals) add(name string, c Counts) {
	sum := t.of(name)
	sum.add(c)
	sum.Flows = 0
}

// copy returns all of them anew.
func (t totals) copy() totals {
	all := make(totals, len(t))
	for name, c := range t {
		all[name] = new(Counts)
		all[name].add(*c)
	}
	return all
}

// add adds d to c.
func (c *Counts) add(d Counts) {
	c.PacketsIn += d.PacketsIn
	c.PacketsOut += d.PacketsOut
	c.OctetsIn += d.OctetsIn
	c.OctetsOut += d.OctetsOut
	c.Flows += d.Flows
	for reason, n := range d.Refused {
		if c.Refused == nil {
			c.Refused = make(map[string]uint64)
		}
		c.Refused[reason] += n
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

var (
	sessionsDesc   = prometheus.NewDesc("bodkin_sessions", "Sessions there are.", []string{"by"}, nil)
	awayDesc       = prometheus.NewDesc("bodkin_sessions_away", "Sessions of them whose client has no connection now.", nil, nil)
	resumesDesc    = prometheus.NewDesc("bodkin_resumes_total", "Connections that were to continue a session, and what became of them.", []string{"by", "result"}, nil)
	handshakesDesc = prometheus.NewDesc("bodkin_handshakes_total", "Clients that came, and what became of them.", []string{"by", "result"}, nil)
	octetsDesc     = prometheus.NewDesc("bodkin_octets_total", "Octets of IP carried.", []string{"client", "direction"}, nil)
	packetsDesc    = prometheus.NewDesc("bodkin_packets_total", "Packets carried; one that is to be cut up counts once.", []string{"client", "direction"}, nil)
	flowsDesc      = prometheus.NewDesc("bodkin_flows", "Connections, UDP flows and pings open.", []string{"client"}, nil)
	refusedDesc    = prometheus.NewDesc("bodkin_refused_total", "What was turned away inside tunnels.", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sessionsDesc, awayDesc, resumesDesc, handshakesDesc, octetsDesc, packetsDesc, flowsDesc, refusedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Clients are told apart by their names, up to
// a thousand of them.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock() // a session is in one of the two, so that no count ever falls
	sums, sessions, resumes := s.totals.copy(), s.list(), maps.Clone(s.resumes)
	s.mu.Unlock()
	by, away := map[string]int{}, 0
	for _, session := range sessions {
		c, _ := session.Last()
		by[c.By]++
		if !session.Away().IsZero() {
			away++
		}
		sums.of(session.Client.Name).add(session.Counts())
	}
	for way, n := range by {
		ch <- prometheus.MustNewConstMetric(sessionsDesc, prometheus.GaugeValue, float64(n), way)
	}
	ch <- prometheus.MustNewConstMetric(awayDesc, prometheus.GaugeValue, float64(away))
	for k, n := range resumes {
		ch <- prometheus.MustNewConstMetric(resumesDesc, prometheus.CounterValue, float64(n), k[0], k[1])
	}
	refused := map[string]uint64{}
	for name, c := range sums {
		ch <- prometheus.MustNewConstMetric(octetsDesc, prometheus.CounterValue, float64(c.OctetsIn), name, "in")
		ch <- prometheus.MustNewConstMetric(octetsDesc, prometheus.CounterValue, float64(c.OctetsOut), name, "out")
		ch <- prometheus.MustNewConstMetric(packetsDesc, prometheus.CounterValue, float64(c.PacketsIn), name, "in")
		ch <- prometheus.MustNewConstMetric(packetsDesc, prometheus.CounterValue, float64(c.PacketsOut), name, "out")
		ch <- prometheus.MustNewConstMetric(flowsDesc, prometheus.GaugeValue, float64(c.Flows), name)
		for reason, n := range c.Refused {
			refused[reason] += n
		}
	}
	for reason, n := range refused {
		ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(n), reason)
	}
	s.refusals.mu.Lock()
	handshakes := maps.Clone(s.refusals.counts)
	s.refusals.mu.Unlock()
	for k, n := range handshakes {
		ch <- prometheus.MustNewConstMetric(handshakesDesc, prometheus.CounterValue, float64(n), k[0], k[1])
	}
}
