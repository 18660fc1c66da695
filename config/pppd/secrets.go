package pppd

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// maxSecrets bounds a secrets file, in octets: room for ten thousand accounts.
const maxSecrets = 1 << 20

// Secrets are what a secrets file holds: pppd's pap-secrets and chap-secrets
// (pppd(8), AUTHENTICATION), or slirp's of the same names with a dot before them.
// A line is
//
//	client server secret [addresses]
//
// in the words of an options file. A * for a name stands for any.
type Secrets struct {
	lines []secretLine
}

type secretLine struct {
	client, server string
	Secret
	useless bool // it matches, but holds no secret that can be used
}

// anyone is the name in a secrets file that stands for any.
const anyone = "*"

// A Secret is what a client and a server share, and what it gives the client.
type Secret struct {
	Octets []byte // not to be changed
	Source string // the file and line that it stands in

	addresses []addressRule
}

// An addressRule is one word of the addresses: those that lie in prefix, or with
// byUnit the one in it that belongs to the interface's number, are permitted or
// forbidden.
type addressRule struct {
	permit bool
	prefix netip.Prefix // of no bits and no address: all there are
	byUnit bool
}

// ParseSecrets reads a secrets file from r; name is what errors call it. Files that
// secrets name (@/path) are read by open, which may be nil: then they are errors.
//
// The error says of each line at fault what is wrong, with file and line, and never
// a secret. What could be read is returned with it: a line at fault gives no
// secret, nor leaves its place to a line that fits less well, and addresses from
// the first wrong one on are not permitted.
//
// Other than pppd it does not look up names in addresses, ignores options for one
// client (what follows --), and knows no @login, the system's own passwords.
func ParseSecrets(name string, r io.Reader, open func(path string) ([]byte, error)) (Secrets, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSecrets+1))
	if err != nil {
		return Secrets{}, fmt.Errorf("config: %s: %w", name, err)
	}
	if len(text) > maxSecrets {
		return Secrets{}, fmt.Errorf("config: %s: more than %d octets", name, maxSecrets)
	}
	var s Secrets
	var faults []error
	lines, err := splitLines(string(text))
	if err != nil {
		faults = append(faults, fmt.Errorf("config: %s:%w", name, err))
	}
	for _, words := range lines {
		source := fmt.Sprintf("%s:%d", name, words[0].line)
		line, wrong := parseSecret(words, source, open)
		for _, err := range wrong {
			faults = append(faults, fmt.Errorf("config: %s: %w", source, err))
		}
		if len(words) >= 2 {
			s.lines = append(s.lines, line)
		}
	}
	return s, errors.Join(faults...)
}

// splitLines cuts text into lines of words. A line ends where a word would have to
// follow on it; the end of a line in quotes, or behind a backslash, is none. What
// comes before an error is returned with it, less the line that it is in.
func splitLines(text string) ([][]word, error) {
	s := scanner{text: text, line: 1}
	var lines [][]word
	for begins := true; ; begins = false {
		gap := s.at
		s.skip()
		if s.at >= len(s.text) {
			return lines, nil
		}
		if begins || endsLine(text[gap:s.at]) {
			lines = append(lines, nil)
		}
		last := len(lines) - 1
		at := s.line
		w, err := s.word()
		if err != nil {
			return lines[:last], fmt.Errorf("%d: %w", at, err)
		}
		lines[last] = append(lines[last], word{w, at})
	}
}

