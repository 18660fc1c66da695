// Package story tells what bodkin does, on a network made for the purpose: nothing
// gets out of a laptop, bodkin comes up through ssh, everything gets out, bodkin
// goes down, and the laptop is as it was.
//
// Every claim is checked as it is told: a command that behaves otherwise than the
// story says makes the story fail.
package story

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// A teller writes the story down.
type teller struct {
	w               io.Writer
	colour          bool
	chapters, steps int
	disappointments []string
}

// The colours of a terminal (ECMA-48, section 8.3.117).
const (
	bold  = "1"
	faint = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func newTeller(w io.Writer) *teller {
	f, ok := w.(*os.File)
	return &teller{w: w, colour: ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (t *teller) paint(code, text string) string {
	if !t.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (t *teller) print(text string) { io.WriteString(t.w, text) }

func (t *teller) say(format string, args ...any) {
	t.print("  " + fmt.Sprintf(format, args...) + "\n")
}

func (t *teller) chapter(title string) {
	t.chapters++
	t.print("\n" + t.paint(bold, fmt.Sprintf("%d. %s", t.chapters, title)) + "\n\n")
}

// prompt shows a command about to run.
func (t *teller) prompt(line string) {
	t.print("  " + t.paint(cyan, "me@laptop$") + " " + line + "\n")
}

// output shows a line of a program's, as far as it is text.
func (t *teller) output(line string) {
	line = strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, line)
	if line != "" {
		t.print("    " + t.paint(faint, line) + "\n")
	}
}

// verdict ends a step: problem is empty if it went as it should.
func (t *teller) verdict(what, problem, note string) {
	t.steps++
	if problem != "" {
		t.disappointments = append(t.disappointments, what+": "+problem)
		t.print("    " + t.paint(red, "!! "+problem) + "\n")
		return
	}
	if note == "" {
		note = "as it should be"
	}
	t.print("    " + t.paint(green, "ok") + " " + note + "\n")
}

// check tells a fact that should be so, with details if it is not.
func (t *teller) check(right bool, what string, details ...string) {
	t.steps++
	if right {
		t.print("    " + t.paint(green, "ok") + " " + what + "\n")
		return
	}
	t.disappointments = append(t.disappointments, what)
	t.print("    " + t.paint(red, "!! "+what) + "\n")
	for _, d := range details {
		t.output(d)
	}
}

// barWidth is the length of the longest bar in columns.
const barWidth = 30

// bar draws a speed in proportion to the highest.
func (t *teller) bar(name string, octetsPerSecond, highest float64) {
	n := 0
	if highest > 0 {
		n = int(barWidth*octetsPerSecond/highest + 0.5)
	}
	t.say("%-28s %s%s %s", name, t.paint(green, strings.Repeat("#", n)), strings.Repeat(" ", barWidth-n), rate(octetsPerSecond))
}

// rate is a speed in words.
func rate(octetsPerSecond float64) string {
	return fmt.Sprintf("%.0f Mbit/s", octetsPerSecond*8/1e6)
}
