package pppd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/bodkin-net/bodkin/config"
)

// A System is what Parse asks about the machine.
type System struct {
	// Open opens an options file for reading.
	Open func(name string) (io.ReadCloser, error)

	// IsDevice reports whether there is a character device at path. Nil: those
	// are taken for one whose path begins with /dev/.
	IsDevice func(path string) bool

	Home string // where .ppprc is; empty: nowhere
}

// Where pppd keeps its files.
const (
	optionsFile = "/etc/ppp/options"
	peersDir    = "/etc/ppp/peers"
)

// commandLine is the Source of what stands in the arguments.
const commandLine = "command line"

// Parse reads the arguments and the files that they name. What is wrong with them
// is a *config.Error that begins with the file and the line, if it is in a file.
func Parse(args []string, s System) (*Options, error) {
	p := &parser{system: s, options: defaults()}
	rest := args
	if len(args) > 0 && args[0] == systemWord {
		rest = args[1:]
		if err := p.systemFiles(args[1:]); err != nil {
			return nil, err
		}
	}
	words := make([]word, len(rest))
	for i, a := range rest {
		if len(a) > maxWord {
			return nil, refuse("", "an argument of %d octets, more than %d", len(a), maxWord)
		}
		if strings.IndexByte(a, 0) >= 0 {
			return nil, refuse("", "an argument with a NUL")
		}
		words[i].text = a
	}
	if err := p.take(words, ""); err != nil {
		return nil, err
	}
	if err := p.options.check(); err != nil {
		return nil, err
	}
	return &p.options, nil
}

func refuse(hint, format string, a ...any) error {
	return &config.Error{Reason: fmt.Sprintf(format, a...), Hint: hint}
}

// A parser goes through the words. Options in it are not checked as a whole.
type parser struct {
	system  System
	options Options
	depth   int // of files named by files
	words   int // read from files
	now     place

	noDefaultRoute, noDefaultRoute6 bool // defaultroute is refused from now on
}

// A place is where a word stands.
type place struct {
	file string // empty: the command line
	line int
}

func (p place) String() string {
	if p.file == "" {
		return commandLine
	}
	return fmt.Sprintf("%s:%d", Quote(p.file), p.line)
}

// wrong puts the place and the option in front of what is wrong with it.
func (p place) wrong(words []string, err error) error {
	reason, hint := err.Error(), ""
	var known *config.Error
	if errors.As(err, &known) {
		hint = known.Hint
	}
	if len(words) > 0 {
		shown := make([]string, len(words))
		for i, w := range words {
			shown[i] = Quote(w)
		}
		if words[0] == passwordWord && len(shown) > 1 {
			shown[1] = hidden
		}
		reason = strings.Join(shown, " ") + ": " + reason
	}
	if p.file != "" {
		reason = p.String() + ": " + reason
	}
	return &config.Error{Reason: reason, Hint: hint}
}

// take goes through words of a file, or of the command line if file is empty.
func (p *parser) take(words []word, file string) error {
	for len(words) > 0 {
		at := place{file, words[0].line}
		name := words[0].text
		o, known := find(name)
		if !known {
			if err := p.bare(name, at); err != nil {
				return at.wrong(nil, err)
			}
			words = words[1:]
			continue
		}
		n := 1
		if o.arg != "" {
			n = 2
		}
		if len(words) < n {
			return at.wrong([]string{name}, refuse("", "wants %s behind it", o.arg))
		}
		texts := make([]string, n)
		for i := range n {
			texts[i] = words[i].text
		}
		if err := p.apply(o, texts, at); err != nil {
			return err
		}
		words = words[n:]
	}
	return nil
}

// apply does what one option says.
func (p *parser) apply(o *option, texts []string, at place) error {
	value := ""
	if len(texts) > 1 {
		value = texts[1]
	}
	switch o.way {
	case refused:
		return at.wrong(texts[:1], refuse("", "%s", o.help))
	case ignored:
		note := fmt.Sprintf("%s is ignored: %s", texts[0], o.help)
		if !slices.Contains(p.options.Notes, note) {
			p.options.Notes = append(p.options.Notes, note)
		}
		return p.settle(texts, at)
	}
	before := p.now
	p.now = at
	err := o.set(p, value)
	p.now = before
	var there *placed
	switch {
	case errors.As(err, &there):
		return there.error // of a word in a file that this one names
	case err != nil:
		return at.wrong(texts, err)
	case o.file:
		return nil // what it stands for has been settled
	}
	return p.settle(texts, at)
}

// A placed error knows its place already.
type placed struct{ error }

func (e *placed) Unwrap() error { return e.error }

