package profile

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Parse takes the text of a file apart; name is the file's, for errors, which are
// *Error.
func Parse(name string, text []byte) (*File, error) {
	p := &parser{file: &File{Name: name}, text: text}
	if len(text) > maxFile {
		return nil, p.refuse(0, "", "it has more than %d octets", maxFile)
	}
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return nil, p.refuse(i, "", "a NUL, which no text has")
	}
	// First whether it is TOML at all, names that are there twice included; what
	// comes of it has no positions.
	var whole map[string]any
	if err := toml.Unmarshal(text, &whole); err != nil {
		return nil, p.syntax(err)
	}
	p.toml.Reset(text)
	for p.toml.NextExpression() {
		if err := p.expression(p.toml.Expression()); err != nil {
			return nil, err
		}
	}
	if err := p.toml.Error(); err != nil {
		return nil, p.syntax(err)
	}
	return p.file, nil
}

type parser struct {
	file *File
	text []byte
	toml unstable.Parser
}

// position is the place of an octet of the text.
func (p *parser) position(offset int) Position {
	for offset < len(p.text) && offset > 0 && !utf8.RuneStart(p.text[offset]) {
		offset-- // in the middle of a character
	}
	before := p.text[:min(offset, len(p.text))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return Position{Line: bytes.Count(before, []byte("\n")) + 1, Column: utf8.RuneCount(before[start:]) + 1}
}

func (p *parser) refuse(offset int, hint, format string, args ...any) error {
	return &Error{File: p.file.Name, At: p.position(offset), Reason: fmt.Sprintf(format, args...), Hint: hint}
}

// syntax is what is wrong with a text that is not TOML. It repeats no more of the text
// than a character, for a password may stand there.
func (p *parser) syntax(err error) error {
	e := &Error{File: p.file.Name, At: Position{1, 1}, Reason: "it is not TOML: " + strings.TrimPrefix(err.Error(), "toml: ")}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		line, column := decode.Position()
		offset := 0
		for range line - 1 {
			offset += bytes.IndexByte(p.text[offset:], '\n') + 1
		}
		e.At = p.position(offset + column - 1)
	}
	return e
}

// expression takes one line of the file: a table's name, or a key and its value.
func (p *parser) expression(n *unstable.Node) error {
	names, at := p.names(n)
	switch n.Kind {
	case unstable.Table:
		const hint = "a profile is one table with a plain name, such as [work]"
		switch {
		case len(names) != 1:
			return p.refuse(at, hint, "a table within a table")
		case !IsName(names[0]):
			return p.refuse(at, fmt.Sprintf("use letters, digits, - and _, %d at most, a letter or digit first", maxName), "%q is no name for a profile", names[0])
		case len(p.file.Tables) == maxTables:
			return p.refuse(at, "", "more than %d profiles", maxTables)
		}
		p.file.Tables = append(p.file.Tables, &Table{Name: names[0], At: p.position(at)})
		return nil
	case unstable.ArrayTable:
		return p.refuse(at, "write [name], each name once", "a list of tables")
	case unstable.KeyValue:
	default:
		return p.refuse(at, "", "a %s where a table or a key is expected", n.Kind)
	}
	if len(p.file.Tables) == 0 {
		return p.refuse(at, "put it below the name of its profile, such as [work]", "%q stands before the first profile", strings.Join(names, "."))
	}
	if len(names) != 1 {
		return p.refuse(at, "no key of a profile has a dot", "%q", strings.Join(names, "."))
	}
	s := Setting{Key: names[0], At: p.position(at)}
	value := n.Value()
	if s.List = value.Kind == unstable.Array; !s.List {
		v, err := p.value(s.Key, at, value)
		if err != nil {
			return err
		}
		s.Values = []Value{v}
	} else {
		for it := value.Children(); it.Next(); {
			v, err := p.value(s.Key, at, it.Node())
			if err != nil {
				return err
			}
			s.Values = append(s.Values, v)
		}
	}
	t := p.file.Tables[len(p.file.Tables)-1]
	t.Settings = append(t.Settings, s)
	return nil
}

// names are the parts of a key, and where it begins.
func (p *parser) names(n *unstable.Node) (names []string, at int) {
	if n.Kind != unstable.Table && n.Kind != unstable.ArrayTable && n.Kind != unstable.KeyValue {
		return nil, int(n.Raw.Offset)
	}
	for it := n.Key(); it.Next(); {
		if len(names) == 0 {
			at = int(it.Node().Raw.Offset)
		}
		names = append(names, string(it.Node().Data))
	}
	return names, at
}

// value takes one value, which has no others in it. Where the library does not say its
// place, that of its key stands in.
func (p *parser) value(key string, keyAt int, n *unstable.Node) (Value, error) {
	at := keyAt
	if n.Raw.Length > 0 {
		at = int(n.Raw.Offset)
	}
	v := Value{Text: string(n.Data), At: p.position(at)}
	switch n.Kind {
	case unstable.String:
		if strings.ContainsRune(v.Text, 0) {
			return v, p.refuse(at, "", "%s: a NUL, which no argument can have", key)
		}
	case unstable.Bool:
		v.Kind = Boolean
	case unstable.Integer:
		v.Kind = Integer
		i, err := strconv.ParseInt(strings.ReplaceAll(v.Text, "_", ""), 0, 64)
		if err != nil {
			return v, p.refuse(at, "", "%s: a number beyond all bounds", key)
		}
		v.Text = strconv.FormatInt(i, 10)
	case unstable.Array:
		return v, p.refuse(at, "write one list: [\"a\", \"b\"]", "%s: a list within a list", key)
	case unstable.InlineTable:
		return v, p.refuse(at, "a profile has keys and values alone", "%s: a table", key)
	default:
		return v, p.refuse(at, "put it in quotes", "%s: a %s", key, strings.ToLower(n.Kind.String()))
	}
	return v, nil
}
