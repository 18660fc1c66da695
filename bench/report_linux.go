package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A report is what was measured and what it means.
type report struct {
	When       time.Time           `json:"when"`
	Machine    string              `json:"machine"`
	Runs       int                 `json:"runs"`
	Seconds    int                 `json:"seconds"`
	Cipher     string              `json:"cipher"`
	CPU        string              `json:"cpu_time_from"`
	FirstStart float64             `json:"first_start_ms"` // bodkin over ssh, its far half sent on the way
	Samples    map[string][]sample `json:"samples"`
	Medians    map[string]sample   `json:"medians"`
	Verdicts   []verdict           `json:"targets"`

	WANRuns    int                               `json:"wan_runs,omitempty"`
	WANSeconds int                               `json:"wan_seconds,omitempty"`
	WAN        map[string]map[string][]wanSample `json:"wan,omitempty"` // by link and contender
}

// A verdict is a target and what was reached.
type verdict struct {
	Target string  `json:"target"`
	Value  float64 `json:"value"`
	Limit  float64 `json:"limit"`
	Met    bool    `json:"met"`
	off    float64 // how far beyond the limit, as a part of it
}

// A column of the table.
type column struct {
	title, format string
	value         func(sample) float64
}

var columns = []column{
	{"up 1", "%.0f", func(s sample) float64 { return s.Up1 }},
	{"up 8", "%.0f", func(s sample) float64 { return s.Up8 }},
	{"down 1", "%.0f", func(s sample) float64 { return s.Down1 }},
	{"down 8", "%.0f", func(s sample) float64 { return s.Down8 }},
	{"CPU up", "%.2f", func(s sample) float64 { return s.CPUUp }},
	{"CPU down", "%.2f", func(s sample) float64 { return s.CPUDown }},
	{"ping", "%.2f", func(s sample) float64 { return s.PingIdle }},
	{"loaded", "%.2f", func(s sample) float64 { return s.PingLoaded }},
	{"1st byte", "%.1f", func(s sample) float64 { return s.FirstByte }},
	{"start", "%.0f", func(s sample) float64 { return s.Start }},
	{"near MB", "%.0f", func(s sample) float64 { return s.RSSNear }},
	{"all", "%.0f", func(s sample) float64 { return s.RSSNearAll }},
	{"far MB", "%.0f", func(s sample) float64 { return s.RSSFar }},
	{"all", "%.0f", func(s sample) float64 { return s.RSSFarAll }},
}

func newReport(c config, m *meter) *report {
	return &report{
		When: time.Now().UTC().Truncate(time.Second), Machine: machine(), Runs: c.runs, Seconds: c.seconds,
		Cipher: cipher, CPU: m.Source, WANRuns: c.wanRuns, WANSeconds: c.wanSeconds,
	}
}

// add takes what was measured where nothing is in the way.
func (r *report) add(results map[string][]sample) {
	r.Samples, r.Medians = results, make(map[string]sample)
	for key, samples := range results {
		r.Medians[key] = medians(samples)
	}
	r.Verdicts = append(r.Verdicts, judge(results)...)
}

// machine names the processor and the kernel.
func machine() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	model := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d x %s, Linux %s, %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)), runtime.Version())
}

// medians takes each field's.
func medians(samples []sample) (m sample) {
	field := func(get func(*sample) *float64) {
		var v []float64
		for i := range samples {
			v = append(v, *get(&samples[i]))
		}
		*get(&m) = median(v)
	}
	for _, get := range []func(*sample) *float64{
		func(s *sample) *float64 { return &s.Up1 }, func(s *sample) *float64 { return &s.Up8 },
		func(s *sample) *float64 { return &s.Down1 }, func(s *sample) *float64 { return &s.Down8 },
		func(s *sample) *float64 { return &s.CPUUp }, func(s *sample) *float64 { return &s.CPUDown },
		func(s *sample) *float64 { return &s.PingIdle }, func(s *sample) *float64 { return &s.PingLoaded },
		func(s *sample) *float64 { return &s.FirstByte }, func(s *sample) *float64 { return &s.Start },
		func(s *sample) *float64 { return &s.RSSNear }, func(s *sample) *float64 { return &s.RSSNearAll },
		func(s *sample) *float64 { return &s.RSSFar }, func(s *sample) *float64 { return &s.RSSFarAll },
	} {
		field(get)
	}
	m.CPUPartsUp = medianParts(samples, func(s sample) map[string]float64 { return s.CPUPartsUp })
	m.CPUPartsDown = medianParts(samples, func(s sample) map[string]float64 { return s.CPUPartsDown })
	return m
}

// medianParts takes each program's.
func medianParts(samples []sample, get func(sample) map[string]float64) map[string]float64 {
	values := make(map[string][]float64)
	for _, s := range samples {
		for name, v := range get(s) {
			values[name] = append(values[name], v)
		}
	}
	parts := make(map[string]float64)
	for name, v := range values {
		parts[name] = median(v)
	}
	return parts
}

// writeParts prints where the processor time of one stream went.
func (r *report) writeParts(w io.Writer) {
	fmt.Fprint(w, "\nwhere the CPU seconds go, one stream; the rest is the kernel's, on nobody's account\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range contenders {
		m, ok := r.Medians[c.key]
		if !ok {
			continue
		}
		for _, d := range []struct {
			name  string
			parts map[string]float64
		}{{"up", m.CPUPartsUp}, {"down", m.CPUPartsDown}} {
			if len(d.parts) == 0 {
				continue
			}
			fmt.Fprintf(t, "%s, %s\t", c.name, d.name)
			for _, name := range slices.Sorted(maps.Keys(d.parts)) {
				if v := d.parts[name]; v >= 0.01 {
					fmt.Fprintf(t, "%s %.2f\t", name, v)
				}
			}
			fmt.Fprintln(t)
		}
	}
	t.Flush()
}

