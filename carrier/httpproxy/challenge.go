package httpproxy

import (
	"slices"
	"strings"
)

// A challenge is one method of authentication as a proxy offers it (RFC 9110,
// section 11.3): a token of base 64, or parameters, or neither.
type challenge struct {
	scheme string
	token  string
	params []param // no name twice
}

type param struct{ name, value string }

// get returns the value of the parameter of that name, in any case.
func (c *challenge) get(name string) (value string, ok bool) {
	for _, p := range c.params {
		if strings.EqualFold(p.name, name) {
			return p.value, true
		}
	}
	return "", false
}

// has reports whether a scheme is among those offered.
func has(offered []challenge, scheme string) bool {
	return slices.ContainsFunc(offered, func(c challenge) bool { return strings.EqualFold(c.scheme, scheme) })
}

// names returns the schemes offered, fit to be shown.
func names(offered []challenge) string {
	var all []string
	for _, c := range offered {
		if !slices.Contains(all, c.scheme) {
			all = append(all, c.scheme)
		}
	}
	if len(all) == 0 {
		return "it names none"
	}
	return shown(strings.Join(all, ", "))
}

// parseChallenges parses the values of the Proxy-Authenticate fields. A value is a
// list of challenges, whose parameters are again a list; what goes wrong ends that
// value, and a challenge that is not whole is left out.
func parseChallenges(values []string) (all []challenge) {
	for _, value := range values {
		p := challengeParser{rest: value}
		for {
			p.skip(", \t")
			c, ok := p.challenge()
			if !ok {
				break
			}
			all = append(all, c)
		}
	}
	return all
}

type challengeParser struct{ rest string }

func (p *challengeParser) skip(octets string) { p.rest = strings.TrimLeft(p.rest, octets) }

// take takes the longest beginning made of octets that are in the set.
func (p *challengeParser) take(in func(b byte) bool) string {
	n := 0
	for n < len(p.rest) && in(p.rest[n]) {
		n++
	}
	taken := p.rest[:n]
	p.rest = p.rest[n:]
	return taken
}

// challenge parses one, up to the name of the next or the end.
//
//	challenge   = auth-scheme [ 1*SP ( token68 / #auth-param ) ]
//	auth-param  = token BWS "=" BWS ( token / quoted-string )
func (p *challengeParser) challenge() (c challenge, ok bool) {
	if c.scheme = p.take(isTokenOctet); c.scheme == "" {
		return challenge{}, false
	}
	if p.rest == "" || p.rest[0] == ',' {
		return c, true
	}
	if p.rest[0] != ' ' && p.rest[0] != '\t' {
		return challenge{}, false
	}
	p.skip(" \t")
	if token, ok := p.token68(); ok {
		c.token = token
		return c, true
	}
	for {
		before := p.rest
		name := p.take(isTokenOctet)
		p.skip(" \t")
		if name == "" && (p.rest == "" || p.rest[0] == ',') {
			// An empty item of the list.
		} else if name == "" || p.rest == "" || p.rest[0] != '=' {
			// No parameter: the next challenge, if there is one.
			p.rest = before
			return c, name != ""
		} else {
			p.rest = p.rest[1:]
			p.skip(" \t")
			value, ok := p.value()
			if _, twice := c.get(name); !ok || twice {
				p.rest = ""
				return challenge{}, false
			}
			c.params = append(c.params, param{name, value})
		}
		p.skip(" \t")
		if p.rest == "" {
			return c, true
		}
		if p.rest[0] != ',' {
			p.rest = ""
			return challenge{}, false
		}
		p.skip(", \t")
	}
}

// token68 takes one if it fills the challenge: base 64 with its padding. A name before
// "=" and a value is none.
func (p *challengeParser) token68() (string, bool) {
	q := *p
	token := q.take(isToken68Octet)
	token += q.take(func(b byte) bool { return b == '=' })
	q.skip(" \t")
	if token == "" || q.rest != "" && q.rest[0] != ',' {
		return "", false
	}
	*p = q
	return token, true
}

// value takes a token or a quoted string, and returns what it stands for.
func (p *challengeParser) value() (string, bool) {
	if !strings.HasPrefix(p.rest, `"`) {
		token := p.take(isTokenOctet)
		return token, token != ""
	}
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '"':
			p.rest = p.rest[i+1:]
			return b.String(), true
		case '\\':
			if i++; i == len(p.rest) {
				return "", false
			}
			fallthrough
		default:
			b.WriteByte(p.rest[i])
		}
	}
	return "", false
}

// quote returns text as a quoted string (RFC 9110, section 5.6.4).
func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// isTokenOctet reports whether b may be in a token (RFC 9110, section 5.6.2).
func isTokenOctet(b byte) bool {
	return isLetterOrDigit(b) || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}

// isToken68Octet reports whether b may be in a token68 before its padding (RFC 9110,
// section 11.2).
func isToken68Octet(b byte) bool {
	return isLetterOrDigit(b) || strings.IndexByte("-._~+/", b) >= 0
}

func isLetterOrDigit(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9'
}

func isToken(text string) bool {
	for i := range len(text) {
		if !isTokenOctet(text[i]) {
			return false
		}
	}
	return text != ""
}
