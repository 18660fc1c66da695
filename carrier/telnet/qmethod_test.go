package telnet

import (
	"fmt"
	"testing"
)

var stateNames = map[state]string{
	no: "NO", yes: "YES", wantNo: "WANTNO EMPTY", wantNoYes: "WANTNO OPPOSITE",
	wantYes: "WANTYES EMPTY", wantYesNo: "WANTYES OPPOSITE",
}

// TestQMethod has section 7 of RFC 1143 in its order, in its words: what we do with
// the peer's WILL and WONT, and when we ask him to begin and to end. The same
// holds of DO and DONT with our side.
func TestQMethod(t *testing.T) {
	for _, tt := range []struct {
		event event
		agree bool
		state state
		next  state
		say   say
		rfc   string
	}{
		{heardYes, true, no, yes, sayYes, "if we agree that he should enable, him=YES, send DO"},
		{heardYes, false, no, no, sayNo, "otherwise, send DONT"},
		{heardYes, true, yes, yes, sayNothing, "ignore"},
		{heardYes, false, yes, yes, sayNothing, "ignore"},
		{heardYes, true, wantNo, no, sayNothing, "error: DONT answered by WILL. him=NO"},
		{heardYes, true, wantNoYes, yes, sayNothing, "error: DONT answered by WILL. him=YES*, himq=EMPTY"},
		{heardYes, true, wantYes, yes, sayNothing, "him=YES"},
		{heardYes, true, wantYesNo, wantNo, sayNo, "him=WANTNO, himq=EMPTY, send DONT"},

		{heardNo, true, no, no, sayNothing, "ignore"},
		{heardNo, true, yes, no, sayNo, "him=NO, send DONT"},
		{heardNo, true, wantNo, no, sayNothing, "him=NO"},
		{heardNo, true, wantNoYes, wantYes, sayYes, "him=WANTYES, himq=NONE, send DO"},
		{heardNo, true, wantYes, no, sayNothing, "him=NO"},
		{heardNo, true, wantYesNo, no, sayNothing, "him=NO, himq=NONE"},

		{askYes, true, no, wantYes, sayYes, "him=WANTYES, send DO"},
		{askYes, true, yes, yes, sayNothing, "error: already enabled"},
		{askYes, true, wantNo, wantNoYes, sayNothing, "if we are queueing requests, himq=OPPOSITE"},
		{askYes, true, wantNoYes, wantNoYes, sayNothing, "error: already queued an enable request"},
		{askYes, true, wantYes, wantYes, sayNothing, "error: already negotiating for enable"},
		{askYes, true, wantYesNo, wantYes, sayNothing, "himq=EMPTY"},

		{askNo, true, no, no, sayNothing, "error: already disabled"},
		{askNo, true, yes, wantNo, sayNo, "him=WANTNO, send DONT"},
		{askNo, true, wantNo, wantNo, sayNothing, "error: already negotiating for disable"},
		{askNo, true, wantNoYes, wantNo, sayNothing, "himq=EMPTY"},
		{askNo, true, wantYes, wantYesNo, sayNothing, "if we are queueing requests, himq=OPPOSITE"},
		{askNo, true, wantYesNo, wantYesNo, sayNothing, "error: already queued a disable request"},
	} {
		if got := tt.state.after(tt.event, tt.agree); got != (step{tt.next, tt.say}) {
			t.Errorf("event %d in %s: %v: %s, say %d", tt.event, stateNames[tt.state], tt.rfc, stateNames[got.next], got.say)
		}
	}
}

// A world is both ends of one option: the side that may have it, which says WILL, and
// the other, which says DO, with what is under way between.
type world struct {
	state  [2]state
	way    [2]string // to the other end: y and n, oldest first
	wishes int       // that users have left
}

// TestQMethodEnds walks through all that can happen to one option between two ends
// that both change their minds, at any moment, six times together: whatever
// crosses on the way, the talk ends, and both ends then mean the same.
func TestQMethodEnds(t *testing.T) {
	for agree := range 4 {
		t.Run(fmt.Sprintf("agree %02b", agree), func(t *testing.T) {
			seen := map[world]bool{}
			next := []world{{wishes: 6}}
			for len(next) > 0 {
				w := next[len(next)-1]
				next = next[:len(next)-1]
				if seen[w] {
					continue
				}
				if seen[w] = true; len(seen) > 1_000_000 || len(w.way[0])+len(w.way[1]) > 20 {
					t.Fatalf("they talk without end: %+v", w)
				}
				happen := func(end int, e event) {
					v := w
					if e == heardYes || e == heardNo {
						v.way[1-end] = v.way[1-end][1:]
					} else {
						v.wishes--
					}
					s := v.state[end].after(e, agree>>end&1 == 1)
					v.state[end] = s.next
					v.way[end] += []string{"", "y", "n"}[s.say]
					next = append(next, v)
				}
				for end := range 2 {
					if w.wishes > 0 {
						for _, e := range []event{askYes, askNo, withdraw} {
							happen(end, e)
						}
					}
					if in := w.way[1-end]; in != "" {
						happen(end, map[byte]event{'y': heardYes, 'n': heardNo}[in[0]])
					}
				}
				if w.way == [2]string{} {
					if w.state[0] != w.state[1] || w.state[0].waiting() {
						t.Fatalf("all is said, and one end is at %s, the other at %s", stateNames[w.state[0]], stateNames[w.state[1]])
					}
				}
			}
			t.Logf("%d situations", len(seen))
		})
	}
}
