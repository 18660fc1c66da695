package story

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

const (
	stepTimeout = 30 * time.Second // for one command; the slowest, coming up, takes a few
	measureTime = 2 * time.Second  // of bulk data for one figure
	fastCipher  = "aes128-gcm@openssh.com"
)

// Demo tells the story on out, with program as the bodkin to tell it of. It needs
// root, curl, dig and ping. It returns nil if every step went as it should.
func Demo(ctx context.Context, out io.Writer, program string) error {
	start := time.Now()
	l, err := lab.New(ctx, lab.Options{})
	if err != nil {
		return err
	}
	defer l.Close()
	for _, m := range []*lab.Machine{l.Laptop, l.Gateway} {
		if _, err := m.Command(ctx, "sh", "-c", "command -v curl dig ping ssh >/dev/null").Output(); err != nil {
			return errors.New("story: curl, dig, ping and ssh are needed: apt-get install curl dnsutils iputils-ping openssh-client")
		}
	}
	if err := l.Laptop.InstallAs(program, "bodkin"); err != nil {
		return fmt.Errorf("story: installing bodkin on the laptop: %w", err)
	}
	t := newTeller(out)
	t.print(t.paint(bold, "bodkin: full IP through a bare ssh login") + "\n")
	t.print(topology)
	t.say("Four machines made of network namespaces, with the real ssh, sshd, curl, dig and ping (%.1f s).", time.Since(start).Seconds())

	s := &scene{teller: t, lab: l}
	err = s.play(ctx)
	if err == nil && ctx.Err() == nil && len(t.disappointments) == 0 {
		err = t.telnet(ctx, program)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // and not what came of it
	}
	if err != nil {
		return err
	}
	if len(t.disappointments) > 0 {
		t.print("\n")
		for _, d := range t.disappointments {
			t.say("%s %s", t.paint(red, "not as it should be:"), d)
		}
		return fmt.Errorf("story: %d of %d steps were not as they should be", len(t.disappointments), t.steps)
	}
	t.print("\n")
	t.say("%s in %.0f s: all %d steps were as they should be.", t.paint(green, "The end"), time.Since(start).Seconds(), t.steps)
	return nil
}

const topology = `
     laptop               firewall              gateway               internet
  +-------------+      +-------------+      +--------------+      +---------------+
  | account me  |      | tcp/22 to   |      | sshd         |      | web  .100     |
  | sudo        |------| the gateway |------| account me   |------| DNS  .53      |
  | bodkin      |      | and no more |      | no root      |      | hole .66      |
  +-------------+      +-------------+      +--------------+      +---------------+
   192.0.2.10                                198.51.100.22         203.0.113.0/24
   2001:db8:1::10                            2001:db8:2::22        2001:db8:f::/64

`

// A scene is the story while it goes on.
type scene struct {
	*teller
	lab *lab.Lab
}

// A step is a command of the laptop's account, and what it should come to.
type step struct {
	line string         // for sh
	fail bool           // whether it should exit other than 0
	want *regexp.Regexp // what its output should hold; nil for anything
	note string         // what that means
	tail int            // lines of output to show, from the end; 0 for all
	took time.Duration  // it should not take longer; 0 for no matter
}

