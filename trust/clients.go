package trust

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"time"
)

// A Client is one line of authorized_clients:
//
//	[expires="2027-01-01"] ssh-ed25519 AAAA... comment
type Client struct {
	Key     ed25519.PublicKey
	Comment string
	Expires time.Time // from when on the key is not taken; zero: never
	Line    int       // where it stands, from 1; 0: not read from a file
}

// format returns the line.
func (c Client) format() string {
	line := FormatPublic(c.Key, c.Comment)
	if !c.Expires.IsZero() {
		line = `expires="` + FormatExpiry(c.Expires) + `" ` + line
	}
	return line
}

// Expired reports whether the key is not taken any more.
func (c Client) Expired(now time.Time) bool { return !c.Expires.IsZero() && !now.Before(c.Expires) }

// AuthorizedClients is an authorized_clients file: whose key lets its holder in. It is
// not safe for use by several goroutines while it is changed.
type AuthorizedClients struct {
	file     string
	lines    []string // as they stand, without their ends
	at       map[int]Client
	problems []Problem
}

// A Problem is a line that is not understood, and so lets nobody in.
type Problem struct {
	Line int
	Err  error
}

// LoadAuthorizedClients reads the file. One that is not there holds nothing. A line that
// is not understood lets nobody in, and does not change what the others say.
func LoadAuthorizedClients(file string) (*AuthorizedClients, error) {
	text, err := loadOptional(file)
	if err != nil {
		return nil, err
	}
	return ParseAuthorizedClients(file, text), nil
}

// ParseAuthorizedClients reads text; file is what errors call it, and where Save puts it.
func ParseAuthorizedClients(file string, text []byte) *AuthorizedClients {
	a := &AuthorizedClients{file: file, lines: splitLines(text)}
	a.parse()
	return a
}

// parse reads all lines anew.
func (a *AuthorizedClients) parse() {
	a.at, a.problems = make(map[int]Client), nil
	for i, line := range a.lines {
		if idle(line) {
			continue
		}
		c, err := parseClient(line)
		if err != nil {
			a.problems = append(a.problems, Problem{i + 1, fmt.Errorf("trust: %s:%d: %w", a.file, i+1, err)})
			continue
		}
		c.Line = i + 1
		a.at[i+1] = c
	}
}

func parseClient(line string) (c Client, err error) {
	if err := printable(line); err != nil {
		return Client{}, err
	}
	line = strings.Trim(line, " \t")
	if word, _ := cutWord(line); !isKeyType(word) {
		options, rest, err := cutOptions(line)
		if err != nil {
			return Client{}, err
		}
		if err := c.apply(options); err != nil {
			return Client{}, err
		}
		line = rest
	}
	if c.Key, c.Comment, err = parseKey(line); err != nil {
		return Client{}, err
	}
	return c, nil
}

// isKeyType reports whether a word is where a key begins and the options end: no option
// begins so.
func isKeyType(word string) bool {
	return strings.HasPrefix(word, "ssh-") || strings.HasPrefix(word, "ecdsa-") || strings.HasPrefix(word, "sk-")
}

// Check returns the line that lets the holder of key in now. Else it returns an
// *ExpiredError if the only lines with that key have ended, or a *StrangerError.
func (a *AuthorizedClients) Check(key ed25519.PublicKey, now time.Time) (Client, error) {
	var ended *Client
	for _, c := range a.Clients() {
		switch {
		case !same(c.Key, key):
		case c.Expired(now):
			ended = &c
		default:
			return c, nil
		}
	}
	if ended != nil {
		return Client{}, &ExpiredError{Key: key, Expires: ended.Expires, File: a.file, Line: ended.Line}
	}
	return Client{}, &StrangerError{Key: key, File: a.file}
}

// Clients returns the lines that are understood, in their order.
func (a *AuthorizedClients) Clients() []Client {
	var list []Client
	for i := range a.lines {
		if c, ok := a.at[i+1]; ok {
			list = append(list, c)
		}
	}
	return list
}

// Problems returns the lines that let nobody in because they are not understood.
func (a *AuthorizedClients) Problems() []Problem { return a.problems }

// Add lets the holder of c.Key in, and no longer than until c.Expires: a line with the
// same key and another end is replaced. It reports false if the file says all this
// already.
func (a *AuthorizedClients) Add(c Client) (added bool, err error) {
	if c, err = parseClient(c.format()); err != nil {
		return false, fmt.Errorf("trust: %w", err)
	}
	lines := 0
	for _, old := range a.Clients() {
		if same(old.Key, c.Key) {
			lines++
			added = added || !old.Expires.Equal(c.Expires)
		}
	}
	if lines > 0 && !added {
		return false, nil
	}
	a.Forget(c.Key)
	a.lines = append(a.lines, c.format())
	a.parse()
	return true, nil
}

// Forget takes the lines with this key out, and returns how many.
func (a *AuthorizedClients) Forget(key ed25519.PublicKey) (n int) {
	var kept []string
	for i, line := range a.lines {
		if c, ok := a.at[i+1]; ok && same(c.Key, key) {
			n++
			continue
		}
		kept = append(kept, line)
	}
	a.lines = kept
	a.parse()
	return n
}

// Save writes the file, comments and all. It is there as a whole, or as it was.
func (a *AuthorizedClients) Save() error { return writeFile(a.file, joinLines(a.lines)) }

// A StrangerError says that no line lets the holder of this key in.
type StrangerError struct {
	Key  ed25519.PublicKey
	File string
}

func (e *StrangerError) Error() string {
	return fmt.Sprintf("the client's key %s is not in %s", Fingerprint(e.Key), e.File)
}

// An ExpiredError says that this key let its holder in until a while ago.
type ExpiredError struct {
	Key     ed25519.PublicKey
	Expires time.Time
	File    string
	Line    int
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("the client's key %s ended on %s by %s:%d", Fingerprint(e.Key), FormatExpiry(e.Expires), e.File, e.Line)
}
