// Package profile reads the file of profiles, which is TOML 1.0:
//
//	[work]                              # a profile: `bodkin up work`
//	target = "me@office"
//	routes = ["10.0.0.0/8"]
//
//	[serve]                             # what `bodkin serve` does
//	listen = [":443"]
//
// It knows what a file of profiles looks like, where in it everything stands, and which
// keys there are, for it is told them; what a value means is for whoever asked. It is
// strict: what it does not understand fails the whole file, with the place. It opens no
// file.
//
//	profile.go   the shape of a file
//	parse.go     text -> File
//	check.go     which keys there are, and what each may be
package profile

import (
	"fmt"

	"github.com/bodkin-net/bodkin/config"
)

// Server is the name of the one table that is no client's.
const Server = "serve"

// Bounds of a file, far above what people write by hand.
const (
	maxFile   = 256 << 10 // octets
	maxTables = 1024      // each is checked by itself, and looked for by name
	maxName   = 32        // octets of a profile's name, which is also part of file names
)

// A Position is a place in a file, both numbers from 1. A column is a character.
type Position struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// A File is a file of profiles, in its own order.
type File struct {
	Name   string // of the file, for errors
	Tables []*Table
}

// A Table is one profile, or the server's part.
type Table struct {
	Name     string
	At       Position
	Settings []Setting
}

// A Setting is one key with its values.
type Setting struct {
	Key    string
	At     Position
	Values []Value
	List   bool // it is written as a list, of any length; else there is one value
}

// A Kind is what a value is.
type Kind int

// The kinds of values.
const (
	String Kind = iota
	Boolean
	Integer
)

func (k Kind) String() string {
	return [...]string{`a text, in quotes`, `true or false`, `a whole number`}[k]
}

// A Value is one value. Text is what would stand on a command line for it.
type Value struct {
	Text string
	Kind Kind
	At   Position
}

// Table returns the table of that name, or nil.
func (f *File) Table(name string) *Table {
	for _, t := range f.Tables {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// Profiles returns the names of the profiles, without the server's part.
func (f *File) Profiles() []string {
	var names []string
	for _, t := range f.Tables {
		if t.Name != Server {
			names = append(names, t.Name)
		}
	}
	return names
}

// Setting returns the setting of a key, or nil.
func (t *Table) Setting(key string) *Setting {
	for i := range t.Settings {
		if t.Settings[i].Key == key {
			return &t.Settings[i]
		}
	}
	return nil
}

// Texts returns the values of a key as on a command line, nil if it is not there.
func (t *Table) Texts(key string) []string {
	s := t.Setting(key)
	if s == nil {
		return nil
	}
	texts := make([]string, len(s.Values))
	for i, v := range s.Values {
		texts[i] = v.Text
	}
	return texts
}

// An Error says what is wrong with a file, and where.
type Error struct {
	File   string
	At     Position
	Reason string
	Hint   string // may be empty
	Err    error  // what it is to the command that would have used it; may be nil
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.At.Line, e.At.Column, e.Reason)
}

// Unwrap returns Err, or the same refusal as a *config.Error.
func (e *Error) Unwrap() error {
	if e.Err != nil {
		return e.Err
	}
	return &config.Error{Reason: e.Reason, Hint: e.Hint}
}

// IsName reports whether a word may be the name of a profile: letters, digits, - and _,
// a letter or digit first, 32 at most. None of them could be a target of another kind
// than a host's bare name.
func IsName(word string) bool {
	for i, c := range []byte(word) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '-' || c == '_'):
		default:
			return false
		}
	}
	return word != "" && len(word) <= maxName
}
