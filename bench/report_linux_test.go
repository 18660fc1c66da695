package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 2, 100}, 3},
	} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median(%v) = %v, want %v", tt.values, got, tt.want)
		}
	}
}

// Ratios are made within a run: a run in which the machine was slow counts like
// the others.
func TestJudge(t *testing.T) {
	results := map[string][]sample{
		"pipe": {{Up1: 100, Down1: 100}, {Up1: 1000, Down1: 1000}, {Up1: 200, Down1: 200}},
		"ssh":  {{Up1: 80, Down1: 60}, {Up1: 700, Down1: 500}, {Up1: 150, Down1: 120}},
	}
	want := map[string]struct {
		value float64
		met   bool
	}{
		"over ssh, up, of the bare pipe: at least 0.7":   {0.75, true},
		"over ssh, down, of the bare pipe: at least 0.7": {0.6, false},
	}
	for _, v := range judge(results) {
		if w, ok := want[v.Target]; ok && (v.Value != w.value || v.Met != w.met) {
			t.Errorf("%s: got %v, met %v", v.Target, v.Value, v.Met)
		}
		delete(want, v.Target)
	}
	if len(want) != 0 {
		t.Errorf("not judged: %v", want)
	}
	for _, v := range judge(nil) {
		t.Errorf("judged without a sample: %s", v.Target)
	}
}

// Each contender that a target speaks of exists.
func TestTargets(t *testing.T) {
	known := strings.Join(keys(), " ") + " "
	for _, g := range targets {
		for _, key := range []string{g.key, g.ref} {
			if key != "" && !strings.Contains(" "+known, " "+key+" ") {
				t.Errorf("%s: no contender %q", g.text, key)
			}
		}
	}
}

func TestReport(t *testing.T) {
	samples := map[string][]sample{
		"raw": {{Up1: 10000, CPUUp: 0.5, CPUPartsUp: map[string]float64{"laptop iperf3": 0.3}}},
		"ssh": {{Up1: 2500, CPUUp: 4, RSSNear: 20, RSSFar: 50}},
	}
	r := newReport(config{runs: 1, seconds: 2}, &meter{Source: "a clock"})
	r.add(samples)
	var out bytes.Buffer
	r.write(&out)
	for _, want := range []string{"1 runs of 2 s each", "a clock", "raw cable (veth)", "10000", "laptop iperf3 0.30", "missed by 25 %", "at most 40"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "sshuttle") {
		t.Error("a contender that was not measured is in the table")
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		args string
		ok   bool
	}{
		{"", true},
		{"-runs 2 -seconds 1 -only raw,pipe -json x", true},
		{"-only raw,nonsense", false},
		{"-runs 0", false},
		{"-seconds 0", false},
		{"extra", false},
		{"-wan -wanruns 3 -wanseconds 20 -links 20-1,100-1 -only raw-bbr,tls", true},
		{"-wanruns 0", true},
		{"-wan -wanruns 0", false},
		{"-wanruns -1", false},
		{"-wanseconds 5", false},
		{"-links 20-2", false},
	} {
		if _, err := parse(strings.Fields(tt.args), io.Discard); (err == nil) != tt.ok {
			t.Errorf("parse(%q): %v", tt.args, err)
		}
	}
}

func TestProgram(t *testing.T) {
	for _, tt := range []struct{ arg0, want string }{
		{"ssh", "ssh"},
		{"sshd: me@notty", "sshd"},
		{"/home/me/.cache/bodkin/0123", "bodkin"},
		{"/usr/bin/python3", "python3"},
	} {
		if got := program(lab.Process{Args: []string{tt.arg0}}); got != tt.want {
			t.Errorf("program(%q) = %q, want %q", tt.arg0, got, tt.want)
		}
	}
	if got := program(lab.Process{}); got != "ended" {
		t.Errorf("a process without arguments: %q", got)
	}
}