// endsLine reports whether what stands between two words ends the line of the
// first. A backslash takes the end back, but not in a comment.
func endsLine(gap string) bool {
	for {
		line, rest, more := strings.Cut(gap, "\n")
		if !more {
			return false
		}
		if !strings.HasSuffix(line, `\`) || strings.Contains(line, "#") {
			return true
		}
		gap = rest
	}
}

// parseSecret makes a line of its words, and says all that is wrong with it.
func parseSecret(words []word, source string, open func(string) ([]byte, error)) (line secretLine, faults []error) {
	line.Source, line.client = source, words[0].text
	if len(words) > 1 {
		line.server = words[1].text
	}
	if len(words) < 3 {
		line.useless = true
		return line, []error{fmt.Errorf("a client, a server and a secret are wanted, but there are %d words", len(words))}
	}
	secret := words[2].text
	switch {
	case secret == "@login":
		line.useless = true
		faults = append(faults, errors.New("the system's passwords (@login) are not at hand"))
	case strings.HasPrefix(secret, "@/"): // pppd takes @ before anything else for itself
		var err error
		if secret, err = secretFrom(secret[1:], open); err != nil {
			line.useless = true
			faults = append(faults, err)
		}
	}
	if !line.useless {
		line.Octets = []byte(secret)
	}
	for i, w := range words[3:] {
		if w.text == "--" {
			return line, append(faults, errors.New("options for one client (--) are not known here"))
		}
		if w.text == "-" {
			break
		}
		rule, ok := parseAddress(w.text)
		if !ok { // not to be shown: perhaps it is the rest of a secret
			return line, append(faults, fmt.Errorf("word %d is no address, nor address/bits (a secret of several words needs quotes)", 4+i))
		}
		line.addresses = append(line.addresses, rule)
	}
	return line, faults
}

// secretFrom returns the first word of the file at path.
func secretFrom(path string, open func(string) ([]byte, error)) (string, error) {
	if open == nil {
		return "", fmt.Errorf("the secret is in a file, %q", path)
	}
	text, err := open(path)
	if err != nil {
		return "", fmt.Errorf("the secret's file: %w", err)
	}
	s := scanner{text: string(text), line: 1}
	s.skip()
	if s.at >= len(s.text) {
		return "", fmt.Errorf("the secret's file %q is empty", path)
	}
	secret, err := s.word()
	if err != nil {
		return "", fmt.Errorf("%s:%d: %w", path, s.line, err)
	}
	return secret, nil
}

// parseAddress reads *, a, !a, a/n, !a/n or a/n+.
func parseAddress(text string) (rule addressRule, ok bool) {
	if text == anyone {
		return addressRule{permit: true}, true
	}
	word, forbidden := strings.CutPrefix(text, "!")
	rule.permit = !forbidden
	address, bits, whole := strings.Cut(word, "/")
	if whole {
		bits, rule.byUnit = strings.CutSuffix(bits, "+")
		word = address + "/" + bits
	} else if a, err := netip.ParseAddr(word); err == nil {
		word = a.String() + "/" + strconv.Itoa(a.BitLen())
	}
	rule.prefix, _ = netip.ParsePrefix(word)
	return rule, rule.prefix.IsValid()
}

// Find returns what client and server share: of the lines that name them, or have
// a * instead, the one with the fewest; a server by its name goes before a client
// by its name, and the first line before a later one. An empty server is one whose
// name is not known: any server's secret will do. It reports false if there is
// none, or none that can be used.
func (s Secrets) Find(client, server string) (Secret, bool) {
	best, found := 0, secretLine{useless: true}
	for _, line := range s.lines {
		fits := 1
		switch {
		case line.server == anyone:
		case server == "" || line.server == server:
			fits += 2
		default:
			continue
		}
		switch line.client {
		case anyone:
		case client:
			fits++
		default:
			continue
		}
		if fits > best {
			best, found = fits, line
		}
	}
	if found.useless {
		return Secret{}, false
	}
	return found.Secret, true
}

// Allows reports whether the client may use addr, on an interface with that number
// (ppp0 has 0). The first rule that fits counts; none does, none is allowed.
//
// As with pppd, no rule allows addresses that are no host's, and none is needed for
// the link-local addresses of IPv6, which lead nowhere but to the client.
func (s Secret) Allows(addr netip.Addr, unit int) bool {
	addr = addr.Unmap()
	switch {
	case !addr.IsValid(), addr.IsUnspecified(), addr.IsLoopback(), addr.IsMulticast():
		return false
	case addr.Is4() && addr.As4()[0] >= 240: // RFC 1112, section 4: class E
		return false
	case addr.Is6() && addr.IsLinkLocalUnicast():
		return true
	}
	for _, rule := range s.addresses {
		if rule.fits(addr, unit) {
			return rule.permit
		}
	}
	return false
}

func (r addressRule) fits(addr netip.Addr, unit int) bool {
	if !r.prefix.IsValid() {
		return true
	}
	if !r.byUnit {
		return r.prefix.Contains(addr)
	}
	own, ok := hostOf(r.prefix, unit)
	return ok && own == addr
}

// hostOf returns the address in prefix whose host part is unit plus one. It reports
// false if that would be the last or lie outside: no host's address.
func hostOf(prefix netip.Prefix, unit int) (netip.Addr, bool) {
	base := prefix.Masked().Addr()
	free := base.BitLen() - prefix.Bits()
	host := uint64(unit) + 1
	if unit < 0 || free < 63 && host >= 1<<free-1 {
		return netip.Addr{}, false
	}
	octets := base.AsSlice()
	for i := len(octets) - 1; host > 0; i-- {
		octets[i] |= byte(host)
		host >>= 8
	}
	return netip.AddrFromSlice(octets)
}
