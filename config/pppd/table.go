package pppd

import "time"

// A way is what becomes of an option.
type way int

const (
	accepted way = iota
	ignored      // with a note: help says why it does no harm
	refused      // help says why
)

// A group is what options are about, for lists of them.
type group int

const (
	groupLine group = iota
	groupFraming
	groupAddresses
	groupHost
	groupAuth
	groupLife
	groupLog
	groupOurs
	groupIgnored
	groupRefused
	groups // how many there are
)

// An option is one word of the language.
type option struct {
	name    string
	aliases []string
	arg     string // what its value is called; empty: it has none
	help    string
	way     way
	group   group
	set     func(p *parser, value string) error
	file    bool // it stands for the words of a file
}

// Words that are known by name elsewhere.
const (
	passwordWord = "password"
	systemWord   = "system-options"
)

// table holds every option of pppd 2.4.9, and ours. It is filled in by init, since
// reading a file comes back to it.
var table []option

// byName finds the entry of a name or an alias.
var byName map[string]*option

func init() {
	for _, part := range []struct {
		way     way
		group   group
		options []option
	}{
		{accepted, groupLine, lineOptions},
		{accepted, groupFraming, framingOptions},
		{accepted, groupAddresses, addressOptions},
		{accepted, groupHost, hostOptions},
		{accepted, groupAuth, authOptions},
		{accepted, groupLife, lifeOptions},
		{accepted, groupLog, logOptions},
		{accepted, groupOurs, ourOptions},
		{ignored, groupIgnored, ignoredOptions},
		{refused, groupRefused, refusedOptions},
	} {
		for _, o := range part.options {
			o.way, o.group = part.way, part.group
			table = append(table, o)
		}
	}
	byName = make(map[string]*option, len(table))
	for i := range table {
		o := &table[i]
		byName[o.name] = o
		for _, a := range o.aliases {
			byName[a] = o
		}
	}
}

func find(name string) (*option, bool) {
	o, ok := byName[name]
	return o, ok
}

// Kinds of set functions, each for a field of Options.

func flag(field func(*Options) *bool) func(*parser, string) error {
	return boolean(field, true)
}

func boolean(field func(*Options) *bool, to bool) func(*parser, string) error {
	return func(p *parser, _ string) error {
		*field(&p.options) = to
		return nil
	}
}

func number(field func(*Options) *int, least, most int) func(*parser, string) error {
	return func(p *parser, value string) (err error) {
		*field(&p.options), err = integer(value, least, most)
		return err
	}
}

func duration(field func(*Options) *time.Duration, unit time.Duration, least, most int) func(*parser, string) error {
	return func(p *parser, value string) error {
		n, err := integer(value, least, most)
		*field(&p.options) = time.Duration(n) * unit
		return err
	}
}

func text(field func(*Options) *string) func(*parser, string) error {
	return func(p *parser, value string) error {
		*field(&p.options) = value
		return nil
	}
}

func kind(k LineKind, field func(*Line) *string) func(*parser, string) error {
	return func(p *parser, value string) error {
		l := &p.options.Line
		if l.Kind != LineDefault && l.Kind != k {
			return refuse("leave one of them out", "the line cannot be both %s and %s", l.Kind, k)
		}
		l.Kind = k
		if field == nil {
			return nil
		}
		if value == "" {
			return refuse("", "wants something")
		}
		*field(l) = value
		return nil
	}
}

func want(w Want, field func(*Auth) *bool) func(*parser, string) error {
	return func(p *parser, _ string) error {
		p.options.Auth.Want = w
		if field != nil {
			*field(&p.options.Auth) = true
		}
		return nil
	}
}

// timers makes the four options of a control protocol. least is the smallest
// restart.
func timers(protocol, long string, field func(*Options) *Timers) []option {
	count := func(f func(*Timers) *int) func(*parser, string) error {
		return number(func(o *Options) *int { return f(field(o)) }, 1, maxCount)
	}
	return []option{
		{name: protocol + "-restart", arg: "N", help: "repeat " + long + " requests after N seconds (3)",
			set: duration(func(o *Options) *time.Duration { return &field(o).Restart }, time.Second, 1, maxRestart)},
		{name: protocol + "-max-configure", arg: "N", help: "give up after N configure requests (10)",
			set: count(func(t *Timers) *int { return &t.MaxConfigure })},
		{name: protocol + "-max-terminate", arg: "N", help: "give up after N terminate requests (2)",
			set: count(func(t *Timers) *int { return &t.MaxTerminate })},
		{name: protocol + "-max-failure", arg: "N", help: "reject after N naks without agreement (10)",
			set: count(func(t *Timers) *int { return &t.MaxFailure })},
	}
}

// Bounds of numbers. pppd has none; beyond these there is no use.
const (
	maxCount   = 1000000
	maxRestart = 3600      // seconds
	maxSeconds = 1<<31 - 1 // of the longer times: pppd's int
	maxTries   = 1<<31 - 1
)
