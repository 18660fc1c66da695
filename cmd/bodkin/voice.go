package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config"
)

// A voice tells how a tunnel comes up and goes: one line per layer, with its
// time. Its methods may be called from several goroutines.
type voice struct {
	mu      sync.Mutex
	w       io.Writer
	colour  bool
	verbose int
	quiet   bool      // of what goes well nothing is said
	began   time.Time // when the present layer began
	start   time.Time
}

func newVoice(w io.Writer, verbose int) *voice {
	f, ok := w.(*os.File)
	now := time.Now()
	return &voice{
		w: w, verbose: verbose, began: now, start: now,
		colour: ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	}
}

func (v *voice) printf(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fmt.Fprintf(v.w, format, args...)
}

// paint sets text in one of the terminal's colours where there is one.
func (v *voice) paint(code, text string) string {
	if !v.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// head says what begins.
func (v *voice) head(format string, args ...any) {
	if !v.quiet {
		v.printf("%s\n", fmt.Sprintf(format, args...))
	}
}

// done says that a layer stands, and how long it took since the one before.
func (v *voice) done(l report.Layer, format string, args ...any) {
	took := time.Since(v.began)
	v.began = time.Now()
	if v.quiet {
		return
	}
	v.printf("  %s %-10s %s %s\n", v.paint("32", "ok"), l.Name, carrier.Printable(fmt.Sprintf(format, args...)), v.paint("2", fmt.Sprintf("(%.2f s)", took.Seconds())))
}

// note says what the user should know though nothing failed.
func (v *voice) note(format string, args ...any) {
	v.printf("  %s %s\n", v.paint("33", "!!"), carrier.Printable(fmt.Sprintf(format, args...)))
}

// detail says what only -v wants to know.
func (v *voice) detail(format string, args ...any) {
	if v.verbose > 0 {
		v.printf("     %s\n", v.paint("2", carrier.Printable(fmt.Sprintf(format, args...))))
	}
}

// aside passes on what another program says, for those who want to know.
func (v *voice) aside(program, line string) {
	if v.verbose > 1 {
		v.printf("     %s\n", v.paint("2", program+": "+carrier.Printable(line)))
	}
}

// progress shows how far something long has come, on a terminal in place, else
// at the end alone.
func (v *voice) progress(what string, done, total int64) {
	if !v.colour && (done < total || v.quiet) {
		return
	}
	line := fmt.Sprintf("  .. %s %.1f of %.1f MB", what, float64(done)/1e6, float64(total)/1e6)
	if v.colour {
		end := ""
		if done >= total {
			end = "\n"
		}
		v.printf("\r%s\x1b[K%s", line, end)
		return
	}
	v.printf("%s\n", line)
}

// up says that the tunnel carries packets, and what to do now.
func (v *voice) up(u *config.Up, s Status) {
	if v.quiet {
		return
	}
	v.printf("%s in %.2f s: %s\n", v.paint("1;32", u.Name+" is up"), time.Since(v.start).Seconds(), goesWhere(u))
	if u.Near.Kind == config.Tun && u.TakesEverything() {
		try := "curl https://www.example.com"
		if u.Far.Kind != config.SLiRP { // which carries no ping beyond its host
			try += "    ping 1.1.1.1"
		}
		v.printf("  try   %s\n", try)
	}
	if try := tryProxy(s.Proxy); try != "" {
		v.printf("  try   %s\n", try)
	}
	if u.Detach {
		v.printf("  look  bodkin status\n  stop  bodkin down %s\n", u.Name)
	} else {
		v.printf("  look  bodkin status (elsewhere)\n  stop  Ctrl-C, or bodkin down %s\n", u.Name)
	}
}

// goesWhere says what the tunnel is for, in half a sentence.
func goesWhere(u *config.Up) string {
	what := "everything"
	if !u.TakesEverything() {
		what = joinText(u.Routes)
	}
	if len(u.Exclude) > 0 {
		what += " but " + joinText(u.Exclude)
	}
	switch {
	case u.Near.Kind == config.Tun:
		return fmt.Sprintf("%s goes through %s", what, u.Target)
	case u.Near.Kind == config.Enclosed:
		return fmt.Sprintf("%s goes through %s, for the command alone", what, u.Target)
	case u.Near.Kind == config.Socks:
		return fmt.Sprintf("%s goes through %s, for programs that use the proxy", what, u.Target)
	case u.Near.Reaches():
		return fmt.Sprintf("%s here has its addresses; what it routes goes through %s", u.Near, u.Target)
	case len(u.Routes) == 0:
		return fmt.Sprintf("programs at %s can connect out of here", u.Target)
	}
	return fmt.Sprintf("programs at %s reach %s by way of here", u.Target, what)
}

// down says how the tunnel ended.
func (v *voice) down(u *config.Up, cause error, notes []string, failed error) {
	v.notes(notes)
	if v.quiet {
		return
	}
	reason := ""
	if cause != nil && !errors.Is(cause, context.Canceled) {
		reason = ": " + carrier.Printable(cause.Error())
	}
	if failed != nil {
		v.printf("%s is down%s\n", u.Name, reason)
		return
	}
	v.printf("%s is down%s; %s\n", u.Name, reason, asItWas(notes))
}

// notes says what the user should know, one line each.
func (v *voice) notes(list []string) {
	for _, text := range list {
		v.note("%s", text)
	}
}

// asItWas says in what state the machine is when all has been taken back but what
// notes names.
func asItWas(notes []string) string {
	if len(notes) > 0 {
		return "but for what others changed, the machine is as it was"
	}
	return "the machine is as it was"
}

// wholeWay is the way to the target, as it was given.
func wholeWay(u *config.Up) string {
	text := u.Target.String()
	for i := len(u.Via) - 1; i >= 0; i-- {
		text += " by way of " + u.Via[i].String()
	}
	return text
}

func joinText[T fmt.Stringer](list []T) string {
	texts := make([]string, len(list))
	for i, s := range list {
		texts[i] = s.String()
	}
	return strings.Join(texts, ", ")
}

// sayStatus prints what the tunnels say of themselves.
func sayStatus(w io.Writer, list []Status) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no tunnel is up")
		return
	}
	for _, s := range list {
		safety := "encrypted"
		switch {
		case !s.Encrypted:
			safety = "NOT encrypted"
		case !s.Authenticated:
			safety = "encrypted but UNAUTHENTICATED"
		}
		fmt.Fprintf(w, "%s  %s  %s  for %s\n", s.Name, s.State, s.Target, time.Since(s.Since).Round(time.Second))
		row := func(name, format string, args ...any) {
			fmt.Fprintf(w, "  %-10s %s\n", name, carrier.Printable(fmt.Sprintf(format, args...)))
		}
		row("carrier", "%s, %s from here to the far half", s.Carrier, safety)
		if s.Line != "" {
			row("line", "%s", s.Line)
		}
		row("emulators", "%s here, %s there (%s)", s.Near, s.Far, s.FarHalf)
		where := ""
		if s.Device != "" {
			where = " on " + s.Device
		}
		row("addresses", "%s%s, MTU %d", joinText(s.Addresses), where, s.MTU)
		if len(s.Proxy) > 0 {
			row("proxy", "SOCKS5, SOCKS4a and HTTP at %s", joinText(s.Proxy))
		}
		row("routes", "%s", joinText(s.Routes))
		if len(s.Exclude) > 0 {
			row("not", "%s", joinText(s.Exclude))
		}
		if len(s.DNS) > 0 {
			row("dns", "%s", joinText(s.DNS))
		}
		if s.Lost != "" {
			row("lost", "%s", s.Lost)
		}
		if c := s.Session; c != nil {
			text := fmt.Sprintf("connection number %d", c.Streams)
			if s.State == "up" {
				text += fmt.Sprintf(", for %s", time.Since(c.Since).Round(time.Second))
			} else {
				text += fmt.Sprintf(" was lost %s ago", time.Since(c.Since).Round(time.Second))
			}
			if c.GraceSeconds > 0 {
				text += fmt.Sprintf("; the far side waits %s for the next", time.Duration(c.GraceSeconds*float64(time.Second)))
			}
			row("session", "%s", text)
			if c.RoundTripMS > 0 {
				row("way", "%.1f ms there and back, %.1f Mbit/s seen, %d kB of %d under way", c.RoundTripMS, c.Rate*8/1e6, c.InFlight/1000, c.Bound/1000)
			}
		}
		row("carried", "%.1f MB in %d packets out, %.1f MB in %d packets in", float64(s.OctetsOut)/1e6, s.PacketsOut, float64(s.OctetsIn)/1e6, s.PacketsIn)
		if q := s.Queue; q != nil && q.Packets > 0 {
			row("queue", "%d kB in %d packets wait for room; so far %d were dropped, %d marked, %d of their senders told", q.Octets/1000, q.Packets, q.Dropped, q.Marked, q.Told)
		}
		for _, text := range s.Warnings {
			row("warning", "%s", text)
		}
	}
}
