package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// The buffers are what their names say: 1 and 20 times what the link holds.
func TestLinks(t *testing.T) {
	for _, l := range links {
		product := int(float64(l.way.Rate) / 8 * (2 * l.way.Delay).Seconds())
		times := 1
		if l.key == "20-20" {
			times = 20
		}
		if l.way.Buffer != times*product {
			t.Errorf("%s: a buffer of %d octets, and %d are under way", l.key, l.way.Buffer, product)
		}
		if l.way.Delay != 25*time.Millisecond {
			t.Errorf("%s: a delay of %v", l.key, l.way.Delay)
		}
	}
}

func TestQuantile(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64((i*37)%100+1))
	}
	for _, tt := range []struct {
		values  []float64
		p, want float64
	}{
		{nil, .95, 0},
		{[]float64{7}, .95, 7},
		{[]float64{1, 2, 3, 4}, .95, 4},
		{hundred, .95, 96},
		{hundred, 0, 1},
	} {
		if got := quantile(tt.values, tt.p); got != tt.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", tt.values, tt.p, got, tt.want)
		}
	}
}

// busy is a sample of a transfer each way.
func busy(down, up, downPing, upPing, idle float64) wanSample {
	at := func(ms float64) pings { return pings{ICMP: quantiles{P50: ms, P95: ms}} }
	return wanSample{Idle: at(idle), Down: loaded{down, at(downPing)}, Up: loaded{up, at(upPing)}}
}

func TestJudgeWAN(t *testing.T) {
	results := map[string]map[string][]wanSample{
		"20-1": {"ssh": {busy(19, 17, 60, 90, 50), busy(19, 19, 200, 55, 50), busy(18.5, 17, 64, 66, 50)}},
		"100-1": {
			"tls":       {busy(60, 50, 0, 0, 0)},
			"tls-cubic": {busy(4, 20, 0, 0, 0)},
			"sshw":      {busy(2, 3, 0, 0, 0), busy(2, 3, 0, 0, 0)},
			"sshuttle":  {busy(5, 60, 0, 0, 0)},
		},
	}
	want := map[string]struct {
		value string
		met   bool
	}{
		"20-1, over ssh, down, ping p95, ms above idle: at most 15": {"14.00", true},
		"20-1, over ssh, up, ping p95, ms above idle: at most 15":   {"16.00", false},
		"20-1, over ssh, down, part of the rate: at least 0.9":      {"0.95", true},
		"20-1, over ssh, up, part of the rate: at least 0.9":        {"0.85", false},
		"100-1, over tls, down, of the best peer: at least 1":       {"12.00", true},
		"100-1, over tls, up, of the best peer: at least 1":         {"0.83", false},
		"100-1, over tls, down, BBR times cubic: at least 5":        {"15.00", true},
		"100-1, over tls, up, BBR times cubic: at least 5":          {"2.50", false},
	}
	for _, v := range judgeWAN(results) {
		w, ok := want[v.Target]
		if got := fmt.Sprintf("%.2f", v.Value); !ok || got != w.value || v.Met != w.met {
			t.Errorf("%s: %s, met %v; want %s, %v", v.Target, got, v.Met, w.value, w.met)
		}
		delete(want, v.Target)
	}
	for target := range want {
		t.Errorf("not judged: %s", target)
	}
}

// Each contender and link that a target speaks of exists.
func TestWANTargets(t *testing.T) {
	for _, g := range wanTargets() {
		if !slices.Contains(linkKeys(), g.link) {
			t.Errorf("%s: no link %q", g.text, g.link)
		}
		for _, key := range g.keys {
			if !slices.Contains(wanKeys(), key) {
				t.Errorf("%s: no contender %q", g.text, key)
			}
		}
	}
}

func TestWriteWAN(t *testing.T) {
	r := newReport(config{wanRuns: 3, wanSeconds: 20}, &meter{})
	late := busy(10, 9, 70, 80, 50)
	late.Late = .25
	r.addWAN(map[string]map[string][]wanSample{"20-20": {"tls": {late}}})
	var out bytes.Buffer
	r.write(&out)
	for _, want := range []string{"3 runs with transfers of 20 s", "20 BDP", "bodkin over tls", "50.0 %", "80.0", "late with 25 %", "missed by"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
	for _, other := range []string{"1 BDP", "sshuttle", "1 and 8 streams"} {
		if strings.Contains(out.String(), other) {
			t.Errorf("%q is in\n%s", other, &out)
		}
	}
}
