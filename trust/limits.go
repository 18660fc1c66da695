package trust

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// ParseExpiry reads when a key ends: a day, "2027-01-01", at whose beginning in UTC it
// does, or a moment as in RFC 3339, "2027-01-01T18:00:00+01:00". What it returns is in
// UTC and whole seconds.
func ParseExpiry(text string) (time.Time, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		t, err = time.Parse(time.RFC3339, text)
	}
	t = t.UTC().Truncate(time.Second)
	if err != nil || t.Year() < 1970 || t.Year() > 9999 { // no zero time, and what can be written again
		return time.Time{}, fmt.Errorf("%s is no date, such as 2027-01-01 or 2027-01-01T18:00:00Z", quote(text))
	}
	return t, nil
}

// FormatExpiry is the way back.
func FormatExpiry(t time.Time) string {
	t = t.UTC()
	if t.Equal(t.Truncate(24 * time.Hour)) {
		return t.Format(time.DateOnly)
	}
	return t.Format(time.RFC3339)
}

// ParseFrom reads where a client's connection may come from: a network, or an address.
func ParseFrom(text string) (netip.Prefix, error) { return parsePrefix(text) }

// ParseAddress reads the address that a client has inside the tunnel, with the length of
// its network or alone. It must be one that a machine can have.
func ParseAddress(text string) (netip.Prefix, error) {
	p, err := parseAddress(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	switch a := p.Addr(); {
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.IsLinkLocalUnicast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return netip.Prefix{}, fmt.Errorf("%s is no address for a machine", a)
	case p.Bits() < a.BitLen()-1 && a == p.Masked().Addr(): // of two or less all are addresses (RFC 3021, RFC 6164)
		return netip.Prefix{}, fmt.Errorf("%s is a network, and no address in it", p)
	}
	return p, nil
}

// AddAddress gives the client one more address, as ParseAddress reads it: one of each
// family at most.
func (c *Client) AddAddress(text string) error {
	p, err := ParseAddress(text)
	if err != nil {
		return err
	}
	for _, other := range c.Address {
		if other.Addr().Is4() == p.Addr().Is4() {
			return fmt.Errorf("%s and %s are of one family", other, p)
		}
	}
	c.Address = append(c.Address, p)
	return nil
}

// maxFlows is more flows than any machine has at once.
const maxFlows = 1 << 20

// ParseFlows reads how many flows a client may have at once.
func ParseFlows(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxFlows || strconv.Itoa(n) != text {
		return 0, fmt.Errorf("%s is no number of flows from 1 to %d", quote(text), maxFlows)
	}
	return n, nil
}

// minRate is below what a tunnel could be kept up with, in octets per second: who
// writes less has forgotten the unit.
const minRate = 1000

var rateUnits = []struct {
	letter string
	octets int64
}{{"G", 1e9}, {"M", 1e6}, {"K", 1e3}}

// ParseRate reads how many octets per second a client may send, and as many be sent:
// "2500K", "10M", "1G", in thousands, millions and thousands of millions, or as it is.
func ParseRate(text string) (int64, error) {
	number, unit := text, int64(1)
	for _, u := range rateUnits {
		if rest, ok := strings.CutSuffix(text, u.letter); ok {
			number, unit = rest, u.octets
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	switch {
	case err != nil || n < 1 || strconv.FormatInt(n, 10) != number || n > math.MaxInt64/unit:
		return 0, fmt.Errorf("%s is no rate, such as 2500K, 10M or 1G octets per second", quote(text))
	case n*unit < minRate:
		return 0, fmt.Errorf("%s is %d octets per second, and less than %d: 10M are ten million", quote(text), n*unit, minRate)
	}
	return n * unit, nil
}

// FormatRate is the way back.
func FormatRate(octets int64) string {
	for _, u := range rateUnits {
		if octets%u.octets == 0 {
			return strconv.FormatInt(octets/u.octets, 10) + u.letter
		}
	}
	return strconv.FormatInt(octets, 10)
}

// maxName is how long a name may be, in octets, as in the DNS (RFC 1035, section 2.3.4).
const maxName = 63

// ParseName reads the name by which a client is reached: letters, digits and dashes, a
// letter among them so that it is no number, no dash at an end. Capitals are as small
// letters.
func ParseName(text string) (string, error) {
	name := strings.ToLower(text)
	switch {
	case name == "" || len(name) > maxName:
		return "", fmt.Errorf("%s is no name: it has 1 to %d letters, digits and dashes", quote(text), maxName)
	case strings.ContainsFunc(text, func(r rune) bool { return !isLetter(r) && !isDigit(r) && r != '-' }):
		return "", fmt.Errorf("%s is no name: it has letters, digits and dashes alone", quote(text))
	case name[0] == '-' || name[len(name)-1] == '-':
		return "", fmt.Errorf("%s is no name: it begins or ends with a dash", quote(text))
	case !strings.ContainsFunc(name, isLetter):
		return "", errors.New(quote(text) + " is no name: it has no letter")
	}
	return name, nil
}

func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
func isDigit(r rune) bool  { return r >= '0' && r <= '9' }

// nameOf returns the name that a comment gives, "me-laptop" of "me@laptop", or nothing.
func nameOf(comment string) string {
	words := strings.FieldsFunc(comment, func(r rune) bool { return !isLetter(r) && !isDigit(r) })
	name := strings.Join(words, "-")
	if len(name) > maxName {
		name = strings.TrimRight(name[:maxName], "-")
	}
	name, err := ParseName(name)
	if err != nil {
		return ""
	}
	return name
}
