package slirp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/bodkin-net/bodkin/config"
)

// A System is what Parse asks about the machine.
type System struct {
	// Open opens a configuration file for reading.
	Open func(name string) (io.ReadCloser, error)

	// Port looks up a service: its port in a network, "tcp" or "udp". Nil: only
	// numbers are ports.
	Port func(network, service string) (port uint16, ok bool)

	Home string // where .slirprc is; empty: nowhere
}

// Bounds of what is read. All are far above what anyone writes, and there so that
// a wrong file is an error and not a burden.
const (
	maxFile      = 1 << 20 // octets of a configuration file
	maxWord      = 4096    // octets of a command
	maxDepth     = 8       // files that name files
	maxRedirects = 256     // each is a socket, and UDP ones some goroutine's work
)

// Parse reads ~/.slirprc, if there is one, and then the arguments, with the files
// that they name. What is wrong with them is a *config.Error that begins with the
// file and the line, if it is in a file.
func Parse(args []string, s System) (*Options, error) {
	p := &parser{system: s, options: defaults()}
	if s.Home != "" {
		err := p.readFile(filepath.Join(s.Home, ".slirprc"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, plain(err)
		}
	}
	for len(args) > 0 {
		used, err := p.argument(args)
		if err != nil {
			return nil, plain(err)
		}
		args = args[used:]
	}
	if err := p.finish(); err != nil {
		return nil, plain(err)
	}
	return &p.options, nil
}

// plain makes a *config.Error of err.
func plain(err error) error {
	var known *config.Error
	hint := ""
	if errors.As(err, &known) {
		hint = known.Hint
	}
	return &config.Error{Reason: err.Error(), Hint: hint}
}

func refuse(hint, format string, a ...any) error {
	return &config.Error{Reason: fmt.Sprintf(format, a...), Hint: hint}
}

// A parser goes through commands.
type parser struct {
	system  System
	options Options
	depth   int // of files named by files

	redirects []redirect // their inner address may not be known yet
}

// argument takes the command that args begin with, and says how many arguments it
// used: a command is one of them, quoted for the shell, unless it has one value
// alone or begins with a dash.
func (p *parser) argument(args []string) (used int, err error) {
	words, err := split(args[0])
	if err != nil {
		return 0, err
	}
	if len(words) == 0 {
		return 1, nil
	}
	used = 1
	c, rest := find(words)
	if c != nil && len(rest) == 0 && len(args) > 1 && c.wantsNext(args[1]) {
		more, err := split(args[1])
		if err != nil {
			return 0, err
		}
		rest, words = append(rest, more...), append(words, more...)
		used++
	}
	return used, p.do(c, words, rest)
}

// wantsNext reports whether a command that stands alone in its argument has its
// value in the next one.
func (c *command) wantsNext(next string) bool {
	if c.way == refused || c.takes() != 1 {
		return false
	}
	_, err := strconv.Atoi(next)
	return c.needs() == 1 || err == nil || c.name == "help"
}

// readFile takes the commands of a file, one a line. Lines that begin with # are
// comments.
func (p *parser) readFile(name string) error {
	if p.depth >= maxDepth {
		return refuse("", "%s: files name each other to a depth of %d", quote(name), maxDepth)
	}
	p.depth++
	defer func() { p.depth-- }()
	if p.system.Open == nil {
		return fmt.Errorf("%s: %w", quote(name), fs.ErrNotExist)
	}
	f, err := p.system.Open(name)
	if err != nil {
		return fmt.Errorf("%s: %w", quote(name), cause(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("%s: %w", quote(name), cause(err))
	}
	if len(text) > maxFile {
		return refuse("", "%s: more than %d octets", quote(name), maxFile)
	}
	at := 0
	for line := range strings.Lines(string(text)) {
		at++
		words, err := split(line)
		if err == nil && (len(words) == 0 || strings.HasPrefix(words[0], "#")) {
			continue
		}
		if err == nil {
			c, rest := find(words)
			err = p.do(c, words, rest)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", quote(name), at, err)
		}
	}
	return nil
}

// cause leaves out what os says of a file that is named already.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// split cuts a command into words.
func split(text string) ([]string, error) {
	if len(text) > maxWord {
		return nil, refuse("", "a command of %d octets, more than %d", len(text), maxWord)
	}
	if strings.IndexByte(text, 0) >= 0 {
		return nil, refuse("", "a command with a NUL")
	}
	return strings.Fields(text), nil
}

// do carries one command out: words are all of it, rest what stands behind its
// name.
func (p *parser) do(c *command, words, rest []string) error {
	shown := quote(strings.Join(words, " "))
	if c == nil {
		hint := "`bodkin slirp --help` lists what there is"
		if n := nearest(words[0]); n != "" {
			hint = "perhaps " + n + "; " + hint
		}
		return refuse(hint, "%s: no such command", shown)
	}
	name := quote(c.name)
	switch {
	case c.way == refused:
		return refuse(c.hint, "%s: %s", name, c.help)
	case len(rest) < c.needs():
		return refuse(fmt.Sprintf(`quote it with what belongs to it: "%s %s"`, c.name, c.args), "%s: wants %s behind it", name, c.args)
	case len(rest) > c.takes():
		return refuse("", "%s: too much behind it", shown)
	case c.way == ignored:
		p.note(c.name + " is ignored: " + c.help)
		return nil
	}
	if err := c.set(p, rest); err != nil {
		return fmt.Errorf("%s: %w", shown, err)
	}
	return nil
}

// note adds a note, once.
func (p *parser) note(text string) {
	for _, n := range p.options.Notes {
		if n == text {
			return
		}
	}
	p.options.Notes = append(p.options.Notes, text)
}

// quote makes text printable, and as short as a line can bear.
func quote(text string) string {
	if len(text) > 80 {
		text = text[:80] + "..."
	}
	for _, r := range text {
		if r < ' ' || r > '~' {
			return fmt.Sprintf("%+q", text)
		}
	}
	return text
}
