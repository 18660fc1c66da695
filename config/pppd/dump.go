package pppd

import "strings"

// hidden stands where a password was; pppd writes the same.
const hidden = "??????"

// String writes the option as it could stand in a file, a password hidden.
func (s Setting) String() string { return s.write(true) }

func (s Setting) write(hide bool) string {
	shown := make([]string, len(s.Words))
	for i, w := range s.Words {
		shown[i] = Quote(w)
	}
	if hide && len(shown) > 1 && s.Words[0] == passwordWord {
		shown[1] = hidden
	}
	return strings.Join(shown, " ")
}

// Dump lists the options that were given and where, as dump and dryrun of pppd
// do. The text ends in a line end unless it is empty.
func (o *Options) Dump() string {
	var b strings.Builder
	for _, s := range o.Settings {
		b.WriteString(s.String() + "\t\t# (from " + s.Source + ")\n")
	}
	return b.String()
}
