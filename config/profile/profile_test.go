package profile

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/bodkin-net/bodkin/config"
)

const both = `# The same file on both hosts.
[work]
target  = "me@office"
routes  = ["10.0.0.0/8",
           '192.168.7.0/24']   # two lines
verbose = 2
once    = true
via     = "http://me@proxy:3128"
allow   = []

[serve]
listen = [":443"]
`

// TestParse: what stands where.
func TestParse(t *testing.T) {
	f, err := Parse("config.toml", []byte(both))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, table := range f.Tables {
		got.WriteString("[" + table.Name + "]" + at(table.At) + "\n")
		for _, s := range table.Settings {
			got.WriteString(s.Key + at(s.At))
			for _, v := range s.Values {
				got.WriteString(" " + v.Text + at(v.At))
			}
			got.WriteString("\n")
		}
	}
	const want = `[work]@2:2
target@3:1 me@office@3:11
routes@4:1 10.0.0.0/8@4:12 192.168.7.0/24@5:12
verbose@6:1 2@6:11
once@7:1 true@7:11
via@8:1 http://me@proxy:3128@8:11
allow@9:1
[serve]@11:2
listen@12:1 :443@12:11
`
	if got.String() != want {
		t.Errorf("read\n%s\nwant\n%s", got.String(), want)
	}
	if names := f.Profiles(); len(names) != 1 || names[0] != "work" {
		t.Errorf("profiles %q", names)
	}
	if f.Table("serve").Texts("listen")[0] != ":443" || f.Table("home") != nil || f.Table("work").Texts("near") != nil {
		t.Error("a table or a key is not found by its name, or one is that is not there")
	}
}

func at(p Position) string { return fmt.Sprintf("@%d:%d", p.Line, p.Column) }

// keys are what the tables of these tests may have.
func keys(table string) []Key {
	if table == Server {
		return []Key{{Name: "listen", Many: true}, {Name: "max-clients", Kind: Integer}}
	}
	return []Key{{Name: "target"}, {Name: "routes", Many: true}, {Name: "exclude", Many: true}, {Name: "verbose", Kind: Integer}, {Name: "once", Kind: Boolean}, {Name: "via", Many: true}, {Name: "allow", Many: true}}
}

// TestRefused: each refusal has its place, and where it can be known the next thing to try.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ text, want, hint string }{
		{"target = 'gw'", `1:1: "target" stands before the first profile`, "[work]"},
		{"work = {target = 'gw'}", `1:1: "work" stands before the first profile`, "[work]"},
		{"work.target = 'gw'", `1:1: "work.target" stands before the first profile`, "[work]"},
		{"[work]\ntarget = 'gw'\n\n[work]\n", "4:2: it is not TOML: table work already exists", ""},
		{"[work]\nonce = true\nonce = true\n", "3:1: it is not TOML: key once is already defined", ""},
		{"[work\n", "1:6: it is not TOML", ""},
		{"[work]\ntarget = gw\n", "2:10: it is not TOML", ""},
		{"[work]\ntarget = 'gw\n", "2:", ""},
		{"[[work]]\n", "1:3: a list of tables", "[name]"},
		{"[work.far]\n", "1:2: a table within a table", "plain name"},
		{"['me@gw']\n", `1:2: "me@gw" is no name for a profile`, "letters, digits"},
		{"['" + strings.Repeat("x", 33) + "']\n", "is no name for a profile", "32 at most"},
		{"[work]\nfar.side = 'nat'\n", `2:1: "far.side"`, "dot"},
		{"[work]\nexclude = [['10.0.0.0/8']]\n", "2:1: exclude: a list within a list", "one list"},
		{"[work]\nexclude = {a = 1}\n", "exclude: a table", ""},
		{"[work]\nverbose = 1.5\n", "2:11: verbose: a float", "quotes"},
		{"[work]\nonce = 2027-01-01\n", "2:8: once: a localdate", "quotes"},
		{"[work]\ntarget = \"a\\u0000b\"\n", "2:10: target: a NUL", ""},
		{"[work]\nverbose = 99999999999999999999\n", "2:11: ", ""},
		{"[work]\nexclud = 'x'\n", `2:1: [work] has no key "exclud"`, "did you mean exclude?"},
		{"[work]\nroute = ['x']\n", `2:1: [work] has no key "route"`, "did you mean routes?"},
		{"[work]\nlisten = [':443']\n", `2:1: [work] has no key "listen"`, ""},
		{"[serve]\ntarget = 'gw'\n", `2:1: [serve] has no key "target"`, ""},
		{"[work]\ntarget = ['gw']\n", "2:1: target is a list", "in quotes"},
		{"[work]\nonce = 'yes'\n", "2:8: once is not true or false", ""},
		{"[work]\nverbose = true\n", "2:11: verbose is not a whole number", ""},
		{"[work]\nroutes = ['10.0.0.0/8', 10]\n", "2:25: routes is not a text, in quotes", "list of such"},
		{"[work]\n# ünï\nröutes = 1\n", "3:2: it is not TOML", ""},
		{"[work]\nroutes = ['ünï', 10]\n", "2:18: routes is not", ""}, // columns are characters
		{"[work]\x00", "1:7: a NUL", ""},
		{strings.Repeat("#", maxFile+1), "octets", ""},
	} {
		f, err := Parse("c", []byte(c.text))
		if err == nil {
			err = f.Check(keys)
		}
		var e *Error
		var said *config.Error
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), "c:") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: %v, want %s", c.text, err, c.want)
			continue
		}
		if !errors.As(err, &said) || !strings.Contains(said.Hint, c.hint) {
			t.Errorf("%.60q: the hint %q, want %q", c.text, said.Hint, c.hint)
		}
	}
}

