package trust

import (
	"errors"
	"fmt"
	"strings"
	"time"
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

// apply makes the options part of the client. One that is not known may be a limit, so
// the line cannot be used without it.
func (c *Client) apply(options []option) error {
	for _, o := range options {
		switch {
		case o.name != "expires":
			return fmt.Errorf("option %s is not known here", quote(o.name))
		case !o.hasValue:
			return errors.New(`option "expires" wants a value: expires="2027-01-01"`)
		case !c.Expires.IsZero():
			return errors.New(`option "expires" stands there twice`)
		}
		var err error
		if c.Expires, err = ParseExpiry(o.value); err != nil {
			return err
		}
	}
	return nil
}

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
