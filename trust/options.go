package trust

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// An option is one word before a client's key: name, or name="value".
type option struct {
	name, value string
	hasValue    bool
}

// cutOptions takes the options off the beginning of a line: words with commas between
// them and no space outside quotes, as in authorized_keys (sshd(8)). In quotes, \" is a
// quote and any other backslash is itself.
func cutOptions(line string) (options []option, rest string, err error) {
	for {
		end := strings.IndexAny(line, "=, \t")
		if end < 0 {
			return nil, "", errors.New("there is no key after the options")
		}
		o := option{name: line[:end]}
		if o.name == "" {
			return nil, "", errors.New("an option has no name")
		}
		line = line[end:]
		if line[0] == '=' {
			o.hasValue = true
			if o.value, line, err = cutQuoted(line[1:]); err != nil {
				return nil, "", fmt.Errorf("option %s: %w", quote(o.name), err)
			}
		}
		options = append(options, o)
		switch {
		case line == "":
			return nil, "", errors.New("there is no key after the options")
		case line[0] == ' ' || line[0] == '\t':
			return options, line, nil
		case line[0] != ',':
			return nil, "", fmt.Errorf("option %s: after its value stands %s", quote(o.name), quote(line))
		}
		line = line[1:]
	}
}

// cutQuoted takes a value in quotes off the beginning of text.
func cutQuoted(text string) (value, rest string, err error) {
	if text == "" || text[0] != '"' {
		return "", "", errors.New("its value is not in quotes")
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '"':
			return b.String(), text[i+1:], nil
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == '"':
			i++
			b.WriteByte('"')
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", errors.New("its value has no end")
}

// maxRepeated is how often an option may stand in one line that may stand there more
// than once: each new flow may be compared with all of them.
const maxRepeated = 256

// A kind of option says what the values of that name mean.
type kind struct {
	name     string
	example  string
	repeated bool // may stand in a line more than once
	set      func(c *Client, value string) error
	get      func(c Client) []string // the values, none if it is not there
}

// kinds are the options that are known, in the order in which they are written.
var kinds = []kind{
	{"expires", "2027-01-01", false,
		func(c *Client, value string) (err error) { c.Expires, err = ParseExpiry(value); return err },
		func(c Client) []string {
			if c.Expires.IsZero() {
				return nil
			}
			return []string{FormatExpiry(c.Expires)}
		}},
	{"from", "192.0.2.0/24", true,
		func(c *Client, value string) error { // a list, as OpenSSH has it
			for part := range strings.SplitSeq(value, ",") {
				if err := add(&c.From, part, ParseFrom); err != nil {
					return err
				}
			}
			return nil
		},
		func(c Client) []string { return texts(c.From, formatPrefix) }},
	{"name", "laptop", false,
		func(c *Client, value string) (err error) { c.Name, err = ParseName(value); return err },
		func(c Client) []string {
			if c.Name == "" {
				return nil
			}
			return []string{c.Name}
		}},
	{"address", "10.77.0.5/24", true,
		func(c *Client, value string) error { return c.AddAddress(value) },
		func(c Client) []string { return texts(c.Address, netip.Prefix.String) }},
	{"allow", "10.0.0.0/8:22,443", true,
		func(c *Client, value string) error { return add(&c.Allow, value, ParseDestination) },
		func(c Client) []string { return texts(c.Allow, Destination.String) }},
	{"deny", "10.0.0.0/8:22,443", true,
		func(c *Client, value string) error { return add(&c.Deny, value, ParseDestination) },
		func(c Client) []string { return texts(c.Deny, Destination.String) }},
	{"flows", "256", false,
		func(c *Client, value string) (err error) { c.Flows, err = ParseFlows(value); return err },
		func(c Client) []string {
			if c.Flows == 0 {
				return nil
			}
			return []string{strconv.Itoa(c.Flows)}
		}},
	{"rate", "10M", false,
		func(c *Client, value string) (err error) { c.Rate, err = ParseRate(value); return err },
		func(c Client) []string {
			if c.Rate == 0 {
				return nil
			}
			return []string{FormatRate(c.Rate)}
		}},
}

// add reads one more value of an option that may have many.
func add[T any](list *[]T, value string, parse func(string) (T, error)) error {
	v, err := parse(value)
	if err != nil {
		return err
	}
	*list = append(*list, v)
	return nil
}

func texts[T any](list []T, format func(T) string) (out []string) {
	for _, v := range list {
		out = append(out, format(v))
	}
	return out
}

// apply makes the options part of the client. One that is not known may be a limit, so
// the line cannot be used without it.
func (c *Client) apply(options []option) error {
	seen := make(map[string]int)
	for _, o := range options {
		at := slices.IndexFunc(kinds, func(k kind) bool { return k.name == o.name })
		if at < 0 {
			return fmt.Errorf("option %s is not known here", quote(o.name))
		}
		k := kinds[at]
		seen[k.name]++
		switch n := seen[k.name]; {
		case !o.hasValue:
			return fmt.Errorf("option %q wants a value: %s=%q", k.name, k.name, k.example)
		case n > 1 && !k.repeated:
			return fmt.Errorf("option %q stands there twice", k.name)
		case n > maxRepeated:
			return fmt.Errorf("option %q stands there more than %d times", k.name, maxRepeated)
		}
		if err := k.set(c, o.value); err != nil {
			return fmt.Errorf("option %q: %w", k.name, err)
		}
	}
	return nil
}

// Options returns the client's options as they stand in its line, with a comma between
// them: none if it is bound by nothing.
func (c Client) Options() string {
	var words []string
	for _, k := range kinds {
		for _, v := range k.get(c) {
			words = append(words, k.name+`="`+v+`"`) // no value holds a quote
		}
	}
	return strings.Join(words, ",")
}
