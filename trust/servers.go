package trust

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// A Server is one line of known_servers:
//
//	name[,name...] ssh-ed25519 AAAA... comment
//	@revoked name[,name...]|* ssh-ed25519 AAAA... comment
type Server struct {
	Names   []string // "host" or "[host]:port", in small letters; of a revoked key "*" alone: everybody's
	Key     ed25519.PublicKey
	Comment string
	Revoked bool // the key is not to be trusted, whatever other lines say
	Line    int  // where it stands, from 1; 0: not read from a file
}

// revokedMark begins the line of a key that is not to be trusted any more.
const revokedMark = "@revoked"

// format returns the line.
func (s Server) format() string {
	line := strings.Join(s.Names, ",") + " " + FormatPublic(s.Key, s.Comment)
	if s.Revoked {
		line = revokedMark + " " + line
	}
	return line
}

// isFor reports whether the line speaks of the name.
func (s Server) isFor(name string) bool {
	return slices.Contains(s.Names, name) || s.Revoked && slices.Contains(s.Names, "*")
}

// KnownServers is a known_servers file: which key each server has. It is not safe for
// use by several goroutines while it is changed.
type KnownServers struct {
	file  string
	lines []string       // as they stand, without their ends
	at    map[int]Server // by line number
}

// LoadKnownServers reads the file. One that is not there holds nothing. A line that is
// not understood fails the whole: it may be one that revokes a key.
func LoadKnownServers(file string) (*KnownServers, error) {
	text, err := loadOptional(file)
	if err != nil {
		return nil, err
	}
	return ParseKnownServers(file, text)
}

// ParseKnownServers reads text; file is what errors call it, and where Save puts it.
func ParseKnownServers(file string, text []byte) (*KnownServers, error) {
	k := &KnownServers{file: file, lines: splitLines(text)}
	if err := k.parse(); err != nil {
		return nil, err
	}
	return k, nil
}

// parse reads all lines anew.
func (k *KnownServers) parse() error {
	k.at = make(map[int]Server)
	for i, line := range k.lines {
		if idle(line) {
			continue
		}
		s, err := parseServer(line)
		if err != nil {
			return fmt.Errorf("trust: %s:%d: %w", k.file, i+1, err)
		}
		s.Line = i + 1
		k.at[i+1] = s
	}
	return nil
}

func parseServer(line string) (s Server, err error) {
	if err := printable(line); err != nil {
		return Server{}, err
	}
	word, rest := cutWord(line)
	if strings.HasPrefix(word, "@") {
		if word != revokedMark {
			return Server{}, fmt.Errorf("the only mark is %s, and this is %s", revokedMark, quote(word))
		}
		s.Revoked = true
		word, rest = cutWord(rest)
	}
	for name := range strings.SplitSeq(word, ",") {
		if name != "*" || !s.Revoked {
			if name, err = ServerName(name); err != nil {
				return Server{}, err
			}
		}
		s.Names = append(s.Names, name)
	}
	s.Key, s.Comment, err = parseKey(rest)
	return s, err
}

// errNoName is why a name was not taken.
var errNoName = errors.New("a server's name is host or [host]:port")

// ServerName returns the form in which known_servers has a server's name: "host", or
// "[host]:port", in small letters. "host:port" and "[host]" are taken too. It fails for patterns,
// hashed names, and all else that is not a host.
func ServerName(name string) (string, error) {
	host, port := strings.ToLower(name), ""
	if inner, ok := strings.CutPrefix(host, "["); ok && strings.HasSuffix(inner, "]") {
		host = strings.TrimSuffix(inner, "]")
	} else if ok || strings.Count(host, ":") == 1 {
		var err error
		if host, port, err = net.SplitHostPort(host); err != nil {
			return "", fmt.Errorf("%s: %w", quote(name), errNoName)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
			return "", fmt.Errorf("%s: %s is no port", quote(name), quote(port))
		}
	}
	if !isHost(host) {
		return "", fmt.Errorf("%s: %w", quote(name), errNoName)
	}
	if port != "" {
		return "[" + host + "]:" + port, nil
	}
	return host, nil
}

