package service

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

// A Unit is one unit of systemd's.
type Unit struct {
	File string // its name: "bodkin-work.service"
	Text string // without the line that says whose it is
}

// unitName is the unit of a profile, or of the server. A profile's name has no letter
// that systemd would have escaped.
func unitName(profile string) string { return "bodkin-" + profile + ".service" }

// mark is the first line of what is written here: what does not have it is a stranger's.
const mark = "# Made by `bodkin service install "

// whole is the text of a unit's file.
func (u Unit) whole(profile string) string {
	return mark + profile + "`, taken away by `bodkin service uninstall " + profile + "`. For changes of\n" +
		"# your own use `systemctl edit`: this file is written anew by the next install.\n" + u.Text
}

// Exec writes a command line as ExecStart= takes it (systemd.service(5), "Command
// lines"): no specifier, variable, quote or escape in it means anything. The program is
// an absolute path; one with quotes, backslashes or control characters is not for systemd.
func Exec(program string, args ...string) (string, error) {
	if strings.ContainsFunc(program, func(r rune) bool { return r == '"' || r == '\\' || r == '\'' || r < ' ' || r == 0x7f }) {
		return "", report.WithHint(fmt.Errorf("service: systemd starts no program that is called %q", program), "install it under a plainer name")
	}
	words := make([]string, 0, 1+len(args))
	// systemd puts variables into arguments, not into the path.
	word, err := Quote(program)
	if err != nil {
		return "", err
	}
	words = append(words, word)
	for _, a := range args {
		if word, err = Quote(strings.ReplaceAll(a, "$", "$$")); err != nil {
			return "", err
		}
		words = append(words, word)
	}
	return strings.Join(words, " "), nil
}

// Quote writes one word as systemd takes it in Environment= and other lists
// (systemd.syntax(7), "Quoting"), with the % of specifiers doubled.
func Quote(word string) (string, error) {
	if !utf8.ValidString(word) || strings.ContainsRune(word, 0) {
		return "", report.WithHint(fmt.Errorf("service: %q is no text that a unit could have", word), "give it a name in UTF-8")
	}
	word = strings.ReplaceAll(word, "%", "%%")
	plain := word != ""
	var b strings.Builder
	for _, r := range word {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
			plain = false
		case r < ' ' || r == 0x7f:
			b.WriteString(`\x` + hex(r))
			plain = false
		default:
			b.WriteRune(r)
			plain = plain && r != ' ' && r != '\'' && r != ';' && r != '#'
		}
	}
	if plain {
		return b.String(), nil
	}
	return `"` + b.String() + `"`, nil
}

// hex is a control character as two digits.
func hex(r rune) string {
	digits := strconv.FormatInt(int64(r), 16)
	return strings.Repeat("0", 2-len(digits)) + digits
}
