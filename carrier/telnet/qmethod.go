package telnet

// A state is where one option of one side stands, as RFC 1143, section 7, has it:
// its six states are NO, YES, and WANTNO and WANTYES with the queue bit.
type state byte

const (
	no        state = iota
	yes             //
	wantNo          // we asked to end it, and were not answered yet
	wantNoYes       // the same, queue OPPOSITE: once answered we ask for it again
	wantYes         // we asked for it, and were not answered yet
	wantYesNo       // the same, queue OPPOSITE: once answered we ask to end it
)

// waiting reports whether an answer of the peer is due.
func (s state) waiting() bool { return s >= wantNo }

// An event is what happens to an option. For the peer's options a yes is WILL when
// heard and DO when said; for ours it is DO when heard and WILL when said.
type event byte

const (
	heardYes event = iota
	heardNo
	askYes   // we would have it on
	askNo    // we would have it off
	withdraw // ours: what we asked for and were not answered yet, we ask to end at once
)

// A say is what the machine wants said.
type say byte

const (
	sayNothing say = iota
	sayYes
	sayNo
)

// A step is what follows an event.
type step struct {
	next state
	say  say
}

// qMethod is RFC 1143, section 7, one block per event and one line per state, in its
// order, so that the two can be read side by side. It says nothing where nothing
// changes: two ends that follow it cannot talk in a circle.
//
// Its lines that the RFC calls errors are marked so: the peer, or we ourselves,
// broke the rules, and the state is set to what both then mean.
//
// withdraw is not in the RFC, which waits for the answer before it takes a request
// back. What we send between the two has to have one meaning, whatever the answer to
// the first will be; and both answers lead both ends to NO: DO and DONT of a peer
// that agreed (WONT answered by DO, then a DONT that changes nothing), or the one
// DONT of a peer that refused.
var qMethod = [...][6]step{
	heardYes: {
		no:        {yes, sayYes}, // if we agree; else refuse
		yes:       {yes, sayNothing},
		wantNo:    {no, sayNothing},  // error: our no was answered by a yes
		wantNoYes: {yes, sayNothing}, // error: the same
		wantYes:   {yes, sayNothing},
		wantYesNo: {wantNo, sayNo},
	},
	heardNo: {
		no:        {no, sayNothing},
		yes:       {no, sayNo},
		wantNo:    {no, sayNothing},
		wantNoYes: {wantYes, sayYes},
		wantYes:   {no, sayNothing},
		wantYesNo: {no, sayNothing},
	},
	askYes: {
		no:        {wantYes, sayYes},
		yes:       {yes, sayNothing}, // error: it is on
		wantNo:    {wantNoYes, sayNothing},
		wantNoYes: {wantNoYes, sayNothing}, // error: asked already
		wantYes:   {wantYes, sayNothing},   // error: asked already
		wantYesNo: {wantYes, sayNothing},
	},
	askNo: {
		no:        {no, sayNothing}, // error: it is off
		yes:       {wantNo, sayNo},
		wantNo:    {wantNo, sayNothing}, // error: asked already
		wantNoYes: {wantNo, sayNothing},
		wantYes:   {wantYesNo, sayNothing},
		wantYesNo: {wantYesNo, sayNothing}, // error: asked already
	},
	withdraw: {
		no:        {no, sayNothing},
		yes:       {yes, sayNothing},
		wantNo:    {wantNo, sayNothing},
		wantNoYes: {wantNoYes, sayNothing},
		wantYes:   {wantNo, sayNo},
		wantYesNo: {wantNo, sayNo},
	},
}

// refuse is the other half of the first line: a yes that we do not agree to.
var refuse = step{no, sayNo}

// after returns what follows e in s. agree says whether we would have the option on.
func (s state) after(e event, agree bool) step {
	if e == heardYes && s == no && !agree {
		return refuse
	}
	return qMethod[e][s]
}
