package ssh

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// A Target is where to log in. Host may be a name of the user's ssh config; what
// is empty or zero, that config settles.
type Target struct {
	User string
	Host string
	Port uint16
}

// The grammar of what may stand in ssh's argument list and, by way of the tokens
// %h and %r, in commands of the user's config that a shell runs. It is narrower
// than what systems allow: stranger names can be given a plain one in ssh_config.
var (
	userPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}$`)
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,253}[A-Za-z0-9_.])?$`)
	zonePattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,15}$`)
)

// ParseTarget parses [user@]host[:port]. An IPv6 address with a port stands in
// brackets; brackets alone are allowed.
func ParseTarget(s string) (Target, error) {
	var t Target
	rest := s
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		t.User, rest = rest[:i], rest[i+1:]
		if t.User == "" {
			return Target{}, fmt.Errorf("ssh: target %q: no user before the @", s)
		}
	}
	port := ""
	if inside, after, ok := strings.Cut(strings.TrimPrefix(rest, "["), "]"); ok && rest[0] == '[' {
		t.Host = inside
		if after != "" && after[0] != ':' {
			return Target{}, fmt.Errorf("ssh: target %q: text after the bracket", s)
		}
		if after != "" {
			port = after[1:]
			if port == "" {
				return Target{}, fmt.Errorf("ssh: target %q: no port after the colon", s)
			}
		}
	} else if strings.Count(rest, ":") == 1 {
		t.Host, port, _ = strings.Cut(rest, ":")
		if port == "" {
			return Target{}, fmt.Errorf("ssh: target %q: no port after the colon", s)
		}
	} else {
		t.Host = rest
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Target{}, fmt.Errorf("ssh: target %q: %q is no port", s, port)
		}
		t.Port = uint16(n)
	}
	if err := t.check(); err != nil {
		return Target{}, fmt.Errorf("ssh: target %q: %w", s, err)
	}
	return t, nil
}

// String returns what ParseTarget parses to t.
func (t Target) String() string {
	s := t.Host
	if t.Port != 0 {
		if strings.Contains(s, ":") {
			s = "[" + s + "]"
		}
		s += ":" + strconv.Itoa(int(t.Port))
	}
	if t.User != "" {
		s = t.User + "@" + s
	}
	return s
}

// check refuses what could be taken for an option, or mean something to a shell.
func (t Target) check() error {
	if t.User != "" && !userPattern.MatchString(t.User) {
		return errors.New("a user name has letters, digits and . _ @ + - only; give others by User in the ssh config")
	}
	if hostPattern.MatchString(t.Host) {
		return nil
	}
	address, err := netip.ParseAddr(t.Host)
	if err != nil || address.Zone() != "" && !zonePattern.MatchString(address.Zone()) {
		return errors.New("a host is a name of letters, digits and . _ -, or an address")
	}
	return nil
}

// SplitProgram splits the ssh program and its options as rsync does its -e: at
// spaces, with single or double quotes to keep them, and a quote doubled inside
// its own kind to stand for itself. A backslash is an ordinary character.
func SplitProgram(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	var quote byte // 0 outside quotes
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote != 0 && c == quote:
			if i+1 < len(s) && s[i+1] == quote {
				word.WriteByte(c)
				i++
			} else {
				quote = 0
			}
		case quote == 0 && (c == '\'' || c == '"'):
			quote, inWord = c, true
		case quote == 0 && c == ' ':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("ssh: program %q: a quote does not end", s)
	}
	if inWord {
		words = append(words, word.String())
	}
	if len(words) == 0 || words[0] == "" {
		return nil, errors.New("ssh: the program is empty")
	}
	return words, nil
}
