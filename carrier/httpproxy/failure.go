package httpproxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// maxShown is how much of one text of the proxy's an error may hold, in octets.
const maxShown = 200

// shown returns the proxy's text fit for an error: printable, and not long.
func shown(text string) string {
	if len(text) > maxShown {
		text = text[:maxShown] + "..."
	}
	return carrier.Printable(text)
}

func (p *proxy) refused(reason, hint string) error {
	return &carrier.RefusedError{Layer: "proxy", Reason: reason, Hint: hint}
}

// wrongPassword forgets the password, and returns the error for the answer r to it.
func (p *proxy) wrongPassword(ctx context.Context, auth authentication, r reply) error {
	p.forget(ctx)
	hint := "check user and password"
	if auth.name() == nameNTLM {
		hint += `; a user of a domain is written DOMAIN\user`
	}
	return p.refused(fmt.Sprintf("%s: wrong user or password for %q, by %s (%s)", p.Proxy, shown(p.User), auth.name(), r.line()), hint)
}

// turnedAway returns the error for an answer that is neither 2xx nor 407.
func (p *proxy) turnedAway(r reply) error {
	line := r.line()
	if why := r.first("X-Squid-Error"); why != "" {
		line += ", " + shown(why)
	}
	reason := p.Proxy + " refused to connect to " + p.Target + ": " + line
	switch r.status {
	case 500, 502, 503, 504: // tinyproxy answers 500 where squid answers 503
		return &carrier.UnreachedError{
			Layer:  "proxy",
			Reason: fmt.Sprintf("%s could not connect to %s: %s", p.Proxy, p.Target, line),
			Hint:   "check name and port of " + p.Target + ": the proxy looks it up and connects, not this machine",
		}
	case 300, 301, 302, 303, 307, 308:
		if to := r.first("Location"); to != "" {
			reason += fmt.Sprintf(", and points to %q", shown(to))
		}
		return p.refused(reason, "bodkin follows no redirection of a proxy; open that address in a browser, it may want a login")
	case 401, 404, 405, 501:
		return p.refused(reason, "check that "+p.Proxy+" is a proxy, and that it allows CONNECT")
	case 403:
		if strings.HasSuffix(p.Target, ":443") {
			return p.refused(reason, "")
		}
		return p.refused(reason, "many proxies allow CONNECT to port 443 alone: let the server listen there")
	case 429:
		if after := r.first("Retry-After"); after != "" {
			reason += fmt.Sprintf(" (Retry-After: %s)", shown(after))
		}
		return p.refused(reason, "wait, then try again")
	}
	return p.refused(reason, "")
}

// came says what there was of an answer.
func (c *connection) came() string {
	if c.count == 0 {
		return "nothing came"
	}
	return fmt.Sprintf("%d octets came, the last %q", c.count, carrier.Printable(string(c.last)))
}

// hungUp returns the error for a connection that the proxy ended; err is its end.
func (c *connection) hungUp(err error) error {
	hint := ""
	if c.answers == 0 && c.count == 0 {
		hint = "check that " + c.proxy + " is a web proxy: one that speaks TLS is https://, one of SOCKS socks5://"
	}
	return &carrier.HangUpError{
		Layer:  "proxy",
		Reason: fmt.Sprintf("%s closed the connection in place of an answer (%s)", c.proxy, c.came()),
		Hint:   hint,
		Err:    err,
	}
}

// unanswered returns the error for a wait that ended by cause.
func (c *connection) unanswered(cause error) error {
	if !errors.Is(cause, errSilent) && !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("httpproxy: waiting for %s: %w", c.proxy, cause)
	}
	return &carrier.SilenceError{
		Layer:  "proxy",
		Reason: fmt.Sprintf("no answer of %s in %v (%s)", c.proxy, time.Since(c.patient.since).Round(time.Second), c.came()),
		Hint:   "check that " + c.proxy + " is a web proxy, and that it can reach the target",
	}
}

// unintelligible returns the error for an answer that no web proxy gives.
func (c *connection) unintelligible(what malformedError) error {
	return &carrier.RefusedError{
		Layer:  "proxy",
		Reason: fmt.Sprintf("%s answered with %s (%s)", c.proxy, what, c.came()),
		Hint:   "check that " + c.proxy + " is a web proxy: one that speaks TLS is https://, one of SOCKS socks5://",
		Err:    what,
	}
}
