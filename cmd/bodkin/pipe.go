package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/carrier/ssh"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/cmd/bodkin/secret"
	"github.com/bodkin-net/bodkin/cmd/bodkin/way"
	"github.com/bodkin-net/bodkin/config"
)

// wayFlags are the flags about the way to a target.
func wayFlags(f *pflag.FlagSet, via, passwords *[]string) {
	if via != nil {
		f.StringArrayVar(via, "via", nil, "a `HOP` on the way to the target (repeat for more, in their order)")
	}
	f.StringArrayVar(passwords, "password", nil, "where a password comes from, `[PLACE=]SOURCE`: @FILE, env:NAME, run:COMMAND or ask (default ask)")
}

// parseWay reads the way to a target.
func parseWay(u *config.Up, target string, via, passwords []string) (*secret.Sources, error) {
	var err error
	if u.Target, err = config.ParseTarget(target); err != nil {
		return nil, err
	}
	secrets, err := secret.Parse(passwords)
	if err != nil {
		return nil, err
	}
	u.Via, err = parseVia(via, u.Target, secrets)
	return secrets, err
}

// parseVia reads hops; the word env stands for what the environment names.
func parseVia(via []string, target config.Hop, secrets *secret.Sources) (hops []config.Hop, err error) {
	for _, v := range via {
		if v == "env" {
			named, err := way.FromEnvironment(target, secrets)
			if err != nil {
				return nil, err
			}
			hops = append(hops, named...)
			continue
		}
		h, err := config.ParseVia(v)
		if err != nil {
			return nil, err
		}
		hops = append(hops, h)
	}
	return hops, nil
}

func pipeCommand() *cobra.Command {
	var passwords []string
	var program string
	var verbose int
	cmd := &cobra.Command{
		Use:   "pipe HOP... HOST:PORT",
		Short: "Be a byte pipe to an address behind proxies and other hops",
		Long: `Carry octets between standard input and output and a TCP address behind the hops that
are named: the way that bodkin up --via goes, alone. With ssh:

    ssh -o 'ProxyCommand=bodkin pipe http://proxy:3128 %h:%p' me@gw.example.org

The hops are those of bodkin up. A last HOP of tls:// is spoken to in TLS, with the
system's certificates, and is where the pipe leads.`,
		Example: `  bodkin pipe http://me@proxy:3128 gw.example.org:22
  bodkin pipe socks5://127.0.0.1:1080 tls://www.example.org:443
  bodkin pipe --password @/home/me/.proxy-password env gw.example.org:22`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			secrets, err := secret.Parse(passwords)
			if err != nil {
				return err
			}
			w := &way.Way{Secrets: secrets}
			if w.SSH, err = config.SplitProgram(program); err != nil {
				return err
			}
			return pipe(cmd.Context(), w, args, newVoice(cmd.ErrOrStderr(), verbose))
		},
	}
	f := cmd.Flags()
	wayFlags(f, nil, &passwords)
	f.StringVarP(&program, "ssh", "e", "ssh", "the ssh program and its options, for ssh:// hops")
	f.CountVarP(&verbose, "verbose", "v", "say more")
	return cmd
}

// pipe joins standard input and output to the end of a way.
func pipe(ctx context.Context, w *way.Way, args []string, v *voice) error {
	last := args[len(args)-1]
	target, err := config.ParsePipeEnd(last)
	if err != nil {
		return err
	}
	if w.Hops, err = parseVia(args[:len(args)-1], target, w.Secrets); err != nil {
		return err
	}
	if err := config.CheckWay(w.Hops, target); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	w.Fdpass = []string{self, fdpassCommand}
	w.Banner = func(place, line string) { v.detail("%s says: %s", place, line) }
	w.Log = v.aside
	w.Done = func(l report.Layer, format string, args ...any) { v.detail(l.Name+": "+format, args...) }
	signal.Ignore(syscall.SIGPIPE)
	w.Secrets.Own()
	var s carrier.Stream
	if target.Scheme == config.TLS {
		w.Hops = append(w.Hops, target)
		s, err = w.At(ctx)
	} else {
		s, err = w.Reach(ctx, target.Address(), target.Scheme)
	}
	if err != nil {
		return onTheWay(w.Explain(err), report.Reach)
	}
	ours, err := command.Stdio()
	if err != nil {
		s.Close()
		return err
	}
	var end *carrier.EndError
	err = carrier.Join(ctx, ours, s)
	if errors.As(err, &end) && carrier.IsClosed(end.Err) || errors.Is(err, context.Canceled) {
		return nil
	}
	return onTheWay(fmt.Errorf("the pipe broke: %w", w.Explain(err)), report.Tunnel)
}

// onTheWay finds the layer that an error of a way belongs to; l, if its type says nothing.
func onTheWay(err error, l report.Layer) error {
	var failed *ssh.Error
	if errors.As(err, &failed) {
		return report.At(layerOf(failed.Kind), err, failed.Hint)
	}
	if found, ok := report.OfWay(err); ok {
		l = found
	}
	return report.At(l, err, report.HintOf(err))
}