// A target is a promise about two contenders, or about one.
type target struct {
	text     string
	key, ref string // ref may be empty
	value    func(s, ref sample) float64
	limit    float64
	atLeast  bool // otherwise at most
}

var targets = []target{
	{"over ssh, up, of the bare pipe", "ssh", "pipe", func(s, r sample) float64 { return s.Up1 / r.Up1 }, 0.7, true},
	{"over ssh, down, of the bare pipe", "ssh", "pipe", func(s, r sample) float64 { return s.Down1 / r.Down1 }, 0.7, true},
	{"over ssh, up, times ssh -w", "ssh", "sshw", func(s, r sample) float64 { return s.Up1 / r.Up1 }, 5, true},
	{"over ssh, down, times ssh -w", "ssh", "sshw", func(s, r sample) float64 { return s.Down1 / r.Down1 }, 5, true},
	{"over tcp to a tun, CPU up, times raw", "tcp-tun", "raw", func(s, r sample) float64 { return s.CPUUp / r.CPUUp }, 4, false},
	{"over tcp to a tun, CPU down, times raw", "tcp-tun", "raw", func(s, r sample) float64 { return s.CPUDown / r.CPUDown }, 4, false},
	{"over tcp to usernat, CPU up, times raw", "tcp-nat", "raw", func(s, r sample) float64 { return s.CPUUp / r.CPUUp }, 4.5, false},
	{"over tcp to usernat, CPU down, times raw", "tcp-nat", "raw", func(s, r sample) float64 { return s.CPUDown / r.CPUDown }, 4.5, false},
	{"over ssh, idle ping, ms more than raw", "ssh", "raw", func(s, r sample) float64 { return s.PingIdle - r.PingIdle }, 0.6, false},
	{"over tcp to usernat, idle ping, ms more than raw", "tcp-nat", "raw", func(s, r sample) float64 { return s.PingIdle - r.PingIdle }, 0.6, false},
	{"over ssh, up with the far half cached, ms", "ssh", "", func(s, _ sample) float64 { return s.Start }, 1000, false},
	{"over ssh, resident near, MB, largest process", "ssh", "", func(s, _ sample) float64 { return s.RSSNear }, 40, false},
	{"over ssh, resident far, MB, largest process", "ssh", "", func(s, _ sample) float64 { return s.RSSFar }, 40, false},
}

// judge compares what was measured with the targets, within each run.
func judge(results map[string][]sample) (verdicts []verdict) {
	for _, t := range targets {
		var values []float64
		for i, s := range results[t.key] {
			var ref sample
			if t.ref != "" {
				if i >= len(results[t.ref]) {
					continue
				}
				ref = results[t.ref][i]
			}
			values = append(values, t.value(s, ref))
		}
		if len(values) == 0 {
			continue
		}
		verdicts = append(verdicts, newVerdict(t.text, median(values), t.limit, t.atLeast))
	}
	return verdicts
}

func newVerdict(text string, value, limit float64, atLeast bool) verdict {
	word, v := "at most", verdict{Value: value, Limit: limit}
	v.Met, v.off = value <= limit, value/limit-1
	if atLeast {
		word, v.Met, v.off = "at least", value >= limit, 1-value/limit
	}
	v.Target = fmt.Sprintf("%s: %s %g", text, word, limit)
	return v
}

// write prints the report as text.
func (r *report) write(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", r.Machine)
	if len(r.Samples) > 0 {
		r.writeCable(w)
	}
	if len(r.WAN) > 0 {
		r.writeWAN(w)
	}
	if len(r.Verdicts) == 0 {
		return
	}
	fmt.Fprint(w, "\ntargets, median of the runs\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range r.Verdicts {
		word := "met"
		if !v.Met {
			word = fmt.Sprintf("missed by %.0f %%", v.off*100)
		}
		fmt.Fprintf(t, "%.2f\t%s\t%s\n", v.Value, v.Target, word)
	}
	t.Flush()
}

// writeCable prints what was measured where nothing is in the way.
func (r *report) writeCable(w io.Writer) {
	fmt.Fprintf(w, "%d runs of %d s each, medians; Mbit/s of TCP payload with 1 and 8 streams, up from the laptop;\nCPU in seconds per 10^9 octets over all processes (%s); times in ms; ssh with %s\n\n", r.Runs, r.Seconds, r.CPU, r.Cipher)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "contender\t")
	for _, c := range columns {
		fmt.Fprint(t, c.title+"\t")
	}
	fmt.Fprintln(t)
	for _, c := range contenders {
		m, ok := r.Medians[c.key]
		if !ok {
			continue
		}
		fmt.Fprint(t, c.name+"\t")
		for _, col := range columns {
			fmt.Fprint(t, cell(col.format, col.value(m)))
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	if r.FirstStart > 0 {
		fmt.Fprintf(w, "\nbodkin over ssh for the first time, its far half sent on the way: %.0f ms\n", r.FirstStart)
	}
	r.writeParts(w)
}

// cell is a value in its column; what was not measured is a dash.
func cell(format string, v float64) string {
	if v == 0 {
		return "-\t"
	}
	return fmt.Sprintf(format+"\t", v)
}

// quantile is the value that a part p of the values do not exceed, the nearest one that
// there is.
func quantile(v []float64, p float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[min(len(v)-1, int(p*float64(len(v))))]
}

// median is the middle value, or the mean of the two in the middle.
func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	if n == 0 {
		return 0
	}
	return (v[n/2] + v[(n-1)/2]) / 2
}
