// Package httpproxy goes through a web proxy by its CONNECT method, as described
// in RFC 9110, "HTTP Semantics", section 9.3.6.
//
// It asks the proxy for one TCP connection, answers its question for a password
// (Basic, RFC 7617; Digest, RFC 7616; NTLMv2, MS-NLMP), and hands out the Stream
// that begins with the first octet after the proxy's answer. How the proxy is
// reached, and where a password comes from, is its caller's. Nothing that the
// proxy says makes it connect elsewhere.
package httpproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// maxChallenged is how many answers of 407 one Dial takes before it gives up.
// NTLM needs two before its last message; so does Digest when a nonce is stale.
const maxChallenged = 3

// Config says what to ask of which proxy, and as whom.
type Config struct {
	// Proxy and Target are "host:port" both: whose password it is, and what is
	// asked for. An IPv6 address stands in brackets. The Target's name is
	// resolved by the proxy.
	Proxy, Target string

	// User is for Digest, NTLM (DOMAIN\user) and Basic; empty: without.
	User string

	// Secret returns User's password. It is asked when the proxy first wants one,
	// and again only after the proxy refused that one. It may be nil.
	Secret func(ctx context.Context, question string) (string, error)

	// Secure says that nobody on the way to the proxy can read along: TLS.
	Secure bool

	// Basic says that Basic may send the password in clear text where not Secure.
	Basic bool

	// Agent is the User-Agent; empty: none.
	Agent string

	// Timeout is how long each answer may take; 0: 30 s.
	Timeout time.Duration

	// Log, if not nil, gets a line for each step, printable. None holds a secret.
	Log func(line string)
}

// Dial returns the Dial that goes on by c.Proxy, which reach gets to, to c.Target.
// It may be called many times, also at once. Within one call it reaches the proxy
// anew where an answer of 407 ended the connection.
//
// Each wait for the proxy ends after c.Timeout, and a fifteenth of a second more for
// each octet that came or went: a line of 300 bit/s is fast enough.
//
// Errors: *carrier.RefusedError of layer "proxy" for a target or a password that
// the proxy refuses, and for settings it can not work with; *carrier.HangUpError
// where it ends the connection in the middle; *carrier.SilenceError where no answer
// comes; *carrier.UnreachedError where the proxy could not reach the target (500, 502,
// 503, 504).
func Dial(reach carrier.Dial, c Config) carrier.Dial {
	p := &proxy{Config: c, reach: reach, asking: make(chan struct{}, 1)}
	return p.dial
}

// proxy is what the calls of one Dial share.
type proxy struct {
	Config
	reach carrier.Dial

	asking   chan struct{} // holds one value while one call uses the fields below
	asked    bool
	password string // valid if asked
}

// An authentication makes the values of Proxy-Authorization for one choice of
// method, request by request.
type authentication interface {
	name() string

	// credentials returns the value for the next request.
	credentials() (string, error)

	// answer takes the challenges of a 407 to the last value. It reports whether
	// there is a next one, which goes on the same connection if bound; if there is
	// none, the password was wrong.
	answer(offered []challenge) (more, bound bool, err error)
}

func (p *proxy) dial(ctx context.Context) (_ carrier.Stream, err error) {
	target, err := checkTarget(p.Target)
	if err != nil {
		return carrier.Stream{}, p.refused(err.Error(), "")
	}
	if !clean(p.Agent) || !clean(p.User) {
		return carrier.Stream{}, p.refused("the user or the User-Agent for "+p.Proxy+" holds control characters", "")
	}
	var c *connection
	defer func() {
		if c != nil && err != nil {
			c.s.Close()
		}
	}()
	var auth authentication
	var bound bool // auth's next value belongs to connection c
	for challenged := 0; ; {
		if c == nil {
			s, err := p.reach(ctx)
			if err != nil {
				return carrier.Stream{}, err
			}
			c = newConnection(p.Proxy, cmp.Or(p.Timeout, answerTime), s)
		}
		credentials := ""
		if auth != nil {
			if credentials, err = auth.credentials(); err != nil {
				return carrier.Stream{}, p.refused(auth.name()+": "+err.Error(), "")
			}
		}
		r, err := c.ask(ctx, request(target, p.Agent, credentials))
		var hungUp *carrier.HangUpError
		if c.answers > 0 && c.count == 0 && !bound && errors.As(err, &hungUp) {
			// It had said that the connection goes on.
			p.log("the proxy closed the connection; connecting again")
			c.s.Close()
			c = nil
			continue
		}
		if err != nil {
			return carrier.Stream{}, err
		}
		if r.status/100 == 2 {
			p.log("connected to " + p.Target + ": " + r.line())
			return c.rest(), nil
		}
		if r.status == statusUnauthorized && auth != nil {
			return carrier.Stream{}, p.wrongPassword(ctx, auth, r) // tinyproxy says it so
		}
		if r.status != statusAuthenticate {
			return carrier.Stream{}, p.turnedAway(r)
		}
		challenged++
		if auth, bound, err = p.next(ctx, auth, target, r, challenged); err != nil {
			return carrier.Stream{}, err
		}
		if keep := c.skipBody(ctx, r); keep {
			continue
		}
		if bound {
			return carrier.Stream{}, p.refused(fmt.Sprintf("%s does not keep its connection open, as %s needs", p.Proxy, auth.name()), "")
		}
		c.s.Close()
		c = nil
	}
}