func (s *scene) play(ctx context.Context) error {
	web4, web6 := "http://"+lab.Web4.String()+"/", "http://["+lab.Web6.String()+"]/"
	before, err := s.lab.Laptop.Snapshot()
	if err != nil {
		return err
	}

	s.chapter("Before: the firewall drops everything but ssh")
	s.together(ctx,
		step{line: "curl -sS -m 1 " + web4, fail: true, want: regexp.MustCompile(`(?i)timed? ?out`)},
		step{line: "curl -sS -m 1 " + web6, fail: true, want: regexp.MustCompile(`(?i)timed? ?out`)},
		step{line: "dig +short +time=1 +tries=1 web.example", fail: true, tail: 1},
		step{line: "ping -q -c 1 -W 1 " + lab.Web4.String(), fail: true, want: regexp.MustCompile(`100% packet loss`), tail: 1},
	)
	if err := s.lab.ResetLeaks(); err != nil {
		return err
	}

	s.chapter("bodkin up: an ordinary login, nothing installed at the gateway")
	if !s.one(ctx, step{line: "bodkin up -d me@gw"}) {
		for line := range strings.Lines(s.lab.SSHLog()) {
			s.output("sshd: " + strings.TrimSuffix(line, "\n"))
		}
		return s.aftermath(before)
	}

	s.chapter("After: unmodified programs, the whole internet")
	s.one(ctx, step{line: "curl -sS -m 5 -4 http://web.example/", want: regexp.MustCompile(`^bodkin lab`), note: "IPv4, by name"})
	s.one(ctx, step{line: "curl -sS -m 5 -6 http://web.example/", want: regexp.MustCompile(`^bodkin lab`), note: "IPv6, by name"})
	s.one(ctx, step{line: "dig +short web.example A web.example AAAA", want: regexp.MustCompile(regexp.QuoteMeta(lab.Web4.String()) + `\s+` + regexp.QuoteMeta(lab.Web6.String()))})
	s.one(ctx, step{line: "ping -c 3 -i 0.2 -W 2 " + lab.Web4.String(), want: regexp.MustCompile(` 0% packet loss`), tail: 1})
	s.one(ctx, step{line: "ping -c 3 -i 0.2 -W 2 " + lab.Web6.String(), want: regexp.MustCompile(` 0% packet loss`), tail: 1})
	s.one(ctx, step{line: "ping -q -c 1 -W 1 " + lab.Hole4.String(), fail: true, want: regexp.MustCompile(`100% packet loss`), tail: 1, note: "a host that is silent stays silent"})
	s.one(ctx, step{line: "curl -sS -m 5 " + "http://" + netip.AddrPortFrom(lab.Web4, 81).String() + "/", fail: true, want: regexp.MustCompile(`(?i)refused|couldn't connect|could not connect`), took: time.Second, note: "a closed port refuses at once"})
	s.one(ctx, step{line: "bodkin status"})
	bodkin := s.download(ctx)

	s.chapter("The connection is cut in the middle of a download")
	s.cut(ctx)

	s.chapter("bodkin down")
	s.one(ctx, step{line: "bodkin down"})

	s.chapter("Where nothing can be put: PPP to the gateway's own SLiRP")
	if s.one(ctx, step{line: "bodkin up -d --far slirp me@gw"}) {
		s.one(ctx, step{line: "curl -sS -m 5 http://web.example/", want: regexp.MustCompile(`^bodkin lab`), note: "by name, through a program of 1996"})
		s.one(ctx, step{line: "bodkin down"})
	}

	s.chapter("What went outside the tunnel, and what is left")
	if err := s.aftermath(before); err != nil {
		return err
	}
	return s.compare(ctx, bodkin)
}

// aftermath tells whether the laptop is as it was, and what leaked.
func (s *scene) aftermath(before string) error {
	leaks := s.lab.Leaks()
	s.check(len(leaks) == 0, "packets that left the laptop outside the tunnel: "+count(leaks), leaks...)
	after, err := s.lab.Laptop.Snapshot()
	if err != nil {
		return err
	}
	diff := lab.Difference(before, after)
	s.check(len(diff) == 0, "changes to addresses, routes, rules, nftables, sysctls, resolv.conf: "+count(diff), diff...)
	return nil
}

func count(lines []string) string {
	if len(lines) == 0 {
		return "none"
	}
	return fmt.Sprint(len(lines))
}

// command is a shell line of the laptop's account.
func (s *scene) command(ctx context.Context, line string) *lab.Cmd {
	c := s.lab.Laptop.Command(ctx, "sh", "-c", line).As("me")
	c.Env = []string{"LC_ALL=C"}
	return c
}

// one runs a step, shows it, and reports whether it went as it should.
func (s *scene) one(ctx context.Context, st step) bool {
	if ctx.Err() != nil {
		return false // the story was broken off
	}
	s.prompt(st.line)
	return s.show(st, s.run(ctx, st))
}

// together runs steps at once and shows them in order.
func (s *scene) together(ctx context.Context, steps ...step) {
	results := make([]chan result, len(steps))
	for i, st := range steps {
		results[i] = make(chan result, 1)
		go func() { results[i] <- s.run(ctx, st) }()
	}
	for i, st := range steps {
		s.prompt(st.line)
		s.show(st, <-results[i])
	}
}

// A result is what became of a step.
type result struct {
	out  string
	err  error
	took time.Duration
}

