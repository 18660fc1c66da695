package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// bench is one whole measurement.
type bench struct {
	config config
	lab    *lab.Lab
	meter  *meter
	log    io.Writer

	telnetd *lab.Inetd // the gateway's, once it was needed

	omit       time.Duration // at the beginning of each transfer, not measured
	congestion string        // of transfers; "" for the system's
	upTime     time.Duration // set by an open that does more than come up
	firstStart time.Duration // of bodkin over ssh, with its far half sent
}

// A sample is what one contender did in one run. Zero fields were not measured.
type sample struct {
	Up1, Up8, Down1, Down8 float64            // Mbit/s of TCP payload with 1 and 8 streams; down is towards the laptop
	CPUUp, CPUDown         float64            // processor seconds per 10^9 octets, one stream, all processes
	CPUPartsUp             map[string]float64 `json:",omitempty"` // the same by machine and program, as far as it is theirs
	CPUPartsDown           map[string]float64 `json:",omitempty"`
	PingIdle, PingLoaded   float64            // ms, median, without load and under a download
	FirstByte              float64            // ms from connect to the first octet of an HTTP answer
	Start                  float64            // ms until packets pass
	RSSNear, RSSFar        float64            // MB resident after the load: the largest process of each side
	RSSNearAll, RSSFarAll  float64            // MB, all of its processes together
}

// prepare puts bodkin onto the machines and checks that the programs are there.
func (b *bench) prepare(ctx context.Context) error {
	for _, m := range []*lab.Machine{b.lab.Laptop, b.lab.Gateway} {
		if err := m.InstallAs(b.config.program, "bodkin"); err != nil {
			return err
		}
	}
	if _, err := b.lab.Laptop.Command(ctx, "sh", "-c", "command -v iperf3 curl ping").Output(); err != nil {
		return errors.New("iperf3, curl and ping are needed: apt-get install iperf3 curl iputils-ping")
	}
	return nil
}

const iperfPort = 5201 // iperf3's own choice

// all runs everything, contenders by turns.
func (b *bench) all(ctx context.Context) (map[string][]sample, error) {
	results := make(map[string][]sample)
	var out []string // contenders that are out, as they do not work here
	for run := range b.config.runs {
		for _, c := range contenders {
			if len(b.config.only) > 0 && !slices.Contains(b.config.only, c.key) || slices.Contains(out, c.key) {
				continue
			}
			s, err := b.one(ctx, c)
			if ctx.Err() != nil {
				return results, context.Cause(ctx)
			}
			if errors.Is(err, exec.ErrNotFound) {
				fmt.Fprintf(b.log, "%s: left out: %v\n", c.name, err)
				out = append(out, c.key)
				continue
			}
			if err != nil {
				return results, fmt.Errorf("%s, run %d: %w", c.name, run+1, err)
			}
			fmt.Fprintf(b.log, "run %d of %d: %-28s up %.0f Mbit/s, down %.0f Mbit/s\n", run+1, b.config.runs, c.name, s.Up1, s.Down1)
			results[c.key] = append(results[c.key], s)
		}
	}
	return results, nil
}