// next returns the authentication for the request after r, the nth answer of 407.
// auth is what the last request was made with, or nil.
func (p *proxy) next(ctx context.Context, auth authentication, target string, r reply, n int) (_ authentication, bound bool, err error) {
	offered := parseChallenges(r.all("Proxy-Authenticate"))
	if auth == nil {
		password, chosen, err := p.choose(ctx, offered)
		if err != nil {
			return nil, false, err
		}
		auth = chosen(p.User, password, target)
		p.log("the proxy wants a password; answering by " + auth.name())
		return auth, false, nil
	}
	more, bound, err := auth.answer(offered)
	if err != nil {
		return nil, false, p.refused(fmt.Sprintf("%s: %s: %s", p.Proxy, auth.name(), err), "")
	}
	if more && n < maxChallenged {
		return auth, bound, nil
	}
	if more {
		return nil, false, p.refused(fmt.Sprintf("%s asked for the password %d times, and gives no reason to go on", p.Proxy, n), "")
	}
	return nil, false, p.wrongPassword(ctx, auth, r)
}

// choose picks the strongest method of those offered and gets the password.
func (p *proxy) choose(ctx context.Context, offered []challenge) (password string, _ method, err error) {
	if p.User == "" {
		return "", nil, p.refused(p.Proxy+" wants a user and a password ("+names(offered)+")", "write the user in the proxy's URL: http://user@host:port")
	}
	best, weak := strongest(offered, p.Secure || p.Basic)
	switch {
	case best == nil && weak:
		return "", nil, p.refused(p.Proxy+" wants the password in clear text (Basic), which anybody on the way could read",
			"write auth=basic in the proxy's URL to send it so, or reach the proxy by https://")
	case best == nil:
		hint := "bodkin speaks Digest, NTLM and Basic"
		if has(offered, "Negotiate") {
			hint = "Negotiate (Kerberos) is not supported: ask for Digest or NTLM on the proxy, or put a local proxy that speaks Negotiate in between"
		}
		return "", nil, p.refused(p.Proxy+" knows no way of authentication that bodkin speaks ("+names(offered)+")", hint)
	}
	password, err = p.secret(ctx)
	return password, best, err
}

// secret returns the password, asking for it if that was not done yet.
func (p *proxy) secret(ctx context.Context) (string, error) {
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		return "", fmt.Errorf("httpproxy: %s: the password: %w", p.Proxy, context.Cause(ctx))
	}
	if p.asked {
		return p.password, nil
	}
	if p.Secret == nil {
		return "", p.refused(p.Proxy+" wants a password, and there is nobody to ask for it", "")
	}
	password, err := p.Secret(ctx, fmt.Sprintf("Password of %s for the proxy %s: ", carrier.Printable(p.User), p.Proxy))
	if err != nil {
		return "", fmt.Errorf("httpproxy: %s: the password: %w", p.Proxy, err)
	}
	if !clean(password) {
		return "", p.refused("the password for "+p.Proxy+" holds control characters", "")
	}
	p.password, p.asked = password, true
	return password, nil
}

// forget forgets a password that was refused.
func (p *proxy) forget(ctx context.Context) {
	select {
	case p.asking <- struct{}{}:
		p.password, p.asked = "", false
		<-p.asking
	case <-ctx.Done(): // somebody is being asked for a new one
	}
}

func (p *proxy) log(line string) {
	if p.Log != nil {
		p.Log(line)
	}
}
