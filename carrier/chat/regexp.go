package chat

import (
	"regexp"
	"regexp/syntax"
)

// maxProgram is how many instructions a regular expression may have: each octet costs
// at most so many steps.
const maxProgram = 4096

// A pattern is the regular expression of a MATCH.
type pattern struct {
	expr  string
	prog  *syntax.Prog
	whole *regexp.Regexp // it, at the end of a text: finds the groups
}

// A search looks for the first place where a match of a pattern ends, in octets that
// come one by one. Package regexp reads on to find the longest match, and we must not
// wait for an octet that a prompt does not have: so this is its method, the threads of
// Thompson's construction side by side, which takes the first end there is.
type search struct {
	prog    *syntax.Prog
	threads []uint32 // instructions that wait for the next octet
	next    []uint32
	seen    []bool // instructions that this octet has reached
	last    rune   // the octet before, or -1
	found   bool
}

// newSearch begins a search. It may have found something before the first octet.
func newSearch(p *pattern) *search {
	s := &search{prog: p.prog, seen: make([]bool, len(p.prog.Inst)), last: -1}
	s.reach(uint32(p.prog.Start))
	s.threads, s.next = s.next, s.threads
	return s
}

// put takes an octet and reports whether a match ends with it.
func (s *search) put(octet byte) bool {
	clear(s.seen)
	r := rune(octet)
	s.last = r
	for _, pc := range s.threads {
		if inst := &s.prog.Inst[pc]; inst.MatchRune(r) {
			s.reach(inst.Out)
		}
	}
	s.reach(uint32(s.prog.Start)) // a match may begin with the next octet
	s.threads, s.next = s.next, s.threads[:0]
	return s.found
}

// reach goes on from an instruction to those that take an octet.
func (s *search) reach(pc uint32) {
	if s.seen[pc] {
		return
	}
	s.seen[pc] = true
	switch inst := &s.prog.Inst[pc]; inst.Op {
	case syntax.InstMatch:
		s.found = true
	case syntax.InstAlt, syntax.InstAltMatch:
		s.reach(inst.Out)
		s.reach(inst.Arg)
	case syntax.InstCapture, syntax.InstNop:
		s.reach(inst.Out)
	case syntax.InstEmptyWidth: // ^ only: compile refuses the others
		if syntax.EmptyOp(inst.Arg)&^syntax.EmptyOpContext(s.last, -1) == 0 {
			s.reach(inst.Out)
		}
	case syntax.InstFail:
	default:
		s.next = append(s.next, pc)
	}
}

// groups returns the match that ends text, and its groups; nil if it began before it.
func (p *pattern) groups(text []byte) [][]byte { return p.whole.FindSubmatch(text) }