func (s *scene) run(ctx context.Context, st step) result {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	start := time.Now()
	out, err := s.command(ctx, st.line).CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("stopped after %v", stepTimeout)
	}
	return result{string(out), err, time.Since(start)}
}

// show prints a result, and reports whether it is what the step wanted.
func (s *scene) show(st step, r result) bool {
	lines := strings.Split(strings.TrimRight(r.out, "\n"), "\n")
	if st.tail > 0 && len(lines) > st.tail {
		for len(lines) > 1 && strings.TrimSpace(lines[len(lines)-1]) == "" {
			lines = lines[:len(lines)-1]
		}
		lines = lines[max(0, len(lines)-st.tail):]
	}
	for _, line := range lines {
		s.output(line)
	}
	problem := ""
	switch {
	case r.err == nil && st.fail:
		problem = "it should have failed"
	case r.err != nil && !st.fail:
		problem = r.err.Error()
	case st.want != nil && !st.want.MatchString(strings.TrimSpace(r.out)):
		problem = fmt.Sprintf("its output should hold %q", st.want)
	case st.took > 0 && r.took > st.took:
		problem = fmt.Sprintf("it took %.1f s", r.took.Seconds())
	}
	s.verdict(st.line, problem, st.note)
	return problem == ""
}

// download measures one TCP stream from the web host, through whatever carries it.
func (s *scene) download(ctx context.Context) float64 {
	line := fmt.Sprintf("curl -s -o /dev/null -m %g -w '%%{speed_download}' http://%v/bytes/%d", measureTime.Seconds(), lab.Web4, int64(8<<30))
	s.prompt(line)
	r := s.run(ctx, step{line: line})
	var octets float64
	fmt.Sscan(r.out, &octets) // curl's status is that of the time limit
	s.check(octets > 0, rate(octets)+" down, one TCP connection")
	return octets
}

// cut kills the tunnel's ssh while a download goes through it.
func (s *scene) cut(ctx context.Context) {
	const octets, seed = 50_000_000, 1
	sum := sha256.New()
	io.Copy(sum, lab.Bytes(octets, seed))
	s.one(ctx, step{
		line: fmt.Sprintf("curl -sS 'http://web.example/bytes/%d?seed=%d' | { head -c 1000000; kill -9 $(pidof ssh); cat; } | sha256sum", octets, seed),
		want: regexp.MustCompile(fmt.Sprintf("^%x ", sum.Sum(nil))), note: "bodkin logs in again, and nothing is lost",
	})
	s.one(ctx, step{line: "bodkin status | grep session", want: regexp.MustCompile(`connection number 2, `)})
}

// compare tells the speed of other ways through the same hole.
func (s *scene) compare(ctx context.Context, bodkin float64) error {
	s.chapter("Beside other ways through the same hole")
	pipe, err := s.pipe(ctx)
	if err != nil {
		return err
	}
	w, err := s.lab.SSHTunnel(ctx, fastCipher, lab.Web4)
	if err != nil {
		return err
	}
	defer w.Close()
	s.say("ssh -w needs root at both ends, and a gateway that forwards.")
	tunnel := s.download(ctx)
	s.print("\n")
	for _, row := range []struct {
		name string
		rate float64
	}{{"ssh gw cat (octets, no IP)", pipe}, {"bodkin up me@gw", bodkin}, {"ssh -w (root, root)", tunnel}} {
		s.bar(row.name, row.rate, max(pipe, bodkin, tunnel))
	}
	return nil
}

// pipe measures what a bare ssh login carries.
func (s *scene) pipe(ctx context.Context) (octetsPerSecond float64, err error) {
	line := "ssh -c " + fastCipher + " gw cat /dev/zero"
	s.prompt(line + " > /dev/null")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := s.command(ctx, "exec "+line)
	out, err := c.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := c.Start(); err != nil {
		return 0, err
	}
	buf := make([]byte, 256<<10)
	_, err = out.Read(buf) // from here on the login is done
	start, total := time.Now(), 0
	for err == nil && time.Since(start) < measureTime {
		var n int
		n, err = out.Read(buf)
		total += n
	}
	octetsPerSecond = float64(total) / time.Since(start).Seconds()
	cancel()
	c.Wait()
	s.check(err == nil && total > 0, rate(octetsPerSecond)+" down")
	return octetsPerSecond, nil
}
