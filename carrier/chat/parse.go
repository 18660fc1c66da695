package chat

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// A Script is what Parse and ParseWords make, and Run follows. It does not change:
// several may run it at once.
type Script struct {
	steps []step
}

// A step is one pair of a script: what is expected, and what is sent then; or a
// keyword and its word. The last may lack the second half.
type step struct {
	line    int // where it begins, from 1; 0 if the script is words
	keyword string
	parts   []string // of the expected, cut at its dashes: expect, send, expect ...
	word    string   // what follows
	whole   bool     // something follows
	re      *pattern // of MATCH
}

// The words that say something else than what to expect. Those of the first block are
// chat(8)'s; a script that expects one of the others writes \MATCH.
const (
	kwAbort       = "ABORT"
	kwClearAbort  = "CLR_ABORT"
	kwReport      = "REPORT"
	kwClearReport = "CLR_REPORT"
	kwTimeout     = "TIMEOUT"
	kwEcho        = "ECHO"
	kwSay         = "SAY"
	kwHangUp      = "HANGUP"

	kwMatch = "MATCH" // waits for a regular expression
	kwReply = "REPLY" // sends a word, with {0} to {9} from the last MATCH
	kwAsk   = "ASK"   // sends what Options.Answer says to a question
)

// isKeyword reports whether a word in the place of an expect is a keyword, and whether
// it cannot be without the word that follows.
func isKeyword(word string) (is, needs bool) {
	switch word {
	case kwAbort, kwClearAbort, kwReport, kwClearReport, kwTimeout, kwEcho, kwSay, kwHangUp:
		return true, false // chat(8) ends quietly
	case kwMatch, kwReply, kwAsk:
		return true, true
	}
	return false, false
}

// Parse reads a script's text, as in a file for `chat -f`. Words are separated by
// blanks, tabs and line ends; one that begins with ' or " reaches to the next of its
// kind on the line, an octet after a backslash not counted. A line that begins with #
// is a comment. An error is a *SyntaxError.
func Parse(text string) (*Script, error) {
	if len(text) > maxScript {
		return nil, &SyntaxError{0, "a script of more than 1 MiB"}
	}
	var b builder
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		for {
			line = strings.TrimLeft(line, " \t")
			if line == "" {
				break
			}
			var word string
			if quote := line[0]; quote == '\'' || quote == '"' {
				end := closing(line[1:], quote)
				if end < 0 {
					return nil, &SyntaxError{number, "unterminated quote"}
				}
				word, line = line[1:1+end], line[end+2:]
			} else if end := strings.IndexAny(line, " \t"); end >= 0 {
				word, line = line[:end], line[end+1:]
			} else {
				word, line = line, ""
			}
			if err := b.add(word, number); err != nil {
				return nil, err
			}
		}
	}
	return b.script()
}

// ParseWords makes a script of words that a shell has separated.
func ParseWords(words []string) (*Script, error) {
	var b builder
	for _, word := range words {
		if err := b.add(word, 0); err != nil {
			return nil, err
		}
	}
	return b.script()
}

// closing returns where the quote is that ends s, or -1.
func closing(s string, quote byte) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case quote:
			return i
		}
	}
	return -1
}

// A builder puts words together in pairs.
type builder struct {
	steps []step
	size  int // of all words, in octets
}

func (b *builder) add(word string, line int) error {
	if b.size += len(word); b.size > maxScript {
		return &SyntaxError{line, "a script of more than 1 MiB"}
	}
	if strings.IndexByte(word, 0) >= 0 {
		return &SyntaxError{line, `a NUL octet; \N sends one`}
	}
	if n := len(b.steps); n > 0 && !b.steps[n-1].whole {
		return b.steps[n-1].follow(word)
	}
	s := step{line: line}
	if is, _ := isKeyword(word); is {
		s.keyword = word
	} else {
		s.parts = cut(word)
	}
	b.steps = append(b.steps, s)
	return nil
}

func (b *builder) script() (*Script, error) {
	if n := len(b.steps); n > 0 && !b.steps[n-1].whole {
		last := b.steps[n-1]
		if _, needs := isKeyword(last.keyword); needs {
			return nil, &SyntaxError{last.line, last.keyword + " and nothing after it"}
		}
	}
	return &Script{b.steps}, nil
}

// follow gives a step its second half.
func (s *step) follow(word string) error {
	s.word, s.whole = word, true
	switch s.keyword {
	case kwMatch:
		re, err := compile(word)
		if err != nil {
			return &SyntaxError{s.line, "MATCH " + quoted(word) + ": " + err.Error()}
		}
		s.re = re
	case kwReply:
		for _, n := range references(word) {
			if n > 9 {
				return &SyntaxError{s.line, "REPLY " + quoted(word) + ": the groups are {0} to {9}"}
			}
		}
	}
	return nil
}

// cut splits an expect at its dashes, but not at \-. A dash at the end has nothing
// behind it: chat(8) takes it as if it were not there.
func cut(word string) []string {
	var parts []string
	begin := 0
	for i := 0; i < len(word); i++ {
		switch word[i] {
		case '\\':
			i++
		case '-':
			parts = append(parts, word[begin:i])
			begin = i + 1
		}
	}
	if begin < len(word) {
		parts = append(parts, word[begin:])
	}
	return parts
}

// reference is {n} in a word of REPLY or ASK.
var reference = regexp.MustCompile(`\{(\d{1,4})\}`)

func references(word string) []int {
	var found []int
	for _, m := range reference.FindAllStringSubmatch(word, -1) {
		var n int
		fmt.Sscan(m[1], &n)
		found = append(found, n)
	}
	return found
}

// compile reads the regular expression of a MATCH.
func compile(expr string) (*pattern, error) {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	if looksAhead(tree) {
		return nil, errors.New(`$, \z, \b and \B depend on what comes next, which is not known yet: leave them out`)
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, err
	}
	if len(prog.Inst) > maxProgram {
		return nil, errors.New("too large")
	}
	whole, err := regexp.Compile(`(?:` + expr + `)\z`)
	if err != nil {
		return nil, err
	}
	return &pattern{expr, prog, whole}, nil
}

// looksAhead reports whether an expression asks for what follows a match.
func looksAhead(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpEndLine, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return true
	}
	for _, sub := range re.Sub {
		if looksAhead(sub) {
			return true
		}
	}
	return false
}
