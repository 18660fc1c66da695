package trust

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// A Client is one line of authorized_clients:
//
//	[expires="2027-01-01",allow="10.0.0.0/8:22"] ssh-ed25519 AAAA... comment
//
// Its slices are shared by all copies, and not to be changed.
type Client struct {
	Key     ed25519.PublicKey
	Comment string

	Expires time.Time      // from when on the key is not taken; zero: never
	From    []netip.Prefix // where its connection may come from; none: anywhere
	Name    string         // by which it is reached, as its line says; may be empty
	Address []netip.Prefix // its addresses in the tunnel with their networks, one of a family at most
	Allow   []Destination  // where it may go; none: wherever the server lets its clients
	Deny    []Destination  // where it may not, whatever else is said
	Flows   int            // how many it may have at once; 0: as the server says
	Rate    int64          // octets per second, each way; 0: as the server says

	// Called is the name by which it is reached: Name, or what the comment makes of one
	// if no other client has it. It may be empty. Parsing a file sets it.
	Called string
	Line   int // where it stands, from 1; 0: not read from a file
}

// format returns the line.
func (c Client) format() string {
	line := FormatPublic(c.Key, c.Comment)
	if options := c.Options(); options != "" {
		line = options + " " + line
	}
	return line
}

// Expired reports whether the key is not taken any more.
func (c Client) Expired(now time.Time) bool { return !c.Expires.IsZero() && !now.Before(c.Expires) }

// AuthorizedClients is an authorized_clients file: whose key lets its holder in. Several
// goroutines may ask it at once, while nobody changes it.
type AuthorizedClients struct {
	file     string
	lines    []string // as they stand, without their ends
	at       map[int]Client
	byKey    map[string][]int // where each key stands, in order
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
	a.at, a.byKey, a.problems = make(map[int]Client), make(map[string][]int), nil
	taken := make(map[string]Client) // by what only one client can have
	for i, line := range a.lines {
		if idle(line) {
			continue
		}
		c, err := parseClient(line)
		if err == nil {
			err = c.take(taken, i+1)
		}
		if err != nil {
			a.problems = append(a.problems, Problem{i + 1, fmt.Errorf("trust: %s:%d: %w", a.file, i+1, err)})
			continue
		}
		c.Line = i + 1
		a.at[c.Line] = c
		a.byKey[string(c.Key)] = append(a.byKey[string(c.Key)], c.Line)
	}
	a.nameAll()
}

// take makes the client's name and addresses its own, unless another has them. Lines of
// one key may share them.
func (c Client) take(taken map[string]Client, line int) error {
	c.Line = line
	wants := texts(c.Address, func(p netip.Prefix) string { return p.Addr().String() })
	if c.Name != "" {
		wants = append(wants, c.Name)
	}
	for _, w := range wants {
		if other, ok := taken[w]; ok && !same(other.Key, c.Key) {
			return fmt.Errorf("%s is already that of line %d", w, other.Line)
		}
	}
	for _, w := range wants {
		if _, ok := taken[w]; !ok {
			taken[w] = c
		}
	}
	return nil
}

// nameAll sets by what name each client is reached.
func (a *AuthorizedClients) nameAll() {
	holder := make(map[string]ed25519.PublicKey) // of each name; nil: several clients
	for line, c := range a.at {
		if c.Called = c.Name; c.Name == "" {
			c.Called = nameOf(c.Comment)
		}
		a.at[line] = c
		if key, ok := holder[c.Called]; ok && !same(key, c.Key) {
			holder[c.Called] = nil
		} else {
			holder[c.Called] = c.Key
		}
	}
	for line, c := range a.at {
		if c.Name == "" && holder[c.Called] == nil {
			c.Called = ""
			a.at[line] = c
		}
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

// Check is CheckFrom for a connection of which it is not known where it comes from: a
// line that says where it must lets nobody in.
func (a *AuthorizedClients) Check(key ed25519.PublicKey, now time.Time) (Client, error) {
	return a.CheckFrom(key, netip.Addr{}, now)
}

// CheckFrom returns the first line that lets the holder of key in now, from there. Else
// it returns an *ExpiredError or an *ElsewhereError if there are lines with that key
// that do not let it in any more, or not from there, or a *StrangerError.
func (a *AuthorizedClients) CheckFrom(key ed25519.PublicKey, from netip.Addr, now time.Time) (Client, error) {
	var refused error = &StrangerError{Key: key, File: a.file}
	for _, line := range a.byKey[string(key)] {
		c := a.at[line]
		switch {
		case !same(c.Key, key):
		case c.Expired(now):
			refused = &ExpiredError{Key: key, Expires: c.Expires, File: a.file, Line: line}
		case len(c.From) > 0 && !contains(c.From, from):
			refused = &ElsewhereError{Key: key, From: from, File: a.file, Line: line}
		default:
			return c, nil
		}
	}
	return Client{}, refused
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

// Add lets the holder of c.Key in, as far as c's limits go: lines with the same key and
// other limits are replaced. It reports false if the file says all this already, and
// fails if a name or an address is another client's.
func (a *AuthorizedClients) Add(c Client) (added bool, err error) {
	if c, err = parseClient(c.format()); err != nil {
		return false, fmt.Errorf("trust: %w", err)
	}
	lines := a.byKey[string(c.Key)]
	for _, line := range lines {
		added = added || a.at[line].Options() != c.Options()
	}
	if len(lines) > 0 && !added {
		return false, nil
	}
	before := a.lines
	a.Forget(c.Key)
	a.lines = append(a.lines, c.format())
	a.parse()
	if last := len(a.problems) - 1; last >= 0 && a.problems[last].Line == len(a.lines) {
		err := errors.Unwrap(a.problems[last].Err) // of a line that is not there yet
		a.lines = before
		a.parse()
		return false, fmt.Errorf("trust: %s: %w", a.file, err)
	}
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

// An ElsewhereError says that this key lets its holder in, and not from where its
// connection comes.
type ElsewhereError struct {
	Key  ed25519.PublicKey
	From netip.Addr // invalid: not known
	File string
	Line int
}

func (e *ElsewhereError) Error() string {
	from := "from where is not known"
	if e.From.IsValid() {
		from = "from " + e.From.String()
	}
	return fmt.Sprintf("the client's key %s comes %s, which %s:%d does not let it", Fingerprint(e.Key), from, e.File, e.Line)
}