func (p *parser) settle(texts []string, at place) error {
	p.options.Settings = append(p.options.Settings, Setting{Words: texts, Source: at.String()})
	return nil
}

// bare takes a word that is no option's name: addresses, a speed or a device.
func (p *parser) bare(text string, at place) error {
	var err error
	switch {
	case isNumber(text):
		p.options.Line.Speed, err = strconv.Atoi(text)
		if err != nil || p.options.Line.Speed > maxSpeed {
			return refuse("", "%s: not a speed of a serial line", text)
		}
	case p.isDevice(text):
		p.options.Line.Device = devicePath(text)
	case strings.Contains(text, ":"):
		err = p.addresses(text)
	default:
		hint := "bodkin ppp --help lists the options"
		if near := nearest(text); near != "" {
			hint = "did you mean " + near + "?"
		}
		return refuse(hint, "%s is no option", Quote(text))
	}
	if err != nil {
		return err
	}
	return p.settle([]string{text}, at)
}

// maxSpeed is beyond any serial line, in baud: what fits the kernel's field.
const maxSpeed = 1 << 30

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func devicePath(text string) string {
	if strings.HasPrefix(text, "/") {
		return text
	}
	return "/dev/" + text
}

func (p *parser) isDevice(text string) bool {
	if p.system.IsDevice == nil {
		return strings.HasPrefix(text, "/dev/")
	}
	// What is written as a path is meant as one: opening it says what is wrong.
	return strings.HasPrefix(text, "/") || text != "" && p.system.IsDevice("/dev/"+text)
}

// addresses reads LOCAL:REMOTE, of which either may be empty.
func (p *parser) addresses(text string) error {
	local, remote, _ := strings.Cut(text, ":")
	for _, side := range []struct {
		text string
		to   *netip.Addr
	}{{local, &p.options.IPv4.Local}, {remote, &p.options.IPv4.Remote}} {
		if side.text == "" {
			continue
		}
		a, err := usableIPv4(side.text)
		if err != nil {
			return err
		}
		*side.to = a
	}
	return nil
}

// usableIPv4 reads an address that one end of a link can have. 0.0.0.0, pppd's
// way to say that the peer is to choose, is the zero Addr.
func usableIPv4(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return a, refuse("write addresses as numbers, LOCAL:REMOTE, for example 10.0.2.2:10.0.2.15", "%s is not an IPv4 address", Quote(text))
	}
	if a.IsUnspecified() {
		return netip.Addr{}, nil
	}
	if a.IsLoopback() || a.IsMulticast() || a.As4()[0] == 0 || a.As4()[0] >= 240 {
		return a, refuse("", "%v is not an address that an end of a link can have", a)
	}
	return a, nil
}

// systemFiles reads what pppd reads by itself before the command line, which is
// args here.
func (p *parser) systemFiles(args []string) error {
	names := []string{optionsFile}
	if p.system.Home != "" {
		names = append(names, path.Join(p.system.Home, ".ppprc"))
	}
	for _, a := range args { // as pppd does: the device is looked for first
		if _, known := find(a); !known && !isNumber(a) && p.isDevice(a) {
			tty := strings.TrimPrefix(devicePath(a), "/dev/")
			names = append(names, optionsFile+"."+strings.ReplaceAll(tty, "/", "."))
			break
		}
	}
	for _, name := range names {
		err := p.readFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var there *placed
		if errors.As(err, &there) {
			return there.error
		}
		if err != nil {
			return refuse("", "%v", err)
		}
	}
	return nil
}

// readFile takes the words of a file.
func (p *parser) readFile(name string) error {
	if p.depth == maxDepth {
		return refuse("", "files that name files, more than %d deep", maxDepth)
	}
	if p.system.Open == nil {
		return refuse("", "%s: there are no files here", Quote(name))
	}
	f, err := p.system.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("reading %s: %w", Quote(name), err)
	}
	if len(text) > maxFile {
		return refuse("", "%s is larger than %d octets", Quote(name), maxFile)
	}
	words, err := split(string(text))
	if err != nil {
		return &placed{refuse("", "%s:%v", Quote(name), err)}
	}
	if p.words += len(words); p.words > maxWords {
		return refuse("", "options files of more than %d words", maxWords)
	}
	p.depth++
	defer func() { p.depth-- }()
	if err := p.take(words, name); err != nil {
		return &placed{err}
	}
	return nil
}

// call reads the file of a peer.
func (p *parser) call(name string) error {
	switch {
	case name == "" || strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name, "/"), ".."):
		return refuse("name a file below "+peersDir, "not a name without a leading / and without ..")
	}
	p.options.Life.CallFile = name
	return p.readFile(path.Join(peersDir, name))
}
