package profile

import (
	"fmt"
	"slices"
)

// A Key is a key that a table may have.
type Key struct {
	Name string
	Kind Kind // of its value, or of each of them
	Many bool // a list, or one value alone
}

// Check refuses keys that a table of that name does not have, and values of the wrong
// kind, at the first in the file's order. keys says which keys a table has. Errors are
// *Error.
func (f *File) Check(keys func(table string) []Key) error {
	for _, t := range f.Tables {
		known := keys(t.Name)
		for _, s := range t.Settings {
			if err := f.checkSetting(t, s, known); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *File) checkSetting(t *Table, s Setting, known []Key) error {
	i := slices.IndexFunc(known, func(k Key) bool { return k.Name == s.Key })
	if i < 0 {
		e := &Error{File: f.Name, At: s.At, Reason: fmt.Sprintf("[%s] has no key %q", t.Name, s.Key)}
		names := make([]string, len(known))
		for i, k := range known {
			names[i] = k.Name
		}
		if near := Nearest(s.Key, names); near != "" {
			e.Hint = fmt.Sprintf("did you mean %s?", near)
		}
		return e
	}
	k := known[i]
	want := k.Kind.String()
	if k.Many {
		want += ", or a list of such"
	}
	if s.List && !k.Many {
		return &Error{File: f.Name, At: s.At, Reason: s.Key + " is a list", Hint: "it is " + want}
	}
	for _, v := range s.Values {
		if v.Kind != k.Kind {
			return &Error{File: f.Name, At: v.At, Reason: s.Key + " is not " + k.Kind.String(), Hint: "it is " + want}
		}
	}
	return nil
}

// Nearest returns the one of names that word is most like, or nothing if none is much
// like it: as many letters may differ as a third of them.
func Nearest(word string, names []string) string {
	best, distance := "", min(len(word)/3, 3)+1
	if len(word) > 2*maxName { // no slip of the finger
		return ""
	}
	for _, name := range names {
		if d := edits(word, name); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// edits counts the letters to add, drop, change, or swap with the next, that turn a into
// b, no letter more than once (Damerau 1964, as "optimal string alignment").
func edits(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