// TestNearest: a slip of the finger is known as one, and another word is not.
func TestNearest(t *testing.T) {
	names := []string{"target", "exclude", "near", "far", "dns", "via"}
	for word, want := range map[string]string{"taget": "target", "excldue": "exclude", "faar": "far", "dsn": "dns", "naer": "near", "xyz": "", "via": "via", "password": "", "": "", strings.Repeat("x", 1000): ""} {
		if got := Nearest(word, names); got != want {
			t.Errorf("nearest to %.20q: %q, want %q", word, got, want)
		}
	}
}

// FuzzParse: whatever the text, no panic; an error has a place inside the text; and what
// is taken stands at the place that is said, is within the bounds, and is taken
// again the same when written plainly.
func FuzzParse(f *testing.F) {
	f.Add(both)
	f.Add("[a]\nb = [1, 'x', true]\n")
	f.Add("a.b = 1\n[[c]]\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse("f", []byte(text))
		lines := strings.Split(text, "\n")
		inside := func(p Position) {
			if p.Line < 1 || p.Column < 1 || p.Line > len(lines) || p.Column > utf8.RuneCountInString(lines[p.Line-1])+1 {
				t.Fatalf("%q: the place %+v is not in it", text, p)
			}
		}
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%q: %T is no *Error", text, err)
			}
			inside(e.At)
			return
		}
		var plain strings.Builder
		for _, table := range file.Tables {
			inside(table.At)
			if !IsName(table.Name) {
				t.Fatalf("%q is a name", table.Name)
			}
			plain.WriteString("[" + table.Name + "]\n")
			for _, s := range table.Settings {
				inside(s.At)
				plain.WriteString(quoted(s.Key) + " = [")
				for _, v := range s.Values {
					inside(v.At)
					if v.Kind == String {
						plain.WriteString(quoted(v.Text) + ",")
					} else {
						plain.WriteString(v.Text + ",")
					}
				}
				plain.WriteString("]\n")
			}
		}
		again, err := Parse("f", []byte(plain.String()))
		if err != nil && len(plain.String()) <= maxFile {
			t.Fatalf("%q was written as %q: %v", text, plain.String(), err)
		}
		if err == nil && !same(file, again) {
			t.Fatalf("%q was written as %q, which says something else", text, plain.String())
		}
	})
}

// quoted is a basic string (TOML 1.0, "String").
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			b.WriteString(`\u00` + string("0123456789abcdef"[r>>4]) + string("0123456789abcdef"[r&15]))
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}

func same(a, b *File) bool {
	if len(a.Tables) != len(b.Tables) {
		return false
	}
	for i, t := range a.Tables {
		u := b.Tables[i]
		if t.Name != u.Name || len(t.Settings) != len(u.Settings) {
			return false
		}
		for j, s := range t.Settings {
			w := u.Settings[j]
			if s.Key != w.Key || len(s.Values) != len(w.Values) {
				return false
			}
			for k, v := range s.Values {
				if v.Text != w.Values[k].Text || v.Kind != w.Values[k].Kind {
					return false
				}
			}
		}
	}
	return true
}