// one measures a contender once.
func (b *bench) one(ctx context.Context, c contender) (s sample, err error) {
	if c.open == nil {
		return b.pipe(ctx)
	}
	idle, err := b.processes(b.lab.Laptop, b.lab.Gateway)
	if err != nil {
		return s, err
	}
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

	if s.FirstByte, err = b.firstByte(ctx); err != nil {
		return s, err
	}
	if c.ping {
		times, err := b.ping(ctx, "-c", "20", "-i", "0.05")
		if err != nil {
			return s, err
		}
		s.PingIdle = median(times)
	}
	for _, t := range []struct {
		streams int
		reverse bool
		rate    *float64
		cpu     *float64
		parts   *map[string]float64
	}{
		{1, false, &s.Up1, &s.CPUUp, &s.CPUPartsUp},
		{1, true, &s.Down1, &s.CPUDown, &s.CPUPartsDown},
		{8, false, &s.Up8, nil, nil},
		{8, true, &s.Down8, nil, nil},
	} {
		got, err := b.iperf(ctx, t.streams, t.reverse)
		if err != nil {
			return s, err
		}
		*t.rate = got.mbits
		if t.cpu != nil {
			*t.cpu, *t.parts = got.cpu, got.parts
		}
	}
	if c.ping {
		if s.PingLoaded, err = b.loadedPing(ctx); err != nil {
			return s, err
		}
	}
	loaded, err := b.processes(b.lab.Laptop, b.lab.Gateway)
	if err != nil {
		return s, err
	}
	s.RSSNear, s.RSSNearAll = memory(idle[0], loaded[0])
	s.RSSFar, s.RSSFarAll = memory(idle[1], loaded[1])
	return s, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// processes lists those of machines.
func (b *bench) processes(machines ...*lab.Machine) (lists [][]lab.Process, err error) {
	for _, m := range machines {
		list, err := m.Processes()
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	return lists, nil
}

// memory is that of the processes that came, in MB.
func memory(before, after []lab.Process) (largest, all float64) {
	for _, p := range after {
		if slices.ContainsFunc(before, func(old lab.Process) bool { return old.PID == p.PID }) {
			continue
		}
		mb := float64(p.RSS) / 1e6
		largest, all = max(largest, mb), all+mb
	}
	return largest, all
}

// A transfer is what iperf3 did.
type transfer struct {
	mbits float64
	cpu   float64            // seconds per 10^9 octets, of everything
	parts map[string]float64 // of each program
}

// iperf measures a transfer, and the processor time of all it took.
func (b *bench) iperf(ctx context.Context, streams int, reverse bool) (t transfer, err error) {
	args := []string{"-J", "-c", lab.Web4.String(), "-t", strconv.Itoa(b.config.seconds), "-P", strconv.Itoa(streams)}
	if reverse {
		args = append(args, "-R")
	}
	if b.omit > 0 {
		args = append(args, "-O", strconv.Itoa(int(b.omit.Seconds())))
	}
	account := "me"
	if b.congestion != "" {
		args = append(args, "-C", b.congestion)
		account = "root" // others may not choose any
	}
	ctx, cancel := context.WithTimeout(ctx, b.omit+time.Duration(b.config.seconds)*time.Second+openTimeout)
	defer cancel()
	// A server of its own: one that a contender left in the middle of a transfer
	// would turn the next away.
	server := b.lab.Internet.Command(ctx, "iperf3", "-s", "-B", lab.Web4.String())
	if err := server.Start(); err != nil {
		return t, err
	}
	defer server.Wait()
	defer server.Process.Kill()
	if err := listening(ctx, server.Process.Pid, lab.Web4, iperfPort); err != nil {
		return t, fmt.Errorf("iperf3: %w", err)
	}
	machines := []*lab.Machine{b.lab.Laptop, b.lab.Gateway, b.lab.Internet}
	idle, err := b.processes(machines...)
	if err != nil {
		return t, err
	}
	before, err := b.meter.read()
	if err != nil {
		return t, err
	}
	client := b.lab.Laptop.Command(ctx, "iperf3", args...).As(account)
	out, err := client.Output()
	after, readErr := b.meter.read()
	busy, listErr := b.processes(machines...)
	var result struct {
		Error string `json:"error"`
		End   struct {
			Received struct {
				Bytes   float64 `json:"bytes"`
				Seconds float64 `json:"seconds"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if jsonErr := json.Unmarshal(out, &result); jsonErr == nil && result.Error != "" {
		err = errors.New(result.Error)
	}
	got := result.End.Received
	if err != nil || readErr != nil || listErr != nil || got.Bytes == 0 || got.Seconds == 0 {
		return t, fmt.Errorf("iperf3: %w", errors.Join(err, readErr, listErr, errors.New("no result")))
	}
	gb := got.Bytes / 1e9
	t = transfer{mbits: got.Bytes * 8 / got.Seconds / 1e6, cpu: (after - before).Seconds() / gb, parts: make(map[string]float64)}
	spent := client.ProcessState
	t.parts["laptop iperf3"] = (spent.UserTime() + spent.SystemTime()).Seconds() / gb
	for i, m := range machines {
		for _, p := range busy[i] {
			cpu := p.CPU
			for _, old := range idle[i] {
				if old.PID == p.PID {
					cpu -= old.CPU
				}
			}
			if cpu > 0 {
				t.parts[m.Name+" "+program(p)] += cpu.Seconds() / gb
			}
		}
	}
	return t, nil
}

// program is the name of a process's program.
func program(p lab.Process) string {
	if len(p.Args) == 0 {
		return "ended"
	}
	if strings.Contains(p.Args[0], "bodkin") {
		return "bodkin" // wherever it lies
	}
	name, _, _ := strings.Cut(p.Args[0], " ")
	return strings.TrimSuffix(filepath.Base(name), ":")
}

// loadedPing pings while a download runs.
func (b *bench) loadedPing(ctx context.Context) (float64, error) {
	type outcome struct {
		ms  float64
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		// Over within the first half of the download; the median is of full queues.
		times, err := b.ping(ctx, "-c", strconv.Itoa(5*b.config.seconds), "-i", "0.1", "-W", "5")
		done <- outcome{median(times), err}
	}()
	_, err := b.iperf(ctx, 1, true)
	o := <-done
	return o.ms, errors.Join(err, o.err)
}

// ping returns the round trips in ms.
func (b *bench) ping(ctx context.Context, args ...string) (times []float64, err error) {
	out, err := b.lab.Laptop.Command(ctx, "ping", append(args, lab.Web4.String())...).Output()
	for line := range strings.Lines(string(out)) {
		if _, rest, ok := strings.Cut(line, "time="); ok {
			if t, err := strconv.ParseFloat(strings.Fields(rest)[0], 64); err == nil {
				times = append(times, t)
			}
		}
	}
	if len(times) == 0 {
		return nil, fmt.Errorf("ping: no answer: %w", err)
	}
	return times, nil
}

// firstByte returns the median time of a few small requests in ms, each with a
// connection of its own.
func (b *bench) firstByte(ctx context.Context) (float64, error) {
	var times []float64
	for range 10 {
		out, err := b.lab.Laptop.Command(ctx, "curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{time_starttransfer}", "http://"+lab.Web4.String()+"/").As("me").Output()
		if err != nil {
			return 0, fmt.Errorf("curl: %w", err)
		}
		t, err := strconv.ParseFloat(string(out), 64)
		if err != nil {
			return 0, fmt.Errorf("curl: %w", err)
		}
		times = append(times, t*1000)
	}
	return median(times), nil
}
