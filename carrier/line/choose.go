package line

import (
	"math/bits"

	"github.com/bodkin-net/bodkin/carrier"
)

// A finding is what is known of one direction.
type finding struct {
	tried carrier.ByteSet
	bad   carrier.ByteSet // of these, or come without being sent
	ends  bool            // only lines arrive, or nothing else was proved
	line  int             // what a line may hold; 0: no bound was found
}

// add adds what one pattern showed, and its ruler: how long it was, and how much of
// it came in one piece.
func (f *finding) add(tried, bad carrier.ByteSet, ends bool, ruler, came int) {
	f.tried = union(f.tried, tried)
	f.bad = union(f.bad, bad)
	f.ends = ends
	switch {
	case ruler == 0 && !ends:
	case ruler == 0:
		f.line = shortLine
	case came < ruler: // a terminal counts the line end
		f.line = max(shortLine, came-2)
	case ends:
		f.line = longLine
	}
}

// unsafe returns what is not known to arrive.
func (f *finding) unsafe() carrier.ByteSet {
	return without(union(without(between(0, 0xff), f.tried), f.bad), own)
}

// choose returns the cheapest coding for a direction, or the one insisted on.
func (f *finding) choose(wish Coding) (Way, error) {
	w := Way{Unsafe: f.unsafe(), MaxLine: f.line, ends: f.ends}
	if w.MaxLine > 0 {
		// LF ends lines and can be no data, nor can what some make of it.
		w.Unsafe.Add(cr)
		w.Unsafe.Add(lf)
	}
	switch {
	case w.Unsafe.Empty():
		w.Coding = Clean
	case escaped(w.Unsafe) <= mostEscaped:
		w.Coding = Escape
	default:
		w.Coding = Armour
	}
	if wish < w.Coding && wish != Auto {
		return Way{}, refuse("the way needs %v, since it changes %d of the 256 octets%s; asked for: %v",
			w.Coding, size(w.Unsafe), map[bool]string{true: " and wants lines"}[w.MaxLine > 0], wish)
	}
	w.Coding = max(w.Coding, wish)
	w.Efficiency = w.efficiency()
	return w, nil
}

// route returns what begin says of the way.
func (w Way) route() route {
	return route{w.Coding, w.ends, uint16(w.MaxLine), w.Unsafe}
}

// way is the way back, or an error if the peer asks for what cannot be, or against
// our wish. If we are the one who sends there, never holds what we never send.
func (r route) way(never carrier.ByteSet, wish Coding) (Way, error) {
	w := Way{Coding: r.coding, Unsafe: r.unsafe, MaxLine: int(r.line), ends: r.ends}
	lines := r.line > 0
	switch {
	case r.coding < Clean || r.coding > Armour,
		r.ends && !lines,
		lines && (r.line < shortLine || r.coding == Clean || never.Has(lf)),
		r.coding == Clean && !never.Empty(),
		r.coding == Escape && (without(never, r.unsafe) != carrier.ByteSet{} || escaped(r.unsafe) > mostEscaped),
		r.coding == Escape && lines && !(r.unsafe.Has(cr) && r.unsafe.Has(lf)),
		r.coding == Escape && without(own, r.unsafe) != own: // messages could not have come
		return Way{}, refuse("the far side asks for a coding that cannot be")
	case wish != Auto && r.coding != wish:
		return Way{}, refuse("the far side wants %v, this one %v", r.coding, wish)
	}
	w.Efficiency = w.efficiency()
	return w, nil
}

func (w Way) efficiency() float64 {
	e := 1.0
	switch w.Coding {
	case Escape:
		e = 256 / (256 + float64(escaped(w.Unsafe)))
	case Armour:
		e = 3.0 / 4
	}
	if w.MaxLine > 0 {
		e *= float64(w.MaxLine) / float64(w.MaxLine+1)
	}
	return e
}

// size returns how many octets a set holds.
func size(set carrier.ByteSet) (n int) {
	for _, word := range set {
		n += bits.OnesCount64(word)
	}
	return n
}
