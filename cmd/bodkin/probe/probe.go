// Package probe is bodkin probe: which ways to a server get out of here.
//
// It tries the ways that bodkin knows, all at once, each once and no further than the
// first words of whoever answers; says what came of each; and names the commands that
// would work, or other programs where none would. It logs in nowhere.
package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/cmd/bodkin/secret"
	"github.com/bodkin-net/bodkin/cmd/bodkin/way"
	"github.com/bodkin-net/bodkin/config"
)

const (
	// tryTimeout bounds one try: a connection over the slowest of usual ways, and a
	// proxy that itself waits for one.
	tryTimeout = 15 * time.Second

	// wordTimeout is how long somebody may take to say the first word, who connected.
	wordTimeout = 3 * time.Second

	// maxWord is how much of the first words is looked at, in octets: sshd's
	// identification has 255 at most (RFC 4253, section 4.2).
	maxWord = 255

	// iac begins a command of telnet (RFC 854): what a telnet server says first.
	iac = 0xff
)

// A Try is one way that was tried.
type Try struct {
	Via   string  `json:"via,omitempty"` // the hops; empty: directly
	Port  int     `json:"port"`
	Works bool    `json:"works"` // it connects
	Found string  `json:"found"` // "ssh", "telnet", "something", or why not
	Word  string  `json:"word,omitempty"`
	Took  float64 `json:"ms"`

	hops []config.Hop
}

// A Report is what a probe found.
type Report struct {
	Host      string   `json:"host"`
	Addresses []string `json:"addresses"` // empty: the name means nothing here
	Tries     []Try    `json:"tries"`
	Commands  []string `json:"commands"` // what would work, the best first
	Others    []string `json:"others,omitempty"`
}

// Command returns bodkin probe.
func Command() *cobra.Command {
	var via, passwords []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "probe [user@]host[:port]",
		Short: "Find out which ways to a server get out of here",
		Long: `Try the ways to a server: directly to the ports of ssh, TLS, telnet and the web, and
through the proxies that the environment and --via name. Each is tried once, up to the
first words of whoever answers there; nobody is logged in anywhere. Then say which
commands would work, or name other programs if none would.`,
		Example: `  bodkin probe me@gw.example.org
  bodkin probe --via telnet://tn-gw.corp --via socks5://proxy me@gw.example.org`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := config.ParseTarget(args[0])
			if err != nil {
				return err
			}
			if target.Local() {
				return &config.Error{Reason: "a program has no ports to try", Hint: "bodkin probe [user@]host[:port]"}
			}
			secrets, err := secret.Parse(passwords)
			if err != nil {
				return err
			}
			p := prober{target: target, secrets: secrets, ports: portsOf(target)}
			if p.proxies, err = proxies(via, target, secrets); err != nil {
				return err
			}
			r := p.run(cmd.Context())
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				err = e.Encode(r)
			} else {
				say(cmd.OutOrStdout(), r)
			}
			if err == nil && len(r.Commands) == 0 {
				err = report.At(report.Reach, fmt.Errorf("no way to %s was found", target.Host), "ask who runs the network what it lets out")
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&via, "via", nil, "a proxy to try (repeat for more); each is tried by itself")
	f.StringArrayVar(&passwords, "password", nil, "where a password comes from, `[PLACE=]SOURCE`: @FILE, env:NAME, run:COMMAND or ask (default ask)")
	f.BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// portsOf are the ports that are tried: the one that was named, and the usual ones.
func portsOf(t config.Hop) []int {
	ports := []int{22, 443, 23, 80}
	if t.Port == 0 {
		return ports
	}
	all := []int{t.Port}
	for _, p := range ports {
		if p != t.Port {
			all = append(all, p)
		}
	}
	return all
}

// proxies are the hops that are tried, each by itself: those of the environment and
// those that were named.
func proxies(via []string, target config.Hop, secrets *secret.Sources) ([]config.Hop, error) {
	list, err := way.FromEnvironment(target, secrets)
	if err != nil {
		return nil, err
	}
	for _, v := range via {
		if v == "env" {
			continue // is there already
		}
		h, err := config.ParseVia(v)
		if err != nil {
			return nil, err
		}
		if err := config.CheckWay([]config.Hop{h}, target); err != nil {
			return nil, err
		}
		list = append(list, h)
	}
	return list, nil
}

// A prober tries the ways to one target.
type prober struct {
	target  config.Hop
	secrets *secret.Sources
	ports   []int
	proxies []config.Hop
}