// isHost reports whether a word in small letters can be a host name or an address, and
// nothing that has another meaning in one of our files.
func isHost(word string) bool {
	for _, c := range []byte(word) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune(".-_:%", rune(c)) {
			return false
		}
	}
	return word != "" && word[0] != '-' && len(word) <= 255
}

// Check returns nil if key is the server's own, by a line for just this name, and is
// not revoked. Else it returns a *RevokedError, an *UnknownError if no line is for the
// name, or a *ChangedError if lines are and none has this key.
func (k *KnownServers) Check(name string, key ed25519.PublicKey) error {
	name, err := ServerName(name)
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	for _, s := range k.Servers() {
		if s.Revoked && s.isFor(name) && same(s.Key, key) {
			return &RevokedError{Name: name, Key: key, File: k.file, Line: s.Line}
		}
	}
	var other *Server
	for _, s := range k.Servers() {
		switch {
		case s.Revoked || !s.isFor(name):
		case same(s.Key, key):
			return nil
		case other == nil:
			other = &s
		}
	}
	if other != nil {
		return &ChangedError{Name: name, Key: key, Known: other.Key, File: k.file, Line: other.Line}
	}
	return &UnknownError{Name: name, Key: key, File: k.file}
}

// Servers returns the lines, in their order.
func (k *KnownServers) Servers() []Server {
	var list []Server
	for i := range k.lines {
		if s, ok := k.at[i+1]; ok {
			list = append(list, s)
		}
	}
	return list
}

// Add puts a server's key down. It reports false if that is known already, and fails as
// Check does for a key that is revoked, or if the name has another key: who is to have a
// new one is forgotten first.
func (k *KnownServers) Add(name string, key ed25519.PublicKey, comment string) (added bool, err error) {
	name, err = ServerName(name)
	if err != nil {
		return false, fmt.Errorf("trust: %w", err)
	}
	var unknown *UnknownError
	if err := k.Check(name, key); err == nil || !errors.As(err, &unknown) {
		return false, err
	}
	s, err := parseServer(Server{Names: []string{name}, Key: key, Comment: comment}.format())
	if err != nil {
		return false, fmt.Errorf("trust: %w", err)
	}
	k.lines = append(k.lines, s.format())
	return true, k.parse()
}

// Forget takes a server's keys out, and returns how many lines spoke of it. Lines that
// revoke a key stay.
func (k *KnownServers) Forget(name string) (n int, err error) {
	if name, err = ServerName(name); err != nil {
		return 0, fmt.Errorf("trust: %w", err)
	}
	var kept []string
	for i, line := range k.lines {
		s, ok := k.at[i+1]
		if !ok || s.Revoked || !s.isFor(name) {
			kept = append(kept, line)
			continue
		}
		n++
		s.Names = slices.DeleteFunc(slices.Clone(s.Names), func(other string) bool { return other == name })
		if len(s.Names) > 0 {
			kept = append(kept, s.format())
		}
	}
	k.lines = kept
	return n, k.parse()
}

// Save writes the file, comments and all. It is there as a whole, or as it was.
func (k *KnownServers) Save() error { return writeFile(k.file, joinLines(k.lines)) }

// An UnknownError says that no line is for this server.
type UnknownError struct {
	Name string
	Key  ed25519.PublicKey // which it showed
	File string
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("%s is not in %s; the key it shows is %s", e.Name, e.File, Fingerprint(e.Key))
}

// A ChangedError says that the server shows another key than the one it is known by.
type ChangedError struct {
	Name  string
	Key   ed25519.PublicKey // which it showed
	Known ed25519.PublicKey // which it should have
	File  string
	Line  int
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s shows the key %s, and has %s by %s:%d: its key was changed, or somebody stands in its place", e.Name, Fingerprint(e.Key), Fingerprint(e.Known), e.File, e.Line)
}

// A RevokedError says that the server shows a key that is not to be trusted any more.
type RevokedError struct {
	Name string
	Key  ed25519.PublicKey
	File string
	Line int
}

func (e *RevokedError) Error() string {
	return fmt.Sprintf("%s shows the key %s, which %s:%d revokes", e.Name, Fingerprint(e.Key), e.File, e.Line)
}
