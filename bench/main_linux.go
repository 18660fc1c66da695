package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/bodkin-net/bodkin/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// config is what the user asked for.
type config struct {
	runs    int
	seconds int
	only    []string // keys of contenders; empty for all
	json    string   // file; empty for none
	program string   // the bodkin to measure; empty to build it

	wan        bool     // the shaped links alone
	wanRuns    int      // 0 for none of them
	wanSeconds int      // of each transfer there
	links      []string // keys of links; empty for all
}

func parse(args []string, errw io.Writer) (c config, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(errw)
	f.IntVar(&c.runs, "runs", 5, "how often each contender is measured")
	f.IntVar(&c.seconds, "seconds", 3, "how long each transfer lasts")
	only := f.String("only", "", "contenders, by commas: "+strings.Join(keys(), ",")+"; over shaped links "+strings.Join(wanKeys(), ","))
	f.BoolVar(&c.wan, "wan", false, "measure over the shaped links alone")
	f.IntVar(&c.wanRuns, "wanruns", 1, "how often each contender is measured over each shaped link; 0 leaves them out")
	f.IntVar(&c.wanSeconds, "wanseconds", 15, "how long each transfer over a shaped link lasts")
	over := f.String("links", "", "shaped links, by commas: "+strings.Join(linkKeys(), ","))
	f.StringVar(&c.json, "json", "", "write every sample to `FILE`")
	f.StringVar(&c.program, "bodkin", "", "measure this `FILE` instead of building one")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	for _, choice := range []struct {
		what, given string
		known       []string
		chosen      *[]string
	}{
		{"contender", *only, append(keys(), wanKeys()...), &c.only},
		{"link", *over, linkKeys(), &c.links},
	} {
		if choice.given == "" {
			continue
		}
		*choice.chosen = strings.Split(choice.given, ",")
		for _, k := range *choice.chosen {
			if !slices.Contains(choice.known, k) {
				return c, fmt.Errorf("bench: no %s %q: there are %s", choice.what, k, strings.Join(choice.known, ","))
			}
		}
	}
	switch {
	case c.runs < 1 || c.seconds < 1 || f.NArg() > 0:
		return c, errors.New("bench: -runs and -seconds are at least 1, and there are no arguments")
	case c.wanRuns < 0 || c.wan && c.wanRuns == 0 || c.wanSeconds < leastWANSeconds:
		return c, fmt.Errorf("bench: -wanruns is not negative, nor 0 with -wan, and -wanseconds at least %d", leastWANSeconds)
	}
	return c, nil
}

func run(ctx context.Context, args []string, out, errw io.Writer) int {
	c, err := parse(args, errw)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		err = measure(ctx, c, out, errw)
	}
	if err != nil {
		fmt.Fprintln(errw, "bench: error:", err)
		return 1
	}
	return 0
}

// measure does all of it.
func measure(ctx context.Context, c config, out, errw io.Writer) error {
	temp, err := os.MkdirTemp("", "bodkin-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if c.program == "" {
		c.program = filepath.Join(temp, "bodkin")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", c.program, "github.com/bodkin-net/bodkin/cmd/bodkin")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building bodkin: %w: %s", err, text)
		}
	}
	meter, err := newMeter()
	if err != nil {
		return err
	}
	defer meter.close()
	r := newReport(c, meter)
	if !c.wan {
		if err := measureCable(ctx, c, r, &bench{config: c, meter: meter, log: errw}); err != nil {
			return err
		}
	}
	if c.wanRuns > 0 {
		if err := measureWAN(ctx, c, r, &bench{config: c, meter: meter, log: errw}); err != nil {
			return err
		}
	}
	r.write(out)
	if c.json != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		return os.WriteFile(c.json, append(text, '\n'), 0o644)
	}
	return nil
}

// measureCable measures all contenders where nothing is in the way but the machine.
func measureCable(ctx context.Context, c config, r *report, b *bench) (err error) {
	b.lab, err = lab.New(ctx, lab.Options{Direct: true, AllowTCP: []uint16{plainPort, lab.TelnetPort}})
	if err != nil {
		return err
	}
	defer b.lab.Close()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	results, err := b.all(ctx)
	if err != nil {
		return err
	}
	r.add(results)
	r.FirstStart = ms(b.firstStart)
	return nil
}