func (p *prober) run(ctx context.Context) Report {
	r := Report{Host: p.target.Host, Addresses: []string{}, Tries: []Try{}, Commands: []string{}}
	lookup, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	if addresses, err := net.DefaultResolver.LookupNetIP(lookup, "ip", p.target.Host); err == nil {
		for _, a := range addresses {
			r.Addresses = append(r.Addresses, a.Unmap().String())
		}
		for _, port := range p.ports {
			r.Tries = append(r.Tries, Try{Port: port})
		}
	}
	for _, h := range p.proxies {
		for _, port := range p.ports[:min(2, len(p.ports))] {
			r.Tries = append(r.Tries, Try{Via: h.String(), Port: port, hops: []config.Hop{h}})
		}
	}
	var trying sync.WaitGroup
	for i := range r.Tries {
		trying.Go(func() { p.try(ctx, &r.Tries[i]) })
	}
	trying.Wait()
	p.advise(&r)
	return r
}

// try goes one way, and hears the first words there.
func (p *prober) try(ctx context.Context, t *Try) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	began := time.Now()
	w := way.Way{Hops: t.hops, Secrets: p.secrets, Silence: tryTimeout, SSH: []string{"ssh"}}
	if self, err := os.Executable(); err == nil {
		w.Fdpass = []string{self, "fdpass"}
	}
	s, err := w.Reach(ctx, net.JoinHostPort(p.target.Host, fmt.Sprint(t.Port)), config.TCP)
	t.Took = float64(time.Since(began).Microseconds()) / 1000
	if err != nil {
		t.Found = carrier.Printable(why(err))
		return
	}
	t.Works = true
	t.Found, t.Word = firstWord(s)
}

// why is an error in few words.
func why(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer"
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		if op.Timeout() {
			return "no answer"
		}
		return op.Err.Error()
	}
	return err.Error()
}

// firstWord reads what the peer says without being asked, and closes s.
func firstWord(s carrier.Stream) (found, word string) {
	late := time.AfterFunc(wordTimeout, func() { s.Close() })
	defer s.Close()
	defer late.Stop()
	buf := make([]byte, maxWord)
	n := 0
	for n < len(buf) {
		k, err := s.Read(buf[n:])
		n += k
		if err != nil || bytes.IndexByte(buf[:n], '\n') >= 0 || buf[0] == iac {
			break
		}
	}
	line, _, _ := strings.Cut(string(buf[:n]), "\n")
	word = carrier.Printable(line)
	switch {
	case strings.HasPrefix(line, "SSH-"):
		return "ssh", word
	case n > 0 && buf[0] == iac:
		return "telnet", ""
	}
	return "something", word
}

// advise says what would work.
func (p *prober) advise(r *Report) {
	user := ""
	if p.target.User != "" {
		user = p.target.User + "@"
	}
	host := p.target.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	var ssh, telnet, tls []string
	for _, t := range r.Tries {
		if !t.Works {
			continue
		}
		via, port := "", ""
		if t.Via != "" {
			via = "--via " + t.Via + " "
		}
		switch t.Found {
		case "ssh":
			if t.Port != 22 {
				port = fmt.Sprintf(":%d", t.Port)
			}
			ssh = append(ssh, "bodkin up "+via+user+host+port)
		case "telnet":
			if t.Port != 23 {
				port = fmt.Sprintf(":%d", t.Port)
			}
			telnet = append(telnet, "bodkin up "+via+"telnet://"+user+host+port)
		default:
			if t.Port != 443 {
				port = fmt.Sprintf(":%d", t.Port)
			}
			tls = append(tls, fmt.Sprintf("bodkin up %stls://%s%s    (once `bodkin far --listen :%d` runs there)", via, host, port, t.Port))
		}
	}
	r.Commands = append(append(append(r.Commands, ssh...), telnet...), tls...)
	if len(r.Commands) > 0 {
		return
	}
	r.Others = []string{
		"a proxy may be set in the browser only: try it with --via http://proxy:port",
		"where UDP gets out: WireGuard, or OpenVPN over UDP",
		"where only names are looked up: iodine, dnstt; where only ping gets out: hans",
		"any program that carries octets on standard input and output plugs in: bodkin up --via cmd:PROGRAM bodkin://" + host + ":PORT",
	}
}

// say prints a report for people.
func say(w io.Writer, r Report) {
	if len(r.Addresses) == 0 {
		fmt.Fprintf(w, "%s: the name means nothing here; only a proxy could look it up\n", r.Host)
	} else {
		fmt.Fprintf(w, "%s is %s\n", r.Host, strings.Join(r.Addresses, ", "))
	}
	for _, t := range r.Tries {
		mark, how := "no", t.Found
		if t.Works {
			mark = "ok"
			how = fmt.Sprintf("%s answers, %.1f ms", t.Found, t.Took)
			if t.Word != "" {
				how += ": " + t.Word
			}
		}
		where := fmt.Sprintf("tcp %d", t.Port)
		if t.Via != "" {
			where += " by " + t.Via
		}
		fmt.Fprintf(w, "  %s  %-40s %s\n", mark, where, how)
	}
	heading, list := "this would work:", r.Commands
	if len(list) == 0 {
		heading, list = "none of these gets out; what else there is:", r.Others
	}
	fmt.Fprintln(w, heading)
	for _, text := range list {
		fmt.Fprintln(w, "  "+text)
	}
}
