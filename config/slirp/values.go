package slirp

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

func flag(field func(*Options) *bool) func(*parser, []string) error {
	return func(p *parser, _ []string) error {
		*field(&p.options) = true
		return nil
	}
}

func text(field func(*Options) *string) func(*parser, []string) error {
	return func(p *parser, args []string) error {
		*field(&p.options) = args[0]
		return nil
	}
}

func number(field func(*Options) *int, least, most int) func(*parser, []string) error {
	return func(p *parser, args []string) error {
		n, err := integer(args[0], least, most)
		if err == nil {
			*field(&p.options) = n
		}
		return err
	}
}

func integer(text string, least, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most || text[0] == '+' {
		return 0, refuse("", "a number from %d to %d is wanted", least, most)
	}
	return n, nil
}

// maxSeconds bounds times, so that none overflows: a year.
const maxSeconds = 365 * 24 * 3600

func seconds(field func(*Options) *time.Duration) func(*parser, []string) error {
	return func(p *parser, args []string) error {
		n, err := integer(args[0], 0, maxSeconds)
		if err == nil {
			*field(&p.options) = time.Duration(n) * time.Second
		}
		return err
	}
}

// timers are the commands for those of one control protocol.
func timers(word, protocol string, field func(*Options) *Timers) []command {
	return []command{
		{name: word + "-restart", args: "N", help: protocol + " repeats after N seconds (3)", set: seconds(func(o *Options) *time.Duration { return &field(o).Restart })},
		{name: word + "-max-configure", args: "N", help: "requests to open it at most (10)", set: number(func(o *Options) *int { return &field(o).MaxConfigure }, 1, 1000)},
		{name: word + "-max-terminate", args: "N", help: "requests to close it at most (2)", set: number(func(o *Options) *int { return &field(o).MaxTerminate }, 1, 1000)},
		{name: word + "-max-failure", args: "N", help: "counter-proposals before one is refused (10)", set: number(func(o *Options) *int { return &field(o).MaxFailure }, 1, 1000)},
	}
}

// setWait reads the minutes; without them slirp shows what they are, and on a
// command line nobody would see it.
func setWait(p *parser, args []string) error {
	if len(args) == 0 {
		return nil
	}
	n, err := integer(args[0], 0, maxSeconds/60)
	if err == nil {
		p.options.Wait = time.Duration(n) * time.Minute
	}
	return err
}

func setASyncMap(p *parser, args []string) error {
	n, err := strconv.ParseUint(trimHex(args[0]), 16, 32)
	if err != nil {
		return refuse("for example 0, a0000 or ffffffff", "a hexadecimal number of 32 bits is wanted")
	}
	p.options.ACCM = uint32(n)
	return nil
}

func trimHex(text string) string {
	if rest, ok := strings.CutPrefix(text, "0x"); ok {
		return rest
	}
	return strings.TrimPrefix(text, "0X")
}

// setEscape reads octets and ranges of them, in hexadecimal with or without 0x, as
// slirp does.
func setEscape(p *parser, args []string) error {
	for part := range strings.SplitSeq(args[0], ",") {
		from, to, ranged := strings.Cut(part, "-")
		first, err := octet(from)
		if err != nil {
			return err
		}
		last := first
		if ranged {
			if last, err = octet(to); err != nil {
				return err
			}
		}
		if last < first {
			return refuse("", "%s: a range that ends before it begins", quote(part))
		}
		for b := int(first); b <= int(last); b++ {
			if b >= 0x20 && b <= 0x3f || b == 0x5e {
				return refuse("", "%#x cannot be escaped: what stands for it would be a flag or an escape (RFC 1662, section 4.2)", b)
			}
			p.options.Escape[b] = true
		}
	}
	return nil
}

func octet(text string) (byte, error) {
	n, err := strconv.ParseUint(trimHex(text), 16, 8)
	if err != nil {
		return 0, refuse("for example ff or 0x11,0x13", "%s is no octet in hexadecimal", quote(text))
	}
	return byte(n), nil
}

func setHelp(p *parser, args []string) error {
	about := strings.Join(args, " ")
	p.options.Help = &about
	return nil
}

func setDNS(p *parser, args []string) error {
	a, err := netip.ParseAddr(args[0])
	if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
		return refuse("", "%s is no address of a resolver", quote(args[0]))
	}
	if len(p.options.DNS) == 2 {
		return refuse("", "there is place for two")
	}
	p.options.DNS = append(p.options.DNS, a)
	return nil
}

func setSpecial(p *parser, args []string) error {
	a, err := netip.ParseAddr(args[0])
	if err != nil || !within(a) || a.As4()[3] != 0 {
		return refuse("for example 10.0.3.0", "%s is no network's address that ends in 0", quote(args[0]))
	}
	p.options.Special = netip.PrefixFrom(a, 24)
	return nil
}

func setAllow(p *parser, args []string) error {
	switch args[0] {
	case "host":
		p.options.AllowHost = true
	case "link-local":
		p.options.AllowLinkLocal = true
	default:
		return refuse("there are host and link-local", "%s", quote(args[0]))
	}
	return nil
}
