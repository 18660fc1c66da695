package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// A wanTarget is a promise about contenders on one link.
type wanTarget struct {
	text, link string
	keys       []string // contenders; of the first one it is, the others are compared
	value      func(s []wanSample) float64
	limit      float64
	atLeast    bool // otherwise at most
}

// wanTargets are the promises: for each link that is busy, a short wait and a full
// link; for each that loses packets, no less than who else goes through the same hole.
func wanTargets() (list []wanTarget) {
	type direction struct {
		name string
		of   func(wanSample) loaded
	}
	directions := []direction{
		{"down", func(s wanSample) loaded { return s.Down }},
		{"up", func(s wanSample) loaded { return s.Up }},
	}
	for _, l := range links {
		for _, key := range []string{"ssh", "tls"} {
			for _, d := range directions {
				text := fmt.Sprintf("%s, over %s, %s, ", l.key, key, d.name)
				if l.busy {
					list = append(list,
						wanTarget{text + "ping p95, ms above idle", l.key, []string{key}, func(s []wanSample) float64 {
							return d.of(s[0]).ICMP.P95 - s[0].Idle.ICMP.P50
						}, 15, false},
						wanTarget{text + "part of the rate", l.key, []string{key}, func(s []wanSample) float64 {
							return d.of(s[0]).Mbits * 1e6 / float64(l.way.Rate)
						}, .9, true})
					continue
				}
				list = append(list, wanTarget{text + "of the best peer", l.key, []string{key, "sshw", "sshuttle"}, func(s []wanSample) float64 {
					return d.of(s[0]).Mbits / max(d.of(s[1]).Mbits, d.of(s[2]).Mbits)
				}, 1, true})
			}
		}
		if l.busy {
			continue
		}
		for _, pair := range []struct{ key, raw string }{{"tls", "raw-bbr"}, {"tls-cubic", "raw"}} {
			for _, d := range directions {
				list = append(list, wanTarget{fmt.Sprintf("%s, %s, %s, of %s", l.key, pair.key, d.name, pair.raw), l.key, []string{pair.key, pair.raw},
					func(s []wanSample) float64 { return d.of(s[0]).Mbits / d.of(s[1]).Mbits }, .8, true})
			}
		}
		// The near half's socket is bodkin's own also over ssh; the other one is sshd's.
		for i, raw := range []string{"raw", "raw-bbr"} {
			d := directions[i]
			list = append(list, wanTarget{fmt.Sprintf("%s, over ssh, %s, of %s", l.key, d.name, raw), l.key, []string{"ssh", raw},
				func(s []wanSample) float64 { return d.of(s[0]).Mbits / d.of(s[1]).Mbits }, .8, true})
		}
	}
	for _, d := range directions {
		list = append(list, wanTarget{"100-1, over tls, " + d.name + ", BBR times cubic", "100-1", []string{"tls", "tls-cubic"},
			func(s []wanSample) float64 { return d.of(s[0]).Mbits / d.of(s[1]).Mbits }, 5, true})
	}
	return list
}

// addWAN takes what was measured over shaped links.
func (r *report) addWAN(results map[string]map[string][]wanSample) {
	r.WAN = results
	r.Verdicts = append(r.Verdicts, judgeWAN(results)...)
}

// judgeWAN compares what was measured with the targets, within each run.
func judgeWAN(results map[string]map[string][]wanSample) (verdicts []verdict) {
	for _, t := range wanTargets() {
		var values []float64
	runs:
		for i := range results[t.link][t.keys[0]] {
			var samples []wanSample
			for _, key := range t.keys {
				if i >= len(results[t.link][key]) {
					continue runs
				}
				samples = append(samples, results[t.link][key][i])
			}
			values = append(values, t.value(samples))
		}
		if len(values) > 0 {
			verdicts = append(verdicts, newVerdict(t.text, median(values), t.limit, t.atLeast))
		}
	}
	return verdicts
}

// maxLate is the part of the frames that a cable may be late with before its figures
// are doubtful.
const maxLate = .05

// writeWAN prints a table for each link.
func (r *report) writeWAN(w io.Writer) {
	fmt.Fprintf(w, "\nover long cables, %d runs with transfers of %d s, one stream, medians; ping and a TCP connection's 64 octets\nthere and back in ms, median and p95; %d ms stands for an answer that was lost\n", r.WANRuns, r.WANSeconds, unanswered)
	for _, l := range links {
		samples := r.WAN[l.key]
		if len(samples) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s\n\n", l.name)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprint(t, "contender\tdown Mbit/s\tof rate\tping p50\tp95\tTCP p50\tp95\tup Mbit/s\tof rate\tping p50\tp95\tTCP p50\tp95\tidle ping\tp95\tTCP\tp95\tstart\t\n")
		for _, c := range wanContenders {
			list := samples[c.key]
			if len(list) == 0 {
				continue
			}
			of := func(get func(wanSample) float64) float64 {
				var v []float64
				for _, s := range list {
					v = append(v, get(s))
				}
				return median(v)
			}
			fmt.Fprint(t, c.name+"\t")
			for _, get := range []func(wanSample) loaded{
				func(s wanSample) loaded { return s.Down },
				func(s wanSample) loaded { return s.Up },
			} {
				rate := of(func(s wanSample) float64 { return get(s).Mbits })
				fmt.Fprint(t, cell("%.1f", rate), cell("%.1f %%", 100e6*rate/float64(l.way.Rate)))
				writePings(t, of, func(s wanSample) pings { return get(s).pings })
			}
			writePings(t, of, func(s wanSample) pings { return s.Idle })
			fmt.Fprint(t, cell("%.0f", of(func(s wanSample) float64 { return s.Start })))
			if late := of(func(s wanSample) float64 { return s.Late }); late > maxLate {
				fmt.Fprintf(t, "the cable itself was late with %.0f %%\t", 100*late)
			}
			fmt.Fprintln(t)
		}
		t.Flush()
	}
}

// writePings prints four cells.
func writePings(w io.Writer, of func(func(wanSample) float64) float64, get func(wanSample) pings) {
	for _, q := range []func(pings) float64{
		func(p pings) float64 { return p.ICMP.P50 }, func(p pings) float64 { return p.ICMP.P95 },
		func(p pings) float64 { return p.TCP.P50 }, func(p pings) float64 { return p.TCP.P95 },
	} {
		fmt.Fprint(w, cell("%.1f", of(func(s wanSample) float64 { return q(get(s)) })))
	}
}
